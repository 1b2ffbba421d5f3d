"""The execution plan of a call: over how many cores, and how. Asked once a call, and cached.

Inference may go four ways: on one core; shared by the thread pool, which takes the GIL 6 to 90 microseconds; or by one
of the coordinated plans, which the autotuner measures. The plan says which of them are open; what is measured, and
whether threads are awake at the moment, decides among them.
"""

from functools import lru_cache
from typing import Any, NamedTuple

from ..kernels.recurrent.sequence import sequence_loops
from ..runtime import config
from ..simd.tile import ROWS
from .candidates import BatchParallel, CoordinatedPlan, InputPipeline, UnitParallel, cores_for, scratch_of
from .geometry import BatchShape, Geometry

__all__ = ["Plan", "StepPlan", "few_sequences", "plan_for", "step_plan_for"]


class Plan(NamedTuple):
    """How a batch may be run."""

    batch: BatchShape
    cost: float
    """Estimate of the work, in nanoseconds on one core."""
    coordinated: tuple[type[CoordinatedPlan], ...]
    """Plans that the autotuner may choose from, the likeliest first."""
    serial: bool
    """Whether it runs on one core in any case."""
    pool: bool
    """Whether the thread pool may share it."""
    pool_units: bool
    """Whether the pool then shares units, not sequences."""
    height: int
    """Rows of a chunk on a core that runs sequences."""
    scratch: int
    """Elements of its scratch."""
    infer: Any
    """The kernel that runs sequences on one core."""


class StepPlan(NamedTuple):
    """How a single step goes over cores."""

    cores: int
    chunks: int
    """Of each core."""
    cost: float
    """In nanoseconds on one core."""


def few_sequences(count: int, threads: int) -> bool:
    """Tell whether so many sequences are too few to be shared."""
    most, most_on_two = config.TUNED.few_sequences
    return count < (most_on_two if threads == 2 else most)


def plan_for(geometry: Geometry, batch: BatchShape, threads: int, directions: int = 1, backwards: bool = False) -> Plan:
    """Return the plan of inference on a batch.

    Parameters
    ----------
    geometry : Geometry
    batch : BatchShape
    threads : int
        How many threads there are.
    directions : int
        1, or 2 for both directions of the same geometry.
    backwards : bool
        Whether x is read from its end.
    """
    tuned, cell = config.TUNED, geometry.cell
    cost = directions * geometry.cost(batch.total)
    height, scratch = scratch_of(geometry, batch)
    coordinated: tuple[type[CoordinatedPlan], ...] = ()
    pool = threads > 1 and cost > tuned.serial_below_ns
    pool_units = (
        pool
        and directions == 1
        and cell.single_stage
        and few_sequences(batch.sequences, threads)
        and batch.steps >= tuned.unit_parallel_steps[1]
        and geometry.gates * geometry.padded_units * geometry.h_features >= tuned.unit_parallel_weights
    )
    if threads > 1 and batch.lengths is None:
        if directions == 2:
            coordinated = (BatchParallel,) if tuned.coordinate_from_ns <= cost <= tuned.coordinate_to_ns else ()
        elif cost >= tuned.coordinate_from_ns:
            coordinated = _coordinated_plans(geometry, batch, threads, backwards, cost)
    if coordinated and coordinated[0] is InputPipeline and cost < tuned.pool_above_ns:
        pool = False  # a worker is nearly always there
    infer = sequence_loops(cell).infer
    return Plan(batch, cost, coordinated, not (pool or coordinated), pool, pool_units, height, scratch, infer)


def _coordinated_plans(
    geometry: Geometry, batch: BatchShape, threads: int, backwards: bool, cost: float
) -> tuple[type[CoordinatedPlan], ...]:
    """Return the coordinated plans that may be the fastest, the likeliest first; () if none is likely to pay."""
    tuned, cell = config.TUNED, geometry.cell
    count, steps, gates = batch.sequences, batch.steps, geometry.gates
    unit_us = 1e-3 * tuned.ns_per_multiply * geometry.units * gates / 4
    inputs = unit_us * geometry.features  # microseconds of a step, of one sequence
    call = 1e-3 * tuned.coordination_ns

    def recurrent(rows: int) -> float:
        """Return the microseconds of a step of so many sequences without its inputs."""
        factor = tuned.rows_cost[min(rows, len(tuned.rows_cost)) - 1]
        return rows * unit_us * (geometry.h_features + tuned.units_overhead) * factor

    each = -(-count // cores_for(cost, count))
    alone = count * inputs + recurrent(count)
    times: dict[type[CoordinatedPlan], float] = {}
    if count > 1:
        times[BatchParallel] = call + steps * (each * inputs + recurrent(each))
    if not backwards:  # these two read x from its first element on
        if cell.single_stage and count <= 2 * ROWS and steps >= tuned.unit_parallel_steps[0]:
            most = (
                -(-geometry.panels // cores_for(cost, geometry.panels)) / geometry.panels
            )  # of the units, on one core
            times[UnitParallel] = call + steps * (alone * most + tuned.meeting_us)
        if gates * geometry.units * count * steps <= tuned.pipeline_gates:
            first = min(steps, tuned.steps_per_chunk) * count * inputs
            times[InputPipeline] = call + max(first + steps * recurrent(count), (first + steps * alone) / 2)
    plans = sorted(times, key=lambda plan: times[plan])
    if not plans or times[plans[0]] > steps * alone:
        return ()
    settled = few_sequences(count, threads) or UnitParallel not in plans or cost > tuned.measure_to_ns
    if cost > tuned.coordinate_to_ns and plans[0] is not InputPipeline and settled:
        return ()
    return tuple(plan for plan in plans if times[plan] <= tuned.try_within * times[plans[0]])


@lru_cache(maxsize=64)
def step_plan_for(geometry: Geometry, batch: int, features: int, threads: int) -> StepPlan:
    """Return how a single step of `batch` sequences goes over cores; `features` is 0 where inputs come from a table."""
    tuned, itemsize = config.TUNED, geometry.dtype.itemsize
    gates = geometry.gates
    reading = tuned.ns_per_byte * itemsize * gates * geometry.units * (geometry.h_features + features)
    cost = max(geometry.cost(batch, features), reading)
    if not geometry.cell.single_stage:
        return StepPlan(1, 1, cost)
    panels = geometry.panels
    cores = max(1, min(threads, 1 + tuned.most_workers, panels, int(cost / tuned.step_ns_per_core)))
    chunks = max(1, min(tuned.step_chunks, panels // cores, int(cost / cores / tuned.step_chunk_ns)))
    return StepPlan(cores, chunks, cost)


config.forget_with(step_plan_for.cache_clear)
