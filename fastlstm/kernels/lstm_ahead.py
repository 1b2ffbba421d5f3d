"""A batch whose inputs are much of the work, on two cores: one prepares the inputs while the other takes the steps.

Steps depend on each other, and meeting after each of them costs more than a second core brings. Their inputs,
``W_ih x + b``, do not: a quarter to a half of the work. Whoever follows (`kernels.lstm_step`) takes chunks of them,
some steps each, in their order. The leader takes the steps; where a chunk is not ready, he takes one himself, and one
that was begun elsewhere, but does not become ready, he does again, in rows of his own: steps write over their inputs,
and who is late may still write there. At the end he waits for whoever is still at one.

Letters and arrays as in ``kernels/lstm.py``, tasks as in ``kernels/lstm_task.py``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..simd.atomic import add, at_address, give_way, observe, publish, relax
from ..simd.denormals import flush, restore
from ..simd.vector import lanes_of
from ._jit import jit
from .gates import span
from .gemm import START
from .lstm import are_zeros, step_of_inference
from .lstm_step import STEPS_OF_CHUNK, inputs_of_chunk, prepare_chunk
from .lstm_task import (
    BIAS,
    CELLS,
    CHUNKS,
    COUNT,
    FEATURES,
    GATES,
    HIDDEN,
    INPUT,
    INPUTS,
    KIND,
    PARTS,
    READY,
    RECURRENT,
    STEPS,
    STRIDE,
    UNITS,
    X_SEQUENCE,
    X_STEP,
    X,
)
from .scratch import address_of
from .team import LEFT, LOOKS_A_WAY, MADE, ROW, TASK_WORDS

__all__ = ["chunks_of", "infer_ahead", "point_to", "rows_of", "task_ahead"]

_PATIENCE = 500
"""Looks for a chunk that was begun elsewhere, some 20 ns each, before it is done again."""


def rows_of(count: int, steps: int) -> int:
    """Return the rows of gates for a batch."""
    return count * (steps + int(STEPS_OF_CHUNK))


def chunks_of(steps: int) -> int:
    """Return in how many chunks the inputs of so many steps go."""
    return -(-steps // int(STEPS_OF_CHUNK))


def task_ahead(
    units: int,
    weights: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    ready: NDArray[np.int64],
    shape: tuple[int, ...],
) -> NDArray[np.int64]:
    """Return the task of batches of one shape (N, T, D) but for what `point_to` fills in.

    weights  W_ih, W_hh and the bias, see `kernels.lstm.infer`
    ready    (chunks,) int64  overwritten
    """
    count, steps, features = shape
    task = np.zeros(TASK_WORDS, np.int64)
    task[INPUT], task[RECURRENT], task[BIAS] = map(address_of, weights)
    task[KIND], task[PARTS], task[CHUNKS], task[READY] = INPUTS, 2, len(ready), address_of(ready)
    task[COUNT], task[STEPS], task[FEATURES] = count, steps, features
    task[UNITS], task[STRIDE] = units, len(weights[2]) // 4
    return task


def point_to(
    task: NDArray[np.int64],
    x: tuple[NDArray[Any], int, int, int],
    hidden: NDArray[Any],
    cells: NDArray[Any],
    gates: NDArray[Any],
) -> None:
    """Say which batch it is. The caller keeps the arrays alive.

    x       as in `kernels.lstm_batch.Direction`, forward
    hidden  ((1 + T) * N * H,)  float, the first N rows: h0; the others out
    cells   (N, B * L)          float, in: c0; out: the final c
    gates   (`rows_of` * 4 * S,) float, overwritten
    """
    _, _, task[X_STEP], task[X_SEQUENCE] = x
    task[X], task[HIDDEN], task[CELLS], task[GATES] = map(address_of, (x[0], hidden, cells, gates))


@jit
def infer_ahead(words, task, next_task, like, mine, until, looks):
    """Run all steps of a batch; the arguments are those of `kernels.lstm_step.take_steps` for a leader."""
    for word in range(len(next_task)):
        task[word] = next_task[word]
    mode = flush()
    count, steps, units, stride, chunks = task[COUNT], task[STEPS], task[UNITS], task[STRIDE], task[CHUNKS]
    hidden = at_address(like, task[HIDDEN], (1 + steps) * count * units)
    cells = at_address(like, task[CELLS], count * stride)
    gates = at_address(like, task[GATES], count * (steps + STEPS_OF_CHUNK) * 4 * span(units, lanes_of(like)))
    recurrent = at_address(like, task[RECURRENT], 4 * stride * units)
    depth_of_first = START if are_zeros(hidden, START, units, units, count) else units
    ready = at_address(task, task[READY], chunks)
    for chunk in range(chunks):
        ready[chunk] = 0
    publish(words, ROW + MADE, 0)
    publish(words, ROW + LEFT, chunks - 1)
    prepare_chunk(task, like, START)
    elsewhere = chunks - 1
    for chunk in range(chunks):
        first = chunk * STEPS_OF_CHUNK
        row = first * count
        waited = 0
        while observe(ready, chunk) == 0:
            left = np.int64(0)
            if observe(words, ROW + LEFT) > 0:
                left = add(words, ROW + LEFT, -1)
            if left > 0:
                prepare_chunk(task, like, chunks - left)
                elsewhere -= 1
            elif waited == _PATIENCE:
                row = steps * count
                inputs_of_chunk(task, like, chunk, row)
                break
            else:
                relax()
                waited += 1
        for t in range(first, min(first + STEPS_OF_CHUNK, steps)):
            gate_row = row + (t - first) * count
            depth = units if t else depth_of_first
            step_of_inference(gates, gate_row, stride, hidden, t * count, units, recurrent, cells, count, t, depth)
    waited = 0
    while observe(words, ROW + MADE) < elsewhere:
        relax()
        waited += 1
        if waited % LOOKS_A_WAY == 0:
            give_way()
    restore(mode)
    return True
