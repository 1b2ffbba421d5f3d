"""Windows over batches: which rows they see, and which windows see a row, against one sequence at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlstm.data.packed import pack
from fastlstm.engine.sliding import SlidingWindow, packed_rows, reads_of, rows_in_place, taps_of
from tests import naive, strategies


def memory(name, shape, dtype):
    return np.full(shape, 10**9, dtype)


@st.composite
def windows(draw):
    stride = draw(st.integers(1, 3))
    dilation = draw(st.integers(1, 3)) if stride == 1 else 1
    return SlidingWindow(draw(st.integers(1, 4)), stride, dilation, draw(st.sampled_from(["valid", "same", "causal"])))


@given(strategies.lengths_n(max_steps=8), windows())
def test_each_window_sees_the_rows_of_its_own_sequence(lengths, window):
    if window.padding == "valid":
        lengths = [length + window.reach - 1 for length in lengths]
    numbers = [np.array([[100 * n + t] for t in range(length)], float) for n, length in enumerate(lengths)]
    x, form = pack(numbers, features=True)
    taps = taps_of(x, packed_rows(x), window, memory)
    seen = np.concatenate((x.rows[:, 0], [np.nan]))[taps.rows]  # -1 is the last
    out = form.unpack(taps.output(np.ascontiguousarray(seen.T), x))
    for n, length in enumerate(lengths):
        expected = naive.windows(length, window.size, window.stride, window.padding, window.dilation)
        expected = [[np.nan if t is None else 100 * n + t for t in steps] for steps in expected]
        np.testing.assert_array_equal(out[n], expected)
    reads = reads_of(taps, x.total, memory)
    pairs = {(int(row), k, r) for k, rows in enumerate(taps.rows) for r, row in enumerate(rows) if row >= 0}
    assert {(row, k, int(r)) for k, own in enumerate(reads) for row, r in enumerate(own) if r >= 0} == pairs


@given(st.integers(1, 5), st.integers(4, 9), windows())
def test_an_array_is_read_where_it_lies(count, steps, window):
    steps += window.reach
    x = np.arange(float(count * steps)).reshape(count, steps, 1)
    packed, _ = pack(x, features=True)
    source = rows_in_place(packed)
    assert source.rows.base is not None
    assert np.shares_memory(source.rows, x)
    here = taps_of(packed, source, window, memory)
    there = taps_of(packed, packed_rows(packed), window, memory)
    values = [np.append(rows[:, 0], -1.0)[taps.rows] for rows, taps in ((source.rows, here), (packed.rows, there))]
    np.testing.assert_array_equal(*values)


def test_large_batches_get_the_taps_of_small_ones():
    """Those of a small dense batch are kept."""
    window, length = SlidingWindow(3, 2, 1, "same"), 9000
    one, _ = pack(np.zeros((1, length, 1)), features=True)
    many, _ = pack(np.zeros((2, length, 1)), features=True)
    small = taps_of(one, packed_rows(one), SlidingWindow(1, 2, 1, "same"), memory)
    assert taps_of(one, packed_rows(one), SlidingWindow(1, 2, 1, "same"), memory) is small
    large = taps_of(many, packed_rows(many), window, memory)
    assert taps_of(many, packed_rows(many), window, memory) is not large
    expected = naive.windows(length, 3, 2, "same")
    for n in range(2):
        own = large.rows[:, n::2]
        np.testing.assert_array_equal(
            np.where(own >= 0, (own - n) // 2, -1).T, [[-1 if t is None else t for t in steps] for steps in expected]
        )


@pytest.mark.parametrize(
    ("window", "lengths", "count", "before"),
    [
        (SlidingWindow(3), [3, 5], [1, 3], [0, 0]),
        (SlidingWindow(3, 1, 2), [4, 5], [0, 1], [0, 0]),
        (SlidingWindow(3, 2, 1, "same"), [4, 5, 6], [2, 3, 3], [0, 1, 0]),
        (SlidingWindow(4, 1, 1, "same"), [1, 7], [1, 7], [1, 1]),
        (SlidingWindow(3, 2, 1, "causal"), [4, 5], [2, 3], [2, 2]),
    ],
)
def test_counts_and_padding(window, lengths, count, before):
    assert window.windows_in(np.array(lengths)).tolist() == count
    assert window.before(np.array(lengths)).tolist() == before
