"""LSTM: forward over packed rows, a block of units at a time; `kernels.lstm_back` goes back.

The equations bear the numbers of ``docs/lstm.md``; the backward lines bear them in reverse.

Letters: N sequences, T steps, M rows (the sum of ``batch_sizes``), D input features, H units, L lanes of a register,
B = ceil(H / L) blocks of units, S units up to half registers (`kernels.gates.span_of`).

Common arrays (contiguous, one float type):

=============  ===================  ===================================================================================
gates          (M, 4 * S)           rows in blocks ``i f g o`` of L units each (of the last L or L / 2), with padding
                                    units. Pre-activations are in the units of `kernels.gates.GATE_UNITS`, for which
                                    the weights are packed
hidden         (N + M, H)           row n is h0 of sequence n; row N + m is h after row m: no first-step branch
cells          (N + M, B * L)       the same for c
batch_sizes    (T,) int64           sequences alive at each step, never rising
recurrent      (B * H * 4 * L,)     W_hh in blocks, see `kernels.gates.pack_gates`
=============  ===================  ===================================================================================

A block is a panel of the packed product: its 4 * L columns are the i, f, g, o of the same L units, so that the four
pre-activations of a unit come out side by side. Of a last block of L / 2 they are the first half of a panel's columns;
then nobody may read the upper lanes of its c and of the gradient of c, which hold anything.

A call handles the sequences from `begin` to `end` for all steps: cores share no state and never wait for each other.
"""

from ..simd.denormals import flush, restore
from ..simd.tile import ROWS
from ..simd.vector import fma, lanes_of, load, splat, store, store_n
from ._jit import jit, jit_inline, jit_inner
from .activations import exp2_minus_1, expm1_twice, one_plus_exp2
from .gates import load_block, span, store_block
from .gemm import START, panel_product, row_onto_panel, rows_by_panels

__all__ = ["are_zeros", "forward", "infer", "pointwise", "step_of_inference"]


@jit_inline
def pointwise(gates, g, half, cells, c_from, c_to, hidden, h, left, keep, kept, k):
    """Take one block of one sequence one step on, from its four pre-activations at ``gates[g]``.

    With `keep` the values of the gates go to ``kept[k]``, for BPTT. Of `half` a block, the upper lanes are of no use.
    """
    width = lanes_of(gates)
    a_i, a_f, a_g, a_o = load_block(gates, g, half)
    over_i = one_plus_exp2(a_i)  # 1: i = 1 / over_i
    f = splat(over_i, 1.0) / one_plus_exp2(a_f)  # 2
    above_g = exp2_minus_1(a_g)  # 3: g = above_g / over_g
    over_o = one_plus_exp2(a_o)  # 4: o = 1 / over_o
    over_g = above_g + splat(over_i, 2.0)
    both = splat(over_i, 1.0) / (over_i * over_g)
    c = fma(f, load(cells, c_from), above_g * both)  # 5: c = f * c_prev + i * g
    store(cells, c_to, c)
    above = expm1_twice(c)  # tanh(c) = above / over
    over = above + splat(over_i, 2.0)
    last = splat(over_i, 1.0) / (over_o * over)
    y = above * last  # 6: h = o * tanh(c)
    if left >= width:
        store(hidden, h, y)
    else:
        store_n(hidden, h, y, left)
    if keep:
        z = above_g / over_g  # by itself: never beyond 1, as a product might be
        store_block(kept, k, half, over_g * both, f, z, over * last)


@jit_inner
def are_zeros(hidden, h, h_width, units, count):
    """Tell whether the rows of h from element `h` on are zeros."""
    for n in range(count):
        for unit in range(units):
            if hidden[h + n * h_width + unit] != 0.0:
                return False
    return True


@jit_inner
def _step(
    gates,
    gate_row,
    stride,
    hidden,
    h_from,
    h_to,
    h_width,
    units,
    recurrent,
    cells,
    c_from,
    c_to,
    count,
    turn,
    keep,
    depth,
):
    """Take `count` sequences one step on. The row numbers are those of the first one, before and after the step.

    `gates` holds ``W_ih x + b``; a block's pre-activations are still in the L1 cache when its units read them.
    Arrays are seen as 1-D; `stride` is B * L. With an odd `turn` the blocks are walked from the last to the first: what
    the step before read last is still in the nearest cache. `depth` is H, or 0 if h is zeros before the step.
    """
    width = lanes_of(gates)
    gate_span = span(units, width)
    wide = 4 * gate_span
    onward = 1 - 2 * (turn & 1)
    for place in range(0, stride, width):
        block = stride - width - place if turn & 1 else place
        apart = min(width, gate_span - block)
        g = gate_row * wide + 4 * block
        panel = 4 * block * units
        if depth == 0:
            pass  # nothing comes of W_hh
        elif count == 1:
            row_onto_panel(hidden, h_from * h_width, recurrent, panel, units, gates, g, apart < width)
        else:
            panel_product(  # 0: a = W_ih x + b_ih + W_hh h_prev + b_hh
                hidden,
                h_from * h_width,
                h_width,
                1,
                count,
                recurrent,
                panel,
                panel + 4 * onward * width * units,
                units,
                gates,
                g,
                wide,
                gates,
                g,
                wide,
                4 * apart,
            )
        for n in range(count):
            pointwise(
                *(gates, g + n * wide, apart < width),
                *(cells, (c_from + n) * stride + block, (c_to + n) * stride + block),
                *(hidden, (h_to + n) * h_width + block, units - block),
                *(keep, gates, g + n * wide),
            )


@jit_inline
def step_of_inference(gates, gate_row, stride, hidden, h_row, units, recurrent, cells, count, turn, depth):
    """Take all `count` sequences one step on; h goes to the rows after those from `h_row`, c is overwritten.

    `depth` is H, or 0 if h is zeros before the step.
    """
    _step(  # without a star, which would hide the literal: one step for all inference
        gates,
        gate_row,
        stride,
        hidden,
        h_row,
        h_row + count,
        units,
        units,
        recurrent,
        cells,
        START,
        START,
        count,
        turn,
        False,
        depth,
    )


@jit
def forward(gates, hidden, cells, units, batch_sizes, recurrent, begin, end):
    """Run all steps for training: every gate, c and h is kept.

    gates   in: ``W_ih x + b`` of each row; out: the values of i, f, g, o
    hidden  rows 0 to N in; the others out
    cells   likewise
    """
    mode = flush()
    stride = cells.shape[1]
    gates, hidden, cells = gates.reshape(-1), hidden.reshape(-1), cells.reshape(-1)
    count = batch_sizes[0]  # N, then the sequences of the step before
    h_from = 0
    for t in range(len(batch_sizes)):
        alive = min(batch_sizes[t], end) - begin
        h_to = h_from + count
        if alive > 0:
            _step(
                gates,
                h_to - batch_sizes[0] + begin,
                stride,
                hidden,
                h_from + begin,
                h_to + begin,
                units,
                units,
                recurrent,
                cells,
                h_from + begin,
                h_to + begin,
                alive,
                t,
                True,
                units,
            )
        h_from = h_to
        count = batch_sizes[t]
    restore(mode)


@jit
def infer(
    x,
    x_first,
    x_step,
    x_sequence,
    features,
    ids,
    hidden,
    h_width,
    h_back,
    cells,
    units,
    batch_sizes,
    packed,
    recurrent,
    bias,
    height,
    scratch,
    begin,
    end,
):
    """Run all steps for inference: no gate is kept, c is overwritten in place.

    Steps go in chunks whose gate rows stay in the cache: first ``W_ih x + b`` of a whole chunk, then its steps. Going
    through x from its end (`x_step` below 0), a chunk's gate rows stand the other way round, as its rows in x do.
    Where no sequence has another h0 than zeros, the first step does not read W_hh.

    x        (any,)               float, in: feature f of sequence n at step t is element
                                  ``x_first + t * x_step + n * x_sequence + f``; `x_step` 0: packed rows
    ids      (M,) int64, in       which row of `x`, then (V, 4 * S), is ``W_ih x + b`` of each packed row, with
                                  no product to make. Of length 0: `x` holds features
    hidden   (any,)               float, row r of H units begins at element ``r * h_width``; rows 0 to N in, the N + M
                                  others out. With `h_back` (of a dense batch) the other way round: rows M to M + N in,
                                  and each step's rows stand before those of the step before
    cells    (N * B * L,)         float, in: c0; out: c after each sequence's last step
    packed   (B * D * 4 * L,)     float, in: W_ih in blocks, see `kernels.gates.pack_gates`
    bias     (B * 4 * L,)         float, in: b_ih + b_hh in blocks
    height   rows of a chunk, at least end - begin
    scratch  (height * 4 * S,)    float, overwritten: the gate rows of a chunk. Then, of packed rows, its rows of x:
                                  (height * D,)
    """
    mode = flush()
    count = batch_sizes[0]
    stride = len(cells) // count
    wide = 4 * span(units, lanes_of(scratch))
    gates = scratch[: height * wide]
    copied = scratch[height * wide :]
    backwards = x_step < 0
    in_place = x_step != 0 or (begin == 0 and end == count)
    source = x_first  # element of x where the step's first row begins
    h_from = count * len(batch_sizes) if h_back else 0
    depth = START if are_zeros(hidden, (h_from + begin) * h_width, h_width, units, end - begin) else units
    row = 0  # packed, of the step's first sequence
    t = 0
    while t < len(batch_sizes) and begin < min(batch_sizes[t], end):
        used = START  # gate rows of this chunk
        after = t  # first step beyond it
        first = source if in_place else START  # where its rows begin
        while after < len(batch_sizes):
            alive = min(batch_sizes[after], end) - begin
            if alive <= 0 or used + alive > height:
                break
            if len(ids):
                for n in range(alive):
                    g = (used + n) * wide
                    from_table = ids[row + begin + n] * wide
                    for c in range(wide):
                        gates[g + c] = x[from_table + c]
            elif not in_place:
                for n in range(alive):
                    for c in range(features):
                        copied[(used + n) * features + c] = x[source + (begin + n) * features + c]
            used += alive
            source += x_step if x_step else batch_sizes[after] * features
            row += batch_sizes[after]
            after += 1
        if not len(ids):
            rows = x if in_place else copied
            groups, apart, apart_in_gates = 1, 0, 0
            in_group, onward, onward_in_gates = int(used), features, wide
            if x_step:
                first = (source - x_step if backwards else first) + begin * x_sequence
                sequences, steps, onward = end - begin, after - t, abs(x_step)
                if onward == sequences * x_sequence:
                    onward = x_sequence
                elif sequences < min(2 * ROWS, steps):
                    groups, apart, apart_in_gates = sequences, x_sequence, wide
                    in_group, onward_in_gates = steps, sequences * wide
                else:
                    groups, apart, apart_in_gates = steps, onward, sequences * wide
                    in_group, onward = sequences, x_sequence
            rows_by_panels(  # called once: each call more takes its time to compile
                *(rows, first, apart, onward, groups, packed, features, bias),
                *(gates, apart_in_gates, onward_in_gates, wide, START, in_group),
            )
        chunk_rows = used
        used = START
        for step in range(t, after):
            alive = min(batch_sizes[step], end) - begin
            before = batch_sizes[step - 1] if step else count
            h_to = h_from - before if h_back else h_from + before
            _step(
                gates,
                chunk_rows - used - alive if backwards else used,
                stride,
                hidden,
                h_from + begin,
                h_to + begin,
                h_width,
                units,
                recurrent,
                cells,
                begin,
                begin,
                alive,
                step,
                False,
                units if step else depth,
            )
            used += alive
            h_from = h_to
        t = after
    restore(mode)
