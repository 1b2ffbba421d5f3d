"""Packed products against float64, and what the module promises: bits that depend on nothing but the operands."""

from itertools import pairwise

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlstm.kernels import gemm
from fastlstm.kernels.gemm.tiles import tile_height
from fastlstm.runtime import config
from fastlstm.simd.host import REGISTERS
from tests import strategies
from tests.tolerances import assert_bitwise_equal, assert_gradients_close

SAME_ROWS = np.empty(0, np.int64)
ROW_BLOCK = config.TUNED.row_block


def packed(b):
    """Pack B (K, N)."""
    k, n = b.shape
    out = np.full(gemm.panels(n, b.dtype) * k * gemm.panel_width(b.dtype), np.nan, b.dtype)
    for begin, end in pairwise([0, 1, gemm.panels(n, b.dtype)]):
        gemm.pack(b.reshape(-1), n, 1, k, n, out, begin, end)
    return out


def padded(bias):
    out = np.zeros(gemm.panels(len(bias), bias.dtype) * gemm.panel_width(bias.dtype), bias.dtype)
    out[: len(bias)] = bias
    return out


def product(a, b, bias, parts=None):
    """Return ``bias + a @ b``, rows computed in parts with the bounds `parts`."""
    (m, k), n = a.shape, b.shape[1]
    out = np.full((m, n), np.nan, a.dtype)
    parts = parts or [0, m]
    for begin, end in pairwise(parts):
        gemm.product(a, k, packed(b), k, padded(bias), out, n, n, begin, end)
    return out


def over_rows(a, b, b_rows=SAME_ROWS, parts=None, want_sums=True, before=None, beside=None):
    """Return ``a.T @ b[b_rows]`` and the column sums of a, columns of a computed in parts; added to `before`.

    With another right operand and its rows `beside` the first: both products side by side.
    """
    (rows, m), first = a.shape, b.shape[1]
    c, c_rows = beside or (b[:, :0].copy(), SAME_ROWS)
    n, more = first + c.shape[1], c.shape[1]
    out, sums = before or (np.full((m, n), np.nan, a.dtype), np.full(m if want_sums else 0, np.nan, a.dtype))
    scratch = np.full(gemm.scratch_size(n, a.dtype), np.nan, a.dtype)
    parts = parts or [0, m]
    for begin, end in pairwise(parts):
        gemm.product_over_rows(
            *((a.reshape(-1), m), (b.reshape(-1), first, b_rows, first), (c.reshape(-1), more, c_rows, more)),
            *(rows, out, sums, before is not None, scratch, begin, end),
        )
    return out, sums


def operands(m, k, n, seed, dtype):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n), (n,)))


def bound(dtype, k):
    """What a chain of k roundings may lose, of values whose largest is the scale."""
    return 4 * k * np.finfo(dtype).eps


def test_pack_puts_each_element_where_the_module_says(dtype):
    k, width = 3, gemm.panel_width(np.dtype(dtype))
    n = width + 5
    b = np.arange(1, k * n + 1, dtype=dtype).reshape(k, n)
    p = packed(b).reshape(2, k, width)
    assert_bitwise_equal(p[0], b[:, :width])
    assert_bitwise_equal(p[1, :, :5], b[:, width:])
    assert not p[1, :, 5:].any()


def test_pack_takes_a_transposed_matrix_by_its_strides(dtype, rng):
    b = rng.standard_normal((7, 5)).astype(dtype)
    k, n = 5, 7
    out = np.empty(gemm.panels(n, b.dtype) * k * gemm.panel_width(b.dtype), dtype)
    gemm.pack(b.reshape(-1), 1, 5, k, n, out, 0, gemm.panels(n, b.dtype))
    assert_bitwise_equal(out, packed(np.ascontiguousarray(b.T)))


@given(strategies.matrices_mkn(), strategies.seeds(), strategies.float_types())
def test_product_is_bias_plus_a_times_b(mkn, seed, dtype):
    a, b, bias = operands(*mkn, seed, dtype)
    exact = bias.astype(np.float64) + a.astype(np.float64) @ b.astype(np.float64)
    assert_gradients_close(product(a, b, bias), exact, what="product", bound=bound(dtype, mkn[1] + 1))


@given(strategies.matrices_mkn(), strategies.seeds(), strategies.float_types())
def test_panels_of_three_registers_give_the_bits_of_four(mkn, seed, dtype):
    """Cells of three gates have them: only where a column lies differs."""
    (m, k, n), width = mkn, 3 * REGISTERS.lanes(np.dtype(dtype).itemsize)
    a, b, bias = operands(m, k, n, seed, dtype)
    count = -(-n // width)
    wide, start = np.zeros((k, count * width), dtype), np.zeros(count * width, dtype)
    wide[:, :n], start[:n] = b, bias
    panels = np.ascontiguousarray(wide.reshape(k, count, width).swapaxes(0, 1)).reshape(-1)
    out = np.full((m, n), np.nan, dtype)
    gemm.product_by(3)(a, k, panels, k, start, out, n, n, 0, m)
    assert_bitwise_equal(out, product(a, b, bias))


@given(strategies.matrices_mkn(), strategies.seeds(), strategies.float_types(), st.data())
def test_product_has_the_same_bits_however_its_rows_are_shared(mkn, seed, dtype, data):
    a, b, bias = operands(*mkn, seed, dtype)
    parts = data.draw(strategies.cuts_of(mkn[0]))
    assert_bitwise_equal(product(a, b, bias, parts), product(a, b, bias))


@given(strategies.matrices_mkn(), strategies.seeds(), strategies.float_types())
def test_product_of_a_row_alone_has_the_same_bits(mkn, seed, dtype):
    a, b, bias = operands(*mkn, seed, dtype)
    alone = [product(np.ascontiguousarray(a[m : m + 1]), b, bias) for m in range(mkn[0])]
    assert_bitwise_equal(product(a, b, bias), np.concatenate(alone))


def test_product_walks_in_blocks_when_the_left_operand_outgrows_the_cache(dtype, rng):
    m, k, n = 137, 2000, 7  # several blocks of rows, the last one odd
    a, b, bias = operands(m, k, n, 1, dtype)
    exact = bias.astype(np.float64) + a.astype(np.float64) @ b.astype(np.float64)
    assert_gradients_close(product(a, b, bias), exact, bound=bound(dtype, k) / 8)


@pytest.mark.parametrize("m", [1, 3, 8, 26])  # two tiles fetch the next panel, the others do not
def test_product_with_a_large_matrix_is_the_same(dtype, rng, m):
    k, n = 2100, 260  # more than the L2 cache holds, the last panel narrow; two blocks and a rest of the sum
    a, b, bias = operands(m, k, n, 1, dtype)
    out = product(a, b, bias)
    exact = bias.astype(np.float64) + a.astype(np.float64) @ b.astype(np.float64)
    assert_gradients_close(out, exact, bound=bound(dtype, k) / 8)
    assert_bitwise_equal(product(a, b, bias, [0, m // 2, m]), out)
    assert_bitwise_equal(product(a, np.ascontiguousarray(b[:, :5]), bias[:5]), out[:, :5], what="of a small matrix")


def test_a_sum_in_blocks_is_the_same_chain(dtype, rng):
    k = 2 * gemm.K_BLOCK  # the longest in one block; a term of zeros more, and it goes in three
    a, b, bias = operands(5, k, 9, 1, dtype)
    longer = np.pad(a, ((0, 0), (0, 1))), np.pad(b, ((0, 1), (0, 0)))
    assert_bitwise_equal(product(*longer, bias), product(a, b, bias))


def test_product_is_a_chain_of_fused_multiply_adds_begun_from_the_bias():
    # exact in float32 only if nothing between the bias and the last product is rounded on its own:
    # -1 + (1 + e)(1 - e) = -e^2, where the product alone rounds to 1 and leaves 0
    e = np.float32(2.0**-12)
    a, b = np.array([[1 + e]], np.float32), np.array([[1 - e]], np.float32)
    assert product(a, b, np.array([-1], np.float32)).item() == -(float(e) ** 2)


def test_product_of_rows_reads_and_writes_with_strides(dtype, rng):
    m, k, n = 5, 6, 9
    wide_a, wide_out = rng.standard_normal((m, k + 4)).astype(dtype), np.full((m, n + 3), 7, dtype)
    b, bias = rng.standard_normal((k, n)).astype(dtype), rng.standard_normal(n).astype(dtype)
    gemm.product(wide_a, k + 4, packed(b), k, padded(bias), wide_out, n + 3, n, 0, m)
    assert_bitwise_equal(wide_out[:, :n], product(np.ascontiguousarray(wide_a[:, :k]), b, bias))
    assert (wide_out[:, n:] == 7).all()


def test_nan_stays_in_its_row(dtype, rng):
    a, b, bias = operands(9, 4, 40, 2, dtype)
    clean = product(a, b, bias)
    a[4, 1] = np.nan
    spoilt = product(a, b, bias)
    assert np.isnan(spoilt[4]).all()
    assert_bitwise_equal(np.delete(spoilt, 4, axis=0), np.delete(clean, 4, axis=0))


@given(
    st.sampled_from([1, 2, 5, ROW_BLOCK - 1, ROW_BLOCK, ROW_BLOCK + 1, 2 * ROW_BLOCK + 3]),
    st.integers(1, 30),
    st.integers(1, 150),
    strategies.seeds(),
    strategies.float_types(),
    st.data(),
)
def test_product_over_rows_is_a_transposed_times_b(rows, m, n, seed, dtype, data):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((rows, m)).astype(dtype), rng.standard_normal((rows + 3, n)).astype(dtype)
    b_rows = rng.integers(0, rows + 3, rows)
    out, sums = over_rows(a, b, b_rows)
    assert_gradients_close(out, a.T.astype(np.float64) @ b[b_rows].astype(np.float64), bound=bound(dtype, rows))
    assert_gradients_close(sums, a.astype(np.float64).sum(axis=0), bound=bound(dtype, rows) + 1e-12)
    parts = data.draw(strategies.cuts_of(m))
    again, again_sums = over_rows(a, b, b_rows, parts)
    assert_bitwise_equal(again, out, what="product in parts")
    assert_bitwise_equal(again_sums, sums, what="sums in parts")


def test_product_over_rows_pairs_equal_rows_where_none_are_named(dtype, rng):
    a, b = rng.standard_normal((11, 5)).astype(dtype), rng.standard_normal((11, 33)).astype(dtype)
    plain, _ = over_rows(a, b)
    named, _ = over_rows(a, b, np.arange(11))
    assert_bitwise_equal(plain, named)


def test_sums_are_left_out_where_not_wanted(dtype, rng):
    a, b = rng.standard_normal((4, 5)).astype(dtype), rng.standard_normal((4, 6)).astype(dtype)
    out, sums = over_rows(a, b, want_sums=False)
    assert len(sums) == 0
    assert_bitwise_equal(out, over_rows(a, b)[0])


@given(
    shape=st.tuples(st.integers(0, 300), st.integers(1, 60), st.integers(1, 90), st.integers(1, 90)),
    picks=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 2**16),
    dtype=strategies.float_types(),
)
def test_right_operands_beside_each_other_give_the_bits_of_each_alone(shape, picks, seed, dtype):
    rows, m, n, more = shape
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((rows, m)).astype(dtype)
    operands = []
    for columns, picked in zip((n, more), picks, strict=True):
        b = rng.standard_normal((rows + 3, columns)).astype(dtype)
        operands.append((b, rng.integers(0, rows + 3, rows) if picked else SAME_ROWS))
    out, sums = over_rows(a, *operands[0], beside=operands[1])
    for (b, b_rows), product in zip(operands, (out[:, :n], out[:, n:]), strict=True):
        alone, sums_alone = over_rows(a, b, b_rows)
        assert_bitwise_equal(product, alone)
        assert_bitwise_equal(sums, sums_alone)


def test_a_product_over_no_rows_is_zero(dtype):
    out, sums = over_rows(np.empty((0, 3), dtype), np.empty((0, 40), dtype))
    assert not out.any()
    assert not sums.any()


@numba.njit
def _tile_height(rows):
    return tile_height(rows)


@pytest.mark.parametrize("rows", range(1, 40))
def test_tiles_cut_any_number_of_rows_without_remainder(rows):
    left, heights = rows, []
    while left:
        heights.append(_tile_height(left))
        assert 1 <= heights[-1] <= min(left, 6)
        left -= heights[-1]
    assert rows == 1 or 1 not in heights, f"{rows} rows are cut {heights}: a single row is bound by loads"


def test_products_over_rows_add_up(dtype, rng):
    a, b = rng.standard_normal((ROW_BLOCK + 7, 53)).astype(dtype), rng.standard_normal((ROW_BLOCK + 7, 70))
    b = b.astype(dtype)
    first = over_rows(a[:5], b[:5])
    out, sums = over_rows(a[5:], b[5:], before=first)
    assert_gradients_close(out, a.astype(np.float64).T @ b, bound=bound(dtype, len(a)))
    assert_gradients_close(sums, a.astype(np.float64).sum(axis=0), bound=bound(dtype, len(a)))
