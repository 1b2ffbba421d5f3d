"""Labels of sequences as callers pass them: lists, padded arrays, with lengths; refused with the sequence's number."""

import numpy as np
import pytest

import fastlstm.training.losses as losses
from fastlstm.data.labels import Labels, pack_labels
from fastlstm.errors import DataError, OptionError, ShapeError

STRINGS = [[3, 1, 1], [], [2], [0, 4]]
PADDED = np.array([[3, 1, 1, -1], [-1, -1, -1, -1], [2, -1, -1, -1], [0, 4, -1, -1]])


def strings_of(labels):
    return [labels.values[a:b].tolist() for a, b in zip(labels.starts, labels.starts[1:], strict=False)]


@pytest.mark.parametrize(
    "given",
    [
        STRINGS,
        tuple(STRINGS),
        [np.array(string, np.uint8) for string in STRINGS],
        [np.array(string, float) for string in STRINGS],
        [np.array([3, 1, 1]), [], (2,), np.array([0, 4])],
        PADDED,
        PADDED[:, :3],
        PADDED.tolist(),
        PADDED.astype(np.float32),
        np.asfortranarray(PADDED.astype(">i2")),
    ],
    ids=str,
)
@pytest.mark.parametrize("order", [None, [2, 0, 3, 1]])
def test_all_forms_of_the_same_labels(given, order):
    labels = pack_labels(given, None if order is None else np.array(order), 4, "fit")
    assert strings_of(labels) == [STRINGS[n] for n in order or range(4)]
    assert labels.lengths.tolist() == [len(STRINGS[n]) for n in order or range(4)]
    assert labels.values.dtype == labels.starts.dtype == np.int64


def test_with_lengths_anything_may_stand_behind_the_labels():
    given = np.where(PADDED == -1, 99, PADDED)
    assert strings_of(pack_labels(given, None, 4, "fit", [3, 0, 1, 2])) == STRINGS
    assert strings_of(pack_labels(given.tolist(), None, 4, "fit", np.array([3, 0, 1, 2], np.uint8))) == STRINGS


@pytest.mark.parametrize("given", [[[], []], np.zeros((2, 0)), [np.zeros(0), np.zeros(0)], -np.ones((2, 3))])
def test_no_labels_at_all(given):
    labels = pack_labels(given, None, 2, "fit")
    assert labels.values.shape == (0,)
    assert labels.starts.tolist() == [0, 0, 0]


def test_labels_are_a_value_that_losses_name_too():
    assert losses.Labels is Labels


@pytest.mark.parametrize(
    ("given", "lengths", "error", "words"),
    [
        (STRINGS[:3], None, ShapeError, "fit: 3 strings of labels for 4 sequences"),
        ([], None, ShapeError, "0 strings of labels for 4"),
        (np.arange(4), None, ShapeError, r"labels have shape \(4,\); expected \(sequences, labels\)"),
        (np.zeros((4, 2, 1), int), None, ShapeError, r"shape \(4, 2, 1\)"),
        (
            [[1], [2, 3], [[4]], [5]],
            None,
            ShapeError,
            r"labels of sequence 2 have shape \(1, 1\); expected \(labels,\)",
        ),
        ([[1], [2, 0.5], [4], [5]], None, DataError, r"labels of sequence 1 hold 0\.5; expected whole numbers"),
        ([[1], [2, 2], [np.nan], [5]], None, DataError, "labels of sequence 2 hold nan"),
        ([[1], [2, 2], [4], [np.inf]], None, DataError, "labels of sequence 3 hold inf"),
        ([[1], [2, 2], [4], [1e300]], None, DataError, r"labels of sequence 3 hold 1e\+300"),
        ([["a"], ["b", "c"], [], []], None, DataError, "labels of sequence 0 has dtype <U1.*names become numbers"),
        ([[1], None, [4], [5]], None, ShapeError, "labels is no array"),
        (None, None, DataError, "it is None"),
        (np.ma.array(PADDED, mask=PADDED == -1), None, DataError, "10 of its 16 values masked"),
        ([[1, 2], [-1, 3], [4, 5], [6, 7]], None, DataError, "labels of sequence 1: a label stands behind -1"),
        (STRINGS, [3, 0, 1, 2], OptionError, "lengths of labels go with one padded array"),
        (PADDED, [3, 0, 1], ShapeError, r"lengths of labels have shape \(3,\); expected \(4,\)"),
        (PADDED, [3.0, 0, 1, 2], DataError, "lengths of labels have dtype float64"),
        (PADDED, [3, 0, 1, 5], DataError, "sequence 3 has 5 labels; expected 0 to 4"),
        (PADDED, [3, -1, 1, 2], DataError, "sequence 1 has -1 labels"),
    ],
)
def test_labels_that_cannot_be_used(given, lengths, error, words):
    with pytest.raises(error, match=words):
        pack_labels(given, None, 4, "fit", lengths)


@pytest.mark.parametrize(
    "given", [[[1], [0.5], [2]], np.array([[1], [0.5], [2]]), np.array([[1, 1], [-1, 1], [2, -1]])]
)
def test_errors_name_sequences_by_their_numbers(given):
    numbers = np.array([17, 4, 30])
    with pytest.raises(DataError, match="labels of sequence 4"):
        pack_labels(given, np.array([2, 0, 1]), 3, "fit", numbers=numbers)


def test_numbers_go_along_in_packed_order():
    labels = pack_labels([[1], [], [2]], np.array([2, 0, 1]), 3, "fit", numbers=np.array([17, 4, 30]))
    assert labels.numbers.tolist() == [30, 17, 4]
