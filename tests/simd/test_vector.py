"""Every operation of ``simd/vector.py`` against NumPy's on the same lanes."""

import numba
import numpy as np
import pytest

from fastlstm.simd import across
from fastlstm.simd import vector as v
from fastlstm.simd.host import REGISTERS
from tests.tolerances import assert_bitwise_equal


@numba.njit
def _all_operations(a, b, c, out):
    """Row r of `out` is one operation on the registers at the start of a, b and c."""
    x, y, z = v.load(a, 0), v.load(b, 0), v.load(c, 0)
    width = v.lanes_of(a)
    v.store(out, 0 * width, x + y)
    v.store(out, 1 * width, x - y)
    v.store(out, 2 * width, x * y)
    v.store(out, 3 * width, x / y)
    v.store(out, 4 * width, -x)
    v.store(out, 5 * width, v.fma(x, y, z))
    v.store(out, 6 * width, v.vmin(x, y))
    v.store(out, 7 * width, v.vmax(x, y))
    v.store(out, 8 * width, v.vabs(x))
    v.store(out, 9 * width, v.vsqrt(v.vabs(x)))
    v.store(out, 10 * width, v.splat(a, b[0]))


@numba.njit
def _load_store_n(a, i, out, o, n):
    v.store_n(out, o, v.load_n(a, i, n), n)


@numba.njit
def _load_n(a, i, out, n):
    v.store(out, 0, v.load_n(a, i, n))


@numba.njit
def _across(a):
    return across.hsum(v.load(a, 0)), across.hmax(v.load(a, 0))


@numba.njit
def _halves(a, b, out):
    x, y = v.load(a, 0), v.load(b, 0)
    v.store(out, 0, across.join(x, y))
    v.store(out, v.lanes_of(a), across.join(across.upper(x), across.upper(y)))


@v.lanewise
def _two_to_the(x):
    """As ``exp`` does it: adding the shift leaves a whole number in the low bits of the mantissa."""
    return (x + 1.5 * 2.0 ** (23 if x.vec.scalar.bitwidth == 32 else 52)).power_of_two()


@numba.njit
def _power_of_two(a, out):
    v.store(out, 0, _two_to_the(v.load(a, 0)))


@v.lanewise
def _exponent(x):
    return x.exponent()


@v.lanewise
def _significand(x):
    return x.significand()


@numba.njit
def _parts(a, out):
    v.store(out, 0, _significand(v.load(a, 0)))
    v.store(out, v.lanes_of(a), _exponent(v.load(a, 0)))


@pytest.fixture
def width(dtype):
    return REGISTERS.lanes(np.dtype(dtype).itemsize)


@pytest.fixture
def operands(dtype, width, rng):
    return [(rng.standard_normal(width) * 10).astype(dtype) for _ in range(3)]


def test_each_operation_is_numpys_lane_by_lane(dtype, width, operands):
    a, b, c = operands
    out = np.empty(11 * width, dtype)
    _all_operations(a, b, c, out)
    expected = [a + b, a - b, a * b, a / b, -a, None, np.minimum(a, b), np.maximum(a, b), abs(a), np.sqrt(abs(a))]
    for place, value in enumerate([*expected, np.full(width, b[0])]):
        if value is not None:
            assert_bitwise_equal(out[place * width : (place + 1) * width], value, what=f"operation {place}")


def test_fma_rounds_once(dtype, width):
    # (1 + e)^2 - (1 + 2e) = e^2 exactly, which a product rounded by itself loses
    e = np.finfo(dtype).eps
    a = np.full(width, 1 + e, dtype)
    out = np.empty(11 * width, dtype)
    _all_operations(a, a, np.full(width, -(1 + 2 * e), dtype), out)
    assert_bitwise_equal(out[5 * width : 6 * width], np.full(width, e * e, dtype))


def test_min_and_max_keep_nan_of_the_first_operand(dtype, width):
    nan, bound = np.full(width, np.nan, dtype), np.ones(width, dtype)
    out = np.empty(11 * width, dtype)
    _all_operations(nan, bound, bound, out)
    assert np.isnan(out[6 * width : 8 * width]).all()


def test_partial_load_gives_zeros_and_partial_store_leaves_the_rest(dtype, width):
    a = np.arange(1, 2 * width + 1, dtype=dtype)
    for n in range(width + 1):
        out = np.full(width, -1, dtype)
        _load_n(a, 3 % width, out, n)
        assert out.tolist() == [*a[3 % width :][:n], *[0.0] * (width - n)]
        out = np.full(2 * width + 1, -1, dtype)
        _load_store_n(a, 0, out, 1, n)
        assert out.tolist() == [-1.0, *a[:n], *[-1.0] * (2 * width - n)]


def test_partial_load_beyond_the_register_is_a_whole_load_and_below_zero_is_none(dtype, width):
    a, out = np.arange(1, width + 1, dtype=dtype), np.empty(width, dtype)
    _load_n(a, 0, out, width + 5)
    assert_bitwise_equal(out, a)
    _load_n(a, 0, out, -3)
    assert not out.any()


def test_loads_need_no_alignment(dtype, width):
    a, out = np.arange(3 * width, dtype=dtype), np.empty(width, dtype)
    for start in range(width):
        _load_n(a, start, out, width)
        assert_bitwise_equal(out, a[start : start + width])


def test_sum_and_maximum_across_the_lanes(dtype, width, rng):
    a = rng.permutation(np.arange(1, width + 1)).astype(dtype)  # whole numbers: every order sums alike
    total, largest = _across(a)
    assert (total, largest) == (a.sum(), width)
    assert _across(-a)[1] == -1


def test_halves_of_registers_are_joined(dtype, width):
    a, b = np.arange(width, dtype=dtype), -np.arange(1, width + 1, dtype=dtype)
    out = np.empty(2 * width, dtype)
    _halves(a, b, out)
    half = width // 2
    assert_bitwise_equal(out, np.concatenate([a[:half], b[:half], a[half:], b[half:]]))


@pytest.mark.parametrize("exponent", [-126, -20, -1, 0, 1, 31, 127])
def test_power_of_two_from_the_shifted_float(dtype, width, exponent):
    out = np.empty(width, dtype)
    _power_of_two(np.full(width, exponent, dtype), out)
    assert (out == np.array(2.0**exponent, dtype)).all()


@pytest.mark.parametrize("value", [1.0, 1.5, 2.0, 0.7, 3e-38, 3e38, 1e-30])
def test_significand_and_exponent_of_a_float(dtype, width, value):
    out = np.empty(2 * width, dtype)
    _parts(np.full(width, value, dtype), out)
    m, e = np.frexp(np.full(width, value, dtype))
    assert_bitwise_equal(out, np.concatenate([2 * m, (e - 1).astype(dtype)]))


def test_vector_loads_refuse_integers():
    with pytest.raises((numba.TypingError, TypeError), match="float array"):
        _across(np.arange(64))


def test_lanes_of_is_the_same_in_python_and_in_a_kernel(dtype, width):
    a = np.zeros(1, dtype)
    assert v.lanes_of(a) == numba.njit(lambda a: v.lanes_of(a))(a) == width
