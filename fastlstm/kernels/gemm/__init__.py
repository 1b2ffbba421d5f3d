"""Packed matrix products on register tiles.

The right operand is packed into panels of ``C * L`` columns (C registers of L lanes): element (k, c) of panel p stands
at ``packed[(p * K + k) * C * L + c]``, zeros beyond the last column. A tile of R rows walks down one panel. C is 4, but
for cells of three gates 3.

Every output element is one chain of fused multiply-adds in the order of k, begun from its start value. So a result
does not depend on the tile its row fell into, on the rows beside it, or on how many cores shared the work.

The parts of kernels see every array as 1-D: one specialisation for each float type then serves all callers, and is
compiled once in a process. What travels together is passed as a tuple, see `tiles`.

Letters: M rows, K the summed index, N columns, P = ceil(N / CL) panels. Arrays are contiguous; matrices are passed
with the offset of their first element and their strides in elements, so that one kernel serves A and A transposed.
"""

from .over_rows import product_over_rows, scratch_size
from .product import pack, product, product_by
from .tiles import COLUMNS, K_BLOCK, SAME_FOR_ALL, START, first_block, panel_products, panel_width, panels

__all__ = [
    "COLUMNS",
    "K_BLOCK",
    "SAME_FOR_ALL",
    "START",
    "first_block",
    "pack",
    "panel_products",
    "panel_width",
    "panels",
    "product",
    "product_by",
    "product_over_rows",
    "scratch_size",
]
