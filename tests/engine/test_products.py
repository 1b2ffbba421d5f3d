"""Products given their scratch and shared over cores, against float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlstm.engine.products import (
    SAME_ROWS,
    fit_together,
    gradient_of_weight,
    padded_bias,
    panels_of,
    panels_size,
    rows_of,
    times,
)
from fastlstm.kernels import gemm
from fastlstm.runtime.config import tuned
from fastlstm.runtime.workspace import Frame, Workspace
from fastlstm.threads import set_num_threads
from tests import strategies
from tests.tolerances import assert_bitwise_equal, assert_gradients_close


def exact(*arrays):
    return [array.astype(np.float64) for array in arrays]


def bound(dtype, k):
    """What a chain of k roundings may lose, of values whose largest is the scale."""
    return 4 * k * np.finfo(dtype).eps


@given(strategies.matrices_mkn(), st.booleans(), st.integers(1, 3), strategies.seeds(), strategies.float_types())
def test_times_is_the_product_on_any_number_of_cores(mkn, is_transposed, cores, seed, dtype):
    (m, k, n), rng = mkn, np.random.default_rng(seed)
    a, bias = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal(n).astype(dtype)
    b = rng.standard_normal((n, k)).astype(dtype).T if is_transposed else rng.standard_normal((k, n)).astype(dtype)
    results = []
    for threads in (1, cores):
        set_num_threads(threads)
        with tuned(serial_below_ns=0.0, pool_from_ns=0.0):
            out = times(a, panels_of(b), padded_bias(bias, n, a.dtype), np.full((m, n), np.nan, dtype))
        results.append(out)
    assert_bitwise_equal(*results)
    wide_a, wide_b = exact(a, b)
    assert_gradients_close(out, bias.astype(np.float64) + wide_a @ wide_b, bound=bound(dtype, k + 1))


def test_a_matrix_and_its_copy_in_the_other_order_have_the_same_panels(dtype, rng):
    b = rng.standard_normal((7, 90)).astype(dtype)
    assert_bitwise_equal(panels_of(np.asfortranarray(b)), panels_of(b))
    out = np.empty(panels_size(7, 90, b.dtype), dtype)
    assert panels_of(b, out) is out
    assert_bitwise_equal(out, panels_of(b))


@pytest.mark.parametrize("n", [1, 5, 64, 100])
def test_a_bias_ends_with_zeros_up_to_whole_panels(dtype, n):
    width = gemm.panel_width(np.dtype(dtype))
    spoilt = np.full(10_000, np.nan)  # the allocator may hand out this memory next
    del spoilt
    padded = padded_bias(np.arange(1, n + 1, dtype=dtype), n, np.dtype(dtype))
    assert padded.size % width == 0
    assert 0 <= padded.size - n < width
    assert padded[:n].tolist() == list(range(1, n + 1))
    assert not padded[n:].any()
    assert not padded_bias(None, n, np.dtype(dtype)).any()


# --- the gradient of a weight -----------------------------------------------------------------------------------------


def operands(rng, dtype, rows=50, m=13, n=20):
    return rng.standard_normal((rows, m)).astype(dtype), rng.standard_normal((rows, n)).astype(dtype)


@pytest.mark.parametrize("cores", [1, 2, 3])
@pytest.mark.parametrize("sums", [False, True])
def test_the_gradient_of_a_weight_is_a_transposed_times_b(dtype, rng, cores, sums):
    a, b = operands(rng, dtype)
    set_num_threads(cores)
    with tuned(serial_below_ns=0.0, pool_from_ns=0.0):
        out, total = gradient_of_weight(rows_of(a), rows_of(b), 50, Frame(), Workspace(), "w", sums=sums)
    wide_a, wide_b = exact(a, b)
    assert_gradients_close(out, wide_a.T @ wide_b, bound=bound(dtype, 50))
    assert total.shape == ((13,) if sums else (0,))
    if sums:
        assert_gradients_close(total, wide_a.sum(axis=0), bound=bound(dtype, 50))
    set_num_threads(1)
    alone, _ = gradient_of_weight(rows_of(a), rows_of(b), 50, Frame(), Workspace(), "w", sums=sums)
    assert_bitwise_equal(out, alone)


def test_only_some_columns_and_the_rows_that_are_named(dtype, rng):
    a, b = operands(rng, dtype)
    which = rng.integers(0, 50, 30)
    out, _ = gradient_of_weight(rows_of(a, columns=4), rows_of(b, which), 30, Frame(), Workspace(), "w", sums=False)
    wide_a, wide_b = exact(a, b)
    assert_gradients_close(out, wide_a[:30, :4].T @ wide_b[which], bound=bound(dtype, 30))
    inner = (a.reshape(-1)[5:], 13, SAME_ROWS, 3)  # columns 5 to 8
    out, _ = gradient_of_weight(inner, rows_of(b), 49, Frame(), Workspace(), "w", sums=False)
    assert_gradients_close(out, wide_a[:49, 5:8].T @ wide_b[:49], bound=bound(dtype, 49))


def test_a_second_product_is_added_where_asked_for_and_only_there(dtype, rng):
    a, b = operands(rng, dtype)
    frame, space = Frame(), Workspace()
    first = gradient_of_weight(rows_of(a), rows_of(b), 50, frame, space, "w", sums=True)[0].copy()
    twice, sums = gradient_of_weight(rows_of(a), rows_of(b), 50, frame, space, "w", sums=True, add=True)
    assert_gradients_close(twice, 2.0 * first.astype(np.float64), bound=bound(dtype, 50))
    assert_gradients_close(sums, 2.0 * a.astype(np.float64).sum(axis=0), bound=bound(dtype, 100))
    again, _ = gradient_of_weight(rows_of(a), rows_of(b), 50, frame, space, "w", sums=True)
    assert again is not None
    assert_bitwise_equal(again, first)


def test_products_of_two_names_lie_apart_and_one_of_the_same_name_takes_its_memory(dtype, rng):
    a, b = operands(rng, dtype)
    frame, space = Frame(), Workspace()
    one, _ = gradient_of_weight(rows_of(a), rows_of(b), 50, frame, space, "one", sums=False)
    other, _ = gradient_of_weight(rows_of(b), rows_of(a), 50, frame, space, "other", sums=False)
    assert not np.shares_memory(one, other)
    assert gradient_of_weight(rows_of(a), rows_of(b), 50, frame, space, "one", sums=False)[0] is one


def test_right_operands_beside_each_other_have_the_bits_of_each_alone(dtype, rng):
    a, b = operands(rng, dtype)
    c = rng.standard_normal((60, 70)).astype(dtype)
    which = rng.integers(0, 60, 50)
    given = rows_of(a), rows_of(b), 50, Frame(), Workspace()
    both, sums = gradient_of_weight(*given, "both", sums=True, beside=rows_of(c, which))
    one, sums_of_one = gradient_of_weight(*given, "one", sums=True)
    other, _ = gradient_of_weight(rows_of(a), rows_of(c, which), 50, Frame(), Workspace(), "other", sums=False)
    assert_bitwise_equal(both[:, :20], one)
    assert_bitwise_equal(both[:, 20:], other)
    assert_bitwise_equal(sums, sums_of_one)


def test_operands_stand_together_while_their_block_of_rows_fits_the_cache():
    with tuned(row_block=10, together_bytes=4000):
        assert fit_together(100, np.dtype(np.float32))
        assert not fit_together(101, np.dtype(np.float32))
        assert not fit_together(100, np.dtype(np.float64))
