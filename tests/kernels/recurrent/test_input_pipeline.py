"""Inputs prepared on another core: the same bits whichever core prepares a chunk, comes late, or stays away."""

import threading
import time

import numba
import numpy as np
import pytest

from fastlstm.engine.candidates import InputPipeline
from fastlstm.kernels.recurrent.descriptor import GATES
from fastlstm.kernels.recurrent.input_pipeline import chunks_of, rows_of
from fastlstm.runtime import config
from fastlstm.runtime.pool import BEGUN, LEFT, MADE, WORDS
from fastlstm.simd.atomic import array_at, fetch_add, load_acquire, store_release
from tests.kernels.recurrent.harness import Batch, Coordinated, every_kind_of_step

STEPS = config.TUNED.steps_per_chunk


def test_every_step_is_in_a_chunk_and_one_chunk_more_has_room():
    for steps in range(1, 4 * STEPS):
        assert (chunks_of(steps) - 1) * STEPS < steps <= chunks_of(steps) * STEPS
        assert rows_of(3, steps) == 3 * (steps + STEPS)


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("units", [5, 37])
@pytest.mark.parametrize(("count", "steps"), [(1, 1), (1, STEPS), (1, STEPS + 1), (2, 2 * STEPS + 1), (3, 4 * STEPS)])
@every_kind_of_step
def test_a_coordinator_without_workers(name, dtype, count, steps, units, time_major, monkeypatch):
    batch = Batch(name, dtype, [steps] * count, units)
    [found] = Coordinated(InputPipeline, [batch], 2, time_major).run(monkeypatch, "together")
    batch.assert_same(found, batch.infer())


@pytest.mark.parametrize(("name", "dtype"), [("lstm", "float64"), ("lstm", "float32"), ("gru", "float64")])
@pytest.mark.parametrize(("count", "steps"), [(1, 200), (3, 100)])
def test_a_coordinator_with_a_worker(name, dtype, count, steps, monkeypatch):
    batch = Batch(name, dtype, [steps] * count, 21, 40)
    shared, expected, made = Coordinated(InputPipeline, [batch], 2), batch.infer(), 0
    with shared.workers():
        until = time.monotonic() + 30
        while made < 20 and time.monotonic() < until:
            batch.assert_same(shared.run(monkeypatch, "together")[0], expected)
            made += shared.words[WORDS + MADE]
    assert made > 0, "the worker took no chunk in 30 seconds"


@numba.njit(nogil=True)
def begin_one(words):
    """Wait, though not for ever, until chunks are published; claim one and tell how many were left."""
    looks = 0
    while load_acquire(words, WORDS + LEFT) <= 0 and looks < 1 << 30:
        looks += 1
    return fetch_add(words, WORDS + LEFT, -1)


@numba.njit(nogil=True)
def be_late(words, descriptor, like, first, count):
    """Write over the rows of a chunk, long after the coordinator has done it again, and never say that it is ready."""
    rows = array_at(like, descriptor[GATES] + first * like.itemsize, count)
    for turn in range(10_000):
        for place in range(count):
            rows[place] = np.nan
        store_release(words, WORDS + BEGUN, turn)  # or all turns but one would be optimised away
    fetch_add(words, WORDS + MADE, 1)


@pytest.mark.parametrize("count", [1, 3])
def test_a_chunk_that_was_begun_elsewhere_and_does_not_come_is_done_again(count, monkeypatch):
    batch = Batch("lstm", "float64", [20_000] * count, 16, 8)  # 20 ms: time to begin one
    shared, expected = Coordinated(InputPipeline, [batch], 2), batch.infer()
    chunks, wide = chunks_of(20_000), STEPS * count * batch.geometry.gate_columns
    words, descriptor = shared.words, shared.descriptor
    words[WORDS + LEFT] = 1
    begin_one(words)  # compiled before it matters
    be_late(words, descriptor, shared.like, 0, 0)
    for _ in range(20):
        words[WORDS + LEFT], begun = 0, []

        def begin_one_and_be_late(begun=begun):
            left = begin_one(words)
            begun.append(left > 0)
            if left > 0:
                be_late(words, descriptor, shared.like, (chunks - left) * wide, wide)

        late = threading.Thread(target=begin_one_and_be_late)
        late.start()
        time.sleep(0.01)
        [found] = shared.run(monkeypatch, "together")
        made = words[WORDS + MADE]
        late.join()
        batch.arrays.check()
        batch.assert_same(found, expected)
        if begun[0]:  # else the coordinator took that chunk itself
            assert made == 1, "the coordinator did not wait for one that was still at a chunk"
            return
    pytest.fail("the coordinator was faster each time")
