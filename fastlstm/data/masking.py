"""Masks of padded arrays, turned into lengths at the door: inside there are none.

Padding may stand after the true steps of a sequence, before them (as ``pad_sequences`` of Keras puts it), or both: with
`rolled` the true steps come first, and what is computed for them can go back to where they were. A masked step between
true ones, a hole, is refused: a recurrent layer would have to leap over it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, ShapeError

__all__ = ["lengths_of_mask", "rolled"]


def lengths_of_mask(mask: NDArray[np.bool_], who: str) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Return how many true steps each sequence has, and how many masked ones stand before them.

    Parameters
    ----------
    mask : ndarray of bool, shape (N, T)
        Whether each step is a true one.
    who : str
        Named in errors: the layer or call.

    Returns
    -------
    lengths : ndarray of int64, shape (N,)
    shifts : ndarray of int64, shape (N,), or None
        For `rolled`; None where every sequence begins with a true step.

    Raises
    ------
    ShapeError
        The mask has another rank.
    DataError
        All steps of a sequence are masked, or one between true ones is.

    Examples
    --------
    >>> lengths_of_mask(np.array([[True, True, False], [False, False, True]]), "Masking")
    (array([2, 1]), array([0, 2]))
    """
    if mask.ndim != 2:
        raise ShapeError(f"{who}: the mask has shape {mask.shape}; expected (N, T), one value for each step")
    lengths = mask.sum(axis=1, dtype=np.int64)
    empty = np.flatnonzero(lengths == 0)
    if len(empty):
        raise DataError(
            f"{who}: sequence {empty[0]}: all {mask.shape[1]} steps are masked; leave it out, every sequence needs at "
            "least one true step"
        )
    shifts = mask.argmax(axis=1)
    steps = np.arange(mask.shape[1])
    hole = ~mask & (steps >= shifts[:, None]) & (steps < (shifts + lengths)[:, None])
    if hole.any():
        sequence, step = np.argwhere(hole)[0]
        raise DataError(
            f"{who}: sequence {sequence} has a hole: step {step} is masked, and true steps come before and after it; "
            "padding may stand before or after a sequence, not within: take those steps out, or give them another value"
        )
    return lengths, shifts if shifts.any() else None


def rolled(x: NDArray[Any], shifts: NDArray[np.int64] | None) -> NDArray[Any]:
    """Return each sequence rolled to the front by its own number of steps; what was in front comes last.

    Parameters
    ----------
    x : ndarray, shape (N, T, ...)
    shifts : ndarray of int64, shape (N,), or None
        As `lengths_of_mask` returns them; ``-shifts`` takes what was computed back to where the steps were. None: as
        they are.

    Examples
    --------
    >>> x = np.array([[5, 6, 0], [0, 0, 7]])
    >>> rolled(x, np.array([0, 2]))
    array([[5, 6, 0],
           [7, 0, 0]])
    >>> rolled(rolled(x, np.array([0, 2])), np.array([0, -2]))
    array([[5, 6, 0],
           [0, 0, 7]])
    """
    if shifts is None:
        return x
    steps = (np.arange(x.shape[1]) + shifts[:, None]) % x.shape[1]
    moved: NDArray[Any] = x[np.arange(len(x))[:, None], steps]
    return moved
