"""The kernels of convolutions: gathered rows, one chain of fused multiply-adds a value, and rings of rows."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlstm.kernels import conv, gemm
from tests import strategies
from tests.kernels.test_gemm import packed, padded
from tests.tolerances import assert_bitwise_equal


def random_taps(rng, size, windows):
    """Return taps on 9 rows that rise or fall by up to 3 rows; by one row they are gathered at once."""
    by = rng.integers(1, 4, windows) * rng.choice([-1, 1], windows)
    taps = rng.integers(-3, 12, windows) + by * np.arange(size)[:, None]
    return np.where((taps >= 0) & (taps < 9), taps, -1)


def product_of_taps(x, taps, b, bias, room=1, parts=None):
    """Return the products of what windows see, `room` windows gathered at once, shared in parts with these bounds."""
    count = taps.shape[1]
    out = np.full((count, b.shape[1]), np.nan, x.dtype)
    scratch = np.full(room * len(b), np.nan, x.dtype)
    bounds = parts or [0, count]
    for begin, end in pairwise(bounds):
        conv.product_of_taps(x, taps, packed(b), padded(bias), out, scratch, begin, end)
    return out


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 4),
    st.integers(1, 70),
    st.integers(1, 30),
    strategies.seeds(),
    strategies.float_types(),
    st.data(),
)
def test_the_bits_are_those_of_gathered_rows_multiplied(windows, features, size, n, room, seed, dtype, data):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((9, features)).astype(dtype)
    b, bias = rng.standard_normal((size * features, n)).astype(dtype), rng.standard_normal(n).astype(dtype)
    taps = random_taps(rng, size, windows)
    a = np.concatenate((x, np.zeros((1, features), dtype)))[np.ascontiguousarray(taps.T)].reshape(windows, -1)
    expected = np.full((windows, n), np.nan, dtype)
    gemm.product(a, a.shape[1], packed(b), a.shape[1], padded(bias), expected, n, n, 0, windows)
    parts = data.draw(strategies.cuts_of(windows))
    assert_bitwise_equal(product_of_taps(x, taps, b, bias, room, parts), expected)
    gathered = np.full((windows, a.shape[1]), np.nan, dtype)
    for begin, end in pairwise(parts):
        conv.gather_taps(x, taps, 0, gathered, begin, end)
    assert_bitwise_equal(gathered, a)


def test_windows_are_gathered_from_any_one_on(dtype, rng):
    x, taps = rng.standard_normal((9, 5)).astype(dtype), random_taps(rng, 3, 20)
    out, whole = np.full((6, 15), np.nan, dtype), np.full((20, 15), np.nan, dtype)
    conv.gather_taps(x, taps, 0, whole, 0, 20)
    conv.gather_taps(x, taps, 7, out, 0, 2)
    conv.gather_taps(x, taps, 7, out, 2, 6)
    assert_bitwise_equal(out, whole[7:13])


def test_products_are_gathered_by_the_windows_that_see_a_row(dtype, rng):
    columns, windows = rng.integers(-9, 9, (6, 4 * 3)).astype(dtype), rng.integers(-1, 6, (4, 10))
    dx = np.full((10, 3), np.nan, dtype)
    conv.sum_of_windows(columns, windows, dx, 0, 4)
    conv.sum_of_windows(columns, windows, dx, 4, 10)
    expected = np.zeros((10, 3))
    for k in range(4):
        for m in range(10):
            if windows[k, m] >= 0:
                expected[m] += columns[windows[k, m], 3 * k : 3 * k + 3]
    np.testing.assert_array_equal(dx, expected)


@pytest.mark.parametrize("dilation", [1, 3])
def test_a_ring_holds_the_rows_that_are_still_seen(dilation, dtype, rng):
    size, features, batch = 3, 5, 4
    length = (size - 1) * dilation
    x = rng.standard_normal((20, batch, features)).astype(dtype)
    ring, place = np.zeros((batch, length, features), dtype), rng.integers(-9, 9, batch)
    for t in range(20):
        out = np.full((batch, size * features), np.nan, dtype)
        conv.gather_ring(x[t], ring, place, dilation, out, 0, 2)
        conv.gather_ring(x[t], ring, place, dilation, out, 2, batch)
        for k in range(size):
            seen = t - (size - 1 - k) * dilation
            expected = x[seen] if seen >= 0 else np.zeros_like(x[0])
            assert_bitwise_equal(np.ascontiguousarray(out[:, k * features : (k + 1) * features]), expected)
    assert ((place >= 0) & (place < length)).all()
