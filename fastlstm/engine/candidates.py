"""How cores may share a batch by coordination, without the GIL: three plans and their work descriptors."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import threads
from ..kernels.cells import Cell
from ..kernels.recurrent.batch_parallel import batch_parallel_loops
from ..kernels.recurrent.descriptor import (
    APART,
    APART_WIDTH,
    BATCH_SIZES,
    BOUNDS,
    CELLS,
    CHUNKS,
    EACH,
    GATES,
    HEIGHT,
    HIDDEN,
    OTHER,
    PARTS,
    PIPELINE,
    PROGRESS,
    READY,
    SEQUENCES,
    UNIT_PARALLEL,
    X_SEQUENCE,
    X_STEP,
    X,
    new_descriptor,
)
from ..kernels.recurrent.input_pipeline import chunks_of, input_pipeline_loops, rows_of
from ..kernels.recurrent.meeting import PROGRESS_WORDS
from ..kernels.recurrent.stream_step import worker_loop
from ..runtime import config
from ..runtime.workspace import address_of, aligned, temporary
from .geometry import BatchShape, Direction, Geometry
from .unit_parallel import cut_units

__all__ = ["BatchParallel", "CoordinatedPlan", "InputPipeline", "UnitParallel", "cores_for", "scratch_of"]

Coordinate = Callable[[NDArray[np.int64], int], object]
"""Do what a descriptor says, with so many workers."""

Weights = Sequence[NDArray[Any]]


def cores_for(cost: float, pieces: int) -> int:
    """Return over how many cores units or sequences go."""
    tuned = config.TUNED
    return min(threads.get_num_threads(), 1 + tuned.most_workers, max(2, int(cost / tuned.ns_per_core)), pieces)


def scratch_of(geometry: Geometry, batch: BatchShape, copied: bool = False) -> tuple[int, int]:
    """Return the rows of a chunk and the elements of scratch for a core that runs sequences, up to whole cache lines.

    Rows of x that do not lie a step apart are `copied`.
    """
    most = config.TUNED.chunk_gates // (geometry.gates * geometry.padded_units)
    height = max(batch.sequences, min(most, batch.total))
    columns = geometry.gate_columns + (geometry.features if copied else 0)
    return height, -(-(height * columns + batch.sequences * geometry.apart_columns(False)) // 16) * 16


class CoordinatedPlan(Protocol):
    """How cores share the batches of one shape: their descriptor, with the weights' addresses."""

    weights: tuple[Weights, ...]  # of each direction

    @staticmethod
    def kernels(cell: Cell) -> tuple[Any, tuple[Any, ...]]:
        """Return the coordinator's kernel and those by which workers may take its chunks."""

    def __init__(self, geometry: Geometry, batch: BatchShape, directions: Sequence[Direction], cost: float) -> None:
        """Prepare for batches of this shape and with these weights; `cost` in nanoseconds on one core."""

    def run(self, directions: Sequence[Direction], coordinate: Coordinate) -> None:
        """Run all steps."""


class InputPipeline(CoordinatedPlan):
    """One core prepares the inputs while the other takes the steps."""

    @staticmethod
    def kernels(cell: Cell) -> tuple[Any, tuple[Any, ...]]:
        return input_pipeline_loops(cell).coordinate, (worker_loop(cell),)

    def __init__(self, geometry: Geometry, batch: BatchShape, directions: Sequence[Direction], cost: float) -> None:
        [(*_, weights)] = directions
        self.weights: tuple[Weights, ...] = (weights,)
        self._ready = np.empty(chunks_of(batch.steps), np.int64)
        shape = batch.sequences, batch.steps, geometry.features, geometry.units
        self._words = words = new_descriptor(PIPELINE, weights, shape, geometry.h_features)
        words[PARTS], words[CHUNKS], words[READY] = 2, len(self._ready), address_of(self._ready)
        words[APART_WIDTH] = geometry.apart_columns(False)
        self._gates = rows_of(batch.sequences, batch.steps) * geometry.gate_columns
        self._apart = batch.sequences * geometry.apart_columns(False)

    def run(self, directions: Sequence[Direction], coordinate: Coordinate) -> None:
        [(x, _, hidden, cells, _)] = directions
        words = self._words
        with temporary(self._gates + self._apart, cells.dtype) as memory:
            _, _, words[X_STEP], words[X_SEQUENCE] = x
            words[X], words[HIDDEN], words[CELLS] = address_of(x[0]), address_of(hidden[0]), address_of(cells)
            words[GATES] = gates = address_of(memory)
            words[APART] = gates + self._gates * cells.itemsize
            coordinate(words, 1)


class UnitParallel(CoordinatedPlan):
    """Cores share the units, for few sequences."""

    @staticmethod
    def kernels(cell: Cell) -> tuple[Any, tuple[Any, ...]]:
        return worker_loop(cell), (worker_loop(cell),)

    def __init__(self, geometry: Geometry, batch: BatchShape, directions: Sequence[Direction], cost: float) -> None:
        [(*_, weights)] = directions
        self._batch, self._geometry, self.weights = batch, geometry, (weights,)
        self._cut = cut = cut_units(geometry, batch, cores_for(cost, geometry.panels))
        self._progress = np.zeros(cut.parts * PROGRESS_WORDS, np.int64)
        shape = batch.sequences, batch.steps, geometry.features, geometry.units
        self._words = words = new_descriptor(UNIT_PARALLEL, weights, shape, geometry.h_features)
        words[PARTS], words[HEIGHT], words[EACH] = cut.parts, cut.height, cut.each
        words[BATCH_SIZES], words[BOUNDS] = address_of(batch.batch_sizes), address_of(cut.bounds)
        words[PROGRESS] = address_of(self._progress)

    def run(self, directions: Sequence[Direction], coordinate: Coordinate) -> None:
        [((values, _, _, sequence), _, hidden, cells, _)] = directions
        count, features, words = self._batch.sequences, self._geometry.features, self._words
        if sequence != features and count > 1:
            values = np.ascontiguousarray(values.reshape(count, -1, features).swapaxes(0, 1))
        every_c = cells
        if len(cells):
            every_c = aligned(((1 + self._batch.steps) * count, self._geometry.padded_units), cells.dtype)
            every_c[:count] = cells
        self._progress[...] = 0
        with temporary(self._cut.parts * self._cut.each, cells.dtype) as memory:
            words[X], words[HIDDEN] = address_of(values), address_of(hidden[0])
            words[CELLS], words[GATES] = address_of(every_c), address_of(memory)
            coordinate(words, self._cut.parts - 1)
        if len(cells):
            cells[...] = every_c[-count:]


class BatchParallel(CoordinatedPlan):
    """Cores share the sequences of one direction or of both."""

    @staticmethod
    def kernels(cell: Cell) -> tuple[Any, tuple[Any, ...]]:
        run = batch_parallel_loops(cell).run
        return run, (run, worker_loop(cell))

    def __init__(self, geometry: Geometry, batch: BatchShape, directions: Sequence[Direction], cost: float) -> None:
        self.weights = tuple(direction.weights for direction in directions)
        self._parts = cores_for(cost, batch.sequences * len(directions))
        height, self._each = scratch_of(geometry, batch)
        self._batch_sizes = batch.batch_sizes
        shape = batch.sequences, batch.steps, geometry.features, geometry.units
        self._all_words = [new_descriptor(SEQUENCES, weights, shape, geometry.h_features) for weights in self.weights]
        words = self._all_words[0]
        words[PARTS], words[HEIGHT], words[EACH] = self._parts, height, self._each
        words[BATCH_SIZES] = address_of(batch.batch_sizes)
        if len(self._all_words) > 1:
            words[OTHER] = address_of(self._all_words[1])

    def run(self, directions: Sequence[Direction], coordinate: Coordinate) -> None:
        with temporary(self._parts * self._each, directions[0].cells.dtype) as memory:
            for words, ((x, *where), _, (hidden, width, _, reverse_out), cells, _) in zip(
                self._all_words, directions, strict=True
            ):
                words[X : CELLS + 1] = address_of(x), *where, address_of(hidden), width, reverse_out, address_of(cells)
            self._all_words[0][GATES] = address_of(memory)
            coordinate(self._all_words[0], self._parts - 1)
