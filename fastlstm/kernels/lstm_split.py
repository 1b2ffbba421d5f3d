"""LSTM of few sequences, forward and BPTT: cores share the units instead of the sequences.

Each core owns some blocks of units and computes them at every step. It needs all of ``h_prev`` (going back: the
gradients of all gates), so the cores meet after each step; a system that takes one of them away would leave the others
waiting for thousands of steps' time. Therefore nobody waits for long, and nobody depends on anybody:

- Whoever has waited in vain computes the other's blocks of that step too, and waits for it no more until it is back.
- Whoever comes back skips what others have finished.
- Two cores that compute the same block write the same bits, and nothing that is read at a step is ever overwritten: h,
  c and their gradients have a row for every step, pre-activations live in memory of the core's own.

Letters and arrays as in ``kernels/lstm.py``.
"""

import numpy as np

from ..simd.atomic import observe, publish, relax
from ..simd.denormals import flush, restore
from ..simd.tile import COLUMNS
from ..simd.vector import lanes_of, load
from ._jit import jit, jit_inner
from .gates import span
from .gemm import SAME_FOR_ALL, START, panel_product
from .lstm import are_zeros, pointwise
from .lstm_back import gradient_of_h, pointwise_back

__all__ = ["PROGRESS_STRIDE", "backward_split", "blocks_of_step", "forward_split", "inputs_of_blocks", "split_steps"]

PROGRESS_STRIDE = 16
"""Elements between the progress of two cores: 128 bytes, what CPUs fetch at once."""

_PATIENCE = np.int64(1000)
"""Looks at another's progress, some 20 ns each, before its work is done for it."""

_WEIGHTS_A_LOOK = np.int64(256)
"""Recurrent weights that a core's share of a step has for each look more: a quarter to a half of its time."""


# --- meeting ----------------------------------------------------------------------------------------------------------


@jit_inner
def _furthest(progress, parts):
    """Return the first step that may not be done yet: all before somebody's last one is, by whomever."""
    step = np.int64(0)
    for part in range(parts):
        step = max(step, observe(progress, part * PROGRESS_STRIDE) - 1)
    return step


@jit_inner
def _waited_in_vain(progress, part, step, weights):
    """Wait until another core has finished `step`, if it is no further behind than that, and not for long."""
    slot = part * PROGRESS_STRIDE
    done = observe(progress, slot)
    patience = _PATIENCE + weights // _WEIGHTS_A_LOOK if done >= step else 0
    while done <= step and patience > 0:
        relax()
        done = observe(progress, slot)
        patience -= 1
    return done <= step


@jit_inner
def _number_of(bounds, begin):
    """Return which core owns what begins at `begin`."""
    mine = 0
    while bounds[mine] != begin:
        mine += 1
    return mine


# --- forward ----------------------------------------------------------------------------------------------------------


@jit_inner
def blocks_of_step(
    gates,
    g_row,
    g_stride,
    hidden,
    h_from,
    h_to,
    units,
    recurrent,
    cells,
    c_from,
    c_to,
    stride,
    kept,
    row,
    count,
    first,
    last,
    turn,
    depth,
):
    """Take `count` sequences one step on in the blocks `first` to `last`; from these rows of h and c to those.

    `gates` holds ``W_ih x + b`` of these; `kept`, if not empty, gets the values of the gates in rows from `row`.
    `depth` is H, or 0 if h is zeros before the step.
    """
    width = lanes_of(gates)
    gate_span = span(units, width)
    onward = 1 - 2 * (turn & 1)
    for place in range(last - first):
        block = last - 1 - place if turn & 1 else first + place
        apart = min(width, gate_span - block * width)
        g = g_row * g_stride + (block - first) * 4 * width
        if depth:
            panel_product(
                hidden,
                h_from * units,
                units,
                1,
                count,
                recurrent,
                block * 4 * width * units,
                (block + onward) * 4 * width * units,
                units,
                gates,
                g,
                g_stride,
                gates,
                g,
                g_stride,
                4 * apart,
            )
        unit = block * width
        for n in range(count):
            pointwise(
                *(gates, g + n * g_stride, apart < width),
                *(cells, (c_from + n) * stride + unit, (c_to + n) * stride + unit),
                *(hidden, (h_to + n) * units + unit, units - unit),
                *(len(kept) > 0, kept, ((row + n) * gate_span + unit) * 4),
            )


@jit_inner
def inputs_of_blocks(x, row, rows, features, packed, bias, gates, g_stride, units, first, last):
    """Write ``W_ih x + b`` of `rows` rows for the blocks `first` to `last`."""
    width = lanes_of(gates)
    gate_span = span(units, width)
    for block in range(first, last):
        panel_product(
            x,
            row * features,
            features,
            1,
            rows,
            packed,
            block * 4 * width * features,
            (block + 1) * 4 * width * features,
            features,
            bias,
            block * 4 * width,
            SAME_FOR_ALL,
            gates,
            (block - first) * 4 * width,
            g_stride,
            4 * min(width, gate_span - block * width),
        )


@jit_inner
def split_steps(
    x,
    features,
    hidden,
    cells,
    stride,
    units,
    batch_sizes,
    packed,
    recurrent,
    bias,
    kept,
    bounds,
    progress,
    height,
    scratch,
    begin,
    end,
):
    """Do what `forward_split` does, for a kernel that it is a part of: arrays are 1-D."""
    mode = flush()
    width = lanes_of(scratch)
    parts = len(bounds) - 1
    mine = _number_of(bounds, begin)
    alone = end - begin == stride // width
    wide = 4 * width * (end - begin)
    steps = len(batch_sizes)
    count = batch_sizes[0]
    # for BPTT nothing is left out: `kernels.lstm.forward` multiplies zeros too
    first_depth = START if len(kept) == 0 and are_zeros(hidden, START, units, units, count) else units
    t = 0  # next step
    row = 0  # of x, at step t
    chunk_end = 0  # first step whose inputs are not in scratch yet
    chunk_row = 0  # of x, the first in scratch
    while t < steps:
        ahead = t if alone else _furthest(progress, parts)
        while t < ahead:
            row += batch_sizes[t]
            t += 1
        if t >= chunk_end:
            used = 0
            chunk_end, chunk_row = t, row
            while chunk_end < steps and used + batch_sizes[chunk_end] <= height:
                used += batch_sizes[chunk_end]
                chunk_end += 1
            inputs_of_blocks(x, row, used, features, packed, bias, scratch, wide, units, begin, end)
        alive = batch_sizes[t]
        h_to = count + row
        h_from = h_to - (batch_sizes[t - 1] if t else count)
        depth = units if t else first_depth
        blocks_of_step(
            *(scratch, row - chunk_row, wide, hidden, h_from, h_to, units, recurrent, cells, h_from, h_to, stride),
            *(kept, row, alive, begin, end, t, depth),
        )
        if not alone and t < steps - 1:  # who has the last one only is waited for anyhow
            publish(progress, mine * PROGRESS_STRIDE, t + 1)
            for part in range(parts):
                if part != mine and _waited_in_vain(progress, part, t, wide * units):
                    first, last = bounds[part], bounds[part + 1]
                    theirs = 4 * width * (last - first)
                    own = scratch[height * wide :]
                    inputs_of_blocks(x, row, alive, features, packed, bias, own, theirs, units, first, last)
                    blocks_of_step(
                        *(own, 0, theirs, hidden, h_from, h_to, units, recurrent, cells, h_from, h_to, stride),
                        *(kept, row, alive, first, last, 0, depth),
                    )
        row += alive
        t += 1
    restore(mode)


@jit
def forward_split(
    x, hidden, cells, units, batch_sizes, packed, recurrent, bias, kept, bounds, progress, height, scratch, begin, end
):
    """Run all steps in the blocks of units from `begin` to `end`, beside the cores that run the others.

    x         (M, D)               float, in
    hidden    (N + M, H)           rows 0 to N in; the others out, when all cores are done
    cells     (N + M, B * L)       likewise
    packed, recurrent, bias        see `kernels.lstm.infer`
    kept      (M * 4 * S,)         float, out: the gates' values, for BPTT; of length 0: not wanted
    bounds    (P + 1,) int64, in   blocks that each core owns: `begin` and `end` are neighbours in it, or its ends
    progress  (P * 16,) int64      zeros at the start: the steps that each core has finished
    height    rows of a chunk, at least N
    scratch   (height * (end - begin) * 4 * L + R,)  float, overwritten; R for N rows of any other core's blocks
    """
    split_steps(
        *(x.reshape(-1), x.shape[1], hidden.reshape(-1), cells.reshape(-1), cells.shape[1], units, batch_sizes),
        *(packed, recurrent, bias, kept, bounds, progress, height, scratch, begin, end),
    )


# --- backward ---------------------------------------------------------------------------------------------------------


@jit_inner
def _panels_of_step(
    gates,
    da,
    next_row,
    row,
    stride,
    count,
    following,
    transposed,
    dy,
    units,
    dh,
    cells,
    h_from,
    h_to,
    dc,
    dcs,
    first,
    last,
):
    """Take `count` sequences one step back in the panels `first` to `last`; the first `following` have a step after."""
    width = lanes_of(gates)
    gate_span = span(units, width)
    wide = 4 * gate_span
    for place in range(first, last):
        panel = place * COLUMNS * width
        gradient_of_h(
            *(da, next_row, wide, stride, count, following, transposed, wide * panel, dy, row, units, dh, 0, panel)
        )
        for block in range(panel, min(panel + COLUMNS * width, units), width):
            for n in range(count):
                g = (row + n) * wide + block * 4
                half = gate_span - block < width
                place_before = (h_from + n) * stride + block
                place_after = (h_to + n) * stride + block
                d = n * stride + block
                e = (row + n) * stride + block
                later = load(dh, d)
                if n < following:
                    pointwise_back(
                        *(gates, g, half, cells, place_before, place_after),
                        *(dcs, (next_row + n) * stride + block, later, da, g, dcs, e),
                    )
                else:
                    pointwise_back(*(gates, g, half, cells, place_before, place_after), *(dc, d, later, da, g, dcs, e))


@jit
def backward_split(
    gates, dy, units, batch_sizes, cells, dc, transposed, da, dcs, bounds, progress, scratch, begin, end
):
    """Go back through all steps in the panels of units from `begin` to `end`, beside the cores of the others.

    gates       (M, 4 * S)     float, in: i, f, g, o
    dy          (M, H)         float, in: gradient of each h, that of the final h added to its row
    cells       (N + M, B * L) float, in
    dc          (N, B * L)     float, in: gradient of each final c, zeros for padding units
    transposed  W_hh as the right operand over gates, see `kernels.gates.pack_gates_transposed`
    da          (M, 4 * S)     float, out: the gradients of a_i, a_f, a_g, a_o, when all cores are done
    dcs         (M, B * L)     float, out: the gradient of the c before each row; the first N rows are those of c0
    bounds      (P + 1,) int64, in   panels of 4 * L units that each core owns, as blocks in `forward_split`
    progress    (P * 16,) int64      zeros at the start
    scratch     (N * B * L,)   float, overwritten; zeros at first for padding units
    """
    mode = flush()
    stride = cells.shape[1]
    steps = len(batch_sizes)
    total = dy.shape[0]
    gates, dy, cells, da = gates.reshape(-1), dy.reshape(-1), cells.reshape(-1), da.reshape(-1)
    dc, dcs = dc.reshape(-1), dcs.reshape(-1)
    parts = len(bounds) - 1
    mine = _number_of(bounds, begin)
    alone = end == bounds[parts] and begin == 0
    weights = (end - begin) * COLUMNS * lanes_of(gates) * 4 * span(units, lanes_of(gates))
    count = batch_sizes[0]
    back = 0  # next step, counted from the last one
    next_row = total  # of gates, at the step after
    while back < steps:
        ahead = back if alone else _furthest(progress, parts)
        while back < ahead:
            next_row -= batch_sizes[steps - 1 - back]
            back += 1
        t = steps - 1 - back
        alive = batch_sizes[t]
        following = batch_sizes[t + 1] if back else 0
        row = next_row - alive
        h_to = count + row
        h_from = h_to - (batch_sizes[t - 1] if t else count)
        _panels_of_step(
            *(gates, da, next_row, row, stride, alive, following, transposed, dy, units, scratch, cells, h_from, h_to),
            *(dc, dcs, begin, end),
        )
        if not alone and back < steps - 1:
            publish(progress, mine * PROGRESS_STRIDE, back + 1)
            for part in range(parts):
                if part != mine and _waited_in_vain(progress, part, back, weights):
                    _panels_of_step(
                        *(gates, da, next_row, row, stride, alive, following, transposed, dy, units, scratch, cells),
                        *(h_from, h_to, dc, dcs, bounds[part], bounds[part + 1]),
                    )
        next_row = row
        back += 1
    restore(mode)
