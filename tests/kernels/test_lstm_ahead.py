"""Inputs prepared on another core: the same bits whoever makes which chunk, comes late, or stays away."""

import threading
import time

import numba
import numpy as np
import pytest

import fastlstm as fl
from fastlstm.kernels import team
from fastlstm.kernels.lstm_ahead import chunks_of, infer_ahead, point_to, rows_of, task_ahead
from fastlstm.kernels.lstm_step import take_steps
from fastlstm.simd.atomic import add, observe, publish
from tests.tolerances import assert_bitwise_equal

BEGUN, LEFT, MADE = (team.ROW + word for word in (team.BEGUN, team.LEFT, team.MADE))


@numba.njit(nogil=True)
def begin_one(words):
    """Wait, though not for ever, until a chunk is put up; tell whether it was still to be had."""
    looks = 0
    while observe(words, LEFT) <= 0 and looks < 1 << 26:
        looks += 1
    return add(words, LEFT, -1)


@numba.njit(nogil=True)
def be_late(words, rows):
    """Write over the rows of a chunk, for long after the leader has done it again, and never say that it is ready."""
    for turn in range(10_000):
        for place in range(len(rows)):
            rows[place] = np.nan
        publish(words, BEGUN, turn)  # or all turns but one would be optimised away
    add(words, MADE, 1)


class Batch:
    """A batch, its task, and the words of a leader and one follower."""

    def __init__(self, shape, units, dtype, time_major=False):
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal(shape).astype(dtype)
        self.lstm = fl.LSTM(units, return_sequences=True, dtype=dtype)
        self.lstm.build(shape[2], 0)
        count, steps, features = shape
        self.like, self.weights = np.empty(1, dtype), self.lstm.packed()
        self.hidden = np.zeros(((1 + steps) * count, units), dtype)
        self.cells = np.zeros((count, self.lstm.stride), dtype)
        self.gates = np.full(rows_of(count, steps) * 4 * self.lstm.span, np.nan, dtype)
        self.ready = np.full(chunks_of(steps), 1, np.int64)
        self.words, self.task = np.zeros(2 * team.ROW, np.int64), np.zeros(team.TASK_WORDS, np.int64)
        self.next_task = task_ahead(units, self.weights, self.ready, shape)
        x = self.x.reshape(-1), 0, features, steps * features
        if time_major:
            x = self.x.swapaxes(0, 1).reshape(-1), 0, count * features, features
        self.given = x  # the task has its address
        point_to(self.next_task, x, self.hidden, self.cells, self.gates)

    def lead(self):
        infer_ahead(self.words, self.task, self.next_task, self.like, 0, 0, 0)
        return self.hidden[len(self.x) :].reshape(-1, len(self.x), self.lstm.units).swapaxes(0, 1)

    def follow(self):
        """Look for chunks until told to leave, in a thread of its own."""
        arguments = self.words, self.task, self.task, self.like, 1, 1, 1 << 40
        take_steps(*arguments[:5], 0, 0)  # compiled before it matters
        thread = threading.Thread(target=take_steps, args=arguments, daemon=True)
        thread.start()
        return thread

    def expected(self):
        return np.stack([self.lstm([row])[0] for row in self.x])


SHAPES = [(1, 1, 3), (1, 12, 5), (1, 13, 40), (2, 25, 7), (3, 100, 20)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("units", [5, 37])
@pytest.mark.parametrize("time_major", [False, True])
def test_a_leader_alone(shape, units, time_major, dtype):
    batch = Batch(shape, units, dtype, time_major)
    assert_bitwise_equal(batch.lead(), batch.expected())


@pytest.mark.parametrize("shape", [(1, 200, 40), (3, 100, 20)], ids=str)
def test_with_one_that_follows(shape, dtype):
    batch = Batch(shape, 21, dtype)
    expected, follower = batch.expected(), batch.follow()
    made, until = 0, time.monotonic() + 30
    while made < 20 and time.monotonic() < until:
        batch.hidden[len(batch.x) :], batch.cells[...], batch.gates[...] = np.nan, 0.0, np.nan
        assert_bitwise_equal(batch.lead(), expected)
        made += batch.words[MADE]
    batch.words[team.ROW + team.POSTED] = 1
    follower.join(10)
    assert not follower.is_alive()
    assert made > 0, "the follower took no chunk in 30 seconds"


@pytest.mark.parametrize("count", [1, 3])
def test_a_chunk_that_was_begun_elsewhere_and_does_not_come_is_done_again(count):
    batch = Batch((count, 20_000, 8), 16, "float32")  # 20 ms: time to begin one
    expected, over = batch.expected(), []
    chunks = len(batch.ready)
    wide = 12 * count * 4 * batch.lstm.span

    def begin_one_and_be_late():
        left = begin_one(batch.words)
        over.append(left > 0)
        if left > 0:
            chunk = chunks - left
            be_late(batch.words, batch.gates[chunk * wide : (chunk + 1) * wide])
            over.append(True)

    batch.words[LEFT] = 1
    begin_one_and_be_late()  # compiled
    batch.lead()
    for _ in range(20):
        batch.words[LEFT], batch.cells[...] = 0, 0.0
        over.clear()
        late = threading.Thread(target=begin_one_and_be_late)
        late.start()
        time.sleep(0.01)
        assert_bitwise_equal(batch.lead(), expected)
        made = batch.words[MADE]
        late.join()
        if over[0]:  # else the leader took that chunk itself
            assert made == 1, "the leader did not wait for one that was still at a chunk"
            return
    pytest.fail("the leader was faster each time")
