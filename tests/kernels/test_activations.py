"""exp, tanh and sigmoid: the error bounds that the module states, saturation, NaN."""

import numba
import numpy as np
import pytest

from fastlstm.kernels import activations
from fastlstm.kernels.elementwise import values_loop
from fastlstm.simd.vector import lanes_of, load, store
from tests.tolerances import ULP, assert_bitwise_equal, ulps


@numba.njit
def _exp_rows(x, begin, end):
    for i in range(begin, end, lanes_of(x)):
        store(x, i, activations.vexp(load(x, i)))


KERNELS = {"exp": _exp_rows, "tanh": values_loop("tanh"), "sigmoid": values_loop("sigmoid")}
EXACT = {"exp": np.exp, "tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x))}
WIDER = {"float32": np.float64, "float64": np.longdouble}
NO_WIDER = np.finfo(np.longdouble).nmant <= 52  # where long double is double, the reference itself is off by one


def apply(name, x):
    """Return the function of every value of `x`, whose length is a multiple of all register widths."""
    y = x.copy()
    KERNELS[name](y, 0, len(y))
    return y


def floats_between(low, high, dtype):
    """Return finite values of `dtype` spread evenly over all *bit patterns*, so that every exponent has its share."""
    if dtype == "float32":
        x = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32)
    else:
        x = np.linspace(0, 2**64 - 2**12, 1 << 20).astype(np.uint64).view(np.float64)
    x = np.concatenate([x[(x >= low) & (x <= high)], np.linspace(low, high, 1 << 17).astype(dtype)])
    return x[: len(x) // 64 * 64]


# exp is exact to the bound between the clamps; sigmoid until exp(-x) is clamped; tanh everywhere
RANGES = {
    "exp": {"float32": (-87, 88), "float64": (-708, 709)},
    "tanh": {"float32": (-3e38, 3e38), "float64": (-8e307, 8e307)},
    "sigmoid": {"float32": (-87, 3e38), "float64": (-708, 1e308)},
}


@pytest.mark.parametrize("name", list(KERNELS))
def test_error_stays_within_the_stated_bound(name, dtype):
    x = floats_between(*RANGES[name][dtype], dtype)
    assert len(x) > 50_000
    with np.errstate(over="ignore", under="ignore"):
        exact = EXACT[name](x.astype(WIDER[dtype]))
        error = ulps(apply(name, x), exact)
    worst = int(error.argmax())
    bound = ULP[name] + (dtype == "float64" and NO_WIDER)
    assert error[worst] <= bound, f"{name}({x[worst]!r}): {float(error[worst]):.2f} ulp"


def test_tanh_keeps_every_digit_near_zero(dtype):
    x = np.geomspace(1e-30, 1e-3, 64).astype(dtype)
    error = ulps(apply("tanh", x), np.tanh(x.astype(WIDER[dtype])))
    assert error.max() <= 2


@pytest.mark.parametrize("name", list(KERNELS))
def test_nan_gives_nan_and_leaves_its_neighbours_alone(name, dtype):
    x = np.linspace(-2, 2, 64).astype(dtype)
    spoilt = x.copy()
    spoilt[5] = np.nan
    expected, got = apply(name, x), apply(name, spoilt)
    assert np.isnan(got[5])
    assert_bitwise_equal(np.delete(got, 5), np.delete(expected, 5))


def test_large_inputs_saturate(dtype):
    x = np.repeat(np.array([-np.inf, -1e30, -1000, 1000, 1e30, np.inf], dtype), 64)[::6].copy()
    assert (apply("tanh", x) == np.sign(x)).all()
    sigmoid = apply("sigmoid", x)
    assert (sigmoid[x > 0] == 1).all()
    assert (sigmoid[x < 0] >= 0).all()
    assert (sigmoid[x < 0] < np.finfo(dtype).tiny).all()


def test_exp_is_clamped_between_the_normal_numbers(dtype):
    y = apply("exp", np.repeat(np.array([-np.inf, -1e4, 1e4, np.inf], dtype), 16))
    assert np.isfinite(y).all()
    assert (y[:32] < 2 * np.exp(np.float64(RANGES["exp"][dtype][0]))).all()
    assert (y[32:] > 0.9 * np.exp(np.float64(RANGES["exp"][dtype][1]))).all()


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_any_part_of_an_array_is_done_and_nothing_else(name, dtype, rng):
    x = rng.standard_normal(128).astype(dtype)
    whole = apply(name, x)
    for begin, end in ((0, 1), (3, 3), (5, 70), (127, 128), (1, 128)):
        part = x.copy()
        KERNELS[name](part, begin, end)
        expected = x.copy()
        expected[begin:end] = whole[begin:end]
        assert_bitwise_equal(part, expected, what=f"{begin} to {end}")
