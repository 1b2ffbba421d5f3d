"""What a loss or metric of the user's own is given, and how what it returns is checked: errors bear its name."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ContractError, ShapeError

__all__ = ["checked_gradient", "checked_losses", "read_only", "returned_array"]

Rows = NDArray[Any]


def read_only(array: Any) -> Any:
    """Return a view of an array that cannot be written to; anything else as it is."""
    if not isinstance(array, np.ndarray):
        return array
    view = array.view()
    view.flags.writeable = False
    return view


def checked_losses(owner: object, method: str, losses: Any, count: int, given: tuple[Rows, ...]) -> NDArray[np.float64]:
    """Return losses in float64; raise ContractError or ShapeError, by the class's name, unless they are (count,)."""
    what = f"{type(owner).__name__}.{method}"
    array = returned_array(what, losses, f"an array of {count} losses")
    if array.shape != (count,):
        raise ShapeError(
            f"{what} returned shape {array.shape}; expected ({count},), one loss for each "
            + ("row: take the mean or sum over axis=1" if method == "rows" else "sequence")
        )
    if array.dtype.kind not in "fiub":
        raise ContractError(f"{what} returned {array.dtype}; expected float64 or float32")
    array = np.asarray(array, np.float64)
    wrong = np.isnan(array)
    if wrong.any() and all(np.isfinite(one).all() for one in given):
        raise ContractError(
            f"{what} returned NaN at {int(wrong.argmax())}, though outputs and targets are finite: look for a "
            "logarithm or root of a negative number, or 0 / 0"
        )
    return array


def checked_gradient(owner: object, gradient: Any, shape: tuple[int, ...]) -> Rows:
    """Return a gradient; raise ContractError or ShapeError, by the class's name, unless it is floats of that shape."""
    what = f"{type(owner).__name__}.gradient_rows"
    array = returned_array(what, gradient, f"an array of shape {shape}")
    if array.shape != shape:
        raise ShapeError(
            f"{what} returned shape {array.shape}; expected {shape}, the derivative by each number of the output"
        )
    if array.dtype.kind != "f":
        raise ContractError(f"{what} returned {array.dtype}; expected float32 or float64")
    if np.isnan(array).any():
        row = int(np.isnan(array).any(axis=1).argmax())
        raise ContractError(f"{what} returned NaN in row {row}, though the loss is finite: look for 0 / 0 or 0 * inf")
    return array


def returned_array(what: str, returned: Any, expected: str) -> Rows:
    """Return an array; raise ContractError for None, or for what is no array of numbers."""
    if returned is None:
        raise ContractError(f"{what} returned None; expected {expected}: a return statement may be missing")
    try:
        return np.asarray(returned)
    except ValueError as error:
        raise ContractError(f"{what} returned {type(returned).__name__}; expected {expected}") from error
