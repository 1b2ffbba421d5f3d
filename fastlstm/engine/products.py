"""Matrix products: kernels of ``gemm`` given their scratch, shared over cores."""

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import gemm
from ..runtime import config
from ..runtime.pool import num_chunks, parallel_for
from ..runtime.workspace import Frame, Workspace, aligned

__all__ = [
    "SAME_ROWS",
    "Rows",
    "fit_together",
    "gradient_of_weight",
    "padded_bias",
    "panels_of",
    "panels_size",
    "rows_of",
    "times",
]

SAME_ROWS = np.empty(0, np.int64)
"""For `gradient_of_weight`: row r of one operand goes with row r of the other."""


Rows = tuple[NDArray[Any], int, NDArray[np.int64], int]
"""A matrix as kernels see it, ``(values, stride, which, columns)``: row r has so many columns from ``values[r *
stride]`` on, 1-D; `which` row goes with each row of the other operand, `SAME_ROWS`: the same."""


def rows_of(matrix: NDArray[Any], which: NDArray[np.int64] = SAME_ROWS, columns: int | None = None) -> Rows:
    """Return a contiguous matrix, or its first `columns` columns, as kernels see it."""
    width = matrix.shape[1]
    return matrix.reshape(-1), width, which, width if columns is None else columns


def panels_of(b: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the matrix `b` (K, N), or any transposed view of one, packed as the right operand of `times`."""
    k, n = b.shape
    if out is None:
        out = aligned((panels_size(k, n, b.dtype),), b.dtype)
    base = b if b.flags.c_contiguous else b.T
    row_stride, column_stride = (n, 1) if base is b else (1, k)
    count, cost = gemm.panels(n, b.dtype), config.TUNED.ns_per_copy * out.size
    parallel_for(gemm.pack, base.reshape(-1), row_stride, column_stride, k, n, out, count=count, cost=cost)
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


def times(
    a: NDArray[Any], panels: NDArray[Any], bias: NDArray[Any], out: NDArray[Any], columns: int = gemm.COLUMNS
) -> NDArray[Any]:
    """Write ``bias + a @ B`` to `out` (M, N) and return it: `a` (M, K), the others packed by `columns` registers."""
    rows, k = a.shape
    n = out.shape[1]
    kernel, cost = gemm.product_by(columns), 2 * config.TUNED.ns_per_flop * rows * k * n
    parallel_for(kernel, a, k, panels, k, bias, out, n, n, count=rows, cost=cost)
    return out


def gradient_of_weight(
    a: Rows,
    b: Rows,
    rows: int,
    frame: Frame,
    workspace: Workspace,
    name: Hashable,
    *,
    sums: bool,
    add: bool = False,
    beside: Rows | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return ``a.T @ b`` and, with `sums`, ``a.sum(axis=0)`` (else an empty array), summed over so many rows.

    The results lie in the frame under `name`. With `add` they are added to those of the last call with this name. The
    product with another right operand may stand `beside` the first's.
    """
    values, stride, _, height = a
    other = (b[0], b[1], SAME_ROWS, 0) if beside is None else beside
    columns, dtype = b[3] + other[3], values.dtype
    out = frame.take((name, "product"), (height, columns), dtype)
    total = frame.take((name, "sums"), (height if sums else 0,), dtype)
    cost = 2 * config.TUNED.ns_per_flop * rows * height * columns
    parts, size = num_chunks(cost, height), gemm.scratch_size(columns, dtype)
    parallel_for(
        gemm.product_over_rows,
        *((values, stride), b, other, rows, out, total, add),
        count=height,
        cost=cost,
        each=[workspace.shared(("product scratch", part), (size,), dtype) for part in range(parts)],
    )
    return out, total


def fit_together(columns: int, dtype: np.dtype[Any]) -> bool:
    """Tell whether right operands of so many columns in all should stand beside each other in `gradient_of_weight`."""
    return config.TUNED.row_block * columns * dtype.itemsize <= config.TUNED.together_bytes
