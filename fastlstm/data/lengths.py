"""Lengths of sequences: checked, sorted, and how many sequences are alive at each step."""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError, ShapeError
from .numbers import as_numbers

__all__ = ["longest_first", "same_length", "take_lengths"]

_SHORT = 4096
"""Steps up to which batch sizes are kept for the next batch."""


def same_length(steps: int, count: int) -> NDArray[np.int64]:
    """Return the batch sizes of a dense batch; they are shared, and must not be written to."""
    return _same_length(steps, count) if steps <= _SHORT else np.full(steps, count, np.int64)


@lru_cache(maxsize=256)
def _same_length(steps: int, count: int) -> NDArray[np.int64]:
    return np.full(steps, count, np.int64)


def take_lengths(lengths: ArrayLike, count: int, steps: int, who: str) -> NDArray[np.int64]:
    """Return the `lengths` that a user passed for an array (N, T, ...); raise for those that do not fit it."""
    true = as_numbers(lengths, f"{who}: lengths")
    if true.shape != (count,):
        raise ShapeError(f"{who}: lengths has shape {true.shape}; expected ({count},), one for each sequence")
    if true.dtype.kind not in "iu":
        raise DataError(f"{who}: lengths has dtype {true.dtype}; expected integers")
    wrong = np.flatnonzero((true < 1) | (true > steps))
    if len(wrong):
        raise DataError(f"{who}: lengths[{wrong[0]}] is {true[wrong[0]]}; expected 1 to {steps}, the steps of x")
    return true.astype(np.int64)


def longest_first(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
    """Return the stable order from longest to shortest (None if it is so already) and the batch sizes."""
    order = np.argsort(-lengths, kind="stable")
    longest = int(lengths.max())
    batch_sizes = len(lengths) - np.searchsorted(np.sort(lengths), np.arange(longest), side="right")
    return (None if (order == np.arange(len(order))).all() else order), batch_sizes.astype(np.int64)
