"""Whole sequences: forward over packed rows, a panel of units at a time; `bptt` goes back. Made for a cell.

Letters: N sequences, T steps, M rows (the sum of ``batch_sizes``), D input features, H units, P features of h (H, but
for a projection), L lanes of a register, B = ceil(H / L) blocks of units, S units that a row of gates has room for
(`layout.packed_units_of`), G gates, C registers of a panel.

Common arrays (contiguous, one float type):

=============  ===================  ===================================================================================
gates          (M, G * S)           see `kernels.cells.cell`. Pre-activations are in units of the cell's ``scales``
hidden         (N + M, P)           row n is h0 of sequence n; row N + m is h after row m: no first-step branch
cells          (N + M, B * L)       the same for c; of length 0 where there is none
apart          (M, A)               what a cell keeps beside the gates, see `apart_width`
batch_sizes    (T,) int64           sequences alive at each step, never rising
=============  ===================  ===================================================================================

Packed weights, all 1-D, those that a cell lacks of length 0:

=================  ================================================================================================
input              (panels of D rows) W_ih, see `layout.pack_gates`
bias               (panels of 1 row) what is added to the input products: b_ih + b_hh
recurrent          (panels of P rows) W_hh
recurrent_bias     (panels of 1 row) what recurrent products that stand apart begin from; of a projection: zeros
diagonals          (vectors, B * L) peephole weights
second             (panels of H rows) of a second stage: the projection, or W_hn of a GRU with its reset gate before
=================  ================================================================================================

A panel holds all gates of one block of units, or one gate of four blocks; so the pre-activations of a unit come out
side by side, and are in the L1 cache when the unit reads them. A call handles the sequences from `begin` to `end` for
all steps: cores share no state and never wait for each other.
"""

from functools import lru_cache
from typing import Any, NamedTuple

from ...simd.denormals import flush, restore
from ...simd.jit import jit, jit_inline, jit_inner
from ...simd.tile import COLUMNS, ROWS
from ...simd.vector import lanes_of
from ..cells import Cell
from ..gemm import SAME_FOR_ALL, START, panel_products
from ..gemm.tiles import ONE_GROUP
from .layout import all_weights, packed_units

__all__ = ["SequenceLoops", "apart_width", "are_zeros", "sequence_loops"]


def apart_width(cell: Cell, units: int, lanes: int, training: bool) -> int:
    """Return A: the columns that a row needs beside the gates.

    A GRU's recurrent products: all of them for BPTT, those of one panel else. What a projection reads. What the second
    stage of a GRU with its reset gate before reads and gives.
    """
    padded_units = -(-units // lanes) * lanes
    if cell.is_apart:
        return len(cell.gates) * (padded_units if training else lanes)
    return padded_units * (2 if cell.reset_before else 1 if cell.project else 0)


@jit_inner
def are_zeros(hidden, h, h_width, features, count):
    """Tell whether the rows of h from element `h` on are zeros."""
    for n in range(count):
        for unit in range(features):
            if hidden[h + n * h_width + unit] != 0.0:
                return False
    return True


def _make_step(cell: Cell, save_gates: bool) -> Any:
    """Return the kernel that takes sequences one step on; with `save_gates`, what BPTT reads is kept."""
    gate_count, blocks, halves = len(cell.gates), cell.blocks, cell.halves
    is_apart, project, reset_before = cell.is_apart, cell.project, cell.reset_before
    columns = cell.columns
    products, plain = panel_products(columns), panel_products(COLUMNS)
    panel_product, row_product, all_panels = products.product, products.row, plain.all_panels
    row_of_some = products.row_of_some
    pointwise, second_pointwise = cell.pointwise, cell.second
    variant = f"{cell.name}_{'keeping' if save_gates else 'inference'}"

    def block_of_step(rows, apart, hidden, carry, units, weights, n, unit):
        """Take one block of one sequence one step on."""
        gates, gate_row = rows
        beside, e, e_stride = apart
        h, h_from, h_to, h_width = hidden
        cells, c_from, c_to = carry
        lanes = lanes_of(gates)
        room = packed_units(units, lanes, halves)
        padded_units = (units + lanes - 1) // lanes * lanes
        g = (gate_row + n) * gate_count * room + gate_count * unit
        at = gates, g, halves and room - unit < lanes
        at_carry = cells, (c_from + n) * padded_units + unit, (c_to + n) * padded_units + unit
        if project:
            at_hidden = beside, START, e + n * e_stride + unit, units - unit
            at_apart = beside, START
        else:
            at_hidden = h, (h_from + n) * h_width + unit, (h_to + n) * h_width + unit, units - unit
            at_apart = beside, e + n * e_stride + (unit if reset_before else 0)
        pointwise(at, at_apart, at_carry, at_hidden, (save_gates, gates, g), (weights[2], unit, padded_units))

    one_block = jit_inline(block_of_step, variant)

    def step(rows, apart, hidden, source, carry, units, weights, count, parity, recurrent_k):
        """Take `count` sequences one step on. The row numbers are those of the first one.

        With an odd `parity` the panels are walked from the last to the first: what the step before read last is still
        in the nearest cache.

        rows         ``(gates, gate_row)``
        apart        ``(apart, row, A)``
        hidden       ``(hidden, h_from, h_to, row width)``
        source       ``(values, first row, row width, P)``: what the recurrent product reads, h or h times a mask
        carry        ``(cells, c_from, c_to)``
        weights      ``(recurrent, recurrent_bias, diagonals, second)``
        recurrent_k  P, or 0 if h is zeros before the step
        """
        gates, gate_row = rows
        beside, beside_row, e_stride = apart
        values, s_from, s_width, features = source
        recurrent, recurrent_bias, _, second = weights
        lanes = lanes_of(gates)
        room = packed_units(units, lanes, halves)
        padded_units = (units + lanes - 1) // lanes * lanes
        wide = gate_count * room
        width, each = columns * lanes, blocks * lanes
        onward = 1 - 2 * (parity & 1)
        last = (padded_units - 1) // each * each
        for place in range(0, padded_units, each):
            block = last - place if parity & 1 else place
            here = min(each, room - block)
            g = gate_row * wide + gate_count * block
            j = block // each * width * features
            e = beside_row * e_stride
            if is_apart:
                if save_gates:
                    e += gate_count * block
                panel_product(
                    (values, s_from * s_width, s_width),
                    1,
                    count,
                    (recurrent, j, j + onward * width * features, recurrent_k),
                    (recurrent_bias, block // each * width, SAME_FOR_ALL),
                    (beside, e, e_stride, gate_count * here),
                )
            elif recurrent_k == 0:
                pass  # nothing comes of W_hh
            elif count == 1 and blocks > 1 and here < each:
                row_of_some((values, s_from * s_width), (recurrent, j, recurrent_k), (gates, g, gate_count * here))
            elif count == 1:
                row_product((values, s_from * s_width), (recurrent, j, recurrent_k), (gates, g, gate_count * here))
            else:
                panel_product(  # 0: a = W_ih x + b_ih + W_hh h_prev + b_hh
                    (values, s_from * s_width, s_width),
                    1,
                    count,
                    (recurrent, j, j + onward * width * features, recurrent_k),
                    (gates, g, wide),
                    (gates, g, wide, gate_count * here),
                )
            at_apart = beside, e, e_stride
            seen = (values, s_from, s_from, s_width) if reset_before else hidden  # with recurrent dropout's mask
            for n in range(count):
                if blocks == 1:
                    one_block(rows, at_apart, seen, carry, units, weights, n, block)
                else:
                    for unit in range(block, block + here, lanes):
                        one_block(rows, at_apart, seen, carry, units, weights, n, unit)
        if project:
            h, _, h_to, h_width = hidden
            all_panels(  # 7: h = W_hr m
                (beside, beside_row * e_stride, START, e_stride, ONE_GROUP),
                (START, count),
                *(second, units, recurrent_bias),
                (h[h_to * h_width :], START, h_width, features),
            )
        if reset_before:
            h, h_from, h_to, h_width = hidden
            first = beside_row * e_stride
            all_panels(
                (beside, first, START, e_stride, ONE_GROUP),
                (START, count),
                *(second, units, recurrent_bias),
                (beside[first + padded_units :], START, e_stride, units),
            )
            for n in range(count):
                for unit in range(0, padded_units, lanes):
                    second_pointwise(
                        (gates, (gate_row + n) * wide + gate_count * unit, False),
                        (beside, first + n * e_stride + padded_units + unit),
                        (h, (h_from + n) * h_width + unit, (h_to + n) * h_width + unit, units - unit),
                        save_gates,
                    )

    return jit_inner(step, variant)


class SequenceLoops(NamedTuple):
    """The kernels of whole sequences for one cell.

    infer(x, features, ids, hidden, cells, units, batch_sizes, weights, height, scratch, begin, end)
        Inference; see its docstring.
    forward(gates, apart, hidden, cells, units, batch_sizes, weights, dropout, begin, end)
        Training: every gate and state is kept.
    step
        One step of inference, a part of other kernels.
    """

    infer: Any
    forward: Any
    step: Any


@lru_cache(maxsize=64)
def sequence_loops(cell: Cell) -> SequenceLoops:
    """Return the kernels of whole sequences for `cell`."""
    gate_count, halves = len(cell.gates), cell.halves
    step_of_training, step_of_inference = _make_step(cell, True), _make_step(cell, False)
    all_panels = panel_products(cell.columns).all_panels
    apart_of_stride = 2 if cell.reset_before else 1 if cell.project else 0
    apart_of_lanes = gate_count if cell.is_apart else 0
    unpack = all_weights(cell)

    def forward(gates, apart, hidden, cells, units, batch_sizes, weights, dropout, begin, end):
        """Run all steps for training.

        gates    in: ``W_ih x + b`` of each row; out: the values of the gates
        apart    out
        hidden   rows 0 to N in; the others out
        cells    likewise
        weights  ``(recurrent, recurrent_bias, diagonals, second)``
        dropout  ``(mask, masked)``: mask (N, P) of h_prev in the recurrent product; masked (N + M, P) out: h times the
                 mask of its sequence, before each row. Both of length 0 without recurrent dropout
        """
        mode = flush()
        features = hidden.shape[1]
        a_width = apart.shape[1]
        mask, masked = dropout
        masks = len(mask) > 0
        gates, apart, hidden, cells = gates.reshape(-1), apart.reshape(-1), hidden.reshape(-1), cells.reshape(-1)
        mask, masked = mask.reshape(-1), masked.reshape(-1)
        source = masked if masks else hidden
        count = batch_sizes[0]  # N, then the sequences of the step before
        h_from = 0
        for t in range(len(batch_sizes)):
            alive = min(batch_sizes[t], end) - begin
            h_to = h_from + count
            if alive > 0:
                if masks:
                    at = (h_from + begin) * features
                    for place in range(alive * features):
                        masked[at + place] = hidden[at + place] * mask[begin * features + place]
                row = h_to - batch_sizes[0] + begin
                step_of_training(
                    (gates, row),
                    (apart, row, a_width),
                    (hidden, h_from + begin, h_to + begin, features),
                    (source, h_from + begin, features, features),
                    (cells, h_from + begin, h_to + begin),
                    *(units, weights, alive, t, features),
                )
            h_from = h_to
            count = batch_sizes[t]
        restore(mode)

    def infer(x, features, ids, hidden, cells, units, batch_sizes, weights, height, scratch, begin, end):
        """Run all steps for inference: no gate is kept, c is overwritten in place.

        Steps go in chunks whose gate rows stay in the cache: first ``W_ih x + b`` of a whole chunk, then its steps.
        Going through x from its end (`x_step` below 0), a chunk's gate rows stand the other way round, as its rows in x
        do. Where no sequence has another h0 than zeros, the first step does not read W_hh.

        x        ``(values, x_first, x_step, x_sequence)``: feature f of sequence n at step t is element
                 ``x_first + t * x_step + n * x_sequence + f``; `x_step` 0: packed rows
        ids      (M,) int64, in: which row of `x`, then (V, G * S), is ``W_ih x + b`` of each packed row, with no
                 product to make. Of length 0: `x` holds features
        hidden   ``(values, width, P, reverse_out)``: row r of P features begins at element ``r * width``; rows 0 to N
                 in, the N + M others out. With `reverse_out` (of a dense batch) the other way round: rows M to M + N
                 in, and each step's rows stand before those of the step before
        cells    (N * B * L,), in: c0; out: c after each sequence's last step
        weights  ``(input, bias, recurrent, recurrent_bias, diagonals, second)``; of a plain cell the first three
        height   rows of a chunk, at least end - begin
        scratch  overwritten: the gate rows of a chunk, (height * G * S,); what `apart_width` says for end - begin rows;
                 of packed rows, a chunk's rows of x: (height * D,)
        """
        mode = flush()
        values, x_first, x_step, x_sequence = x
        h, h_width, h_features, reverse_out = hidden
        packed, bias, recurrent, recurrent_bias, diagonals, second = unpack(weights)
        of_step = recurrent, recurrent_bias, diagonals, second
        lanes = lanes_of(scratch)
        count = batch_sizes[0]
        wide = gate_count * packed_units(units, lanes, halves)
        gates = scratch[: height * wide]
        a_width = apart_of_stride * ((units + lanes - 1) // lanes * lanes) + apart_of_lanes * lanes
        apart = scratch[height * wide :]
        copied = scratch[height * wide + (end - begin) * a_width :]
        backwards = x_step < 0
        in_place = x_step != 0 or (begin == 0 and end == count)
        source = x_first  # element of x where the step's first row begins
        h_from = count * len(batch_sizes) if reverse_out else 0
        recurrent_k = h_features
        if are_zeros(h, (h_from + begin) * h_width, h_width, h_features, end - begin):
            recurrent_k = START
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
                            gates[g + c] = values[from_table + c]
                elif not in_place:
                    for n in range(alive):
                        for c in range(features):
                            copied[(used + n) * features + c] = values[source + (begin + n) * features + c]
                used += alive
                source += x_step if x_step else batch_sizes[after] * features
                row += batch_sizes[after]
                after += 1
            if not len(ids):
                rows = values if in_place else copied
                groups, apart_rows, apart_in_gates = 1, 0, 0
                in_group, onward, onward_in_gates = int(used), features, wide
                if x_step:
                    first = (source - x_step if backwards else first) + begin * x_sequence
                    sequences, steps, onward = end - begin, after - t, abs(x_step)
                    if onward == sequences * x_sequence:
                        onward = x_sequence
                    elif sequences < min(2 * ROWS, steps):
                        groups, apart_rows, apart_in_gates = sequences, x_sequence, wide
                        in_group, onward_in_gates = steps, sequences * wide
                    else:
                        groups, apart_rows, apart_in_gates = steps, onward, sequences * wide
                        in_group, onward = sequences, x_sequence
                all_panels(  # called once: each call more takes its time to compile
                    (rows, first, apart_rows, onward, groups),
                    (START, in_group),
                    *(packed, features, bias),
                    (gates, apart_in_gates, onward_in_gates, wide),
                )
            chunk_rows = used
            used = START
            for step in range(t, after):
                alive = min(batch_sizes[step], end) - begin
                before = batch_sizes[step - 1] if step else count
                h_to = h_from - before if reverse_out else h_from + before
                k_now = h_features if step else recurrent_k
                gate_row = chunk_rows - used - alive if backwards else used
                step_of_inference(
                    (gates, gate_row),
                    (apart, START, a_width),
                    (h, h_from + begin, h_to + begin, h_width),
                    (h, h_from + begin, h_width, h_features),
                    (cells, begin, begin),
                    *(units, of_step, alive, step, k_now),
                )
                used += alive
                h_from = h_to
            t = after
        restore(mode)

    return SequenceLoops(jit(infer, cell.name), jit(forward, cell.name), step_of_inference)
