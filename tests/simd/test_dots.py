"""Every operation of ``simd/dots.py`` against NumPy."""

import numba
import numpy as np
import pytest

from fastlstm.simd import across, dots, tile, vector
from fastlstm.simd.host import REGISTERS
from tests.tolerances import assert_bitwise_equal


@numba.njit
def _products(a, a_stride, b, b_stride, features, out, out_stride):
    acc = dots.no_sums(3, a)
    for f in range(0, features, vector.lanes_of(a)):
        acc = dots.dot_step(acc, a, f, a_stride, b, 1 + f, b_stride)
    dots.store_sums(acc, out, 2, out_stride)


@numba.njit
def _sum(a, out):
    out[0] = across.hsum(vector.load(a, 0))
    dots.store_sums(dots.load_across(a, 0, 0), out, 1, 0)


@numba.njit
def _across(a, i, stride, out):
    tile.store_rows(dots.load_across(a, i, stride), out, 0, 0)


@pytest.fixture
def lanes(dtype):
    return REGISTERS.lanes(np.dtype(dtype).itemsize)


def test_products_of_rows_by_rows(dtype, lanes, rng):
    features = 3 * lanes
    a = rng.standard_normal((3, features + 2)).astype(dtype)
    b = rng.standard_normal((4, features + 5)).astype(dtype)
    out = np.full((3, 9), np.nan, dtype)
    _products(a.reshape(-1), a.shape[1], b.reshape(-1), b.shape[1], features, out.reshape(-1), out.shape[1])
    exact = a[:, :features].astype(np.float64) @ b[:, 1 : features + 1].astype(np.float64).T
    assert np.abs(out[:, 2:6] - exact).max() < 10 * features * np.finfo(dtype).eps
    assert np.isnan(np.delete(out, np.s_[2:6], axis=1)).all(), "written beside the sums"


def test_lanes_are_added_up_in_the_order_of_hsum(dtype, lanes, rng):
    for _ in range(20):
        a, out = rng.standard_normal(lanes).astype(dtype), np.empty(5, dtype)
        _sum(a, out)
        assert_bitwise_equal(out, np.full(5, out[0]))
        assert abs(out[0] - a.astype(np.float64).sum()) < 10 * lanes * np.finfo(dtype).eps


def test_a_row_of_registers_from_places_far_apart(dtype, lanes):
    a = np.arange(5 * (lanes + 3), dtype=dtype)
    out = np.empty(4 * lanes, dtype)
    _across(a, 2, lanes + 3, out)
    assert_bitwise_equal(out, np.concatenate([a[2 + c * (lanes + 3) :][:lanes] for c in range(4)]))
