"""Rows on several cores: activations of a dense layer, and what goes from ids to a table's rows and back."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.activations import sigmoid_rows, tanh_rows
from ..kernels.embedding import scatter_add
from ..kernels.softmax import softmax_rows
from ..runtime import config
from ..runtime.pool import parallel_for

__all__ = ["activate", "add_to_rows", "range_of", "through_activation"]


def activate(y: NDArray[Any], activation: str) -> None:
    """Overwrite rows `y` (M, F) with their sigmoid, tanh, relu or softmax; "linear" leaves them."""
    flat = y.reshape(-1)
    if activation == "sigmoid":
        parallel_for(sigmoid_rows, flat, count=flat.size, cost=0.4 * flat.size)
    elif activation == "tanh":
        parallel_for(tanh_rows, flat, count=flat.size, cost=0.4 * flat.size)
    elif activation == "relu":
        np.maximum(y, 0, out=y)
    elif activation == "softmax":
        parallel_for(softmax_rows, y, count=len(y), cost=0.6 * flat.size)


def through_activation(dy: NDArray[Any], y: NDArray[Any], activation: str) -> NDArray[Any]:
    """Return the gradient of rows before `activate`, given that of its values `y`; overwrites `dy`."""
    if activation == "sigmoid":
        dy *= y * (1 - y)
    elif activation == "tanh":
        dy *= 1 - y * y
    elif activation == "relu":
        dy *= y > 0
    elif activation == "softmax":
        dy -= (dy * y).sum(axis=1, keepdims=True)
        dy *= y
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
