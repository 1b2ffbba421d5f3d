"""Input pipelining: one core prepares ``W_ih x + b`` while the other takes the steps. Made for a cell.

Steps depend on each other, and meeting after each of them costs more than a second core brings. Their inputs do not: a
quarter to a half of the work. A worker claims chunks of them, some steps each, in their order. The coordinator takes
the steps; where a chunk is not ready, it claims one itself, and one that was begun elsewhere, but is late, it does
again, in rows of its own: steps write over their inputs, and a late core may still write there. At the end it waits for
those that are still at one.

Letters and arrays as in `sequence`, words as in `descriptor`.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ...runtime import config
from ...runtime.pool import LEFT, MADE, WORDS
from ...simd.atomic import array_at, fetch_add, load_acquire, pause, store_release, yield_core
from ...simd.denormals import flush, restore
from ...simd.jit import jit, jit_inner
from ...simd.vector import lanes_of
from ..cells import Cell
from ..gemm import START, panel_products
from .descriptor import (
    APART,
    APART_WIDTH,
    CELLS,
    CHUNKS,
    COUNT,
    FEATURES,
    GATES,
    H_FEATURES,
    HIDDEN,
    READY,
    STEPS,
    UNITS,
    X_SEQUENCE,
    X_STEP,
    X,
    packed_weights,
)
from .layout import packed_units
from .sequence import are_zeros, sequence_loops

__all__ = ["InputPipelineLoops", "chunks_of", "input_pipeline_loops", "rows_of"]

_PATIENCE = config.TUNED.patience_ahead
_STEPS = np.int64(config.TUNED.steps_per_chunk)
_YIELD_EVERY = config.TUNED.yield_every


def rows_of(count: int, steps: int) -> int:
    """Return the rows of gates for a batch."""
    return count * (steps + int(_STEPS))


def chunks_of(steps: int) -> int:
    """Return in how many chunks the inputs of so many steps go."""
    return -(-steps // int(_STEPS))


class InputPipelineLoops(NamedTuple):
    """The kernels of input pipelining for one cell: the coordinator's; a worker's chunk, a part of other kernels."""

    coordinate: Any
    prepare_chunk: Any


@lru_cache(maxsize=64)
def input_pipeline_loops(cell: Cell) -> InputPipelineLoops:
    """Return the kernels of input pipelining for `cell`."""
    gate_count, halves = len(cell.gates), cell.halves
    all_panels = panel_products(cell.columns).all_panels
    step_of_inference = sequence_loops(cell).step

    def inputs_of_chunk(words, like, chunk, to):
        """Write ``W_ih x + b`` of some steps of all sequences to gate rows from `to` on, a step after the other."""
        count, features, steps = words[COUNT], words[FEATURES], words[STEPS]
        wide = gate_count * packed_units(words[UNITS], lanes_of(like), halves)
        x = array_at(like, words[X], count * steps * features)
        gates = array_at(like, words[GATES], count * (steps + _STEPS) * wide)
        weights = packed_weights(words, like)
        first, last = chunk * _STEPS, min((chunk + 1) * _STEPS, steps)
        all_panels(
            (x, first * words[X_STEP], words[X_SEQUENCE], words[X_STEP], count),
            (START, last - first),
            *(weights[0], features, weights[1]),
            (gates[to * wide :], wide, count * wide, wide),
        )

    inputs = jit_inner(inputs_of_chunk, cell.name)

    def prepare_chunk(words, like, chunk):
        """Write the inputs of a chunk where the coordinator looks for them, and say that they are ready."""
        inputs(words, like, chunk, chunk * _STEPS * words[COUNT])
        store_release(array_at(words, words[READY], words[CHUNKS]), chunk, 1)

    prepare = jit_inner(prepare_chunk, cell.name)

    def coordinate_inputs(words, descriptor, next_descriptor, like, mine, until, spins):
        """Run all steps of a batch; the arguments are those of a `runtime.coordinator.Coordinator`'s kernel."""
        for word in range(len(next_descriptor)):
            descriptor[word] = next_descriptor[word]
        mode = flush()
        lanes = lanes_of(like)
        count, steps, units = descriptor[COUNT], descriptor[STEPS], descriptor[UNITS]
        features, chunks, a_width = descriptor[H_FEATURES], descriptor[CHUNKS], descriptor[APART_WIDTH]
        wide = gate_count * packed_units(units, lanes, halves)
        hidden = array_at(like, descriptor[HIDDEN], (1 + steps) * count * features)
        cells = array_at(like, descriptor[CELLS], count * ((units + lanes - 1) // lanes * lanes))
        gates = array_at(like, descriptor[GATES], count * (steps + _STEPS) * wide)
        apart = array_at(like, descriptor[APART], count * a_width)
        _, _, recurrent, recurrent_bias, diagonals, second = packed_weights(descriptor, like)
        weights = recurrent, recurrent_bias, diagonals, second
        first_k = START if are_zeros(hidden, START, features, features, count) else features
        ready = array_at(descriptor, descriptor[READY], chunks)
        for chunk in range(chunks):
            ready[chunk] = 0
        store_release(words, WORDS + MADE, 0)
        store_release(words, WORDS + LEFT, chunks - 1)
        prepare(descriptor, like, START)
        elsewhere = chunks - 1
        for chunk in range(chunks):
            first = chunk * _STEPS
            row = first * count
            waited = 0
            while load_acquire(ready, chunk) == 0:
                left = np.int64(0)
                if load_acquire(words, WORDS + LEFT) > 0:
                    left = fetch_add(words, WORDS + LEFT, -1)
                if left > 0:
                    prepare(descriptor, like, chunks - left)
                    elsewhere -= 1
                elif waited == _PATIENCE:
                    row = steps * count
                    inputs(descriptor, like, chunk, row)
                    break
                else:
                    pause()
                    waited += 1
            for t in range(first, min(first + _STEPS, steps)):
                recurrent_k = features if t else first_k
                step_of_inference(
                    (gates, row + (t - first) * count),
                    (apart, START, a_width),
                    (hidden, t * count, (t + 1) * count, features),
                    (hidden, t * count, features, features),
                    (cells, START, START),
                    *(units, weights, count, t, recurrent_k),
                )
        waited = 0
        while load_acquire(words, WORDS + MADE) < elsewhere:
            pause()
            waited += 1
            if waited % _YIELD_EVERY == 0:
                yield_core()
        restore(mode)
        return True

    return InputPipelineLoops(jit(coordinate_inputs, cell.name), prepare)
