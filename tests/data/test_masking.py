"""Masks become lengths: padding after, before, on both sides; holes and empty sequences are refused by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlstm.data.masking import lengths_of_mask, rolled
from fastlstm.errors import DataError, ShapeError
from tests.tolerances import assert_bitwise_equal


@st.composite
def padded(draw):
    """Return lengths, what stands before each sequence, and T."""
    steps = draw(st.integers(1, 9))
    lengths = draw(st.lists(st.integers(1, steps), min_size=1, max_size=6))
    return lengths, [draw(st.integers(0, steps - length)) for length in lengths], steps


@given(padded())
def test_padding_before_and_after(case):
    lengths, before, steps = case
    mask = np.zeros((len(lengths), steps), bool)
    x = np.zeros((len(lengths), steps, 2))
    for n, (length, start) in enumerate(zip(lengths, before, strict=True)):
        mask[n, start : start + length] = True
        x[n, start : start + length] = np.arange(1, 2 * length + 1).reshape(length, 2)
    found, shifts = lengths_of_mask(mask, "test")
    assert found.tolist() == lengths
    assert found.dtype == np.int64
    assert (shifts is None) == (sum(before) == 0)
    front = rolled(x, shifts)
    for n, length in enumerate(lengths):
        np.testing.assert_array_equal(front[n, :length], np.arange(1, 2 * length + 1).reshape(length, 2))
    assert_bitwise_equal(rolled(front, None if shifts is None else -shifts), x)
    assert_bitwise_equal(rolled(x[..., 0], shifts), front[..., 0])


def test_what_needs_no_rolling_is_not_copied():
    x = np.ones((2, 3))
    assert rolled(x, lengths_of_mask(x > 0, "test")[1]) is x


def test_a_hole_is_named_by_sequence_and_step():
    mask = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1]], bool)
    with pytest.raises(DataError, match="Masking: sequence 2 has a hole: step 1 is masked"):
        lengths_of_mask(mask, "Masking")


@pytest.mark.parametrize("row", [[1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [0, 1, 1, 0, 1, 1]])
def test_every_hole_is_found(row):
    with pytest.raises(DataError, match="sequence 0 has a hole: step"):
        lengths_of_mask(np.array([row], bool), "fit")


def test_a_sequence_without_a_true_step_is_named():
    mask = np.array([[1, 1], [0, 0]], bool)
    with pytest.raises(DataError, match="fit: sequence 1: all 2 steps are masked"):
        lengths_of_mask(mask, "fit")
    with pytest.raises(DataError, match="all 0 steps"):
        lengths_of_mask(np.zeros((1, 0), bool), "fit")


def test_a_mask_has_two_axes():
    with pytest.raises(ShapeError, match=r"the mask has shape \(2, 3, 4\); expected \(N, T\)"):
        lengths_of_mask(np.ones((2, 3, 4), bool), "fit")
