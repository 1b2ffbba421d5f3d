"""Derivatives by central differences, in float64, and how exact ones are held against them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GradientError

__all__ = ["STENCIL", "assert_close", "derivative"]

_STEP = 1e-4
"""How far a number is moved: rounding and the error of the formula, of order ``_STEP ** 4``, are both small."""

_CLOSER = 1 / 32
"""Share of `_STEP` that is tried where the first does not agree: it may have crossed a kink, such as that of a relu."""

STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))
"""Places, in steps, and their weights: the error is of order ``step ** 4``."""

_MOST = 300
"""Numbers of an array that are moved; of larger ones so many are drawn."""

_FLOOR = 1e-3
"""A gradient that is smaller than this share of the largest of all arrays is measured in units of that share."""


def derivative(value: Callable[[], float], array: NDArray[Any], index: Any, step: float = _STEP) -> float:
    """Return the derivative of ``value()``, which reads `array`, with respect to ``array[index]``."""
    kept, total = array[index], 0.0
    for place, weight in STENCIL:
        array[index] = kept + place * step
        total += weight * value() / step
    array[index] = kept
    return total


def assert_close(
    value: Callable[[], float],
    arrays: dict[str, NDArray[Any]],
    gradients: dict[str, NDArray[Any]],
    who: str,
    where: Callable[[str, tuple[int, ...]], str],
    rng: np.random.Generator,
    tolerance: float,
) -> float:
    """Return the largest relative difference between `gradients` and the derivatives of ``value()``.

    Parameters
    ----------
    value : callable
        Returns a float that depends on `arrays`.
    arrays, gradients : dict of str to array
        Alike in names and shapes, float64; arrays are moved, and put back.
    who : str
        Named in errors.
    where : callable
        Returns words for a place in an array, given its name and an index.
    rng : numpy.random.Generator
        Draws the places of large arrays.
    tolerance : float
        Largest relative difference, in units of the largest derivative of an array.

    Raises
    ------
    GradientError
        A gradient differs by more.
    """
    largest = max((float(np.abs(gradient).max(initial=0.0)) for gradient in gradients.values()), default=0.0)
    worst = 0.0
    for name, array in arrays.items():
        places = [*np.ndindex(array.shape)]
        if len(places) > _MOST:
            places = [places[k] for k in rng.choice(len(places), _MOST, replace=False)]
        numeric = np.array([derivative(value, array, place) for place in places])
        scale = max(float(np.abs(numeric).max(initial=0.0)), _FLOOR * largest, np.finfo(np.float64).tiny)
        for place, number in zip(places, numeric, strict=True):
            exact = float(gradients[name][place])
            difference = abs(exact - number) / scale
            if not difference <= tolerance:
                closer = derivative(value, array, place, _STEP * _CLOSER)
                difference = abs(exact - closer) / scale
                if not difference <= tolerance:
                    raise GradientError(
                        f"{who}: the gradient of {where(name, place)} is {exact:.8g}, central differences give "
                        f"{number:.8g}: a relative difference of {difference:.2g}, tolerance {tolerance:g}"
                    )
            worst = max(worst, float(difference))
    return worst
