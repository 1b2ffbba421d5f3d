"""Gradients by central differences, to hold exact ones against: float64 only.

`assert_gradients` moves every element of every array: for tiny shapes. `assert_projected_gradients` moves all arrays at
once along random directions: a dozen calls of the loss whatever the shapes, and still any wrong element shows.
"""

import numpy as np

from fastlstm.testing.numeric import STENCIL, derivative
from tests.tolerances import NUMERIC

_STEP = 1e-3


def numeric_gradient(loss, array):
    """Return the derivative of ``loss()`` with respect to each element of `array`, which `loss` reads."""
    _must_be_double(array)
    gradient = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        gradient[index] = derivative(loss, array, index, _STEP)
    return gradient


def assert_gradients(loss, arrays, gradients):
    """Each of `gradients` is the derivative of ``loss()`` by every element of the array of the same name."""
    assert arrays.keys() == gradients.keys(), f"arrays {sorted(arrays)}, gradients {sorted(gradients)}"
    for name, array in arrays.items():
        exact, numeric = gradients[name], numeric_gradient(loss, array)
        assert exact.shape == array.shape, f"{name}: gradient has shape {exact.shape}, array {array.shape}"
        difference = np.abs(exact - numeric).max() / max(1.0, np.abs(numeric).max())
        assert difference < NUMERIC, f"{name}: exact and numeric gradient differ by {difference:.3g}"


def assert_projected_gradients(loss, arrays, gradients, rng, directions=3):
    """The same along random directions in the space of all arrays together."""
    assert arrays.keys() == gradients.keys(), f"arrays {sorted(arrays)}, gradients {sorted(gradients)}"
    kept = {name: array.copy() for name, array in arrays.items()}
    for array in arrays.values():
        _must_be_double(array)
    for _ in range(directions):
        way = {name: rng.standard_normal(array.shape) for name, array in arrays.items()}
        length = np.sqrt(sum((d**2).sum() for d in way.values()))
        way = {name: d / length for name, d in way.items()}
        exact = sum((gradients[name] * d).sum() for name, d in way.items())
        numeric = 0.0
        for place, weight in STENCIL:
            for name, array in arrays.items():
                array[...] = kept[name] + place * _STEP * way[name]
            numeric += weight * loss() / _STEP
        for name, array in arrays.items():
            array[...] = kept[name]
        norm = np.sqrt(sum((gradients[name] ** 2).sum() for name in arrays))
        scale = max(1.0, norm / np.sqrt(sum(array.size for array in arrays.values())))  # of one projection
        assert abs(exact - numeric) / scale < NUMERIC, f"projected gradient {exact!r}, numeric {numeric!r}"


def _must_be_double(array):
    assert array.dtype == np.float64, f"numeric gradients need float64, not {array.dtype}"
