"""Wide numbers against exact arithmetic: parts of floats, shifts, and exponentials far below the smallest float."""

from decimal import Decimal, localcontext

import numba
import numpy as np
import pytest

from fastlstm.kernels import wide
from fastlstm.simd.vector import lanes_of, load, store
from tests.tolerances import assert_bitwise_equal

LANES = lanes_of(np.zeros(1))


@numba.njit
def _parts(a, out):
    for i in range(0, a.shape[0], lanes_of(a)):
        store(out, i, wide.significand_of(load(a, i)))
        store(out, i + a.shape[0], wide.exponent_of(load(a, i)))


@numba.njit
def _exp(a, out):
    for i in range(0, a.shape[0], lanes_of(a)):
        store(out, i, wide.exp_significand(load(a, i)))
        store(out, i + a.shape[0], wide.exp_exponent(load(a, i)))


@numba.njit
def _scaled(a, n, out):
    for i in range(0, a.shape[0], lanes_of(a)):
        store(out, i, wide.scaled(load(a, i), load(n, i)))


def both(function, values):
    """Return significands and exponents of any number of values."""
    values = np.asarray(values, np.float64)
    padded = np.resize(values, -(-len(values) // LANES) * LANES)
    out = np.empty(2 * len(padded))
    function(padded, out)
    return out[: len(values)], out[len(padded) :][: len(values)]


def test_significand_and_exponent_are_those_of_the_float(rng):
    values = [*np.exp(rng.uniform(-700, 700, 200)), 1.0, 2.0, np.nextafter(2.0, 0.0), np.finfo(float).tiny, 1.7e308]
    m, e = both(_parts, values)
    expected_m, expected_e = np.frexp(values)
    assert_bitwise_equal(m, 2 * expected_m)
    assert_bitwise_equal(e, expected_e - 1.0)


def test_zero_is_one_times_less_than_any_other_number():
    m, e = both(_parts, [0.0])
    assert (m[0], e[0]) == (1.0, -1023.0)


@pytest.mark.parametrize("n", [0, -1, -52, -1000, -1022, 1, 1000])
def test_shifts_are_exact(n, rng):
    m = rng.uniform(1, 2, LANES)
    out = np.empty(LANES)
    _scaled(m, np.full(LANES, float(n)), out)
    assert_bitwise_equal(out, np.ldexp(m, n))


@pytest.mark.parametrize("n", [-1023.0, -1024.0, -1e6, wide.NEVER, wide.ZERO, -1e300])
def test_what_is_shifted_too_far_is_zero(n):
    out = np.empty(LANES)
    _scaled(np.full(LANES, 1.9), np.full(LANES, n), out)
    assert_bitwise_equal(out, np.zeros(LANES))


def test_exponentials_keep_their_digits_however_small_they_are(rng):
    values = [0.0, -1e-12, -0.3, *-np.exp(rng.uniform(-3, 18, 100))]  # down to exp(-65 million)
    m, e = both(_exp, values)
    with localcontext() as context:
        context.prec, context.Emin = 50, -(10**9)
        for x, significand, exponent in zip(values, m, e, strict=True):
            exact = Decimal(float(x)).exp()
            ours = Decimal(float(significand)) * Decimal(2) ** int(exponent)
            error = abs(ours / exact - 1)
            assert error < Decimal(2) * Decimal(2.0**-52) + Decimal(abs(float(x))) * Decimal(2.0**-104)
            assert 0.7 < significand < 1.42


@pytest.mark.parametrize("x", [-np.inf, -1e300, -3e38])
def test_what_cannot_be_counts_as_never(x):
    m, e = both(_exp, [x])
    assert np.isfinite(m[0])
    assert wide.ZERO < e[0] < wide.NEVER
