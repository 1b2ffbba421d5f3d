"""LSTM: BPTT over packed rows. Letters, arrays and numbers of equations as in ``kernels/lstm.py``."""

from ..simd.denormals import flush, restore
from ..simd.tile import COLUMNS
from ..simd.vector import fma, lanes_of, load, splat, store
from ._jit import jit, jit_inline, jit_inner
from .activations import tanh
from .gates import load_block, span, store_block
from .gemm import K_BLOCK, first_block, panel_product

__all__ = ["backward", "gradient_of_h", "pointwise_back"]


@jit_inline
def pointwise_back(gates, g, half, cells, c_from, c_to, dc, d, dh, da, a, dc_to, e):
    """Take one block (or `half` a block) of one sequence one step back, from its gates' values at ``gates[g]``.

    The gradients of the pre-activations go to ``da[a]``, that of c_prev to ``dc_to[e]``: places that may be the same.
    """
    i, f, z, o = load_block(gates, g, half)
    one = splat(i, 1.0)
    tanh_c = tanh(load(cells, c_to))
    do = dh * tanh_c  # 6b: h = o * tanh(c)
    total = fma(dh * o, one - tanh_c * tanh_c, load(dc, d))
    df = total * load(cells, c_from)  # 5b: c = f * c_prev + i * g
    di = total * z
    dz = total * i
    store(dc_to, e, total * f)
    da_o = do * o * (one - o)  # 4b: o = sigmoid(a_o)
    da_g = dz * (one - z * z)  # 3b: g = tanh(a_g)
    da_f = df * f * (one - f)  # 2b: f = sigmoid(a_f)
    da_i = di * i * (one - i)  # 1b: i = sigmoid(a_i)
    store_block(da, a, half, da_i, da_f, da_g, da_o)


@jit_inner
def gradient_of_h(gates, next_row, wide, stride, count, following, transposed, j, dy, row, units, dh, begin, block):
    """Write the gradient of h for the units of one panel: dy, plus what comes back from the step after.

    Only the first `following` of the `count` sequences have a step after; `next_row` is the first one's row there.
    """
    width = COLUMNS * lanes_of(gates)
    top = first_block(wide)
    for part in range(2):
        first = following if part else 0
        rows = count - following if part else following
        sum_over = 0 if part else top
        panel_product(  # 0b: dh_prev = W_hh^T da of the step after
            gates,
            next_row * wide,
            wide,
            1,
            rows,
            transposed,
            j,
            j + top * width,
            sum_over,
            dy,
            (row + first) * units + block,
            units,
            dh,
            (begin + first) * stride + block,
            stride,
            units - block,
        )
    for done in range(top, wide, K_BLOCK):
        part = min(K_BLOCK, wide - done)
        o = begin * stride + block
        panel_product(
            gates,
            next_row * wide + done,
            wide,
            1,
            following,
            transposed,
            j + done * width,
            j + (done + part) * width,
            part,
            dh,
            o,
            stride,
            dh,
            o,
            stride,
            units - block,
        )


@jit
def backward(gates, dy, units, batch_sizes, cells, dc, transposed, dh, begin, end):
    """Go back through all steps (BPTT): gates' values in, their gradients out.

    gates       in: i, f, g, o as `forward` left them; out: the gradients of a_i, a_f, a_g, a_o
    dy          (M, H)      float, in: gradient of each h, that of the final h added to its row
    cells       in
    dc          (N, B * L)  float, in: gradient of each final c, zeros for padding units; out: gradient of c0
    transposed  W_hh as the right operand over gates, see `kernels.gates.pack_gates_transposed`
    dh          (N, B * L)  float, overwritten; zeros for padding units stay
    """
    mode = flush()
    width = lanes_of(gates)
    gate_span = span(units, width)
    wide = 4 * gate_span
    stride = cells.shape[1]
    steps = len(batch_sizes)
    row = dy.shape[0]  # of gates and dy, at the step after t
    gates, dy, cells = gates.reshape(-1), dy.reshape(-1), cells.reshape(-1)
    dc, dh = dc.reshape(-1), dh.reshape(-1)
    for back in range(steps):
        t = steps - 1 - back
        following = max(0, min(batch_sizes[t + 1], end) - begin) if back else 0
        alive = min(batch_sizes[t], end) - begin
        next_row = row + begin
        row -= batch_sizes[t]
        if alive <= 0:
            continue
        h_to = batch_sizes[0] + row + begin  # of cells
        h_from = h_to - (batch_sizes[t - 1] if t else batch_sizes[0])
        for panel in range(0, units, COLUMNS * width):
            gradient_of_h(
                gates,
                next_row,
                wide,
                stride,
                alive,
                following,
                transposed,
                wide * panel,
                dy,
                row + begin,
                units,
                dh,
                begin,
                panel,
            )
            for block in range(panel, min(panel + COLUMNS * width, units), width):
                for n in range(alive):
                    g = (row + begin + n) * wide + 4 * block
                    d = (begin + n) * stride + block
                    pointwise_back(
                        *(gates, g, gate_span - block < width),
                        *(cells, (h_from + n) * stride + block, (h_to + n) * stride + block),
                        *(dc, d, load(dh, d), gates, g, dc, d),
                    )
    restore(mode)
