"""Batches that cores share without the GIL: what a layer keeps of one batch for the next of its shape."""

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..data.packed import same_length
from ..kernels import lstm as kernels
from ..kernels import team
from ..kernels.lstm_ahead import chunks_of, infer_ahead, point_to, rows_of, task_ahead
from ..kernels.lstm_batch import Direction, point_to_directions, take_batches, tasks_of_batch
from ..kernels.lstm_split import PROGRESS_STRIDE
from ..kernels.lstm_step import STEPS_OF_CHUNK, point_to_sequences, take_steps, task_of_sequences
from ..kernels.scratch import aligned, borrowed
from ..simd.host import REGISTERS
from . import shared_units
from .gate_layout import span_of, stride_of

__all__ = [
    "NEVER_ALONE",
    "NO_IDS",
    "Direction",
    "Led",
    "PreparedInputs",
    "SharedSequences",
    "SharedUnits",
    "run_alone",
    "way_for",
]

_NS_OF_A_CORE = 30_000.0
"""Of work that each core shall have to do at least, where there are more than two."""

_LED_FROM, _LED_TO = 25_000.0, 10_000_000.0
"""Nanoseconds of work from which on it pays to lead, and up to which it counts, but for inputs that are prepared. The
first few batches a leader does alone, to learn."""

NEVER_ALONE = 1_000_000.0
"""The same of batches that are shared by the GIL where a leader would have no followers."""

_CALL, _MEETING, _GAIN = 10.0, 0.8, 0.9
"""Microseconds that leading takes, and meeting after a step; and the part of its time alone that a batch shall need."""

_OF_FEW = {1: 1.5, 2: 1.2, 3: 1.0}
"""Time of the product of so many rows with W_hh for each row, in the units of `shared_units.cost_of`."""

_OF_MANY = 0.95
"""The same of more rows."""

_PREPARED_MOST = 1 << 21
"""Gate values that are prepared at most: they are all kept until the last step."""

_FEWEST_STEPS = 3
"""Steps below which the other core would come too late for its share of the units."""

_DECLINED = 2
"""How often a batch of a new kind is declined."""

_KEPT = 8
"""Kinds of batches, of as many calls at once, that are kept when weights change."""

NO_IDS = np.empty(0, np.int64)

_Shape = tuple[int, int, int, int]  # N, T, D, H


def run_alone(shape: _Shape, one: Direction) -> None:
    """Run all steps of one direction on this core."""
    count, steps, features, units = shape
    height, scratch = _chunk_of(shape, one.hidden.dtype)
    with borrowed(scratch, one.hidden.dtype) as memory:
        kernels.infer(
            *(*one.x, features, NO_IDS, one.hidden, one.h_width, one.h_back, one.cells.reshape(-1), units),
            *(same_length(steps, count), *one.weights, height, memory, 0, count),
        )


@lru_cache(maxsize=256)
def _chunk_of(shape: _Shape, dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the rows of a chunk and the elements of scratch for it, up to whole cache lines."""
    count, steps, _, units = shape
    height = shared_units.chunk_of(count, count * steps, stride_of(units, dtype))
    return height, -(-height * 4 * span_of(units, dtype) // 16) * 16


def _parts(threads: int, cost: float, pieces: int) -> int:
    """Return over how many cores units or sequences go."""
    return min(threads, 1 + team.MOST_FOLLOWERS, max(2, int(cost / _NS_OF_A_CORE)), pieces)


class _Way(Protocol):
    """How cores share the batches of one shape: their task, with the weights' addresses."""

    leader: team.Leader
    weights: tuple[Any, ...]  # of each direction

    def __init__(self, shape: _Shape, directions: Sequence[Direction], leader: team.Leader | None, cost: float) -> None:
        """Prepare for batches of this shape and with these weights."""

    def run(self, directions: Sequence[Direction]) -> None:
        """Run all steps."""


class PreparedInputs:
    """One core prepares the inputs while the other takes the steps."""

    def __init__(self, shape: _Shape, directions: Sequence[Direction], leader: team.Leader | None, cost: float) -> None:
        count, steps, _, units = shape
        [(x, *_, weights)] = directions
        self.weights: tuple[Any, ...] = (weights,)
        self._ready = np.empty(chunks_of(steps), np.int64)
        self._task = task_ahead(units, weights, self._ready, shape[:3])
        self._gates = rows_of(count, steps) * 4 * span_of(units, x[0].dtype)
        self.leader = leader or team.Leader(infer_ahead, (take_steps,), x[0].dtype, 2, cost)

    def run(self, directions: Sequence[Direction]) -> None:
        [(x, hidden, _, _, cells, _)] = directions
        with borrowed(self._gates, hidden.dtype) as gates:
            point_to(self._task, x, hidden, cells, gates)
            self.leader.lead(self._task)


class SharedUnits:
    """Cores share the units, for few sequences."""

    def __init__(self, shape: _Shape, directions: Sequence[Direction], leader: team.Leader | None, cost: float) -> None:
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
        self.leader = leader or team.Leader(take_steps, (take_steps,), dtype, cut.parts, cost)

    def run(self, directions: Sequence[Direction]) -> None:
        [((values, _, _, sequence), hidden, _, _, cells, _)] = directions
        count, steps, features, _ = self._shape
        if sequence != features and count > 1:
            values = np.ascontiguousarray(values.reshape(count, steps, features).swapaxes(0, 1))
        every_c = aligned(((1 + steps) * count, self._stride), hidden.dtype)
        every_c[:count] = cells
        self._progress[...] = 0
        with borrowed(self._cut.parts * self._cut.each, hidden.dtype) as memory:
            point_to_sequences(self._task, values, hidden, every_c, memory)
            self.leader.lead(self._task)
        cells[...] = every_c[-count:]


class SharedSequences:
    """Cores share the sequences of one direction or of both."""

    @staticmethod
    def worth_it(cost: float) -> bool:
        """Tell whether that is how to share a batch of both directions; `cost` in nanoseconds on one core."""
        return _LED_FROM <= cost <= _LED_TO and team.get_num_threads() > 1

    def __init__(self, shape: _Shape, directions: Sequence[Direction], leader: team.Leader | None, cost: float) -> None:
        count, steps, *_ = shape
        dtype = directions[0].hidden.dtype
        self.weights = tuple(direction.weights for direction in directions)
        parts = _parts(team.get_num_threads(), cost, count * len(directions))
        height, each = _chunk_of(shape, dtype)
        self._memory, self._batch_sizes = parts * each, same_length(steps, count)
        self._tasks = tasks_of_batch(self.weights, self._batch_sizes, shape, parts, height, each)
        self.leader = leader or team.Leader(take_batches, (take_batches, take_steps), dtype, parts, cost)

    def run(self, directions: Sequence[Direction]) -> None:
        with borrowed(self._memory, directions[0].hidden.dtype) as memory:
            point_to_directions(self._tasks, directions, memory)
            self.leader.lead(self._tasks[0])


@lru_cache(maxsize=256)
def way_for(shape: _Shape, blocks: int, threads: int, backwards: bool) -> type[_Way] | None:
    """Return by which way so many threads run a batch soonest without the GIL; None: by none, or hardly.

    A table in ``docs/design.md`` holds what the ways took.
    """
    count, steps, features, units = shape
    cost = shared_units.cost_of(count * steps, units, features)
    if threads == 1 or cost < _LED_FROM:
        return None
    inputs = 0.08e-3 * units * features  # microseconds of a step, of one sequence

    def recurrent(rows: int) -> float:
        """Return the microseconds of a step of so many sequences without its inputs."""
        return 0.08e-3 * rows * units * (units + 32) * _OF_FEW.get(rows, _OF_MANY)

    each = -(-count // _parts(threads, cost, count))
    alone = count * inputs + recurrent(count)
    times: dict[type[_Way] | None, float] = {None: _GAIN * steps * alone}
    if count > 1:
        times[SharedSequences] = _CALL + steps * (each * inputs + recurrent(each))
    if shared_units.few(count, threads) and steps >= _FEWEST_STEPS and not backwards:
        most = -(-blocks // _parts(threads, cost, blocks)) / blocks  # of the units, on one core
        times[SharedUnits] = _CALL + steps * (alone * most + _MEETING)
    if 4 * units * count * steps <= _PREPARED_MOST and not backwards:  # these two read x from its first element on
        first = min(steps, int(STEPS_OF_CHUNK)) * count * inputs
        times[PreparedInputs] = _CALL + max(first + steps * recurrent(count), (first + steps * alone) / 2)
    best = min(times, key=lambda way: times[way])
    return best if best is PreparedInputs or cost <= _LED_TO else None


class _Known(NamedTuple):
    """Batches of a kind that came before, how often that was declined, and then who leads them and how."""

    kind: tuple[Any, ...]
    declined: int
    leader: team.Leader | None = None
    way: _Way | None = None


class Led:
    """Run batches with those who follow a leader; a copy begins anew, for a task holds addresses."""

    def __init__(self) -> None:
        self.known: list[_Known] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return Led, ()

    def forget_weights(self) -> None:
        """Let go of the weights, and of what depends on them."""
        kept = []
        with suppress(IndexError):
            while True:  # taken out one by one, or a call beside this would bring one of them back a second time
                kept.append(self.known.pop()._replace(way=None))
        self.known.extend(kept[:_KEPT])

    def run(self, way: type[_Way], shape: _Shape, directions: Sequence[Direction], cost: float) -> bool:
        """Run all steps and tell whether that was done. It is not from `NEVER_ALONE` on while the leader rests.

        It is declined the first two times (one call may ask twice): a kernel more may have to be compiled. Then the
        leader does three alone, to measure.
        """
        kind = way, shape, team.get_num_threads()
        try:
            known = self.known.pop()  # atomic: what one call uses, no other thread has
        except IndexError:
            known = None
        if known is None or known.kind != kind or known.declined < _DECLINED:
            self.known.append(_Known(kind, 1 if known is None or known.kind != kind else known.declined + 1))
            return False
        ready = known.way
        if ready is None or any(old is not new.weights for old, new in zip(ready.weights, directions, strict=True)):
            ready = way(shape, directions, known.leader, cost)
            known = known._replace(leader=ready.leader, way=ready)
        done = cost < NEVER_ALONE or not ready.leader.rests
        if done:
            ready.run(directions)
        self.known.append(known)
        return done
