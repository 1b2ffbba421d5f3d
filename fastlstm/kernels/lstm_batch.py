"""A batch whose sequences cores share without the GIL: one direction of an LSTM, or both.

Each core has some sequences, of one direction or of both, and runs all their steps: nobody waits for anybody. Letters
and arrays as in ``kernels/lstm.py``, words as in ``kernels/lstm_task.py``.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..simd.atomic import at_address, observe, publish
from ._jit import jit, jit_inner
from .chunks import chunk_is_there, put_up, say_made, take, wait_for_all
from .lstm import infer
from .lstm_task import (
    BATCH,
    BATCH_SIZES,
    BIAS,
    CELLS,
    CHUNKS,
    COUNT,
    EACH,
    FEATURES,
    GATES,
    H_BACK,
    H_WIDTH,
    HEIGHT,
    HIDDEN,
    INPUT,
    KIND,
    OTHER,
    PARTS,
    RECURRENT,
    STEPS,
    STRIDE,
    UNITS,
    X_FIRST,
    X_SEQUENCE,
    X_STEP,
    X,
)
from .scratch import address_of
from .team import DONE, POSTED, ROW, TASK_WORDS

__all__ = ["Direction", "part_of_batch", "point_to_directions", "take_batches", "tasks_of_batch"]


class Direction(NamedTuple):
    """What differs between the directions of a batch: arguments of `kernels.lstm.infer`."""

    x: tuple[NDArray[Any], int, int, int]  # and where the first row begins, the next step's and the next sequence's
    hidden: NDArray[Any]
    h_width: int
    h_back: bool
    cells: NDArray[Any]
    weights: tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


def tasks_of_batch(
    weights: Sequence[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]],
    batch_sizes: NDArray[np.int64],
    shape: tuple[int, int, int, int],
    parts: int,
    height: int,
    each: int,
) -> list[NDArray[np.int64]]:
    """Return the task of a batch (N, T, D, H) but for what `point_to_directions` fills in; and the other direction's.

    weights  of each direction
    height   rows of a chunk, at least N
    each     elements of scratch for each core
    """
    tasks = [np.zeros(TASK_WORDS, np.int64) for _ in weights]
    for task, arrays in zip(tasks, weights, strict=True):
        task[INPUT], task[RECURRENT], task[BIAS] = map(address_of, arrays)  # a list of places would take a microsecond
    task = tasks[0]
    task[KIND], task[PARTS], task[CHUNKS], task[BATCH_SIZES] = BATCH, parts, 1, address_of(batch_sizes)
    task[COUNT], task[STEPS], task[FEATURES], task[UNITS] = shape
    task[STRIDE], task[HEIGHT], task[EACH] = len(weights[0][2]) // 4, height, each
    if len(tasks) > 1:
        task[OTHER] = address_of(tasks[1])
    return tasks


def point_to_directions(
    tasks: Sequence[NDArray[np.int64]], directions: Sequence[Direction], scratch: NDArray[Any]
) -> None:
    """Say which batch it is. The caller keeps the arrays alive."""
    for task, ((x, *where), hidden, h_width, h_back, cells, _) in zip(tasks, directions, strict=True):
        task[X : CELLS + 1] = address_of(x), *where, address_of(hidden), h_width, h_back, address_of(cells)
    tasks[0][GATES] = address_of(scratch)


@jit_inner
def part_of_batch(task, like, part):
    """Run all steps of one core's sequences; of all sequences where there is no other core."""
    count, steps, features, units = task[COUNT], task[STEPS], task[FEATURES], task[UNITS]
    stride, parts, each = task[STRIDE], task[PARTS], task[EACH]
    total = count if task[OTHER] == 0 else 2 * count
    begin, end = total * part // parts, total * (part + 1) // parts
    for before in range(0, total, count):
        first, last = max(begin - before, 0), min(end - before, count)
        if first < last:
            words = task if before == 0 else at_address(task, task[OTHER], TASK_WORDS)
            w_ih = at_address(like, words[INPUT], 4 * stride * features)
            w_hh = at_address(like, words[RECURRENT], 4 * stride * units)
            infer(
                *(at_address(like, words[X], count * steps * features), words[X_FIRST], words[X_STEP]),
                *(words[X_SEQUENCE], features, at_address(task, words[X], 0)),  # no ids
                *(at_address(like, words[HIDDEN], 0), words[H_WIDTH], words[H_BACK] != 0),
                *(at_address(like, words[CELLS], count * stride), units, at_address(task, task[BATCH_SIZES], steps)),
                *(w_ih, w_hh, at_address(like, words[BIAS], 4 * stride), task[HEIGHT]),
                *(at_address(like, task[GATES] + part * each * like.itemsize, each), first, last),
            )


@jit_inner
def _take_parts(words, task, like, mine):
    """Take parts of a batch until none is left, beginning with one's own."""
    part, left = take(words, task, mine)
    while left > 0:
        part_of_batch(task, like, part)
        say_made(words, part)
        part, left = take(words, task, mine)


@jit
def take_batches(words, task, next_task, like, mine, until, looks):
    """Lead a batch, or follow where all work is batches; the arguments are those of `kernels.lstm_step.take_steps`.

    That one follows other work too, and takes four times as long to compile.
    """
    if mine == 0:
        put_up(words, task, next_task, until)
        _take_parts(words, task, like, mine)
        wait_for_all(words, task)
        return True
    publish(words, mine * ROW + DONE, until - 1)
    while chunk_is_there(words, mine, until, looks):
        _take_parts(words, task, like, mine)
    return observe(words, mine * ROW + POSTED) >= until
