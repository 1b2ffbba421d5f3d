"""Read what callers of the CTC functions pass: one matrix, a padded batch or a list; and share it over cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastlstm.decode.masks import refuse_masked
from fastlstm.errors import DataError, OptionError, ShapeError
from fastlstm.threads import get_num_threads

TOLERATED = 1e-3
"""How far above 0 a log-probability may lie before it is taken for a mistake; as in ``src_cython/ctc/search.pxd``."""

SERIAL_BELOW = 200_000
"""Numbers in a batch below which threads cost more than they bring."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def as_matrix(log_probs: ArrayLike, owner: str) -> NDArray[Any]:
    """Return ``log_probs`` as a C-contiguous native float32 or float64 (T, V); copies only where it must.

    Raises
    ------
    ShapeError
        If it is not two-dimensional with V >= 1.
    DataError
        If it does not hold real floating-point numbers, or masked ones.
    """
    refuse_masked(log_probs, f"{owner}: log_probs")
    try:
        array = np.asarray(log_probs)
    except ValueError as error:
        raise ShapeError(f"{owner}: log_probs is no array ({error}); give (T, V)") from error
    if array.dtype.kind != "f":
        raise DataError(f"{owner}: log_probs has dtype {array.dtype}; give floating-point log-probabilities")
    if array.ndim != 2 or array.shape[1] < 1:
        raise ShapeError(f"{owner}: log_probs has shape {array.shape}; give (T, V) with V >= 1 labels")
    wanted = np.float32 if array.dtype.itemsize <= 4 else np.float64
    return np.ascontiguousarray(array, dtype=wanted)


def as_sequences(
    log_probs: ArrayLike | Sequence[ArrayLike], lengths: ArrayLike | None, owner: str
) -> tuple[list[NDArray[Any]], bool]:
    """Return the (T, V) matrices in ``log_probs``, and whether it was a batch.

    Raises
    ------
    ShapeError
        If the rank is neither 2 nor 3, ``lengths`` does not fit, or matrices differ in V.
    OptionError
        If ``lengths`` comes with something that is not padded.
    DataError
        If it does not hold real floating-point numbers, or masked ones.
    """
    ragged = isinstance(log_probs, (list, tuple)) and (
        not log_probs or any(getattr(item, "ndim", 0) == 2 for item in log_probs)
    )
    if ragged:
        if lengths is not None:
            raise OptionError(f"{owner}: lengths are for a padded (N, T, V) array; a list's items have their own")
        matrices = [as_matrix(item, owner) for item in log_probs]  # type: ignore[union-attr]
        widths = {matrix.shape[1] for matrix in matrices}
        if len(widths) > 1:
            raise ShapeError(f"{owner}: sequences have {sorted(widths)} labels; all must have the same V")
        return matrices, True
    refuse_masked(log_probs, f"{owner}: log_probs")
    try:
        array = np.asarray(log_probs)
    except ValueError as error:
        raise ShapeError(f"{owner}: log_probs is no array ({error}); give (T, V) or a list of such") from error
    if array.ndim != 3:
        if lengths is not None:
            raise OptionError(f"{owner}: lengths are for a padded (N, T, V) array; log_probs has shape {array.shape}")
        return [as_matrix(array, owner)], False
    count, frames = array.shape[:2]
    if lengths is None:
        return [as_matrix(item, owner) for item in array], True
    refuse_masked(lengths, f"{owner}: lengths")
    ends = np.asarray(lengths)
    if ends.shape != (count,):
        raise ShapeError(f"{owner}: lengths has shape {ends.shape}; give one length for each of {count} sequences")
    if ends.dtype.kind not in "iu" or (count and (ends.min() < 0 or ends.max() > frames)):
        raise OptionError(f"{owner}: lengths must be integers from 0 to T={frames}")
    return [as_matrix(item[:end], owner) for item, end in zip(array, ends.tolist(), strict=True)], True


def check_values(matrix: NDArray[Any], owner: str) -> None:
    """Raise DataError at the first value that is no log-probability."""
    bad = ~(matrix <= TOLERATED)
    if bad.any():
        frame, label = (int(i) for i in np.argwhere(bad)[0])
        raise bad_value(owner, frame, label, float(matrix[frame, label]))


def bad_value(owner: str, frame: int, label: int, value: float) -> DataError:
    """Return the error for a value that is no log-probability."""
    hint = "apply log_softmax first" if value > 0.0 and np.isfinite(value) else "mend the model's output"
    return DataError(f"{owner}: frame {frame}, label {label} is {value}; expected a log-probability (<= 0); {hint}")


def check_int(owner: str, name: str, value: object, least: int, most: int) -> int:
    """Return ``value`` as an int from ``least`` to ``most``; raise OptionError otherwise."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
        raise OptionError(f"{owner}: {name} is {value!r}; give an integer from {least} to {most}")
    return int(value)


def map_sequences(
    work: Callable[[_Item], _Result], items: list[_Item], workers: int | None, owner: str, size: int
) -> list[_Result]:
    """Return ``work`` of each item, in order; on several threads where that pays for ``size`` numbers.

    There are ``workers`` threads, by default as many as ``set_num_threads`` allows. They live for one call only, so
    that nothing of ours stands in the way of a later ``fork``. An error names its sequence.
    """

    def named(place: int) -> _Result:
        try:
            return work(items[place])
        except DataError as error:
            raise DataError(f"sequence {place}: {error}") from error

    threads = get_num_threads() if workers is None else check_int(owner, "workers", workers, 1, 4096)
    threads = min(threads, len(items))
    if threads <= 1 or (workers is None and size < SERIAL_BELOW):
        return [named(place) for place in range(len(items))]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(named, range(len(items))))
