"""Few sequences, forward and BPTT: cores share the units instead of the sequences. Made for a cell.

Each core owns some panels of units and computes them at every step. It needs all of ``h_prev`` (going back: the
gradients of all gates), so the cores meet after each step; a system that takes one of them away would leave the others
waiting for thousands of steps' time. Therefore no core waits for long, and none depends on another:

- A core that has waited too long computes the other's panels of that step too, and waits no more until it is back.
- A core that comes back skips what others have finished.
- Two cores that compute the same panel write the same bits, and nothing that is read at a step is ever overwritten: h,
  c and their gradients have a row for every step, pre-activations live in memory of the core's own.

For cells of a single stage. Letters and arrays as in `sequence`.
"""

from functools import lru_cache
from typing import Any, NamedTuple

from ...simd.atomic import store_release
from ...simd.denormals import flush, restore
from ...simd.jit import jit, jit_inner
from ...simd.tile import COLUMNS
from ...simd.vector import lanes_of, load
from ..cells import Cell
from ..gemm import SAME_FOR_ALL, START, panel_products
from .bptt import backward_loops, gradient_of_h
from .layout import packed_units
from .meeting import PROGRESS_WORDS, furthest, is_late, number_of
from .sequence import are_zeros

__all__ = ["UnitParallelLoops", "unit_parallel_loops"]


class UnitParallelLoops(NamedTuple):
    """The kernels of cores that share units.

    forward(x, hidden, cells, units, batch_sizes, weights, kept, meeting, height, scratch, begin, end)
    backward(saved, dy, units, batch_sizes, dc, weights, out, meeting, scratch, begin, end)
    steps
        `forward`, as a part of other kernels.
    panels_of_step, inputs_of_panels
        One step of some panels, and its inputs, as parts of other kernels.
    """

    forward: Any
    backward: Any
    steps: Any
    panels_of_step: Any
    inputs_of_panels: Any


@lru_cache(maxsize=64)
def unit_parallel_loops(cell: Cell) -> UnitParallelLoops:
    """Return the kernels of cores that share units, for a cell of a single stage."""
    assert cell.single_stage, cell.name
    gate_count, blocks, halves, columns = len(cell.gates), cell.blocks, cell.halves, cell.columns
    is_apart, pointwise = cell.is_apart, cell.pointwise
    panel_product = panel_products(columns).product
    block_backward = backward_loops(cell).one_block

    def panels_of_step(rows, apart, hidden, carry, units, weights, kept, count, share, parity, recurrent_k):
        """Take `count` sequences one step on in some panels of units.

        rows         ``(gates, row, row width)``: ``W_ih x + b`` of these panels only
        apart        ``(apart, row, A, whole)``: `whole` rows have columns for all panels, others for one
        hidden       ``(hidden, h_from, h_to)``
        carry        ``(cells, c_from, c_to)``
        weights      ``(recurrent, recurrent_bias, diagonals)``
        kept         ``(save_gates, kept, row)``: rows for all panels
        share        ``(first, last)``: the panels
        recurrent_k  H, or 0 if h is zeros before the step
        """
        gates, g_row, g_stride = rows
        beside, a_row, a_width, whole = apart
        h, h_from, h_to = hidden
        cells, c_from, c_to = carry
        recurrent, recurrent_bias, diagonals = weights
        save_gates, values, row = kept
        first, last = share
        lanes = lanes_of(gates)
        room = packed_units(units, lanes, halves)
        padded_units = (units + lanes - 1) // lanes * lanes
        width, each = columns * lanes, blocks * lanes
        onward = 1 - 2 * (parity & 1)
        for place in range(last - first):
            panel = last - 1 - place if parity & 1 else first + place
            here = min(each, room - panel * each)
            g = g_row * g_stride + (panel - first) * width
            j = panel * width * units
            e = a_row * a_width + (panel * width if whole else 0)
            if is_apart:
                panel_product(
                    (h, h_from * units, units),
                    1,
                    count,
                    (recurrent, j, j + onward * width * units, recurrent_k),
                    (recurrent_bias, panel * width, SAME_FOR_ALL),
                    (beside, e, a_width, gate_count * here),
                )
            elif recurrent_k:
                panel_product(
                    (h, h_from * units, units),
                    1,
                    count,
                    (recurrent, j, j + onward * width * units, recurrent_k),
                    (gates, g, g_stride),
                    (gates, g, g_stride, gate_count * here),
                )
            for n in range(count):
                for block in range(0, here, lanes):
                    unit = panel * each + block
                    pointwise(
                        (gates, g + n * g_stride + gate_count * block, halves and room - unit < lanes),
                        (beside, e + n * a_width + gate_count * block),
                        (cells, (c_from + n) * padded_units + unit, (c_to + n) * padded_units + unit),
                        (h, (h_from + n) * units + unit, (h_to + n) * units + unit, units - unit),
                        (save_gates, values, ((row + n) * room + unit) * gate_count),
                        (diagonals, unit, padded_units),
                    )

    step_of_panels = jit_inner(panels_of_step, cell.name)

    def inputs_of_panels(x, weights, gates, g_stride, units, share):
        """Write ``W_ih x + b`` for some panels.

        x        ``(values, row, rows, D)``: so many rows from this one on
        weights  ``(input, bias)``
        gates    from its first element on, rows of `g_stride`
        """
        values, row, rows, features = x
        packed, bias = weights
        first, last = share
        lanes = lanes_of(gates)
        room = packed_units(units, lanes, halves)
        width, each = columns * lanes, blocks * lanes
        for panel in range(first, last):
            panel_product(
                (values, row * features, features),
                1,
                rows,
                (packed, panel * width * features, (panel + 1) * width * features, features),
                (bias, panel * width, SAME_FOR_ALL),
                (gates, (panel - first) * width, g_stride, gate_count * min(each, room - panel * each)),
            )

    inputs = jit_inner(inputs_of_panels, cell.name)

    def run_steps(x, hidden, cells, units, batch_sizes, weights, kept, meeting, height, scratch, begin, end):
        """Do what `forward` does, for a kernel that it is a part of: arrays are 1-D, `x` is ``(values, D)``."""
        mode = flush()
        values, features = x
        packed, bias, recurrent, recurrent_bias, diagonals = weights
        kept_gates, kept_apart = kept
        bounds, progress = meeting
        of_step = recurrent, recurrent_bias, diagonals
        lanes = lanes_of(scratch)
        parts = len(bounds) - 1
        mine = number_of(bounds, begin)
        padded_units = (units + lanes - 1) // lanes * lanes
        each, width = blocks * lanes, columns * lanes
        alone = end - begin == (padded_units + each - 1) // each
        wide = width * (end - begin)
        save_gates = len(kept_gates) > 0
        a_width = 0
        beside, whole = kept_apart, save_gates
        if is_apart:
            if save_gates:
                a_width = gate_count * packed_units(units, lanes, halves)
            else:
                a_width = width
                beside = scratch[len(scratch) - batch_sizes[0] * width :]
        steps = len(batch_sizes)
        count = batch_sizes[0]
        # for BPTT nothing is left out: training alone multiplies zeros too
        first_k = START if not save_gates and are_zeros(hidden, START, units, units, count) else units
        t = 0  # next step
        row = 0  # of x, at step t
        chunk_end = 0  # first step whose inputs are not in scratch yet
        chunk_row = 0  # of x, the first in scratch
        while t < steps:
            ahead = t if alone else furthest(progress, parts)
            while t < ahead:
                row += batch_sizes[t]
                t += 1
            if t >= chunk_end:
                used = 0
                chunk_end, chunk_row = t, row
                while chunk_end < steps and used + batch_sizes[chunk_end] <= height:
                    used += batch_sizes[chunk_end]
                    chunk_end += 1
                inputs((values, row, used, features), (packed, bias), scratch, wide, units, (begin, end))
            alive = batch_sizes[t]
            h_to = count + row
            h_from = h_to - (batch_sizes[t - 1] if t else count)
            recurrent_k = units if t else first_k
            a_row = row if save_gates else 0
            step_of_panels(
                (scratch, row - chunk_row, wide),
                (beside, a_row, a_width, whole),
                (hidden, h_from, h_to),
                (cells, h_from, h_to),
                units,
                of_step,
                (save_gates, kept_gates, row),
                alive,
                (begin, end),
                *(t, recurrent_k),
            )
            if not alone and t < steps - 1:  # the core that has the last one only is waited for in any case
                store_release(progress, mine * PROGRESS_WORDS, t + 1)
                for part in range(parts):
                    if part != mine and is_late(progress, part, t, wide * units):
                        first, last = bounds[part], bounds[part + 1]
                        theirs = width * (last - first)
                        own = scratch[height * wide :]
                        inputs((values, row, alive, features), (packed, bias), own, theirs, units, (first, last))
                        step_of_panels(
                            (own, 0, theirs),
                            (beside, a_row, a_width, whole),
                            (hidden, h_from, h_to),
                            (cells, h_from, h_to),
                            units,
                            of_step,
                            (save_gates, kept_gates, row),
                            alive,
                            (first, last),
                            *(0, recurrent_k),
                        )
            row += alive
            t += 1
        restore(mode)

    all_steps = jit_inner(run_steps, cell.name)

    def forward(x, hidden, cells, units, batch_sizes, weights, kept, meeting, height, scratch, begin, end):
        """Run all steps in the panels from `begin` to `end`, beside the cores that run the others.

        x         (M, D)               float, in
        hidden    (N + M, H)           rows 0 to N in; the others out, when all cores are done
        cells     (N + M, B * L)       likewise
        weights   ``(input, bias, recurrent, recurrent_bias, diagonals)``
        kept      ``(gates, apart)``: (M * G * S,) the gates' values, and (M * A,) what stands apart, out, for BPTT; of
                  length 0: not wanted
        meeting   ``(bounds, progress)``: (P + 1,) int64, in: panels that each core owns, `begin` and `end` are
                  neighbours in it, or its ends; (P * 16,) int64, zeros at the start: the steps that each has finished
        height    rows of a chunk, at least N
        scratch   (height * (end - begin) * C * L + R + Q,)  float, overwritten; R for N rows of another core's panels,
                  Q for N rows of what stands apart
        """
        gates, apart = kept
        all_steps(
            *((x.reshape(-1), x.shape[1]), hidden.reshape(-1), cells.reshape(-1), units, batch_sizes, weights),
            *((gates, apart), meeting, height, scratch, begin, end),
        )

    def panels_back(saved, out, at, dy, units, dh, gradients_of_c, weights, share):
        """Take all sequences one step back in some panels of 4 * L units.

        saved           ``(gates, apart, hidden, cells)``
        out             ``(da, da_apart, dcs)``
        at              ``(next_row, row, h_from, h_to, count, following)``: the first `following` have a step after
        gradients_of_c  dc of each final c
        weights         ``(transposed, diagonals)``
        """
        gates, apart, hidden, cells = saved
        da, da_apart, dcs = out
        next_row, row, h_from, h_to, count, following = at
        transposed, diagonals = weights
        first, last = share
        lanes = lanes_of(gates)
        wide = gate_count * packed_units(units, lanes, halves)
        padded_units = (units + lanes - 1) // lanes * lanes
        width = COLUMNS * lanes
        through = da_apart if is_apart else da
        a_width = wide if is_apart else 0
        for place in range(first, last):
            panel = place * width
            gradient_of_h(
                *(through, next_row, wide, (count, following), transposed, wide * panel),
                *((dy, row, units, panel), (dh, padded_units, panel), START, dy[:0]),
            )
            for block in range(panel, min(panel + width, units), lanes):
                for n in range(count):
                    dc, d = gradients_of_c, n * padded_units + block
                    if n < following:
                        dc, d = dcs, (next_row + n) * padded_units + block
                    to, a = (row + n) * padded_units + block, (row + n) * wide + gate_count * block
                    block_backward(
                        (gates, row + n),
                        (apart, da_apart, row + n, a_width),
                        (hidden, h_from + n, h_to + n, units),
                        (cells, h_from + n, h_to + n),
                        *(units, diagonals, block),
                        (dc, d, dcs, to, da, a, load(dh, n * padded_units + block)),
                    )

    step_back = jit_inner(panels_back, cell.name)

    def backward(saved, dy, units, batch_sizes, dc, weights, out, meeting, scratch, begin, end):
        """Go back through all steps in the panels of 4 * L units from `begin` to `end`, beside the other cores.

        saved    ``(gates, apart, hidden, cells)`` in: as `sequence`'s forward left them
        dy       (M, H)   in: gradient of each h, that of the final h added to its row
        dc       (N, B * L)  in: gradient of each final c, zeros for padding units
        weights  ``(transposed, diagonals)``, see `bptt`
        out      ``(da, da_apart, dcs)``: (M, G * S) the gradients of the pre-activations; (M, A) of the recurrent
                 products that stand apart; (M, B * L) the gradient that is carried to before each row, in the first N
                 rows that of c0; all out, when all cores are done
        meeting  as in `forward`, of panels of 4 * L units
        scratch  (N * B * L,)  float, overwritten; zeros at first for padding units
        """
        mode = flush()
        gates, apart, hidden, cells = saved
        arrays = gates.reshape(-1), apart.reshape(-1), hidden.reshape(-1), cells.reshape(-1)
        results = out[0].reshape(-1), out[1].reshape(-1), out[2].reshape(-1)
        bounds, progress = meeting
        steps = len(batch_sizes)
        total = dy.shape[0]
        dy, dc = dy.reshape(-1), dc.reshape(-1)
        lanes = lanes_of(scratch)
        parts = len(bounds) - 1
        mine = number_of(bounds, begin)
        alone = end == bounds[parts] and begin == 0
        weights_of_share = (end - begin) * COLUMNS * lanes * gate_count * packed_units(units, lanes, halves)
        count = batch_sizes[0]
        back = 0  # next step, counted from the last one
        next_row = total  # of gates, at the step after
        while back < steps:
            ahead = back if alone else furthest(progress, parts)
            while back < ahead:
                next_row -= batch_sizes[steps - 1 - back]
                back += 1
            t = steps - 1 - back
            alive = batch_sizes[t]
            following = batch_sizes[t + 1] if back else 0
            row = next_row - alive
            h_to = count + row
            h_from = h_to - (batch_sizes[t - 1] if t else count)
            at = next_row, row, h_from, h_to, alive, following
            step_back(arrays, results, at, dy, units, scratch, dc, weights, (begin, end))
            if not alone and back < steps - 1:
                store_release(progress, mine * PROGRESS_WORDS, back + 1)
                for part in range(parts):
                    if part != mine and is_late(progress, part, back, weights_of_share):
                        theirs = bounds[part], bounds[part + 1]
                        step_back(arrays, results, at, dy, units, scratch, dc, weights, theirs)
            next_row = row
            back += 1
        restore(mode)

    return UnitParallelLoops(jit(forward, cell.name), jit(backward, cell.name), all_steps, step_of_panels, inputs)
