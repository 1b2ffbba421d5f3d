"""The matrix products of layers: kernels of ``gemm`` given their scratch, shared over cores."""

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import gemm, team
from ..kernels.scratch import aligned
from .base import Run

__all__ = [
    "NS_PER_COPY",
    "SAME_ROWS",
    "better_together",
    "gradient_of_weight",
    "padded_bias",
    "panels_of",
    "panels_size",
    "times",
]

SAME_ROWS = np.empty(0, np.int64)
"""For `gradient_of_weight`: row r of one operand goes with row r of the other."""

NS_PER_COPY = 0.7
"""Estimate for one core and element of a matrix that is packed or turned."""

_TOGETHER = 768 << 10
"""Bytes of two right operands' packed blocks that the L2 cache holds beside what else it has to."""

_NS_PER_FLOP = 0.01
"""Estimate for one core; it only decides from which size on a product is shared."""


def panels_of(b: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the matrix `b` (K, N), or any transposed view of one, packed as the right operand of `times`."""
    k, n = b.shape
    if out is None:
        out = aligned((panels_size(k, n, b.dtype),), b.dtype)
    base = b if b.flags.c_contiguous else b.T
    row_stride, column_stride = (n, 1) if base is b else (1, k)
    count, cost = gemm.panels(n, b.dtype), NS_PER_COPY * out.size
    team.share(gemm.pack, base.reshape(-1), row_stride, column_stride, k, n, out, count=count, cost=cost)
    return out


def panels_size(k: int, n: int, dtype: np.dtype[Any]) -> int:
    """Return the elements of a packed (K, N) matrix."""
    return gemm.panels(n, dtype) * gemm.panel_width(dtype) * k


def padded_bias(bias: NDArray[Any] | None, n: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return `bias` (N,), or zeros for None, with zeros up to whole panels."""
    padded = aligned((panels_size(1, n, dtype),), dtype)
    padded[...] = 0.0
    if bias is not None:
        padded[:n] = bias
    return padded


def times(a: NDArray[Any], panels: NDArray[Any], bias: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
    """Write ``bias + a @ B`` to `out` and return it: `a` (M, K), `out` (M, N), the others packed."""
    rows, k = a.shape
    n = out.shape[1]
    team.share(gemm.product, a, k, panels, k, bias, out, n, n, count=rows, cost=2 * _NS_PER_FLOP * rows * k * n)
    return out


def gradient_of_weight(
    a: NDArray[Any],
    b: NDArray[Any],
    b_rows: NDArray[np.int64],
    run: Run,
    *key: Hashable,
    sums: bool,
    add: bool = False,
    beside: tuple[NDArray[Any], NDArray[np.int64]] | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return ``a.T @ b[b_rows]`` and, with `sums`, ``a.sum(axis=0)`` (else an empty array).

    `a` is (M, A), `b` (any, N); the results lie in the run's scratch under `key`. With `add` they are added to those of
    the last call with this key. The product with another right operand and its rows may stand `beside` the first's.
    """
    rows, columns = a.shape
    n, (c, c_rows) = b.shape[1], (b, SAME_ROWS) if beside is None else beside
    more = 0 if beside is None else c.shape[1]
    out = run.scratch.take(*key, "product", shape=(columns, n + more), dtype=a.dtype)
    total = run.scratch.take(*key, "sums", shape=(columns if sums else 0,), dtype=a.dtype)
    cost = 2 * _NS_PER_FLOP * rows * columns * (n + more)
    size = gemm.scratch_size(n + more, a.dtype)
    each = [
        run.scratch.take("product scratch", part, shape=(size,), dtype=a.dtype)
        for part in range(team.threads_for(cost, columns))
    ]
    team.share(
        gemm.product_over_rows,
        *(a, columns, b, n, b_rows, n, c, c.shape[1], c_rows, more, rows, out, total, add),
        count=columns,
        cost=cost,
        each=each,
    )
    return out, total


def better_together(columns: int, dtype: np.dtype[Any]) -> bool:
    """Tell whether right operands of so many columns in all should stand beside each other in `gradient_of_weight`."""
    return gemm.ROW_BLOCK * columns * dtype.itemsize <= _TOGETHER
