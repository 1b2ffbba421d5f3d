"""Inference: run all steps of one direction or of two, as the plan and the moment say."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.pool import num_chunks, parallel_for
from ..runtime.workspace import aligned, temporary
from . import unit_parallel
from .autotuner import AutoTuner
from .candidates import scratch_of
from .geometry import BatchShape, Direction, Geometry
from .plan import Plan
from .weights import as_record

__all__ = ["run", "run_serial", "shares_units"]


def shares_units(plan: Plan) -> bool:
    """Tell whether the pool would share the units of this batch now: then x has to be rows that follow each other."""
    return plan.pool_units and num_chunks(plan.cost, 2) > 1


def run(geometry: Geometry, plan: Plan, directions: Sequence[Direction], tuner: AutoTuner) -> None:
    """Run all steps of each direction: h goes to its ``hidden``, the final c to its ``cells``."""
    if (
        plan.coordinated
        and not len(directions[0].ids)
        and tuner.run(plan.coordinated, geometry, plan.batch, directions, plan.cost)
    ):
        return
    if plan.pool:
        if shares_units(plan) and not len(directions[0].ids):
            _share_units(geometry, plan, directions[0])
            return
        parts = num_chunks(plan.cost, plan.batch.sequences * len(directions))
        if parts > 1:
            _share_sequences(geometry, plan, directions, parts)
            return
    for direction in directions:
        run_serial(geometry, plan, *direction)


def _arguments(geometry: Geometry, batch: BatchShape, direction: Direction) -> tuple[Any, ...]:
    """Return the arguments of ``infer`` before the rows of a chunk."""
    x, ids, hidden, cells, weights = direction
    return x, geometry.features, ids, hidden, cells.reshape(-1), geometry.units, batch.batch_sizes, weights


def _scratch(geometry: Geometry, plan: Plan, direction: Direction) -> tuple[int, int]:
    """Return the rows of a chunk and the elements of a core's scratch."""
    if direction.x[2] == 0 and not len(direction.ids):  # rows do not lie a step apart
        return scratch_of(geometry, plan.batch, copied=True)
    return plan.height, plan.scratch


def run_serial(
    geometry: Geometry,
    plan: Plan,
    x: tuple[NDArray[Any], int, int, int],
    ids: NDArray[np.int64],
    hidden: tuple[NDArray[Any], int, int, bool],
    cells: NDArray[Any],
    weights: Sequence[NDArray[Any]],
) -> None:
    """Run all steps of one direction on this core; the arguments are those of a `Direction`."""
    batch, height, scratch = plan.batch, plan.height, plan.scratch
    if x[2] == 0 and not len(ids):  # rows do not lie a step apart
        height, scratch = scratch_of(geometry, batch, copied=True)
    with temporary(scratch, geometry.dtype) as memory:
        plan.infer(
            *(x, geometry.features, ids, hidden, cells.reshape(-1), geometry.units, batch.batch_sizes, weights),
            *(height, memory, 0, batch.sequences),
        )


def _share_sequences(geometry: Geometry, plan: Plan, directions: Sequence[Direction], parts: int) -> None:
    """Let the pool share the sequences of all directions."""
    infer, count, batch = plan.infer, plan.batch.sequences, plan.batch
    height, scratch = _scratch(geometry, plan, directions[0])
    arguments = [(*_arguments(geometry, batch, direction), height) for direction in directions]

    kernel, first = (infer, arguments[0]) if len(directions) == 1 else (_run_two, (infer, *arguments))
    with temporary(parts * scratch, geometry.dtype) as memory:
        parallel_for(
            kernel,
            *first,
            count=count * len(directions),
            cost=plan.cost,
            each=[memory[part * scratch :] for part in range(parts)],
            weights=batch.lengths if len(directions) == 1 else None,
        )


def _run_two(
    infer: Any, one: tuple[Any, ...], other: tuple[Any, ...], memory: NDArray[Any], begin: int, end: int
) -> None:
    """Run the sequences of the first direction from `begin` on, then those of the second."""
    count = int(one[6][0])  # of batch_sizes
    if begin < count:
        infer(*one, memory, begin, min(end, count))
    if end > count:
        infer(*other, memory, max(begin, count) - count, end - count)


def _share_units(geometry: Geometry, plan: Plan, direction: Direction) -> None:
    """Let the pool share the units: every c is kept meanwhile."""
    batch, count = plan.batch, plan.batch.sequences
    _, _, (hidden, *_), cells, weights = direction
    every_c = cells
    if len(cells):
        every_c = aligned((count + batch.total, geometry.padded_units), geometry.dtype)
        every_c[:count] = cells
    arrays = _rows(geometry, batch, direction), hidden.reshape(-1, geometry.h_features), every_c
    unit_parallel.forward(geometry, batch, arrays, as_record(weights), (cells[:0], cells[:0]), plan.cost)
    if len(cells):
        cells[...] = every_c[count:][batch.last_rows()]


def _rows(geometry: Geometry, batch: BatchShape, direction: Direction) -> NDArray[Any]:
    """Return x as rows that follow each other, time-major (M, D)."""
    values, first, step, sequence = direction.x
    features, count = geometry.features, batch.sequences
    if step in (0, count * features) and (sequence == features or count == 1):
        return values[first : first + batch.total * features].reshape(-1, features)
    strides = step * values.itemsize, sequence * values.itemsize, values.itemsize
    view = np.lib.stride_tricks.as_strided(values[first:], (batch.steps, count, features), strides)
    return np.ascontiguousarray(view).reshape(-1, features)
