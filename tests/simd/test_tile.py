"""Every operation of ``simd/tile.py`` against the same block of a NumPy array."""

import numba
import numpy as np
import pytest

from fastlstm.simd import tile, vector
from fastlstm.simd.host import REGISTERS
from tests.tolerances import assert_bitwise_equal

C = tile.COLUMNS


@numba.njit
def _copy_three(a, i, stride, out, o, out_stride):
    tile.store_rows(tile.load_rows(3, C, a, i, stride), out, o, out_stride)


@numba.njit
def _copy_three_n(a, i, stride, out, o, out_stride, n, m):
    tile.store_rows_n(tile.load_rows_n(3, C, a, i, stride, n), out, o, out_stride, m)


@numba.njit
def _product_two(a, k, panel, bias, out):
    acc = tile.splat_columns(2, C, bias, 0)
    for r in range(k):
        acc = tile.rank1(acc, a, r, k, panel, r * len(bias))
    tile.store_rows(acc, out, 0, len(bias))


@numba.njit
def _arithmetic(a, out):
    x = tile.load_rows(1, C, a, 0, len(a))
    y = (x + x) * x - x / vector.splat(x, 2.0)
    tile.store_rows(vector.fma(-x, x, y), out, 0, len(a))


@numba.njit
def _transpose(a, i, stride, scale, out, o, out_stride):
    tile.transpose(a, i, stride, scale, out, o, out_stride)


@pytest.fixture
def width(dtype):
    return C * REGISTERS.lanes(np.dtype(dtype).itemsize)


def test_rows_in_and_out_with_strides(dtype, width, rng):
    a = rng.standard_normal((5, width + 7)).astype(dtype)
    out = np.zeros((4, width + 2), dtype)
    _copy_three(a.ravel(), a.shape[1] + 3, a.shape[1], out.ravel(), 1, out.shape[1])
    expected = np.zeros_like(out)
    expected[:3, 1 : width + 1] = a[1:4, 3 : width + 3]
    assert_bitwise_equal(out, expected)


def test_only_n_values_of_each_row_are_read_and_written(dtype, width):
    a = np.arange(1, 3 * width + 1, dtype=dtype).reshape(3, width)
    lanes = width // C
    for n in (0, 1, lanes - 1, lanes, lanes + 1, width - 1, width, width + 9):
        for m in (width, max(n - 1, 0)):
            out = np.full((3, width), -1, dtype)
            _copy_three_n(a.ravel(), 0, width, out.ravel(), 0, width, n, m)
            expected = np.where(np.arange(width) < n, a, 0).astype(dtype)
            expected[:, m:] = -1
            assert_bitwise_equal(out, expected, what=f"n {n}, m {m}")


def test_rank_one_updates_are_a_product_of_fused_multiply_adds(dtype, width, rng):
    k = 17
    a, panel = (rng.standard_normal(shape).astype(dtype) for shape in ((2, k), (k, width)))
    bias, out = rng.standard_normal(width).astype(dtype), np.empty((2, width), dtype)
    _product_two(a.ravel(), k, panel.ravel(), bias, out.ravel())
    exact = bias + a.astype(np.float64) @ panel.astype(np.float64)
    assert np.abs(out - exact).max() < 20 * k * np.finfo(dtype).eps


def test_arithmetic_works_on_whole_tiles(dtype, width):
    a = np.arange(1, width + 1, dtype=dtype)  # whole numbers and halves: exact
    out = np.empty_like(a)
    _arithmetic(a, out)
    assert_bitwise_equal(out, (a * a - a / 2).astype(dtype))


def test_the_tallest_tile_leaves_registers_for_its_operands():
    assert REGISTERS.number >= tile.ROWS * tile.COLUMNS + 1


def test_a_block_is_transposed_and_scaled_and_nothing_else_is_written(dtype, width, rng):
    lanes = width // C
    a = rng.standard_normal((lanes + 1, lanes + 3)).astype(dtype)
    out = np.full((lanes + 2, lanes + 5), np.nan, dtype)
    _transpose(a.reshape(-1), 2, lanes + 3, 2.0, out.reshape(-1), 1, lanes + 5)
    expected = np.full_like(out, np.nan)
    expected[:lanes, 1 : lanes + 1] = 2 * a[:lanes, 2 : lanes + 2].T
    assert_bitwise_equal(out, expected)
