"""Which plans are open to a batch, and that a batch has the same bits by each of them."""

import numpy as np
import pytest

from fastlstm.engine import inference
from fastlstm.engine.autotuner import AutoTuner
from fastlstm.engine.candidates import BatchParallel, InputPipeline, UnitParallel, cores_for
from fastlstm.engine.geometry import NO_IDS, BatchShape, Direction, Geometry
from fastlstm.engine.plan import plan_for, step_plan_for
from fastlstm.runtime import config
from fastlstm.runtime.config import tuned
from fastlstm.threads import set_num_threads
from tests.kernels.recurrent.harness import CELLS, Batch, cell_of, variants

ALL = {BatchParallel, InputPipeline, UnitParallel}
EVERYTHING_PAYS = {
    "serial_below_ns": 0.0,
    "pool_from_ns": 0.0,
    "coordinate_from_ns": 0.0,
    "coordination_ns": 0.0,
    "ns_per_core": 1e-3,
    "meeting_us": 0.0,
    "try_within": 1e9,
    "unit_parallel_steps": (1, 1),
    "unit_parallel_weights": 0,
    "warmup_calls": 0,
}
SOME = variants(["lstm", "gru"], ["lstm"])


def geometry(name="lstm", units=128, features=64):
    spec = CELLS[name]
    return Geometry(cell_of(spec), units, features, spec.projection or units, np.dtype(np.float32))


def ragged(lengths):
    lengths = np.array(sorted(lengths, reverse=True))
    batch_sizes = np.array([(lengths > t).sum() for t in range(lengths[0])])
    return BatchShape(len(lengths), len(batch_sizes), int(lengths.sum()), batch_sizes, lengths)


# --- what is open -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 100), (4, 100), (64, 300)])
def test_one_thread_has_one_plan(name, shape):
    with tuned(**EVERYTHING_PAYS):
        plan = plan_for(geometry(name), BatchShape.dense(*shape), 1)
    assert (plan.coordinated, plan.pool, plan.pool_units) == ((), False, False)


@pytest.mark.parametrize("threads", [2, 4, 64])
def test_work_that_is_too_small_stays_on_one_core(threads):
    small = plan_for(geometry(units=8, features=8), BatchShape.dense(1, 1), threads)
    assert (small.coordinated, small.pool) == ((), False)
    cost = plan_for(geometry(), BatchShape.dense(4, 20), threads).cost
    with tuned(serial_below_ns=cost + 1, coordinate_from_ns=cost + 1):
        plan = plan_for(geometry(), BatchShape.dense(4, 20), threads)
    assert (plan.coordinated, plan.pool) == ((), False)


@pytest.mark.parametrize("name", CELLS)
def test_coordinated_plans_read_only_what_they_can(name):
    """By their kernels: of dense batches only, two of them forwards only, and units of single-stage cells only."""
    single = geometry(name).cell.single_stage
    with tuned(**EVERYTHING_PAYS):
        plan = lambda batch, **given: set(plan_for(geometry(name), batch, 2, **given).coordinated)  # noqa: E731
        assert plan(BatchShape.dense(3, 20)) == (ALL if single else ALL - {UnitParallel})
        assert plan(BatchShape.dense(1, 20)) == (ALL if single else ALL - {UnitParallel}) - {BatchParallel}
        assert plan(BatchShape.dense(3, 20), backwards=True) == {BatchParallel}
        assert plan(BatchShape.dense(3, 20), directions=2) == {BatchParallel}
        assert plan(ragged([20, 20, 3])) == set()


@pytest.mark.parametrize("name", CELLS)
def test_the_pool_shares_units_of_few_long_sequences_of_single_stage_cells_only(name):
    single = geometry(name).cell.single_stage
    with tuned(**EVERYTHING_PAYS | {"unit_parallel_steps": (3, 8), "few_sequences": (4, 6)}):
        units = lambda *shape, **given: plan_for(geometry(name), BatchShape.dense(*shape), 2, **given).pool_units  # noqa: E731
        assert units(5, 8) is single
        assert not units(6, 8), "enough sequences for two cores"
        assert not units(5, 7), "too short"
        assert not units(1, 100, directions=2)


def test_a_chunk_of_inputs_holds_every_sequence_and_no_more_than_fits_the_cache():
    lstm = geometry()
    with tuned(chunk_gates=lstm.gates * lstm.padded_units * 10):
        assert plan_for(lstm, BatchShape.dense(3, 100), 1).height == 10
        assert plan_for(lstm, BatchShape.dense(30, 100), 1).height == 30
        assert plan_for(lstm, BatchShape.dense(3, 2), 1).height == 6


@pytest.mark.parametrize(("cost", "pieces", "threads", "cores"), [
    (1.0, 100, 4, 2), (1e9, 100, 4, 4), (1e9, 3, 4, 3), (1e9, 100, 64, 16), (1e9, 1, 4, 1),
    (3.5 * config.TUNED.ns_per_core, 100, 64, 3),
])  # fmt: skip
def test_no_more_cores_than_threads_pieces_and_work(cost, pieces, threads, cores):
    set_num_threads(threads)
    assert cores_for(cost, pieces) == cores


@pytest.mark.parametrize("name", CELLS)
def test_a_step_has_no_more_cores_than_panels_and_no_fewer_chunks_than_one(name):
    wide = geometry(name, 256)
    with tuned(step_ns_per_core=1e-3, step_chunk_ns=1e-3):
        plan = step_plan_for(wide, 1, 64, 64)
        assert plan.cores == (min(16, wide.panels) if wide.cell.single_stage else 1)
        assert 1 <= plan.chunks <= max(1, wide.panels // plan.cores)
        assert step_plan_for(wide, 1, 64, 1).cores == 1
    assert step_plan_for(geometry(name, 8), 1, 8, 64)[:2] == (1, 1), "too small"


# --- the same bits by each --------------------------------------------------------------------------------------------


def run(batch, plan, backwards=False, time_major=True):
    """Return what a plan gives."""
    hidden, direction = batch.direction(time_major, backwards)
    direction = direction._replace(weights=batch.kernel_weights)
    inference.run(batch.geometry, plan, (direction,), AutoTuner())
    batch.arrays.check()
    return hidden, direction.cells


@pytest.mark.parametrize("coordinated", [InputPipeline, UnitParallel, BatchParallel], ids=lambda plan: plan.__name__)
@pytest.mark.parametrize(("count", "steps"), [(1, 30), (4, 20)])
@SOME
def test_a_dense_batch_has_the_same_bits_by_every_coordinated_plan(name, dtype, count, steps, coordinated):
    batch = Batch(name, dtype, [steps] * count, 100)
    expected = batch.infer()
    for threads in (2, 3):
        set_num_threads(threads)
        with tuned(**EVERYTHING_PAYS, measured_alone=(1, 1000)):
            plan = plan_for(batch.geometry, batch.shape, threads)._replace(coordinated=(coordinated,))
            hidden, direction = batch.direction()
            tuner, start = AutoTuner(), (hidden.copy(), direction.cells.copy())
            for _ in range(1 + config.TUNED.trials):  # alone at first, then with workers
                hidden[...], direction.cells[...] = start
                assert tuner.run(plan.coordinated, batch.geometry, batch.shape, (direction,), plan.cost)
                batch.assert_same((hidden, direction.cells), expected)


@pytest.mark.parametrize("units_shared", [False, True])
@pytest.mark.parametrize("lengths", [[12] * 3, [12], [15, 9, 9, 2, 1]], ids=str)
@SOME
def test_a_batch_has_the_same_bits_however_the_pool_shares_it(name, dtype, lengths, units_shared):
    batch = Batch(name, dtype, lengths, 100)
    expected = batch.infer()
    for threads in (1, 2, 3):
        set_num_threads(threads)
        with tuned(**EVERYTHING_PAYS):
            plan = plan_for(batch.geometry, batch.shape, threads)._replace(coordinated=(), pool_units=units_shared)
            if batch.shape.lengths is not None:
                batch.assert_same(run_ragged(batch, plan), expected)
            else:
                batch.assert_same(run(batch, plan), expected)
                batch.assert_same(run(batch, plan, time_major=False), expected)


def run_ragged(batch, plan):
    """Return what a plan gives for packed rows."""
    hidden, cells = batch.hidden(), batch.cells(batch.count)
    place = hidden.reshape(-1), batch.width, batch.width, False
    direction = Direction((batch.x.reshape(-1), 0, 0, batch.features), NO_IDS, place, cells, batch.kernel_weights)
    inference.run(batch.geometry, plan, (direction,), AutoTuner())
    batch.arrays.check()
    return hidden, cells


@pytest.mark.parametrize("units_shared", [False, True])
@SOME
def test_a_batch_that_is_read_from_its_end_too(name, dtype, units_shared):
    batch = Batch(name, dtype, [12] * 3, 100)
    by_step = batch.x.reshape(12, 3, -1)
    kept = by_step.copy()
    by_step[...] = kept[::-1]
    expected = batch.infer()
    by_step[...] = kept
    set_num_threads(2)
    with tuned(**EVERYTHING_PAYS):
        plan = plan_for(batch.geometry, batch.shape, 2, 1, True)._replace(coordinated=(), pool_units=units_shared)
        batch.assert_same(run(batch, plan, backwards=True), expected)
        batch.assert_same(run(batch, plan, backwards=True, time_major=False), expected)
