"""BPTT over packed rows, made for a cell. Letters, arrays and numbers of equations as in `sequence`."""

from functools import lru_cache
from typing import Any, NamedTuple

from ...simd.denormals import flush, restore
from ...simd.jit import jit, jit_inline, jit_inner
from ...simd.tile import COLUMNS
from ...simd.vector import lanes_of, load
from ..cells import Cell
from ..gemm import K_BLOCK, START, first_block, panel_products
from ..gemm.tiles import ONE_GROUP
from .layout import packed_units

__all__ = ["BackwardLoops", "backward_loops", "gradient_of_h"]

_products = panel_products(COLUMNS)
_panel_product, _all_panels = _products.product, _products.all_panels


@jit_inner
def gradient_of_h(da, next_row, wide, counts, transposed, j, dy, out, begin, mask):
    """Write the gradient of h for the columns of one panel: dy, plus what comes back from the step after.

    da          gradients of the pre-activations, rows of `wide`; `next_row` is the first sequence's at the step after
    counts      ``(count, following)``: only the first `following` of the sequences have a step after
    transposed  W_hh as the right operand over gates; the panel begins at ``transposed[j]``
    dy          ``(values, row, features, column)``: from this row and column on
    out         ``(values, row_stride, column)``: rows from `begin` on
    mask        (any,) recurrent dropout's, rows of `features` from `begin` on; of length 0: none
    """
    width = COLUMNS * lanes_of(da)
    count, following = counts
    dy_values, row, features, column = dy
    values, row_stride, to = out
    n = features - column
    top = first_block(wide)
    if len(mask):
        for r in range(following):
            for c in range(min(n, width)):
                values[(begin + r) * row_stride + to + c] = 0.0
        first_start = values, begin * row_stride + to, row_stride
    else:
        first_start = dy_values, row * features + column, features
    for part in range(2):
        first = following if part else 0
        rows = count - following if part else following
        sum_over = 0 if part else top
        start = (dy_values, (row + first) * features + column, features) if part else first_start
        _panel_product(  # 0b: dh_prev = W_hh^T da of the step after
            (da, next_row * wide, wide),
            1,
            rows,
            (transposed, j, j + top * width, sum_over),
            start,
            (values, (begin + first) * row_stride + to, row_stride, n),
        )
    for done in range(top, wide, K_BLOCK):
        part = min(K_BLOCK, wide - done)
        o = begin * row_stride + to
        _panel_product(
            (da, next_row * wide + done, wide),
            1,
            following,
            (transposed, j + done * width, j + (done + part) * width, part),
            (values, o, row_stride),
            (values, o, row_stride, n),
        )
    if len(mask):
        for r in range(following):
            for c in range(min(n, width)):
                at = (begin + r) * row_stride + to + c
                m = mask[(begin + r) * features + column + c]
                values[at] = dy_values[(row + r) * features + column + c] + values[at] * m


class BackwardLoops(NamedTuple):
    """The kernels of BPTT for one cell.

    backward(gates, apart, dy, hidden, cells, carried, units, batch_sizes, weights, mask, begin, end)
        All steps of the sequences from `begin` to `end`.
    one_block
        One block of one sequence, a part of other kernels.
    """

    backward: Any
    one_block: Any


@lru_cache(maxsize=64)
def backward_loops(cell: Cell) -> BackwardLoops:
    """Return the kernels of BPTT for `cell`."""
    gate_count, halves = len(cell.gates), cell.halves
    is_apart, project, reset_before = cell.is_apart, cell.project, cell.reset_before
    pointwise_backward, second_backward = cell.pointwise_backward, cell.second_backward

    def block_of_step(rows, apart, hidden, cells, units, diagonals, unit, back):
        """Take one block of one sequence one step back; the rows are this sequence's."""
        gates, row = rows
        beside, out, a_row, a_width = apart
        h, h_from, h_to, features = hidden
        c, c_from, c_to = cells
        lanes = lanes_of(gates)
        room = packed_units(units, lanes, halves)
        padded_units = (units + lanes - 1) // lanes * lanes
        pointwise_backward(
            (gates, row * gate_count * room + gate_count * unit, halves and room - unit < lanes),
            (beside, out, a_row * a_width + (gate_count * unit if is_apart else unit)),
            (c, c_from * padded_units + unit, c_to * padded_units + unit),
            (h, h_from * features + unit, h_to * features + unit, units - unit),
            (diagonals, unit, padded_units),
            back,
        )

    one_block = jit_inline(block_of_step, cell.name)

    def backward(gates, apart, dy, hidden, cells, carried, units, batch_sizes, weights, mask, begin, end):
        """Go back through all steps: gates' values in, their gradients out.

        gates    in: as `forward` left them; out: the gradients of the pre-activations
        apart    in: as `forward` left it; out: of recurrent products that stand apart, their gradients
        dy       (M, P)  in: gradient of each h, that of the final h added to its row; of a projection out: the gradient
                 of h with what came back from later steps
        hidden   in, read by cells whose h passes their gates by
        cells    in
        carried  ``(dc, dh)``: dc (N, B * L) in: gradient of each final c, zeros for padding units; out: gradient of c0,
                 or of h0 as far as it passes the gates by. dh (N, B * L) overwritten; zeros for padding units stay
        weights  ``(transposed, diagonals, second, zeros)``: W_hh as the right operand over gates, see
                 `layout.pack_gates_transposed`; peephole weights; the second stage's weight as a right operand; zeros
        mask     (N, P) recurrent dropout's mask, or of length 0
        """
        mode = flush()
        lanes = lanes_of(gates)
        room = packed_units(units, lanes, halves)
        wide = gate_count * room
        padded_units = (units + lanes - 1) // lanes * lanes
        width = COLUMNS * lanes
        steps = len(batch_sizes)
        row = dy.shape[0]  # of gates and dy, at the step after t
        features, a_width = dy.shape[1], apart.shape[1]
        gates, dy, cells, apart = gates.reshape(-1), dy.reshape(-1), cells.reshape(-1), apart.reshape(-1)
        hidden, mask = hidden.reshape(-1), mask.reshape(-1)
        dc, dh = carried[0].reshape(-1), carried[1].reshape(-1)
        transposed, diagonals, second, zeros = weights
        through = apart if is_apart else gates  # whose products h_prev was in
        for back in range(steps):
            t = steps - 1 - back
            following = max(0, min(batch_sizes[t + 1], end) - begin) if back else 0
            alive = min(batch_sizes[t], end) - begin
            next_row = row + begin
            row -= batch_sizes[t]
            if alive <= 0:
                continue
            here = row + begin
            h_to = batch_sizes[0] + here  # of cells and hidden
            h_from = h_to - (batch_sizes[t - 1] if t else batch_sizes[0])
            counts = alive, following
            if project:
                for column in range(0, features, width):
                    gradient_of_h(
                        *(gates, next_row, wide, counts, transposed, wide * column),
                        *((dy, here, features, column), (dh, padded_units, column), begin, mask),
                    )
                for n in range(alive):
                    for column in range(features):
                        dy[(here + n) * features + column] = dh[(begin + n) * padded_units + column]
                _all_panels(  # 7b: dm = W_hr^T dh
                    (dy, here * features, START, features, ONE_GROUP),
                    (START, alive),
                    *(second, features, zeros),
                    (dh[begin * padded_units :], START, padded_units, units),
                )
            for panel in range(0, units, width):
                if not project:
                    gradient_of_h(
                        *(through, next_row, wide, counts, transposed, wide * panel),
                        *((dy, here, units, panel), (dh, padded_units, panel), begin, mask),
                    )
                for block in range(panel, min(panel + width, units), lanes):
                    for n in range(alive):
                        d = (begin + n) * padded_units + block
                        if reset_before:
                            second_backward(
                                (gates, (here + n) * wide + gate_count * block, False),
                                (apart, (here + n) * a_width + padded_units + block),
                                (hidden, (h_from + n) * features + block, units - block),
                                (dc, d, load(dh, d)),
                            )
                        else:
                            one_block(
                                (gates, here + n),
                                (apart, apart, here + n, a_width),
                                (hidden, h_from + n, h_to + n, features),
                                (cells, h_from + n, h_to + n),
                                *(units, diagonals, block),
                                (dc, d, dc, d, gates, (here + n) * wide + gate_count * block, load(dh, d)),
                            )
            if reset_before:
                _all_panels(
                    (apart, here * a_width + padded_units, START, a_width, ONE_GROUP),
                    (START, alive),
                    *(second, units, zeros),
                    (dh[begin * padded_units :], START, padded_units, units),
                )
                for n in range(alive if len(mask) else 0):
                    for unit in range(units):
                        dh[(begin + n) * padded_units + unit] *= mask[(begin + n) * features + unit]
                for n in range(alive):
                    for block in range(0, units, lanes):
                        d = (begin + n) * padded_units + block
                        one_block(
                            (gates, here + n),
                            (apart, apart, here + n, a_width),
                            (hidden, h_from + n, h_to + n, features),
                            (cells, h_from + n, h_to + n),
                            *(units, diagonals, block),
                            (dc, d, dc, d, gates, (here + n) * wide + gate_count * block, load(dh, d)),
                        )
        restore(mode)

    return BackwardLoops(jit(backward, cell.name), one_block)
