"""LSTM: forward and BPTT over packed rows, a tile of sequences by a block of units at a time.

The equations bear the numbers of ``docs/lstm.md``; the backward lines bear them in reverse.

Letters: N sequences, T steps, M rows (the sum of ``batch_sizes``), D input features, H units, L lanes of a register,
B = ceil(H / L) blocks of units. A block's tile is the i, f, g, o of its L units, one register each: it ends with all
four gates in registers, and equations 1 to 6 are computed there.

Common arrays (contiguous, one float type):

=============  ===================  ===================================================================================
gates          (M, B * 4 * L)       rows in blocks ``i f g o`` of L units each; padding units included
hidden         (N + M, H)           row n is h0 of sequence n; row N + m is h after row m: no first-step branch
cells          (N + M, B * L)       the same for c
batch_sizes    (T,) int64           sequences alive at each step, never rising
recurrent      (B * H * 4 * L,)     W_hh in blocks, see `pack_gates`
=============  ===================  ===================================================================================

A call handles the sequences from `begin` to `end` for all steps: cores share no state and never wait for each other.
"""

from ..simd.tile import COLUMNS, ROWS, column, load_rows, load_rows_n, rank1, store_rows, store_rows_n
from ..simd.vector import fma, lanes_of, splat
from ._jit import jit, jit_inner
from .activations import sigmoid, tanh
from .gemm import product, tile_height

__all__ = ["backward", "forward", "infer", "pack_gates", "pack_gates_transposed", "unpack_gates"]


# --- layouts: the only place that knows how gates are ordered inside --------------------------------------------------


@jit
def pack_gates(w, k, units, packed):
    """Pack a weight (4H, K), gates i f g o in rows, into B panels (K, 4 * L); bias vectors are the case K = 1.

    w       (4H * K,)         float, in
    packed  (B * K * 4 * L,)  float, out; zeros for padding units
    """
    width = lanes_of(packed)
    place = 0
    for first in range(0, units, width):
        for c in range(k):
            for gate in range(4):
                for unit in range(first, first + width):
                    packed[place] = w[(gate * units + unit) * k + c] if unit < units else 0.0
                    place += 1


@jit
def pack_gates_transposed(w, n, units, packed):
    """Pack a weight (4H, N) as the right operand of a product over gates: panels (B * 4 * L, 4 * L) of its columns.

    w       (4H * N,)                             float, in
    packed  (ceil(N / 4L) * (B * 4 * L) * 4 * L,)  float, out; zeros for padding
    """
    width = lanes_of(packed)
    place = 0
    for c in range(0, n, COLUMNS * width):
        for first in range(0, units, width):
            for gate in range(4):
                for unit in range(first, first + width):
                    source = (gate * units + unit) * n
                    for column_ in range(c, c + COLUMNS * width):
                        packed[place] = w[source + column_] if unit < units and column_ < n else 0.0
                        place += 1


@jit
def unpack_gates(packed, k, units, w):
    """Copy rows in packed gate order back into torch's: the inverse order of `gates`' columns.

    packed  (B * 4 * L, K)  float, in
    w       (4H, K)         float, out
    """
    width = lanes_of(packed)
    for first in range(0, units, width):
        for gate in range(4):
            for unit in range(first, min(first + width, units)):
                source = (first * 4 + gate * width + unit - first) * k
                target = (gate * units + unit) * k
                for c in range(k):
                    w.flat[target + c] = packed.flat[source + c]


# --- forward ----------------------------------------------------------------------------------------------------------


def _make_forward_tile(rows: int, keep: bool):
    """Return the kernel that takes `rows` sequences one step on, for one block of units.

    It starts from ``W_ih x + b`` in `gates` and adds ``W_hh h``; with `keep`, the gates stay there for BPTT.
    """

    @jit_inner
    def tile(gates, g, hidden, h_from, h_to, units, recurrent, j, cells, c_from, c_to, stride, block):
        width = lanes_of(gates)
        acc = load_rows(rows, COLUMNS, gates, g, 4 * stride)
        for k in range(units):  # 0: a = W_ih x + b_ih + W_hh h_prev + b_hh
            acc = rank1(acc, hidden, h_from + k, units, recurrent, j)
            j += 4 * width
        i = sigmoid(column(acc, 0))  # 1
        f = sigmoid(column(acc, 1))  # 2
        o = sigmoid(column(acc, 3))  # 4
        z = tanh(column(acc, 2))  # 3: g
        c = fma(f, load_rows(rows, 1, cells, c_from + block, stride), i * z)  # 5: c = f * c_prev + i * g
        h = o * tanh(c)  # 6
        store_rows(c, cells, c_to + block, stride)
        left = units - block
        if left >= width:
            store_rows(h, hidden, h_to + block, units)
        else:
            store_rows_n(h, hidden, h_to + block, units, left)
        if keep:
            store_rows(i, gates, g, 4 * stride)
            store_rows(f, gates, g + width, 4 * stride)
            store_rows(z, gates, g + 2 * width, 4 * stride)
            store_rows(o, gates, g + 3 * width, 4 * stride)

    return tile


def _make_step(keep: bool):
    """Return the kernel of one step for `count` sequences: all blocks, in tiles of rows."""
    one, two, three = (_make_forward_tile(rows, keep) for rows in (1, 2, 3))

    @jit_inner
    def rest(height, gates, g, hidden, h_from, h_to, units, recurrent, j, cells, c_from, c_to, stride, block):
        if height == 3:
            three(gates, g, hidden, h_from, h_to, units, recurrent, j, cells, c_from, c_to, stride, block)
        elif height == 2:
            two(gates, g, hidden, h_from, h_to, units, recurrent, j, cells, c_from, c_to, stride, block)
        else:
            one(gates, g, hidden, h_from, h_to, units, recurrent, j, cells, c_from, c_to, stride, block)

    if ROWS == 6:
        four, six = (_make_forward_tile(rows, keep) for rows in (4, 6))

        @jit_inner
        def any_height(height, gates, g, hidden, h_from, h_to, units, recurrent, j, cells, c_from, c_to, stride, block):
            if height == 6:
                six(gates, g, hidden, h_from, h_to, units, recurrent, j, cells, c_from, c_to, stride, block)
            elif height == 4:
                four(gates, g, hidden, h_from, h_to, units, recurrent, j, cells, c_from, c_to, stride, block)
            else:
                rest(height, gates, g, hidden, h_from, h_to, units, recurrent, j, cells, c_from, c_to, stride, block)
    else:
        any_height = rest

    @jit_inner
    def step(gates, gate_row, hidden, h_from, h_to, units, recurrent, cells, c_from, c_to, stride, count):
        width = lanes_of(gates)
        j = 0
        for block in range(0, units, width):
            row = 0
            while row < count:
                height = tile_height(count - row)
                any_height(
                    height,
                    gates,
                    (gate_row + row) * 4 * stride + 4 * block,
                    hidden,
                    (h_from + row) * units,
                    (h_to + row) * units,
                    units,
                    recurrent,
                    j,
                    cells,
                    (c_from + row) * stride,
                    (c_to + row) * stride,
                    stride,
                    block,
                )
                row += height
            j += units * 4 * width

    return step


_step_keep = _make_step(keep=True)
_step = _make_step(keep=False)


@jit
def forward(gates, hidden, cells, units, batch_sizes, recurrent, begin, end):
    """Run all steps for training: every gate, c and h is kept.

    gates   in: ``W_ih x + b`` of each row; out: the values of i, f, g, o
    hidden  rows 0 to N in; the others out
    cells   likewise
    """
    stride = gates.shape[1] // 4
    count = batch_sizes[0]  # N, then the sequences of the step before
    h_from = 0
    for t in range(len(batch_sizes)):
        alive = min(batch_sizes[t], end) - begin
        h_to = h_from + count
        if alive > 0:
            _step_keep(
                gates,
                h_to - batch_sizes[0] + begin,
                hidden,
                h_from + begin,
                h_to + begin,
                units,
                recurrent,
                cells,
                h_from + begin,
                h_to + begin,
                stride,
                alive,
            )
        h_from = h_to
        count = batch_sizes[t]


@jit
def infer(x, hidden, cells, units, batch_sizes, packed, recurrent, bias, scratch, begin, end):
    """Run all steps for inference: no gate is kept, c is overwritten in place.

    Steps go in chunks whose gate rows stay in the cache: first ``W_ih x + b`` of a whole chunk, then its steps.

    x        (M, D)               float, in
    hidden   rows 0 to N in; the others out
    cells    (N, B * L)           float, in: c0; out: c after each sequence's last step
    packed   (B * D * 4 * L,)     float, in: W_ih in blocks, see `pack_gates`
    bias     (B * 4 * L,)         float, in: b_ih + b_hh in blocks
    scratch  ((G, B * 4 * L), (G, D))  float, overwritten: gate rows and input rows of a chunk; G >= end - begin
    """
    gates, rows = scratch
    stride = cells.shape[1]
    features = x.shape[1]
    count = batch_sizes[0]
    h_from = 0
    t = 0
    while t < len(batch_sizes) and batch_sizes[t] > begin:
        used = 0  # gate rows of this chunk
        after = t  # first step beyond it
        row = h_from + (batch_sizes[t - 1] if t else count) - count  # of x, at step t
        while after < len(batch_sizes):
            alive = min(batch_sizes[after], end) - begin
            if alive <= 0 or used + alive > gates.shape[0]:
                break
            for n in range(alive):
                for c in range(features):
                    rows[used + n, c] = x[row + begin + n, c]
            used += alive
            row += batch_sizes[after]
            after += 1
        product(rows, features, packed, features, bias, gates, 4 * stride, 4 * stride, 0, used)
        used = 0
        for step in range(t, after):
            alive = min(batch_sizes[step], end) - begin
            h_to = h_from + (batch_sizes[step - 1] if step else count)
            _step(
                gates,
                used,
                hidden,
                h_from + begin,
                h_to + begin,
                units,
                recurrent,
                cells,
                begin,
                begin,
                stride,
                alive,
            )
            used += alive
            h_from = h_to
        t = after


# --- backward ---------------------------------------------------------------------------------------------------------


def _make_backward_tile(rows: int):
    """Return the kernel that takes `rows` sequences one step back, for the four blocks of units of one panel."""

    @jit_inner
    def pointwise(dh, gates, g, cells, c_from, c_to, dc, d, stride):
        width = lanes_of(gates)
        one = splat(dh, 1.0)
        i = load_rows(rows, 1, gates, g, 4 * stride)
        f = load_rows(rows, 1, gates, g + width, 4 * stride)
        z = load_rows(rows, 1, gates, g + 2 * width, 4 * stride)
        o = load_rows(rows, 1, gates, g + 3 * width, 4 * stride)
        tanh_c = tanh(load_rows(rows, 1, cells, c_to, stride))
        do = dh * tanh_c  # 6b: h = o * tanh(c)
        total = fma(dh * o, one - tanh_c * tanh_c, load_rows(rows, 1, dc, d, stride))
        df = total * load_rows(rows, 1, cells, c_from, stride)  # 5b: c = f * c_prev + i * g
        di = total * z
        dz = total * i
        store_rows(total * f, dc, d, stride)
        store_rows(do * o * (one - o), gates, g + 3 * width, 4 * stride)  # 4b: o = sigmoid(a_o)
        store_rows(dz * (one - z * z), gates, g + 2 * width, 4 * stride)  # 3b: g = tanh(a_g)
        store_rows(df * f * (one - f), gates, g + width, 4 * stride)  # 2b: f = sigmoid(a_f)
        store_rows(di * i * (one - i), gates, g, 4 * stride)  # 1b: i = sigmoid(a_i)

    @jit_inner
    def tile(gates, g_next, sums, transposed, j, dy, y, units, cells, c_from, c_to, dc, d, stride, g, block):
        width = lanes_of(gates)
        acc = load_rows_n(rows, COLUMNS, dy, y + block, units, units - block)
        for k in range(sums):  # 0b: dh_prev = W_hh^T da of the step after
            acc = rank1(acc, gates, g_next + k, 4 * stride, transposed, j)
            j += COLUMNS * width
        pointwise(column(acc, 0), gates, g, cells, c_from, c_to, dc, d, stride)
        if block + width < units:
            pointwise(column(acc, 1), gates, g + 4 * width, cells, c_from + width, c_to + width, dc, d + width, stride)
        if block + 2 * width < units:
            x = 2 * width
            pointwise(column(acc, 2), gates, g + 4 * x, cells, c_from + x, c_to + x, dc, d + x, stride)
        if block + 3 * width < units:
            x = 3 * width
            pointwise(column(acc, 3), gates, g + 4 * x, cells, c_from + x, c_to + x, dc, d + x, stride)

    return tile


_back1, _back2, _back3 = (_make_backward_tile(rows) for rows in (1, 2, 3))


@jit_inner
def _back_rest(height, gates, g_next, sums, transposed, j, dy, y, units, cells, c_from, c_to, dc, d, stride, g, block):
    if height == 3:
        _back3(gates, g_next, sums, transposed, j, dy, y, units, cells, c_from, c_to, dc, d, stride, g, block)
    elif height == 2:
        _back2(gates, g_next, sums, transposed, j, dy, y, units, cells, c_from, c_to, dc, d, stride, g, block)
    else:
        _back1(gates, g_next, sums, transposed, j, dy, y, units, cells, c_from, c_to, dc, d, stride, g, block)


if ROWS == 6:
    _back4, _back6 = (_make_backward_tile(rows) for rows in (4, 6))

    @jit_inner
    def _back(height, gates, g_next, sums, transposed, j, dy, y, units, cells, c_from, c_to, dc, d, stride, g, block):
        if height == 6:
            _back6(gates, g_next, sums, transposed, j, dy, y, units, cells, c_from, c_to, dc, d, stride, g, block)
        elif height == 4:
            _back4(gates, g_next, sums, transposed, j, dy, y, units, cells, c_from, c_to, dc, d, stride, g, block)
        else:
            _back_rest(
                height, gates, g_next, sums, transposed, j, dy, y, units, cells, c_from, c_to, dc, d, stride, g, block
            )

else:
    _back = _back_rest


@jit
def backward(gates, dy, units, batch_sizes, cells, dc, transposed, begin, end):
    """Go back through all steps (BPTT): gates' values in, their gradients out.

    gates       in: i, f, g, o as `forward` left them; out: the gradients of a_i, a_f, a_g, a_o
    dy          (M, H)      float, in: gradient of each h, that of the final h added to its row
    cells       in
    dc          (N, B * L)  float, in: gradient of each final c, zeros for padding units; out: gradient of c0
    transposed  W_hh as the right operand over gates, see `pack_gates_transposed`
    """
    stride = gates.shape[1] // 4
    panel = gates.shape[1] * COLUMNS * lanes_of(gates)
    steps = len(batch_sizes)
    row = dy.shape[0]  # of gates and dy, at the step after t
    for back in range(steps):
        t = steps - 1 - back
        following = min(batch_sizes[t + 1], end) - begin if back else 0
        alive = min(batch_sizes[t], end) - begin
        next_row = row + begin
        row -= batch_sizes[t]
        h_to = batch_sizes[0] + row  # of cells
        h_from = h_to - (batch_sizes[t - 1] if t else batch_sizes[0])
        j = 0
        for block in range(0, units, COLUMNS * lanes_of(gates)):
            n = 0
            while n < alive:
                going_on = n < following
                height = tile_height((following if going_on else alive) - n)
                _back(
                    height,
                    gates,
                    (next_row + n) * 4 * stride,
                    4 * stride if going_on else 0,
                    transposed,
                    j,
                    dy,
                    (row + begin + n) * units,
                    units,
                    cells,
                    (h_from + begin + n) * stride + block,
                    (h_to + begin + n) * stride + block,
                    dc,
                    (begin + n) * stride + block,
                    stride,
                    (row + begin + n) * 4 * stride + 4 * block,
                    block,
                )
                n += height
            j += panel
