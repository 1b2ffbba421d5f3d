"""Convolutions over the steps of a batch, and their gradients: products of the rows that taps see.

With the kernel's taps as matrices ``W_k`` (filters, F)::

    1  y[r]     = b + sum over k of W_k x[taps[k, r]]
    2  dW_k     = sum over r of dz[r] x[taps[k, r]]^T             db = sum over r of dz[r]
    3  dx[m]    = sum over k of W_k^T dz[windows[k, m]]

``windows`` is ``taps`` read the other way: each row of the input gathers from the windows that see it, so that cores
never write to one row, and a sum has the same order for any number of them. Two ways lead to equation 3. Where every
window sees the next step too and the features fill registers, rows of dz are gathered, then multiplied, as in equation
1. Else every row of dz is multiplied by all taps at once, and the products are gathered: no row is multiplied by a tap
that does not see it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.packed import Packed
from ..kernels.conv import gather_ring, gather_taps, product_of_taps, sum_of_windows
from ..runtime import config
from ..runtime.pool import num_chunks, parallel_for
from ..runtime.workspace import Frame, Workspace, temporary
from .products import gradient_of_weight, padded_bias, panels_of, panels_size, rows_of, times
from .sliding import SlidingWindow, Taps, reads_of

__all__ = ["RowRing", "convolve", "gradient_of_input", "gradient_of_kernel", "kernel_panels"]

Array = NDArray[Any]
Indices = NDArray[np.int64]

_FEWEST_ROWS = 24
"""Windows that are gathered at once at least: a few tiles' rows."""

_NS_PER_VALUE = 0.1
"""Estimate, in ns: to gather one value."""


def kernel_panels(weight: Array) -> Array:
    """Return the weight (filters, F, K) packed for `convolve`."""
    rows = np.ascontiguousarray(weight.transpose(0, 2, 1)).reshape(len(weight), -1)
    return panels_of(rows.T)


def convolve(x: Array, taps: Indices, panels: Array, bias: Array, out: Array) -> Array:
    """Write equation 1 to `out` (R, filters) and return it.

    `taps` (K, R) are rows of `x` (M, F), -1 for zeros; `panels` and `bias` are padded to whole panels.
    """
    size, count = taps.shape
    k = size * x.shape[1]
    cost = (2 * config.TUNED.ns_per_flop * out.shape[1] + _NS_PER_VALUE) * count * k
    parts = num_chunks(cost, count)
    block = min(max(_FEWEST_ROWS, config.TUNED.left_block[0] // k), -(-count // parts))
    with temporary(parts * block * k, out.dtype) as memory:
        each = [memory[part * block * k : (part + 1) * block * k] for part in range(parts)]
        parallel_for(product_of_taps, x, taps, panels, bias, out, count=count, cost=cost, each=each)
    return out


def gradient_of_kernel(
    dz: Array, x: Array, taps: Indices, frame: Frame, workspace: Workspace, *, bias: bool
) -> tuple[Array, Array]:
    """Return equation 2: the gradient of the weight (filters, F, K) and, with `bias`, of the bias (filters,).

    They lie in the frame.
    """
    (count, filters), features, size = dz.shape, x.shape[1], len(taps)
    k, dtype = size * features, dz.dtype
    block = min(count, max(config.TUNED.window_values // k, config.TUNED.row_block))
    columns = workspace.shared("columns", (block, k), dtype)
    product = sums = dz[:0]
    for first in range(0, count, block):
        rows = min(block, count - first)
        parallel_for(gather_taps, x, taps, first, columns, count=rows, cost=_NS_PER_VALUE * rows * k)
        some = rows_of(dz[first : first + rows])
        product, sums = gradient_of_weight(
            *(some, rows_of(columns), rows, frame, workspace, "taps"), sums=bias, add=first > 0
        )
    gradient = frame.take("weight", (filters, features, size), dtype)
    gradient[...] = product.reshape(filters, size, features).swapaxes(1, 2)
    return gradient, sums


def gradient_of_input(dz: Array, weight: Array, x: Packed, taps: Taps, window: SlidingWindow, frame: Frame) -> Array:
    """Return equation 3: the gradient of the rows of `x`, in the frame."""
    filters, features, size = weight.shape
    dtype = dz.dtype
    dx = frame.take("dx", (x.total, features), dtype)
    windows = reads_of(taps, x.total, frame.take)
    gathers = window.stride == 1 and features > config.TUNED.narrow_features
    # W_0 to W_K-1, one below the other, or beside each other
    shape = (size * filters, features) if gathers else (filters, size * features)
    turned = frame.take("turned", shape, dtype)
    turned.reshape((size, filters, features) if gathers else (filters, size, features))[...] = weight.transpose(
        (2, 0, 1) if gathers else (0, 2, 1)
    )
    panels = panels_of(turned, frame.take("panels", (panels_size(*shape, dtype),), dtype))
    zeros = padded_bias(None, shape[1], dtype)
    if gathers:
        return convolve(dz, windows, panels, zeros, dx)
    columns = times(dz, panels, zeros, frame.take("columns", (len(dz), shape[1]), dtype))
    cost = 2 * _NS_PER_VALUE * columns.size
    parallel_for(sum_of_windows, columns, windows, dx, count=x.total, cost=cost)
    return dx


class RowRing:
    """The rows that a causal window of stride 1 still sees, of sequences that go on step by step.

    Parameters
    ----------
    window : SlidingWindow
        Causal, of stride 1.
    batch : int
        N.
    features : int
        F.
    dtype : dtype
    """

    def __init__(self, window: SlidingWindow, batch: int, features: int, dtype: np.dtype[Any]):
        self.rows: Array = np.zeros((batch, window.reach - 1, features), dtype)
        """The rows before this step; the oldest is at `place`, modulo their number."""
        self.place: NDArray[np.int64] = np.zeros(batch, np.int64)
        self._dilation = window.dilation
        self._gathered: Array = np.empty((batch, window.size * features), dtype)

    def step(self, x: Array, panels: Array, bias: Array, out: Array) -> Array:
        """Write what `convolve` gives for the window that ends with the rows `x` (N, F), bit for bit; keep them."""
        seen = x
        if self.rows.size:
            seen = self._gathered
            gather_ring(x, self.rows, self.place, self._dilation, seen, 0, len(x))
        return times(seen, panels, bias, out)
