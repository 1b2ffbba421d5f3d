"""The model as a search sees it: a step function whose results are checked, and states picked by row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastlstm.decode.masks import refuse_masked
from fastlstm.errors import DataError, OptionError, ShapeError

StepFunction: TypeAlias = Callable[[NDArray[np.int64], Any], tuple[Any, ...]]


def start_tokens(caller: str, start: Any) -> tuple[NDArray[np.int64], bool]:
    """``start`` as (N,) int64, and whether it was a single id."""
    refuse_masked(start, f"{caller}: start")
    ids = np.asarray(start)
    if ids.size == 0:
        raise ShapeError(f"{caller}: start is empty; give the start id of at least one sequence")
    if ids.dtype.kind not in "iu":
        raise OptionError(f"{caller}: start has dtype {ids.dtype}; give integer ids")
    if ids.ndim > 1:
        raise ShapeError(f"{caller}: start has shape {ids.shape}; give one id, or one for each sequence (N,)")
    return ids.reshape(-1).astype(np.int64), ids.ndim == 0


_FLOATS = np.dtype(np.float32), np.dtype(np.float64)


def float_matrix(caller: str, name: str, array: Any, rows: int, columns: int | None) -> NDArray[Any]:
    """``array`` as an aligned C-contiguous native float32 or float64 (rows, columns), converted if it must be."""
    if type(array) is np.ndarray and array.ndim == 2 and array.dtype in _FLOATS and array.flags.c_contiguous:
        shape = rows, columns or array.shape[1]
        if array.shape == shape and shape[1] and array.flags.aligned:
            return array  # what follows takes 6 us, with the GIL
    refuse_masked(array, f"{caller}: the step function's {name}")
    matrix = np.asarray(array)
    if matrix.ndim != 2 or matrix.shape[0] != rows or matrix.shape[1] != (columns or matrix.shape[1]):
        wanted = f"({rows}, {columns or 'V'})"
        raise ShapeError(f"{caller}: the step function returned {name} of shape {matrix.shape}, expected {wanted}")
    if matrix.shape[1] == 0:
        raise ShapeError(f"{caller}: the step function returned {name} with no columns")
    if matrix.dtype.kind not in "fiub":
        raise DataError(f"{caller}: the step function returned {name} of dtype {matrix.dtype}; return real numbers")
    single = matrix.dtype.kind == "f" and matrix.dtype.itemsize <= 4
    with np.errstate(over="ignore"):  # a long double past the range becomes infinite and is judged as that
        return np.require(matrix, np.float32 if single else np.float64, ["C", "A"])


def log_probabilities(caller: str, logits: Any, rows: int, vocab: int | None, normalized: bool) -> NDArray[np.float64]:
    """Log-softmax of checked logits (rows, V) in float64; as they are if ``normalized``. A row of -inf stays so."""
    x: NDArray[np.float64] = float_matrix(caller, "logits", logits, rows, vocab).astype(np.float64)
    top = x.max(axis=1, keepdims=True)
    for name, bad in (("NaN logits", np.isnan(top)), ("a logit of +inf", np.isposinf(top))):
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(f"{caller}: row {row} of the step function's logits has {name}; return finite ones or -inf")
    if normalized:
        if (top > 1e-3).any():
            raise DataError(
                f"{caller}: log-probabilities above 0 though normalized=True; leave it False for raw logits"
            )
        return x
    top[np.isneginf(top)] = 0.0
    with np.errstate(divide="ignore"):
        total = np.log(np.exp(x - top).sum(axis=1, keepdims=True))
    total[np.isneginf(total)] = 0.0
    x -= top + total
    return x


def call_step(
    caller: str, step: StepFunction, tokens: NDArray[np.int64], state: Any, more: str = ""
) -> tuple[Any, ...]:
    """Call the step function; ``more`` names the third value that it must return."""
    result = step(tokens, state)
    wanted = f"(logits, state, {more})" if more else "(logits, state)"
    if not isinstance(result, tuple | list) or len(result) < (3 if more else 2):
        given = f"{len(result)} values" if isinstance(result, tuple | list) else f"a {type(result).__name__}"
        raise ShapeError(f"{caller}: the step function returned {given}; return {wanted}")
    return tuple(result)


def pick_rows(caller: str, state: Any, parents: NDArray[np.int64], rows: int, axis: int) -> Any:
    """Rows ``parents`` of every array in a state of nested tuples, named tuples, lists and dicts.

    Numbers, strings and None are passed on as they are. The result shares no memory with ``state``.
    """
    if isinstance(state, np.ndarray):
        if not -state.ndim <= axis < state.ndim or state.shape[axis] != rows:
            raise ShapeError(
                f"{caller}: a state array has shape {state.shape}, expected {rows} along axis {axis}, one for each "
                "live beam; say which axis by state_axis=, or give reorder="
            )
        return state.take(parents, axis)
    if isinstance(state, tuple):
        items = [pick_rows(caller, item, parents, rows, axis) for item in state]
        return type(state)(*items) if hasattr(state, "_fields") else tuple(items)
    if isinstance(state, list):
        return [pick_rows(caller, item, parents, rows, axis) for item in state]
    if isinstance(state, dict):
        return {key: pick_rows(caller, item, parents, rows, axis) for key, item in state.items()}
    if state is None or isinstance(state, int | float | complex | str | bytes | np.generic):
        return state
    raise OptionError(
        f"{caller}: the state holds a {type(state).__name__}; make it of tuples, lists and dicts of NumPy arrays, or "
        "give reorder=, a function (state, parents) -> state"
    )
