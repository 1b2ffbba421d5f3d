"""Whole sequences whose units a leader shares with others: the same bits whoever comes, late or not at all."""

import threading
import time

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.data.packed import same_length
from fastlstm.kernels import team
from fastlstm.kernels.lstm_split import PROGRESS_STRIDE
from fastlstm.kernels.lstm_step import point_to_sequences, take_steps, task_of_sequences
from fastlstm.layers.shared_units import cut_of_sequences
from tests.tolerances import assert_bitwise_equal


class Batch:
    """A batch over some cores, its task, and the words of a leader and of those who follow."""

    def __init__(self, shape, units, parts, dtype):
        count, steps, features = shape
        x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
        self.lstm = fl.LSTM(units, return_sequences=True, return_state=True, dtype=dtype)
        self.lstm.build(features, 0)
        fl.set_num_threads(1)
        self.expected = self.lstm(x)
        self.count, stride = count, self.lstm.stride
        self.rows, self.like = np.ascontiguousarray(x.swapaxes(0, 1)), np.empty(1, dtype)
        self.hidden = np.zeros(((1 + steps) * count, units), dtype)
        self.cells = np.zeros((len(self.hidden), stride), dtype)
        cut = cut_of_sequences(count, count * steps, stride, np.dtype(dtype), parts)
        self.progress, self.batch_sizes = np.zeros(parts * PROGRESS_STRIDE, np.int64), same_length(steps, count)
        self.kept = self.lstm.packed(), cut.bounds
        self.scratch, self.each = np.full(parts * cut.each, np.nan, dtype), cut.each
        self.words, self.task = np.zeros(parts * team.ROW, np.int64), np.zeros(team.TASK_WORDS, np.int64)
        self.next_task = task_of_sequences(
            *(self.lstm.packed(), self.batch_sizes, cut.bounds, self.progress, (steps, features, units)),
            *(cut.height, cut.each),
        )
        point_to_sequences(self.next_task, self.rows, self.hidden, self.cells, self.scratch)

    def lead_and_compare(self, alone=False):
        self.hidden[self.count :] = self.cells[self.count :] = self.scratch[...] = np.nan
        self.progress[...] = 0
        take_steps(self.words, self.task, self.next_task, self.like, 0, int(alone), 0)
        y, (h, c) = self.expected
        assert_bitwise_equal(self.hidden[self.count :].reshape(-1, *h.shape).swapaxes(0, 1), y)
        assert_bitwise_equal(self.cells[-self.count :, : h.shape[1]], c)

    def made_elsewhere(self):
        """Return how much of the second core's scratch has been written: by a leader only for its last steps."""
        return np.isfinite(self.scratch[self.each : 2 * self.each]).sum()

    def follow(self, row):
        """Look for chunks until told to leave, in a thread of its own."""
        thread = threading.Thread(
            target=take_steps, args=(self.words, self.task, self.task, self.like, row, 1, 1 << 40), daemon=True
        )
        thread.start()
        return thread


SHAPES = [(1, 1, 3), (1, 9, 5), (2, 4, 7), (3, 30, 20)]


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_leader_without_others(shape, parts, dtype):
    batch = Batch(shape, 70, parts, dtype)
    batch.lead_and_compare(alone=True)
    batch.lead_and_compare()  # they could have come


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)  # of one step nobody tells that it is done
def test_with_others_who_follow(shape, parts, dtype):
    batch = Batch(shape, 70, parts, dtype)
    batch.lead_and_compare()
    by_leader = batch.made_elsewhere()
    followers = [batch.follow(row) for row in range(1, parts)]
    came, until = 0, time.monotonic() + 30
    turns = 0
    while turns < 100 or (came < 1 and time.monotonic() < until):
        batch.lead_and_compare()
        came += batch.made_elsewhere() > by_leader
        turns += 1
    for row in range(1, parts):
        batch.words[row * team.ROW + team.POSTED] = 1
    for follower in followers:
        follower.join(10)
        assert not follower.is_alive()
    assert came > 0, "no follower came in 30 seconds"
