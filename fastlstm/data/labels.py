"""Labels of sequences: targets that have lengths of their own, other than those of the sequences they belong to."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError, OptionError, ShapeError
from .numbers import as_numbers
from .packed import BatchLike, is_ragged

__all__ = ["Labels", "pack_labels"]

_PADDING = -1
"""What stands behind the labels of a padded array whose lengths are not given."""


class Labels(NamedTuple):
    """Targets that have lengths of their own: those of sequence n are ``values[starts[n]:starts[n + 1]]``.

    Attributes
    ----------
    values : ndarray of int64
        The labels of all sequences, one after the other, in the order of the output's `Packed`.
    starts : ndarray of int64, shape (N + 1,)
    numbers : ndarray of int64, shape (N,), or None
        What errors call each sequence: its number in what the user passed. None: its place in the user's batch.
    """

    values: NDArray[np.int64]
    starts: NDArray[np.int64]
    numbers: NDArray[np.int64] | None = None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of labels of each sequence: shape (N,)."""
        return np.diff(self.starts)


def pack_labels(
    y: BatchLike,
    order: NDArray[np.int64] | None,
    count: int,
    who: str,
    lengths: ArrayLike | None = None,
    numbers: NDArray[np.int64] | None = None,
) -> Labels:
    """Turn the labels that a user passed into those of a packed batch.

    Parameters
    ----------
    y : list of arrays, or array
        For each sequence ``(L_n,)`` whole numbers, possibly none; or one array ``(N, L)``, padded by -1 behind each
        sequence's labels, or by anything where `lengths` are given.
    order : ndarray of int64, shape (N,), or None
        That of the `Packed` batch that the labels go with: ``order[k]`` is the user's place of its k-th sequence.
    count : int
        N, its number of sequences.
    who : str
        Named in errors: the layer or call.
    lengths : array of int, shape (N,), optional
        Number of labels of each sequence; only with an array.
    numbers : ndarray of int64, shape (N,), optional
        What errors call each sequence of `y`; default: its place.

    Returns
    -------
    Labels
        In packed order. Whether a label is a class of the model is not looked at.

    Raises
    ------
    ShapeError
        Not one string of labels for each sequence, or lengths that do not fit.
    DataError
        Labels that are no whole numbers, are masked, or stand behind padding.
    OptionError
        Lengths beside a list.

    Examples
    --------
    >>> pack_labels([[3, 1], [], [2]], None, 3, "fit")
    Labels(values=array([3, 1, 2]), starts=array([0, 2, 2, 3]), numbers=None)
    >>> pack_labels(np.array([[3, 1], [-1, -1], [2, -1]]), np.array([2, 0, 1]), 3, "fit").values
    array([2, 3, 1])
    """
    strings = _strings(y, lengths, who, numbers)
    if len(strings) != count:
        raise ShapeError(f"{who}: {len(strings)} strings of labels for {count} sequences; expected one for each")
    if order is not None:
        strings = [strings[place] for place in order]
        numbers = None if numbers is None else numbers[order]
    starts = np.zeros(count + 1, np.int64)
    np.cumsum([len(string) for string in strings], out=starts[1:])
    values = np.concatenate(strings) if strings else np.zeros(0, np.int64)
    return Labels(values, starts, numbers)


def _strings(
    y: BatchLike, lengths: ArrayLike | None, who: str, numbers: NDArray[np.int64] | None
) -> list[NDArray[np.int64]]:
    """Return the labels of each sequence, in the user's order."""

    def name(n: int) -> str:
        return f"{who}: labels of sequence {n if numbers is None or n >= len(numbers) else numbers[n]}"

    if isinstance(y, list | tuple) and (is_ragged(y) or any(isinstance(item, np.ndarray) for item in y)):
        if lengths is not None:
            raise OptionError(f"{who}: lengths of labels go with one padded array; a list of arrays has its own")
        return [_whole(item, name(n)) for n, item in enumerate(y)]
    array = as_numbers(cast(ArrayLike, y), f"{who}: labels")
    if array.ndim != 2:
        raise ShapeError(
            f"{who}: labels have shape {array.shape}; expected (sequences, labels), padded by {_PADDING}, or a list "
            "with an array for each sequence"
        )
    ends = _ends(array, name) if lengths is None else _checked(lengths, array, who)
    return [_whole(row[:end], name(n)) for n, (row, end) in enumerate(zip(array, ends, strict=True))]


def _ends(array: NDArray[Any], name: Callable[[int], str]) -> NDArray[np.int64]:
    """Return where the padding of each row begins."""
    padding = array == _PADDING
    behind = np.logical_and.accumulate(padding[:, ::-1], axis=1).sum(axis=1)
    ends: NDArray[np.int64] = array.shape[1] - behind
    inside = np.flatnonzero(padding.sum(axis=1) > behind)
    if len(inside):
        raise DataError(
            f"{name(int(inside[0]))}: a label stands behind {_PADDING}, which is padding; expected it only at the end"
        )
    return ends


def _checked(lengths: ArrayLike, array: NDArray[Any], who: str) -> NDArray[np.int64]:
    """Return the lengths of the labels; raise for those that do not fit the array."""
    given = as_numbers(lengths, f"{who}: lengths of labels")
    if given.shape != array.shape[:1]:
        raise ShapeError(
            f"{who}: lengths of labels have shape {given.shape}; expected ({len(array)},), one for each sequence"
        )
    if given.dtype.kind not in "iu":
        raise DataError(f"{who}: lengths of labels have dtype {given.dtype}; expected integers")
    wrong = np.flatnonzero((given < 0) | (given > array.shape[1]))
    if len(wrong):
        raise DataError(
            f"{who}: sequence {wrong[0]} has {given[wrong[0]]} labels; expected 0 to {array.shape[1]}, the columns of "
            "the array"
        )
    return given.astype(np.int64)


def _whole(given: ArrayLike, what: str) -> NDArray[np.int64]:
    """Return one string of labels as int64."""
    labels = as_numbers(given, what)
    if labels.ndim != 1:
        raise ShapeError(f"{what} have shape {labels.shape}; expected (labels,)")
    if labels.dtype.kind == "f":
        wrong = ~(np.abs(labels) < 2.0**53)  # NaN is wrong, too
        wrong[~wrong] = labels[~wrong] != np.rint(labels[~wrong])
        if wrong.any():
            raise DataError(f"{what} hold {labels[wrong][0]}; expected whole numbers")
    return labels.astype(np.int64)
