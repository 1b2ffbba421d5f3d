"""Pooling over the steps of a batch on several cores: kernels of ``pooling`` given their scratch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.packed import Packed
from ..kernels import pooling
from ..runtime.pool import num_chunks, parallel_for
from ..runtime.workspace import temporary

__all__ = ["largest_of_steps", "largest_of_taps", "mean_of_steps", "spread_steps", "sum_of_largest", "sum_of_taps"]

Array = NDArray[Any]
Indices = NDArray[np.int64]

_NS_PER_VALUE = 0.2
"""Estimate, in ns: to add or compare one value."""

_FLOAT64 = np.dtype(np.float64)


def mean_of_steps(x: Packed, rows: Array) -> Array:
    """Return the mean of the rows of each sequence (N, F), in packed order."""
    count = x.sequences * rows.shape[1]
    with temporary(2 * count, _FLOAT64) as memory:
        sums, rests = memory[:count], memory[count : 2 * count]
        parallel_for(pooling.sum_of_steps, rows, x.offsets, sums, rests, count=count, cost=_NS_PER_VALUE * rows.size)
        mean = sums.reshape(x.sequences, -1) / x.lengths[:, None]
        return mean.astype(rows.dtype, copy=False)


def spread_steps(share: Array, x: Packed, dx: Array) -> Array:
    """Write row n of `share` (N, F) to all rows of the n-th longest sequence, and return them."""
    cost = 0.5 * _NS_PER_VALUE * dx.size
    parallel_for(pooling.spread_steps, share, x.offsets, dx, count=share.size, cost=cost)
    return dx


def largest_of_steps(x: Packed, rows: Array) -> tuple[Array, NDArray[np.int32]]:
    """Return the largest value of each sequence and feature (N, F), and the step it comes from."""
    shape = x.sequences, rows.shape[1]
    best, step = np.empty(shape, rows.dtype), np.empty(shape, np.int32)
    parallel_for(
        *(pooling.largest_of_steps, rows, x.offsets, best.reshape(-1), step.reshape(-1)),
        count=best.size,
        cost=_NS_PER_VALUE * rows.size,
    )
    return best, step


def sum_of_taps(x: Array, taps: Indices, out: Array, *, mean: bool) -> Array:
    """Write the sum or the mean of the rows of `x` (M, F) that the taps (K, R) see to `out` (R, F), and return it."""
    features = x.shape[1]
    _by_row(pooling.sum_of_taps, x, taps, mean, out, rows=len(out), values=taps.size * features, room=2 * features)
    return out


def largest_of_taps(x: Array, taps: Indices, out: Array, chosen: NDArray[np.int32]) -> Array:
    """Write the largest values that the taps (K, R) see to `out` (R, F), and by which tap; return `out`."""
    cost = _NS_PER_VALUE * taps.size * x.shape[1]
    parallel_for(pooling.largest_of_taps, x, taps, out, chosen, count=len(out), cost=cost)
    return out


def sum_of_largest(dy: Array, chosen: NDArray[np.int32], windows: Indices, dx: Array) -> Array:
    """Write the gradient of the input of `largest_of_taps` to `dx` (M, F), and return it.

    `windows` (K, M) are the windows that see each row by each tap, -1 for none.
    """
    features = dx.shape[1]
    _by_row(
        *(pooling.sum_of_largest, dy, chosen, windows, dx), rows=len(dx), values=windows.size * features, room=features
    )
    return dx


def _by_row(kernel: Any, *args: Any, rows: int, values: int, room: int) -> None:
    """Run a kernel over rows on several cores, each with so much float64 scratch."""
    cost = _NS_PER_VALUE * values
    parts = num_chunks(cost, rows)
    with temporary(parts * room, _FLOAT64) as memory:
        each = [memory[part * room : (part + 1) * room] for part in range(parts)]
        parallel_for(kernel, *args, count=rows, cost=cost, each=each)
