"""Cores that share the units of few sequences: the same bits whichever comes late, or not at all."""

import numpy as np
import pytest

from fastlstm.engine.candidates import UnitParallel
from fastlstm.kernels.recurrent.meeting import PROGRESS_WORDS, furthest, is_late, number_of
from fastlstm.kernels.recurrent.unit_parallel import unit_parallel_loops
from fastlstm.simd.jit import jit
from tests.kernels.recurrent.harness import CELLS, Batch, Coordinated, cell_of, every_single_stage

RAGGED = [7, 5, 5]
IN_TURN = pytest.mark.parametrize("run", [[0, 1, 2], [2, 1, 0], [1, 0, 1, 2]], ids=str)


def bounds_of(panels, parts):
    """Return bounds of so many parts, the last one of the most panels."""
    return [*range(parts), panels]


def units_for(name, dtype, panels):
    """Return units for so many panels, the last block partly filled."""
    geometry = Batch(name, dtype).geometry
    return geometry.cell.blocks * geometry.lanes * (panels - 1) + 2


@IN_TURN
@pytest.mark.parametrize("height", [3, 50])
@every_single_stage
def test_one_core_of_those_that_share_the_units_does_all_where_the_others_do_not_come(name, dtype, height, run):
    """Here the others come when all but the last step is done: what a busy machine does to them at worst."""
    batch = Batch(name, dtype, RAGGED, units_for(name, dtype, 4), 3)
    bounds = bounds_of(batch.geometry.panels, 3)
    expected = batch.forward()
    batch.assert_same(batch.forward_by_units(bounds, height, run), expected, ("gates", "apart", "h", "c"))
    batch.assert_same(batch.forward_by_units(bounds, height, run, keep=False)[2:], expected[2:])


@IN_TURN
@every_single_stage
def test_going_back_too(name, dtype, run):
    lanes = Batch(name, dtype, RAGGED, 1, 3).geometry.lanes
    batch = Batch(name, dtype, RAGGED, 9 * lanes + 2, 3)  # three panels of W_hh transposed, the last one padded
    places = 3 if batch.cell.has_carry else 2
    shared, expected = batch.backward_by_units([0, 1, 2, 3], run), batch.backward()
    batch.assert_same(shared[:places], expected[:places], ("da", "apart", "carried")[:places])


@pytest.mark.parametrize("units", [1, 7, 17, 33, 100])
@every_single_stage
def test_one_core_alone_has_the_bits_of_whole_sequences(name, dtype, units):
    batch = Batch(name, dtype, units=units)
    shared = batch.forward_by_units([0, batch.geometry.panels], 5, [0])
    batch.assert_same(shared, batch.forward(), ("gates", "apart", "h", "c"))


def test_cells_of_two_stages_are_refused():
    for name in ("lstm projection", "gru reset before"):
        with pytest.raises(AssertionError):
            unit_parallel_loops(cell_of(CELLS[name]))


# --- coordinated ------------------------------------------------------------------------------------------------------

of_the_worker_loop = pytest.mark.parametrize(
    ("name", "dtype"), [("lstm", "float64"), ("lstm", "float32"), ("gru", "float64")]
)


@pytest.mark.parametrize("cores", [2, 3])
@pytest.mark.parametrize(("count", "steps"), [(1, 1), (1, 9), (2, 4), (3, 30)])
@of_the_worker_loop
def test_the_same_bits_whichever_core_takes_the_parts(name, dtype, count, steps, cores, monkeypatch):
    batch = Batch(name, dtype, [steps] * count, 70)
    for how in ("together", "alone", "by a worker"):
        for time_major in (True, False):
            [found] = Coordinated(UnitParallel, [batch], cores, time_major).run(monkeypatch, how)
            batch.assert_same(found, batch.infer())


@pytest.mark.parametrize("cores", [2, 3])
@of_the_worker_loop
def test_and_when_they_meet_at_every_step(name, dtype, cores, monkeypatch):
    batch = Batch(name, dtype, [30, 30, 30], 70)
    shared, expected = Coordinated(UnitParallel, [batch], cores), batch.infer()
    with shared.workers():
        for how in 20 * ["together", "by workers"]:
            batch.assert_same(shared.run(monkeypatch, how)[0], expected)


# --- meeting ----------------------------------------------------------------------------------------------------------


@jit
def meet(progress, bounds, part, step, begin, out):
    out[0], out[1] = furthest(progress, len(bounds) - 1), number_of(bounds, begin)
    out[2] = is_late(progress, part, step, 0)


def meeting(done, part=1, step=4, begin=0):
    """Return what `furthest`, `number_of` and `is_late` say where cores have done so many steps."""
    progress, out = np.zeros(len(done) * PROGRESS_WORDS, np.int64), np.zeros(3, np.int64)
    progress[::PROGRESS_WORDS] = done
    meet(progress, np.array([0, 2, 5, 9][: len(done) + 1]), part, step, begin, out)
    return out.tolist()


@pytest.mark.parametrize(("done", "first"), [([0, 0, 0], 0), ([1, 0, 0], 0), ([3, 7, 2], 6), ([3, 3, 4], 3)])
def test_all_steps_before_the_last_one_of_any_core_are_done(done, first):
    assert meeting(done)[0] == first


def test_a_core_is_found_by_where_its_panels_begin():
    assert [meeting([0, 0, 0], begin=begin)[1] for begin in (0, 2, 5)] == [0, 1, 2]


@pytest.mark.parametrize(("done", "late"), [(3, True), (4, True), (5, False), (9, False)])
def test_a_core_is_late_until_it_has_finished_the_step(done, late):
    assert bool(meeting([9, done, 9])[2]) is late
