"""Sums over a million steps against `math.fsum`, and what is infinite or no number."""

import math

import numpy as np
import pytest

import fastlstm as fl
from tests.tolerances import assert_bitwise_equal

STEPS = 1_000_000
FEATURES = {
    "near 0": lambda rng: rng.standard_normal(STEPS),
    "far from 0": lambda rng: 1e4 + rng.standard_normal(STEPS),
    "of many sizes": lambda rng: rng.standard_normal(STEPS) * 10.0 ** rng.integers(-6, 7, STEPS),
    "that nearly cancel": lambda rng: np.concatenate((half := 1e6 * rng.standard_normal(STEPS // 2), 1e-3 - half)),
}


def errors_in_ulps(actual, columns):
    """Return by how many units in the last place each mean differs from the mean of an exact sum."""
    exact = np.array([math.fsum(column) / len(column) for column in columns])
    unit = np.spacing(np.abs(exact).astype(actual.dtype)).astype(np.float64)
    return np.abs(actual.astype(np.float64) - exact) / unit


@pytest.fixture(scope="module", params=["float32", "float64"])
def columns(request):
    rng = np.random.default_rng(5)
    return np.stack([make(rng) for make in FEATURES.values()]).astype(request.param)


def test_means_of_a_million_steps_are_exact_to_an_ulp(columns):
    pool = fl.GlobalAveragePooling1D(dtype=columns.dtype)
    errors = errors_in_ulps(pool(np.ascontiguousarray(columns.T)[None])[0], columns)
    assert (errors <= 1).all(), dict(zip(FEATURES, errors, strict=True))
    plain = np.zeros(len(columns), columns.dtype)
    for start in range(0, STEPS, 1000):  # what sums in the layer's own type would be
        plain += np.cumsum(columns[:, start : start + 1000], axis=1, dtype=columns.dtype)[:, -1]
    assert (errors_in_ulps(plain / plain.dtype.type(STEPS), columns) > 4).any()


def test_windows_over_a_million_steps_are_exact_to_an_ulp(columns):
    for size in (STEPS, 250_000):
        pool = fl.AveragePooling1D(size, dtype=columns.dtype)
        y = pool(np.ascontiguousarray(columns.T)[None])[0]
        for window, row in enumerate(y):
            part = columns[:, window * size : (window + 1) * size]
            assert (errors_in_ulps(row, part) <= 1).all()


def test_a_sum_with_infinity_is_infinite_and_one_with_nan_is_nan(dtype):
    x = np.ones((1, 4, 4), dtype)
    x[0, 1] = [np.inf, -np.inf, np.nan, np.inf]
    x[0, 2, 3] = -np.inf
    with np.errstate(invalid="ignore"):
        for pool in (fl.GlobalAveragePooling1D(dtype=dtype), fl.AveragePooling1D(4, dtype=dtype)):
            assert_bitwise_equal(np.abs(pool(x).ravel()), np.array([np.inf, np.inf, np.nan, np.nan], dtype))


@pytest.mark.usefixtures("share_everything")
@pytest.mark.parametrize("kind", [fl.GlobalAveragePooling1D, fl.GlobalMaxPooling1D])
def test_columns_are_shared_without_a_change(kind, dtype, rng):
    x = [rng.standard_normal((length, 3)).astype(dtype) for length in (5, 9, 1, 7, 9)]
    results = []
    for threads in (1, 2, 3, 4):
        fl.set_num_threads(threads)
        results.append(kind(dtype=dtype)(x))
    for other in results[1:]:
        assert_bitwise_equal(other, results[0])
