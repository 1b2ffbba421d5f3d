"""Sets of sequences: batches by number in every form, with their targets and weights; what does not fit together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlstm.data.sequences import DataSet, Sequences, Targets
from fastlstm.errors import DataError, OptionError, ShapeError
from tests import strategies
from tests.tolerances import assert_bitwise_equal

STEPS = 6
FORMS = ["array", "padded", "list"]


class NoLoss:
    """What a batch asks of a loss."""

    by_sequence = own_lengths = False


class Taken:
    """A batch with the targets and weights of its one output."""

    def __init__(self, batch, by_step):
        [self.x] = batch.inputs
        like = self.x if by_step or not self.x.steps else self.x.one_row_each(np.zeros((self.x.sequences, 1)))
        self.y, self.weights = batch.target(0, like, NoLoss) if batch.data.targets else (None, None)


class OneOfEach:
    """A set with one input and one output, whose targets belong to steps or to sequences."""

    def __init__(self, x, y=None, weights=None, lengths=None, *, ids, by_step, samples=False, who):
        inputs = [Sequences(x, lengths, ids=ids, samples=samples, who=who)]
        given = np.zeros(len(x)) if y is None and weights is not None else y
        targets = [] if given is None else [Targets(given, weights, who=who)]
        self.data, self.by_step = DataSet(inputs, targets, [0 if by_step else None] * len(targets)), by_step

    def __len__(self):
        return len(self.data)

    def take(self, which, dtype=None):
        return Taken(self.data.take(which, dtype), self.by_step)

    def split(self, count):
        parts = [OneOfEach.__new__(OneOfEach) for _ in range(2)]
        for part, data in zip(parts, self.data.split(count), strict=True):
            part.data, part.by_step = data, self.by_step
        return parts


def make_set(form, lengths, features, by_step, seed):
    """Return a set whose every value tells its place: x[n, t] = 100 n + t, targets 0.5 more, weights 0.25 more."""
    count = len(lengths)
    if form == "array":
        lengths = [STEPS] * count
    values = 100.0 * np.arange(count)[:, None] + np.arange(STEPS)
    x = np.repeat(values[:, :, None], features, axis=2) if features else values.astype(int)
    y, weights = (values + 0.5, values + 0.25) if by_step else (values[:, 0] + 0.5, values[:, 0] + 0.25)
    if form == "list":
        x = [row[:n] for row, n in zip(x, lengths, strict=True)]
        if by_step:
            y = [row[:n] for row, n in zip(y, lengths, strict=True)]
            weights = [row[:n] for row, n in zip(weights, lengths, strict=True)]
    given = np.array(lengths) if form == "padded" else None
    return OneOfEach(x, y, weights, given, ids=not features, by_step=by_step, who="test"), lengths


@given(
    form=st.sampled_from(FORMS),
    lengths=strategies.lengths_n(max_steps=STEPS),
    features=st.integers(0, 3),
    by_step=st.booleans(),
    seed=strategies.seeds(),
)
def test_a_batch_holds_the_sequences_asked_for_with_their_targets_and_weights(form, lengths, features, by_step, seed):
    data, lengths = make_set(form, lengths, features, by_step, seed)
    assert len(data) == len(lengths)
    rng = np.random.default_rng(seed)
    which = rng.permutation(len(data))[: rng.integers(1, len(data) + 1)]
    taken = data.take(which, np.float32)
    assert taken.x.rows.dtype == (np.float32 if features else int)
    assert sorted(taken.x.lengths) == sorted(lengths[n] for n in which)
    values = taken.x.rows.reshape(len(taken.x.rows), -1)[:, 0].astype(float)  # 100 n + t of each row
    assert set(values) == {100 * n + t for n in which for t in range(lengths[n])}
    if not by_step:
        values = values[: len(which)]  # of the first step of each sequence
    assert (taken.y == values + 0.5).all()
    assert (taken.weights == values + 0.25).all()
    assert taken.weights.dtype == np.float64


def test_weights_by_sequence_reach_every_step():
    data = OneOfEach(
        [np.zeros((2, 1)), np.zeros((3, 1))], [[0, 0], [0, 0, 0]], [7.0, 8.0], ids=False, by_step=True, who="test"
    )
    taken = data.take(np.array([0, 1]))
    assert taken.x.lengths.tolist() == [3, 2]
    assert taken.weights.tolist() == [8, 7, 8, 7, 8]


def test_splitting_keeps_everything_together():
    data, lengths = make_set("padded", [1, 2, 3, 4, 5], 2, True, 0)
    head, tail = data.split(3)
    assert (len(head), len(tail)) == (3, 2)
    one, other = tail.take(np.array([1, 0])), data.take(np.array([4, 3]))
    assert_bitwise_equal(one.x.rows, other.x.rows)
    assert_bitwise_equal(one.y, other.y)
    assert_bitwise_equal(one.weights, other.weights)
    assert one.x.lengths.tolist() == lengths[:2:-1]


def test_targets_may_be_a_list_where_the_input_is_padded():
    padded = OneOfEach(
        np.zeros((2, 4, 1)), [[1, 2], [3, 4, 5]], None, np.array([2, 3]), ids=False, by_step=True, who="test"
    )
    assert padded.take(np.array([0, 1])).y.tolist() == [3, 1, 4, 2, 5]


def test_without_time_a_row_is_a_sample():
    data = OneOfEach(np.eye(3), [5, 6, 7], [1, 2, 3], ids=False, by_step=True, samples=True, who="test")
    taken = data.take(np.array([2, 0]))
    assert not taken.x.steps
    assert taken.x.rows.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert taken.y.tolist() == [7, 5]
    assert taken.weights.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([],), DataError, "test: x is empty"),
        ((np.zeros((0, 2, 1)),), DataError, "x is empty"),
        ((np.zeros((3, 2, 1)), [1, 2]), ShapeError, "x holds 3 sequences, y 2"),
        ((np.zeros((3, 2, 1)), None, [1.0]), ShapeError, "x holds 3 sequences, sample_weight 1"),
        ((np.zeros((3, 2, 1)), None, None, [1]), ShapeError, "x holds 3 sequences, lengths 1"),
        ((np.zeros((3, 2, 1)), None, None, [1, 2, 3]), DataError, r"lengths\[2\] is 3; expected 1 to 2"),
        ((np.zeros((3, 2, 1)), None, None, [1, 0, 2]), DataError, r"lengths\[1\] is 0; expected 1 to 2"),
        (([np.zeros((2, 1))], None, None, [2]), OptionError, "a list of arrays has its own lengths"),
        (([np.zeros((2, 1)), np.zeros((0, 1))],), DataError, "sequence 1 has length 0"),
        (([np.zeros((2, 1)), np.zeros((2, 3))],), ShapeError, r"sequence 1 has shape \(2, 3\), sequence 0 \(2, 1\)"),
        (([np.zeros((2, 1)), np.zeros(2)],), ShapeError, r"sequence 1 has shape \(2,\)"),
        ((np.zeros((2, 2, 1)), None, [1.0, np.nan]), DataError, "sample_weight of sequence 1 is nan"),
        ((np.zeros((2, 2, 1)), None, ["a", "b"]), DataError, "sample_weight has dtype <U1"),
    ],
)
def test_what_does_not_fit_together_is_found_at_once(arguments, error, words):
    with pytest.raises(error, match=words):
        OneOfEach(*arguments, ids=False, by_step=False, who="test")


@pytest.mark.parametrize(
    ("by_step", "y", "weights", "words"),
    [
        (True, np.zeros(2), None, "one target a sequence, but the model puts out one row a step"),
        (True, np.zeros((2, 4)), None, "y has other numbers of steps"),
        (True, [np.zeros(3), np.zeros(2)], None, "y has other numbers of steps"),
        (False, [np.zeros(3), np.zeros(2)], None, "one array a sequence, but the model puts out one row a sequence"),
        (True, np.zeros((2, 3)), np.ones((2, 4)), "sample_weight has other numbers of steps"),
        (True, np.zeros((2, 3)), np.ones((2, 3, 1)), r"sample_weight has shape \(2, 3, 1\); expected \(N,\) or"),
        (False, np.zeros(2), np.ones((2, 3)), r"sample_weight has shape \(2, 3\); expected \(N,\)$"),
        (False, np.zeros(2), [np.ones(3), np.ones(2)], "sample_weight has one array a sequence"),
    ],
)
def test_targets_and_weights_of_another_kind(by_step, y, weights, words):
    data = OneOfEach(np.zeros((2, 3, 1)), y, weights, ids=False, by_step=by_step, who="test")
    with pytest.raises(ShapeError, match=words):
        data.take(np.arange(2))
