import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlstm.data.windows import Windows
from fastlstm.errors import DataError, OptionError, ShapeError


@st.composite
def windows(draw):
    streams, steps = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    size = draw(st.integers(streams * steps + 1, streams * steps * 4 + 20))
    return Windows(np.arange(size, dtype=np.uint16), streams, steps)


@given(windows())
def test_every_id_is_a_target_once_and_each_stream_is_read_in_order(windows):
    per_stream = [[] for _ in range(windows.streams)]
    for inputs, targets in windows:
        assert len(inputs.rows) == len(targets) == inputs.batch_sizes.sum()
        assert inputs.batch_sizes.min() > 0
        np.testing.assert_array_equal(targets, inputs.rows + 1)
        for step, start in enumerate(inputs.offsets[:-1]):
            for stream in range(inputs.batch_sizes[step]):
                per_stream[stream].append(inputs.rows[start + stream])
    # The streams, one after the other, are the text.
    np.testing.assert_array_equal(np.concatenate(per_stream), np.arange(windows.targets))
    lengths = [len(stream) for stream in per_stream]
    assert sorted(lengths, reverse=True) == lengths
    assert lengths[0] - lengths[-1] <= 1


@given(windows())
def test_all_windows_are_full_but_the_last(windows):
    shapes = [(len(inputs.batch_sizes), len(inputs.rows)) for inputs, _ in windows]
    assert len(shapes) == len(windows)
    assert shapes[:-1] == [(windows.steps, windows.steps * windows.streams)] * (len(windows) - 1)
    assert shapes[-1][0] <= windows.steps


def test_a_second_pass_is_like_the_first():
    windows = Windows(np.arange(50), 3, 4)
    first = [(inputs.rows.copy(), targets.copy()) for inputs, targets in windows]
    for (inputs, targets), (rows, after) in zip(windows, first, strict=True):
        np.testing.assert_array_equal(inputs.rows, rows)
        np.testing.assert_array_equal(targets, after)


def test_the_buffers_are_used_again():
    addresses = {
        (inputs.rows.__array_interface__["data"][0], targets.__array_interface__["data"][0])
        for inputs, targets in Windows(np.arange(1000, dtype=np.uint8) % 7, 4, 10)
    }
    assert len(addresses) == 1


def test_a_text_shorter_than_one_window():
    assert len(Windows(np.arange(13), 3, 4)) == 1
    with pytest.raises(DataError, match="12 tokens, less than one window: 3 streams of 4 steps need 13"):
        Windows(np.arange(12), 3, 4)


@pytest.mark.parametrize("wrong", [0, -1, 2.0, "2", None, True, [2]])
def test_streams_and_steps_that_are_no_whole_numbers(wrong):
    with pytest.raises(OptionError, match=r"Windows: streams is .*; expected a whole number, at least 1"):
        Windows(np.arange(12), wrong, 4)
    with pytest.raises(OptionError, match=r"Windows: steps is .*; expected a whole number, at least 1"):
        Windows(np.arange(12), 3, wrong)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (np.arange(12.0), "dtype float64; expected integers"),
        (np.arange(12) > 3, "dtype bool; expected integers"),
        (["a"] * 12, "dtype <U1"),
        (None, "it is None"),
        (np.ma.masked_equal(np.arange(12), 3), "1 of its 12 values masked"),
    ],
)
def test_ids_that_are_no_integers(ids, words):
    with pytest.raises(DataError, match=f"Windows: ids .*{words}"):
        Windows(ids, 2, 2)


def test_a_list_of_ids_is_a_text_too():
    [(inputs, targets)] = Windows([3, 1, 2], 1, np.int64(2))
    assert (inputs.rows.tolist(), targets.tolist()) == ([3, 1], [1, 2])


def test_ids_of_the_wrong_rank():
    with pytest.raises(ShapeError, match=r"\(3, 4\)"):
        Windows(np.zeros((3, 4), int), 1, 1)
