"""Work of microseconds on all cores that look for some, given out without the GIL: above all, one step of a stream.

A step is cut into chunks of its units. Who leads it puts them up, some for each core, and takes chunks until none is
left: his own first, for their weights are in his core's cache, then the others'. A follower that looks takes them
likewise. So the step ends when it can, whoever else comes, comes late or is put aside by the system; only a chunk that
was begun elsewhere is waited for.

Other kinds of work go the same way: chunks of inputs (`kernels.lstm_ahead`), whole sequences whose units are shared
(`kernels.lstm_split`), and batches whose sequences are (`kernels.lstm_batch`): of these each core has one chunk.

The leader says what to do in a task, see `kernels.lstm_task`. Letters and arrays as in ``kernels/lstm.py``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..simd.atomic import at_address, observe, publish
from ..simd.denormals import flush, restore
from ..simd.vector import lanes_of
from ._jit import jit, jit_inner
from .chunks import chunk_is_there, put_up, say_made, take, wait_for_all
from .gates import span
from .gemm import START, rows_by_panels
from .lstm import are_zeros
from .lstm_batch import part_of_batch
from .lstm_split import PROGRESS_STRIDE, blocks_of_step, inputs_of_blocks, split_steps
from .lstm_task import (
    BATCH,
    BATCH_SIZES,
    BIAS,
    BOUNDS,
    CELLS,
    CHUNKS,
    COUNT,
    EACH,
    FEATURES,
    GATES,
    HEIGHT,
    HIDDEN,
    IDS,
    INPUT,
    INPUTS,
    KIND,
    NOW,
    PARTS,
    PROGRESS,
    READY,
    RECURRENT,
    SEQUENCES,
    STEP,
    STEPS,
    STRIDE,
    UNITS,
    X_SEQUENCE,
    X_STEP,
    X,
)
from .scratch import address_of
from .team import DONE, POSTED, ROW, TASK_WORDS

__all__ = [
    "STEPS_OF_CHUNK",
    "inputs_of_chunk",
    "point_to_sequences",
    "prepare_chunk",
    "take_steps",
    "task_of",
    "task_of_sequences",
]

STEPS_OF_CHUNK = np.int64(12)
"""Steps whose inputs are one chunk: two of the tallest tiles."""


def task_of(
    x: NDArray[Any],
    ids: NDArray[np.int64] | None,
    hidden: NDArray[Any],
    cells: NDArray[Any],
    gates: NDArray[Any],
    weights: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    features: int,
) -> NDArray[np.int64]:
    """Return a task but for PARTS, CHUNKS and NOW. The caller keeps the arrays alive while anyone may work on it.

    x        (N, D), or with `ids` (N,) the table (V, 4 * S)
    hidden   (2, N, H)      the halves by turns
    cells    (N, B * L)     overwritten by each step
    gates    (N, 4 * S)     scratch
    weights  W_ih, W_hh and the bias, see `kernels.lstm.infer`
    """
    arrays = x, ids, hidden, cells, gates, *weights
    _, count, units = hidden.shape
    task = np.zeros(TASK_WORDS, np.int64)
    places = X, IDS, HIDDEN, CELLS, GATES, INPUT, RECURRENT, BIAS
    task[list(places)] = [0 if array is None else address_of(array) for array in arrays]
    task[[KIND, COUNT, FEATURES, UNITS, STRIDE]] = STEP, count, features, units, cells.shape[1]
    return task


def task_of_sequences(
    weights: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    batch_sizes: NDArray[np.int64],
    bounds: NDArray[np.int64],
    progress: NDArray[np.int64],
    shape: tuple[int, int, int],
    height: int,
    each: int,
) -> NDArray[np.int64]:
    """Return the task of a batch (T, D, H) but for X, HIDDEN, CELLS and GATES, the scratch, `each` elements a core."""
    task = np.zeros(TASK_WORDS, np.int64)
    task[INPUT], task[RECURRENT], task[BIAS] = map(address_of, weights)
    task[BATCH_SIZES], task[BOUNDS], task[PROGRESS] = map(address_of, (batch_sizes, bounds, progress))
    task[KIND], task[PARTS], task[CHUNKS], task[COUNT] = SEQUENCES, len(bounds) - 1, 1, batch_sizes[0]
    task[STEPS], task[FEATURES], task[UNITS] = shape
    task[STRIDE], task[HEIGHT], task[EACH] = len(weights[2]) // 4, height, each
    return task


def point_to_sequences(
    task: NDArray[np.int64], x: NDArray[Any], hidden: NDArray[Any], cells: NDArray[Any], scratch: NDArray[Any]
) -> None:
    """Say which batch it is, in arrays as for `kernels.lstm_split.forward_split`. The caller keeps them alive."""
    for place, array in ((X, x), (HIDDEN, hidden), (CELLS, cells), (GATES, scratch)):
        task[place] = address_of(array)


@jit_inner
def _chunk(task, like, chunk):
    """Take all sequences one step on in the units of one chunk."""
    width = lanes_of(like)
    count, units, stride, features, now = task[COUNT], task[UNITS], task[STRIDE], task[FEATURES], task[NOW]
    wide = 4 * span(units, width)
    blocks = stride // width
    chunks = task[PARTS] * task[CHUNKS]
    first, last = blocks * chunk // chunks, blocks * (chunk + 1) // chunks
    x = at_address(like, task[X], count * features)
    gates = at_address(like, task[GATES], count * wide)[first * 4 * width :]
    if task[IDS] == 0:
        packed, bias = at_address(like, task[INPUT], 0), at_address(like, task[BIAS], 0)
        inputs_of_blocks(x, 0, count, features, packed, bias, gates, wide, units, first, last)
    else:
        ids = at_address(task, task[IDS], count)
        for n in range(count):
            for g in range(first * 4 * width, min(last * 4 * width, wide)):
                gates[n * wide + g - first * 4 * width] = x[ids[n] * wide + g]
    hidden, cells = at_address(like, task[HIDDEN], 0), at_address(like, task[CELLS], 0)
    recurrent, kept = at_address(like, task[RECURRENT], 0), at_address(like, task[GATES], 0)
    depth = START if are_zeros(hidden, now * count * units, units, units, count) else units
    blocks_of_step(
        *(gates, 0, wide, hidden, now * count, (1 - now) * count, units, recurrent, cells, 0, 0, stride),
        *(kept, 0, count, first, last, now, depth),
    )


@jit_inner
def inputs_of_chunk(task, like, chunk, to):
    """Write ``W_ih x + b`` of some steps of all sequences to gate rows from `to` on, a step after the other."""
    count, features, steps = task[COUNT], task[FEATURES], task[STEPS]
    wide = 4 * span(task[UNITS], lanes_of(like))
    x = at_address(like, task[X], count * steps * features)
    gates = at_address(like, task[GATES], count * (steps + STEPS_OF_CHUNK) * wide)
    packed, bias = at_address(like, task[INPUT], features * 4 * task[STRIDE]), at_address(like, task[BIAS], 0)
    first, last = chunk * STEPS_OF_CHUNK, min((chunk + 1) * STEPS_OF_CHUNK, steps)
    rows_by_panels(
        *(x, first * task[X_STEP], task[X_SEQUENCE], task[X_STEP], count, packed, features, bias),
        *(gates[to * wide :], wide, count * wide, wide, START, last - first),
    )


@jit_inner
def prepare_chunk(task, like, chunk):
    """Write the inputs of a chunk where its leader looks for them, and say that they are ready."""
    inputs_of_chunk(task, like, chunk, chunk * STEPS_OF_CHUNK * task[COUNT])
    publish(at_address(task, task[READY], task[CHUNKS]), chunk, 1)


@jit_inner
def _part_of_sequences(task, like, part):
    """Run all steps in the units of one core; in all units where there is no other."""
    count, steps, features = task[COUNT], task[STEPS], task[FEATURES]
    units, stride, parts = task[UNITS], task[STRIDE], task[PARTS]
    rows = count * steps
    batch_sizes = at_address(task, task[BATCH_SIZES], steps)
    bounds = at_address(task, task[BOUNDS], 1 + parts)
    begin, end = bounds[part], bounds[part + 1]
    if parts == 1:
        end = stride // lanes_of(like)
    split_steps(
        *(at_address(like, task[X], rows * features), features, at_address(like, task[HIDDEN], (count + rows) * units)),
        *(at_address(like, task[CELLS], (count + rows) * stride), stride, units, batch_sizes),
        *(at_address(like, task[INPUT], 4 * stride * features), at_address(like, task[RECURRENT], 4 * stride * units)),
        *(at_address(like, task[BIAS], 4 * stride), at_address(like, task[X], 0), bounds),
        *(at_address(task, task[PROGRESS], parts * PROGRESS_STRIDE), task[HEIGHT]),
        *(at_address(like, task[GATES] + part * task[EACH] * like.itemsize, task[EACH]), begin, end),
    )


@jit_inner
def _take_chunks(words, task, like, mine):
    """Take chunks until none is left, beginning with one's own."""
    mode = flush()
    part, left = take(words, task, mine)
    while left > 0:
        chunk = left - 1 if task[NOW] else task[CHUNKS] - left
        if task[KIND] == INPUTS:
            prepare_chunk(task, like, chunk)
        elif task[KIND] == SEQUENCES:
            _part_of_sequences(task, like, part)
        elif task[KIND] == BATCH:
            part_of_batch(task, like, part)
        else:
            _chunk(task, like, part * task[CHUNKS] + chunk)
        say_made(words, part)
        part, left = take(words, task, mine)
    restore(mode)


@jit
def take_steps(words, task, next_task, like, mine, until, looks):
    """Lead one step, or whole sequences; or follow those who lead, whatever their work is.

    words      (P * ROW,) int64   of the leader, row 0, and of the followers
    task       (TASK_WORDS,) int64   that all read
    next_task  the same           of the leader: what `task` shall be
    like       (any,) float       for its type
    mine       row of words; 0: lead
    until      a follower leaves when its word POSTED is so large, and says that it is: True. Of a leader: 1 if it is
               alone, else 0
    looks      or when it has looked so often without a chunk for it
    """
    if mine == 0:
        put_up(words, task, next_task, until)
        _take_chunks(words, task, like, mine)
        wait_for_all(words, task)
        return True
    publish(words, mine * ROW + DONE, until - 1)
    while chunk_is_there(words, mine, until, looks):
        _take_chunks(words, task, like, mine)
    return observe(words, mine * ROW + POSTED) >= until
