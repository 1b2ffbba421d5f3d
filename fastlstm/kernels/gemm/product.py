"""Pack a right operand, and multiply all rows by all of its panels."""

from functools import lru_cache
from typing import Any

from ...simd.denormals import flush, restore
from ...simd.jit import jit
from ...simd.tile import COLUMNS, transpose
from ...simd.vector import lanes_of, load, load_n, store
from .tiles import ONE_GROUP, START, panel_products

__all__ = ["pack", "product", "product_by"]


@jit
def pack(b, row_stride, column_stride, k, n, packed, begin, end):
    """Pack the panels `begin` to `end` of B (K, N), whose element (r, c) is ``b[r * row_stride + c * column_stride]``.

    b       (any,)           float, in
    packed  (P * K * 4L,)    float, out: every element of these panels is written
    """
    lanes = lanes_of(packed)
    width = COLUMNS * lanes
    for first in range(begin * width, end * width, width):
        panel = first * k
        columns = min(width, n - first)
        if column_stride == 1:
            for r in range(k):
                source = r * row_stride + first
                for v in range(0, width, lanes):
                    row = load(b, source + v) if v + lanes <= columns else load_n(b, source + v, columns - v)
                    store(packed, panel + r * width + v, row)
        else:
            for r in range(0, k, lanes):
                for v in range(0, width, lanes):
                    source = r * row_stride + (first + v) * column_stride
                    place = panel + r * width + v
                    if row_stride == 1 and r + lanes <= k and v + lanes <= columns:
                        transpose(b, source, column_stride, 1.0, packed, place, width)
                        continue
                    for i in range(min(lanes, k - r)):
                        for c in range(lanes):
                            exists = v + c < columns
                            packed[place + i * width + c] = (
                                b[source + i * row_stride + c * column_stride] if exists else 0.0
                            )


@lru_cache(maxsize=4)
def product_by(width: int) -> Any:
    """Return the kernel ``product`` for panels of so many registers."""
    all_panels = panel_products(width).all_panels

    def product(a, a_stride, packed, k, bias, out, out_stride, n, begin, end):
        """Write ``out[r] = bias + a[r] @ B`` for the rows r from `begin` to `end`.

        a       (M, K)           float, in; row r begins at element ``r * a_stride``
        packed  (P * K * CL,)    float, in: B (K, N) in panels
        bias    (P * CL,)        float, in: the start of every row, zeros beyond N
        out     (M, N)           float, out; row r begins at element ``r * out_stride``
        """
        mode, only = flush(), START
        all_panels(
            (a.reshape(-1), only, only, a_stride, ONE_GROUP),
            (begin, end),
            packed,
            k,
            bias,
            (out.reshape(-1), only, out_stride, n),
        )
        restore(mode)

    return jit(product, f"by_{width}")


product = product_by(COLUMNS)
