"""How close is close: the one place with bounds, and the two ways to compare."""

import numpy as np

OUTPUT = {"float32": 1e-5, "float64": 1e-10}
"""Largest difference of outputs and states, whose values are of order 1."""

GRADIENT = {"float32": 1e-4, "float64": 1e-10}
"""Largest difference of a gradient array, in units of its largest magnitude."""

NUMERIC = 1e-7
"""Between an exact gradient and one by central differences, float64, in units of the largest magnitude."""

ULP = {"exp": 2, "tanh": 4, "sigmoid": 4}
"""Error bounds that the docstring of ``kernels/activations.py`` states, in units in the last place."""


def assert_outputs_close(actual, expected, *, what="output", bound=None):
    """Every value is within the bound of its type, in absolute terms; NaN is never close."""
    difference, _ = _difference(actual, expected, what)
    bound = OUTPUT[str(actual.dtype)] if bound is None else bound
    assert difference <= bound, f"{what}: differs by {difference:.3g}, bound {bound:.3g}"


def assert_gradients_close(actual, expected, *, what="gradient", bound=None):
    """Every value is within the bound of its type times the largest magnitude of the array; NaN is never close."""
    difference, scale = _difference(actual, expected, what)
    bound = GRADIENT[str(actual.dtype)] if bound is None else bound
    assert difference <= bound * scale, f"{what}: differs by {difference / scale:.3g} of its scale, bound {bound:.3g}"


def assert_bitwise_equal(actual, expected, *, what="result"):
    """Both arrays hold the same bits: a 0 is no -0, and a NaN equals itself."""
    actual, expected = np.ascontiguousarray(actual), np.ascontiguousarray(expected)
    assert actual.dtype == expected.dtype, f"{what}: {actual.dtype} against {expected.dtype}"
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape} against {expected.shape}"
    same = actual.reshape(-1).view(np.uint8) == expected.reshape(-1).view(np.uint8)
    assert same.all(), f"{what}: {(~same.reshape(actual.size, -1).all(axis=1)).sum()} of {actual.size} values differ"


def ulps(actual, exact):
    """Return the distance of `actual` (float32 or float64) from `exact` (a wider type) in units in its last place."""
    unit = np.spacing(np.abs(exact).astype(actual.dtype)).astype(exact.dtype)
    return np.abs(actual.astype(exact.dtype) - exact) / unit


def _difference(actual, expected, what):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    difference = np.abs(actual.astype(np.float64) - expected.astype(np.float64)).max(initial=0.0)
    assert not np.isnan(difference), f"{what}: NaN"
    return difference, max(np.abs(expected).max(initial=0.0), np.finfo(np.float64).tiny)
