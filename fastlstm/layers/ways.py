"""How cores share a batch without the GIL: three ways, their tasks, and which of them are worth trying."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ..data.packed import same_length
from ..kernels import lstm as kernels
from ..kernels import team
from ..kernels.lstm_ahead import chunks_of, infer_ahead, point_to, rows_of, task_ahead
from ..kernels.lstm_batch import Direction, point_to_directions, take_batches, tasks_of_batch
from ..kernels.lstm_split import PROGRESS_STRIDE
from ..kernels.lstm_step import STEPS_OF_CHUNK, point_to_sequences, take_steps, task_of_sequences
from ..kernels.scratch import aligned, borrowed
from ..simd.host import REGISTERS
from ..simd.tile import ROWS
from . import shared_units
from .gate_layout import span_of, stride_of

__all__ = [
    "NEVER_ALONE",
    "NO_IDS",
    "Direction",
    "PreparedInputs",
    "Shape",
    "SharedSequences",
    "SharedUnits",
    "Way",
    "run_alone",
    "ways_for",
]

_NS_OF_A_CORE = 30_000.0
"""Of work that each core shall have to do at least, where there are more than two."""

_LED_FROM, _LED_TO, _SETTLED_TO = 25_000.0, 10_000_000.0, 200_000_000.0
"""Nanoseconds of work from which on it pays to lead, and up to which it counts; up to which, where either way of some
sequences may be the faster one, it is found out. The first few batches a leader does alone, to learn."""

NEVER_ALONE = 1_000_000.0
"""The same of batches that are shared by the GIL where a leader would have no followers."""

_CALL, _MEETING, _LIKELY = 10.0, 0.8, 1.25
"""Microseconds that leading takes, and meeting after a step; and the part of the fastest one's time that a way shall
need, by the estimate, to be tried."""

_OF_FEW = {1: 1.5, 2: 1.2, 3: 1.0}
"""Time of the product of so many rows with W_hh for each row, in the units of `shared_units.cost_of`."""

_OF_MANY = 0.95
"""The same of more rows."""

_PREPARED_MOST = 1 << 21
"""Gate values that are prepared at most: they are all kept until the last step."""

_MOST_FOR_UNITS = 2 * ROWS
"""Sequences up to which sharing units may be faster: two tiles of all rows, where the other way has one a core."""

_FEWEST_STEPS = 3
"""Steps below which the other core would come too late for its share of the units."""

NO_IDS = np.empty(0, np.int64)

Shape = tuple[int, int, int, int]  # N, T, D, H
Lead = Callable[[NDArray[np.int64], int], object]
"""Do what a task says, with so many followers."""


def run_alone(shape: Shape, one: Direction) -> None:
    """Run all steps of one direction on this core."""
    count, steps, features, units = shape
    height, scratch = _chunk_of(shape, one.hidden.dtype)
    with borrowed(scratch, one.hidden.dtype) as memory:
        kernels.infer(
            *(*one.x, features, NO_IDS, one.hidden, one.h_width, one.h_back, one.cells.reshape(-1), units),
            *(same_length(steps, count), *one.weights, height, memory, 0, count),
        )


@lru_cache(maxsize=256)
def _chunk_of(shape: Shape, dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the rows of a chunk and the elements of scratch for it, up to whole cache lines."""
    count, steps, _, units = shape
    height = shared_units.chunk_of(count, count * steps, stride_of(units, dtype))
    return height, -(-height * 4 * span_of(units, dtype) // 16) * 16


def _parts(threads: int, cost: float, pieces: int) -> int:
    """Return over how many cores units or sequences go."""
    return min(threads, 1 + team.MOST_FOLLOWERS, max(2, int(cost / _NS_OF_A_CORE)), pieces)


class Way(Protocol):
    """How cores share the batches of one shape: their task, with the weights' addresses."""

    kernels: ClassVar[tuple[Any, tuple[Any, ...]]]  # who leads and who follow, see `team.Leader`
    weights: tuple[Any, ...]  # of each direction

    def __init__(self, shape: Shape, directions: Sequence[Direction], cost: float) -> None:
        """Prepare for batches of this shape and with these weights; `cost` in nanoseconds on one core."""

    def run(self, directions: Sequence[Direction], lead: Lead) -> None:
        """Run all steps."""


class PreparedInputs(Way):
    """One core prepares the inputs while the other takes the steps."""

    kernels = infer_ahead, (take_steps,)

    def __init__(self, shape: Shape, directions: Sequence[Direction], cost: float) -> None:
        count, steps, _, units = shape
        [(x, *_, weights)] = directions
        self.weights: tuple[Any, ...] = (weights,)
        self._ready = np.empty(chunks_of(steps), np.int64)
        self._task = task_ahead(units, weights, self._ready, shape[:3])
        self._gates = rows_of(count, steps) * 4 * span_of(units, x[0].dtype)

    def run(self, directions: Sequence[Direction], lead: Lead) -> None:
        [(x, hidden, _, _, cells, _)] = directions
        with borrowed(self._gates, hidden.dtype) as gates:
            point_to(self._task, x, hidden, cells, gates)
            lead(self._task, 1)


class SharedUnits(Way):
    """Cores share the units, for few sequences."""

    kernels = take_steps, (take_steps,)

    def __init__(self, shape: Shape, directions: Sequence[Direction], cost: float) -> None:
        self._shape = count, steps, features, units = shape
        [(x, *_, weights)] = directions
        dtype, self._stride = x[0].dtype, len(weights[2]) // 4
        self.weights: tuple[Any, ...] = (weights,)
        parts = _parts(team.get_num_threads(), cost, self._stride // REGISTERS.lanes(dtype.itemsize))
        self._cut = cut = shared_units.cut_of_sequences(count, count * steps, self._stride, dtype, parts)
        self._progress = np.zeros(cut.parts * PROGRESS_STRIDE, np.int64)
        self._batch_sizes = same_length(steps, count)
        self._task = task_of_sequences(
            *(weights, self._batch_sizes, cut.bounds, self._progress, (steps, features, units), cut.height, cut.each)
        )

    def run(self, directions: Sequence[Direction], lead: Lead) -> None:
        [((values, _, _, sequence), hidden, _, _, cells, _)] = directions
        count, steps, features, _ = self._shape
        if sequence != features and count > 1:
            values = np.ascontiguousarray(values.reshape(count, steps, features).swapaxes(0, 1))
        every_c = aligned(((1 + steps) * count, self._stride), hidden.dtype)
        every_c[:count] = cells
        self._progress[...] = 0
        with borrowed(self._cut.parts * self._cut.each, hidden.dtype) as memory:
            point_to_sequences(self._task, values, hidden, every_c, memory)
            lead(self._task, self._cut.parts - 1)
        cells[...] = every_c[-count:]


class SharedSequences(Way):
    """Cores share the sequences of one direction or of both."""

    kernels = take_batches, (take_batches, take_steps)

    @staticmethod
    def worth_it(cost: float) -> bool:
        """Tell whether that is how to share a batch of both directions; `cost` in nanoseconds on one core."""
        return _LED_FROM <= cost <= _LED_TO and team.get_num_threads() > 1

    def __init__(self, shape: Shape, directions: Sequence[Direction], cost: float) -> None:
        count, steps, *_ = shape
        dtype = directions[0].hidden.dtype
        self.weights = tuple(direction.weights for direction in directions)
        parts = _parts(team.get_num_threads(), cost, count * len(directions))
        height, each = _chunk_of(shape, dtype)
        self._parts, self._each, self._batch_sizes = parts, each, same_length(steps, count)
        self._tasks = tasks_of_batch(self.weights, self._batch_sizes, shape, parts, height, each)

    def run(self, directions: Sequence[Direction], lead: Lead) -> None:
        with borrowed(self._parts * self._each, directions[0].hidden.dtype) as memory:
            point_to_directions(self._tasks, directions, memory)
            lead(self._tasks[0], self._parts - 1)


@lru_cache(maxsize=1024)
def ways_for(shape: Shape, blocks: int, threads: int, backwards: bool) -> tuple[type[Way], ...]:
    """Return by which ways so many threads may run a batch soonest without the GIL, the likeliest first; () if by none.

    They are estimated for one CPU, and differ by a third on another: `Led` finds out. A table in ``docs/design.md``
    holds what the ways took.
    """
    count, steps, features, units = shape
    cost = shared_units.cost_of(count * steps, units, features)
    few = shared_units.few(count, threads)
    if threads == 1 or cost < _LED_FROM:
        return ()
    inputs = 0.08e-3 * units * features  # microseconds of a step, of one sequence

    def recurrent(rows: int) -> float:
        """Return the microseconds of a step of so many sequences without its inputs."""
        return 0.08e-3 * rows * units * (units + 32) * _OF_FEW.get(rows, _OF_MANY)

    each = -(-count // _parts(threads, cost, count))
    alone = count * inputs + recurrent(count)
    times: dict[type[Way], float] = {}
    if count > 1:
        times[SharedSequences] = _CALL + steps * (each * inputs + recurrent(each))
    if count <= _MOST_FOR_UNITS and steps >= _FEWEST_STEPS and not backwards:
        most = -(-blocks // _parts(threads, cost, blocks)) / blocks  # of the units, on one core
        times[SharedUnits] = _CALL + steps * (alone * most + _MEETING)
    if 4 * units * count * steps <= _PREPARED_MOST and not backwards:  # these two read x from its first element on
        first = min(steps, int(STEPS_OF_CHUNK)) * count * inputs
        times[PreparedInputs] = _CALL + max(first + steps * recurrent(count), (first + steps * alone) / 2)
    ways = sorted(times, key=lambda way: times[way])
    if not ways or times[ways[0]] > steps * alone:
        return ()
    if cost > _LED_TO and ways[0] is not PreparedInputs and (few or SharedUnits not in ways or cost > _SETTLED_TO):
        return ()
    return tuple(way for way in ways if times[way] <= _LIKELY * times[ways[0]])
