"""Numbers as callers pass them, alone or in arrays: taken where they mean what they say, else refused by name."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError, OptionError, ShapeError

__all__ = ["as_numbers", "real", "whole"]

_NAMES = "names become numbers with np.unique(names, return_inverse=True)"
_WHAT_TO_DO = {
    "U": _NAMES,
    "S": _NAMES,
    "T": _NAMES,
    "O": "convert it with astype, or pass arrays of different lengths as a list",
    "c": "pass the real and the imaginary part as two features",
}


def as_numbers(given: ArrayLike, what: str) -> NDArray[Any]:
    """Return what was passed as an array of real numbers, without a copy where it is one.

    Parameters
    ----------
    given : array
        Floats, integers or booleans, of any shape.
    what : str
        Named in errors: the call and the argument, ``"fit: y"``.

    Raises
    ------
    DataError
        None, text, objects, complex numbers or dates; or a masked array with something masked: a mask would be lost.
    ShapeError
        A nest of lists that is no array.

    Examples
    --------
    >>> as_numbers([[1, 2], [3, 4]], "fit: y").shape
    (2, 2)
    """
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise DataError(
            f"{what} is a masked array, {np.ma.getmaskarray(given).sum()} of its {given.size} values masked; masks are "
            "not looked at: fill it with .filled(value), or where the masked values are padding pass lengths="
        )
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise ShapeError(f"{what} is no array: {error}") from None
    if array.dtype.kind not in "fiub":
        hint = "it is None" if given is None else _WHAT_TO_DO.get(array.dtype.kind, "convert it with astype")
        raise DataError(f"{what} has dtype {array.dtype}; expected floats or integers: {hint}")
    return array


def whole(given: object, what: str, least: int = 1) -> int:
    """Return a whole number, Python's or NumPy's, as an int.

    Raises
    ------
    OptionError
        It is something else, a float or a bool for example, or less than `least`.

    Examples
    --------
    >>> whole(np.int64(5), "generate: length")
    5
    """
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < least:
        raise OptionError(f"{what} is {given!r}; expected a whole number, at least {least}")
    return int(given)


def real(given: object, what: str, least: float = -math.inf, most: float = math.inf) -> float:
    """Return a finite number, Python's or NumPy's, as a float.

    Raises
    ------
    OptionError
        It is something else, a bool for example, NaN, infinite, or outside `least` to `most`.

    Examples
    --------
    >>> real(np.float32(0.5), "ELU: alpha", 0.0)
    0.5
    """
    number = isinstance(given, int | float | np.integer | np.floating) and not isinstance(given, bool)
    if not number or not math.isfinite(given) or not least <= given <= most:  # type: ignore[arg-type, operator]
        bounds = (
            "" if least == -math.inf else f", at least {least:g}" if most == math.inf else f", {least:g} to {most:g}"
        )
        raise OptionError(f"{what} is {given!r}; expected a number{bounds}")
    return float(given)  # type: ignore[arg-type]
