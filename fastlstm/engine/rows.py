"""Rows on several cores: their activations and the way back through them, and what goes from ids to a table's rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.elementwise import ELEMENTWISE, slopes_loop, values_loop
from ..kernels.embedding import scatter_add
from ..kernels.softmax import log_softmax_rows, log_softmax_rows_backward, softmax_rows, softmax_rows_backward
from ..runtime import config
from ..runtime.pool import parallel_for
from ..runtime.workspace import Frame

__all__ = [
    "ACTIVATION_NAMES",
    "activate",
    "activate_and_keep",
    "add_to_rows",
    "needs_input",
    "range_of",
    "through_activation",
]

_WHOLE_ROWS = {
    "softmax": (softmax_rows, softmax_rows_backward),
    "log_softmax": (log_softmax_rows, log_softmax_rows_backward),
}
"""Activations in which every value of a row depends on all: forward, and backward from the output."""

_NS_PER_VALUE = 0.6
"""What either of them takes for a value, about."""

_ALIASES = {"swish": "silu", "hard_swish": "hard_silu"}

ACTIVATION_NAMES = (*ELEMENTWISE, *_WHOLE_ROWS, *_ALIASES)
"""The activations that rows may have, by Keras's names."""


def needs_input(activation: str) -> bool:
    """Tell whether the way back through an activation needs the values before it, rather than those after."""
    name = _ALIASES.get(activation, activation)
    return name in ELEMENTWISE and ELEMENTWISE[name].of_input


def activate(y: NDArray[Any], activation: str) -> None:
    """Overwrite contiguous rows `y` (M, F) with their activation, one of `ACTIVATION_NAMES`."""
    name = _ALIASES.get(activation, activation)
    if name in _WHOLE_ROWS:
        parallel_for(_WHOLE_ROWS[name][0], y, count=len(y), cost=_NS_PER_VALUE * y.size)
    elif name != "linear":
        flat = y.reshape(-1)
        parallel_for(values_loop(name), flat, count=flat.size, cost=ELEMENTWISE[name].cost * flat.size)


def activate_and_keep(y: NDArray[Any], activation: str, frame: Frame) -> NDArray[Any]:
    """As `activate`; return what `through_activation` needs: `y`, or in the frame a copy of the values before."""
    kept = y
    if needs_input(activation):
        kept = frame.take("before activation", y.shape, y.dtype)
        np.copyto(kept, y)
    activate(y, activation)
    return kept


def through_activation(dy: NDArray[Any], kept: NDArray[Any], activation: str) -> NDArray[Any]:
    """Return the gradient of what rows were before an activation, given that of what they are after it.

    Parameters
    ----------
    dy : ndarray, shape (M, F)
        May be overwritten.
    kept : ndarray, shape (M, F)
        Contiguous, of the same type: the rows after the activation; before it where `needs_input` says so.
    activation : str
        One of `ACTIVATION_NAMES`.
    """
    name = _ALIASES.get(activation, activation)
    if name == "linear":
        return dy
    dy = np.ascontiguousarray(dy)
    if name in _WHOLE_ROWS:
        parallel_for(_WHOLE_ROWS[name][1], dy, kept, count=len(dy), cost=_NS_PER_VALUE * dy.size)
    else:
        flat, of = dy.reshape(-1), kept.reshape(-1)
        parallel_for(slopes_loop(name), flat, of, count=flat.size, cost=ELEMENTWISE[name].cost * flat.size)
    return dy


def add_to_rows(dy: NDArray[Any], ids: NDArray[np.int64], table: NDArray[Any]) -> NDArray[Any]:
    """Write to `table` (V, F) the sum of the rows of `dy` (M, F) at each id, and return it."""
    table[...] = 0.0
    parallel_for(scatter_add, dy, ids, table, count=table.shape[1], cost=0.5 * dy.size)
    return table


def range_of(ids: NDArray[Any]) -> tuple[Any, Any]:
    """Return the lowest and the highest of the ids, 0 and 0 for none."""
    few = ids.tolist() if 0 < ids.size <= config.TUNED.few_ids else None  # NumPy takes longer to begin
    return (min(few), max(few)) if few else (ids.min(initial=0), ids.max(initial=0))
