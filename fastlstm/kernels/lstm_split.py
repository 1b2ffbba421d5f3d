"""LSTM inference of few sequences: cores share the units instead of the sequences.

Each core owns some blocks of units and computes them at every step. It needs all of ``h_prev``, so the cores meet after
each step; a system that takes one of them away would leave the others waiting for thousands of steps' time. Therefore
nobody waits for long, and nobody depends on anybody:

- Whoever has waited in vain computes the other's blocks of that step too, and waits for it no more until it is back.
- Whoever comes back skips what others have finished.
- Two cores that compute the same block write the same bits, and nothing that is read at a step is ever overwritten: h
  and c have a row for every step, pre-activations live in memory of the core's own.

Letters and arrays as in ``kernels/lstm.py``.
"""

import numpy as np

from ..simd.atomic import observe, publish, relax
from ..simd.vector import lanes_of
from ._jit import jit, jit_inner
from .gemm import SAME_FOR_ALL, panel_product
from .lstm import pointwise

__all__ = ["PROGRESS_STRIDE", "infer_split"]

PROGRESS_STRIDE = 16
"""Elements between the progress of two cores: 128 bytes, what CPUs fetch at once."""

_PATIENCE = np.int64(1000)
"""Looks at another's progress, some 10 ns each, before its work is done for it."""


@jit_inner
def _blocks_of_step(
    gates, g_row, g_stride, hidden, h_from, h_to, units, recurrent, cells, stride, count, first, last, turn
):
    """Take `count` sequences one step on in the blocks `first` to `last`; `gates` holds ``W_ih x + b`` of these."""
    width = lanes_of(gates)
    for place in range(last - first):
        block = last - 1 - place if turn & 1 else first + place
        g = g_row * g_stride + (block - first) * 4 * width
        panel_product(
            *(hidden, h_from * units, units, 1, count),
            *(recurrent, block * 4 * width * units, units),
            *(gates, g, g_stride, gates, g, g_stride, 4 * width),
        )
        unit = block * width
        for n in range(count):
            pointwise(
                *(gates, g + n * g_stride),
                *(cells, (h_from + n) * stride + unit, (h_to + n) * stride + unit),
                *(hidden, (h_to + n) * units + unit, units - unit, False),
            )


@jit_inner
def _inputs(x, row, rows, features, packed, bias, gates, g_stride, first, last):
    """Write ``W_ih x + b`` of `rows` rows for the blocks `first` to `last`."""
    width = lanes_of(gates)
    for block in range(first, last):
        panel_product(
            *(x, row * features, features, 1, rows),
            *(packed, block * 4 * width * features, features),
            *(bias, block * 4 * width, SAME_FOR_ALL),
            *(gates, (block - first) * 4 * width, g_stride, 4 * width),
        )


@jit
def infer_split(
    x, hidden, cells, units, batch_sizes, packed, recurrent, bias, bounds, progress, height, scratch, begin, end
):
    """Run all steps for inference in the blocks of units from `begin` to `end`, beside the cores that run the others.

    x         (M, D)               float, in
    hidden    (N + M, H)           rows 0 to N in; the others out, when all cores are done
    cells     (N + M, B * L)       likewise
    packed, recurrent, bias        see `kernels.lstm.infer`
    bounds    (P + 1,) int64, in   blocks that each core owns: `begin` and `end` are neighbours in it, or its ends
    progress  (P * 16,) int64      zeros at the start: the steps that each core has finished
    height    rows of a chunk, at least N
    scratch   (height * (end - begin) * 4 * L + S,)  float, overwritten; S for N rows of any other core's blocks
    """
    width = lanes_of(scratch)
    features = x.shape[1]
    stride = cells.shape[1]
    x, hidden, cells = x.reshape(-1), hidden.reshape(-1), cells.reshape(-1)
    parts = len(bounds) - 1
    mine = 0
    while bounds[mine] != begin:
        mine += 1
    alone = end == bounds[parts] and begin == 0
    wide = 4 * width * (end - begin)
    steps = len(batch_sizes)
    count = batch_sizes[0]
    t = 0  # next step
    row = 0  # of x, at step t
    chunk_end = 0  # first step whose inputs are not in scratch yet
    chunk_row = 0  # of x, the first in scratch
    while t < steps:
        ahead = t
        if not alone:
            for part in range(parts):  # all that came before its last finished step is done, by whomever
                ahead = max(ahead, observe(progress, part * PROGRESS_STRIDE) - 1)
        while t < ahead:
            row += batch_sizes[t]
            t += 1
        if t >= chunk_end:
            used = 0
            chunk_end, chunk_row = t, row
            while chunk_end < steps and used + batch_sizes[chunk_end] <= height:
                used += batch_sizes[chunk_end]
                chunk_end += 1
            _inputs(x, row, used, features, packed, bias, scratch, wide, begin, end)
        alive = batch_sizes[t]
        h_to = count + row
        h_from = h_to - (batch_sizes[t - 1] if t else count)
        _blocks_of_step(
            *(scratch, row - chunk_row, wide, hidden, h_from, h_to, units, recurrent, cells, stride, alive),
            *(begin, end, t),
        )
        if not alone:
            publish(progress, mine * PROGRESS_STRIDE, t + 1)
            for part in range(parts):
                slot = part * PROGRESS_STRIDE
                done = observe(progress, slot)
                patience = _PATIENCE if done >= t else 0
                while done <= t and patience > 0:
                    relax()
                    done = observe(progress, slot)
                    patience -= 1
                if done <= t:
                    first, last = bounds[part], bounds[part + 1]
                    theirs = 4 * width * (last - first)
                    own = scratch[height * wide :]
                    _inputs(x, row, alive, features, packed, bias, own, theirs, first, last)
                    _blocks_of_step(
                        *(own, 0, theirs, hidden, h_from, h_to, units, recurrent, cells, stride, alive),
                        *(first, last, 0),
                    )
        row += alive
        t += 1
