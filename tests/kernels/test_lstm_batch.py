import threading
import time

import numba
import numpy as np
import pytest

import fastlstm as fl
from fastlstm.data.packed import same_length
from fastlstm.kernels import team
from fastlstm.kernels.lstm_batch import Direction, part_of_batch, point_to_directions, take_batches, tasks_of_batch
from fastlstm.kernels.lstm_step import take_steps
from fastlstm.simd.atomic import add, observe
from tests.tolerances import assert_bitwise_equal

LEFT, MADE, POSTED, ROW = team.LEFT, team.MADE, team.POSTED, team.ROW


class Batch:
    """A batch in one direction or both over some cores, its task, and the words of a leader and those who follow."""

    def __init__(self, shape, parts, dtype, both=False, time_major=False):
        count, steps, features, units = shape
        rng = np.random.default_rng(0)
        x = rng.standard_normal((count, steps, features)).astype(dtype)
        self.lstms = [
            fl.LSTM(units, return_sequences=True, return_state=True, go_backwards=bool(place), dtype=dtype)
            for place in range(1 + both)
        ]
        fl.set_num_threads(1)
        self.state = rng.standard_normal((2, count, units)).astype(dtype)
        for lstm in self.lstms:
            lstm.build(features, 0)
        self.expected = [lstm(x, initial_state=tuple(self.state)) for lstm in self.lstms]
        self.count = count
        self.rows, step, sequence = x.reshape(-1), features, steps * features
        if time_major:
            self.rows, step, sequence = x.swapaxes(0, 1).reshape(-1), count * features, features
        self.hidden = [np.zeros(((1 + steps) * count, units), dtype) for _ in self.lstms]
        self.cells = [np.zeros((count, lstm.stride), dtype) for lstm in self.lstms]
        self.weights = [lstm.packed() for lstm in self.lstms]
        directions = [
            Direction(
                (self.rows, (steps - 1) * step if place else 0, -step if place else step, sequence),
                *(self.hidden[place].reshape(-1), units, False, self.cells[place], self.weights[place]),
            )
            for place in range(len(self.lstms))
        ]
        height = max(count, 3 * count // 2)  # a few chunks
        each = height * (4 * self.lstms[0].span + features)
        self.scratch, self.each = np.zeros(parts * each, dtype), each
        self.batch_sizes = same_length(steps, count)
        self.tasks = tasks_of_batch(self.weights, self.batch_sizes, shape, parts, height, each)
        point_to_directions(self.tasks, directions, self.scratch)
        self.words, self.task = np.zeros(parts * team.ROW, np.int64), np.zeros(team.TASK_WORDS, np.int64)
        self.like, self.taken = np.empty(1, dtype), np.zeros(parts, np.int64)

    def lead_and_compare(self, alone=False, lead=take_batches):
        for hidden, cells in zip(self.hidden, self.cells, strict=True):
            hidden[self.count :] = np.nan
            hidden[: self.count] = self.state[0]
            cells[:, : hidden.shape[1]] = self.state[1]
        lead(self.words, self.task, self.tasks[0], self.like, 0, int(alone), 0)
        for hidden, cells, (y, (h, c)) in zip(self.hidden, self.cells, self.expected, strict=True):
            assert_bitwise_equal(hidden[self.count :].reshape(-1, *h.shape).swapaxes(0, 1), y)
            assert_bitwise_equal(cells[:, : h.shape[1]], c)

    def follow(self, row):
        """Take chunks until told to leave, in a thread of its own; the number taken goes to ``taken[row]``."""
        thread = threading.Thread(target=follow, args=(self.words, self.task, self.like, row, self.taken), daemon=True)
        thread.start()
        return thread


@numba.njit(nogil=True)
def follow(words, task, like, row, taken):
    """Do as one that follows, and count."""
    place = row * ROW
    while observe(words, place + POSTED) == 0:
        if observe(words, place + LEFT) > 0 and add(words, place + LEFT, -1) > 0:
            part_of_batch(task, like, row)
            taken[row] += 1
            add(words, place + MADE, 1)


SHAPES = [(2, 1, 3, 5), (3, 9, 5, 21), (7, 4, 7, 40)]


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("time_major", [False, True])
def test_a_leader_without_others(shape, parts, both, time_major, dtype):
    batch = Batch(shape, min(parts, shape[0]), dtype, both, time_major)
    batch.lead_and_compare(alone=True)
    for lead in (take_batches, take_steps):
        batch.lead_and_compare(lead=lead)  # they could have come


@pytest.mark.parametrize("shape", [(1, 9, 5, 21), (3, 9, 5, 21)], ids=str)
def test_a_core_may_have_sequences_of_both_directions(shape, dtype):
    Batch(shape, 2, dtype, both=True).lead_and_compare()


@pytest.mark.parametrize("kernel", [take_batches, take_steps], ids=["batches", "steps"])
def test_followers_leave_when_they_are_told(kernel, dtype):
    batch = Batch((6, 60, 5, 21), 2, dtype)
    batch.lead_and_compare(lead=kernel)
    arguments = batch.words, batch.task, batch.task, batch.like, 1, 1, 1 << 40
    left = []
    follower = threading.Thread(target=lambda: left.append(kernel(*arguments)), daemon=True)
    follower.start()
    for _ in range(100):
        batch.lead_and_compare()
    assert follower.is_alive()
    batch.words[ROW + POSTED] = 1
    follower.join(10)
    assert left == [True]
    batch.words[ROW + POSTED] = 0
    assert not kernel(*arguments[:6], 3), "it did not look three times only"


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("parts", [2, 3])
def test_with_others_who_follow(both, parts, dtype):
    batch = Batch((6, 60, 5, 21), parts, dtype, both)
    batch.lead_and_compare()
    followers = [batch.follow(row) for row in range(1, parts)]
    turns, until = 0, time.monotonic() + 30
    while turns < 100 or (not batch.taken.any() and time.monotonic() < until):
        batch.lead_and_compare()
        turns += 1
    for row in range(1, parts):
        batch.words[row * ROW + POSTED] = 1
    for follower in followers:
        follower.join(10)
        assert not follower.is_alive()
    assert batch.taken.any(), "no follower came in 30 seconds"
