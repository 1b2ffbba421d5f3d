"""The product A transposed times B, summed over rows, that every weight gradient is."""

from functools import lru_cache

import numpy as np

from ...runtime import config
from ...simd.denormals import flush, restore
from ...simd.jit import jit, jit_inner
from ...simd.tile import COLUMNS
from ...simd.vector import lanes_of, load, load_n, splat, store, store_n
from .tiles import SAME_FOR_ALL, panel_products, panel_width, panels, tile_height

__all__ = ["product_over_rows", "scratch_size"]

_ROW_BLOCK = config.TUNED.row_block
_LEFT_COLUMNS = np.int64(config.TUNED.left_columns)
"""Columns of the left operand that are packed at once: whole registers and whole tiles of any size."""

_ACROSS = np.int64(1)
"""The stride of the rows of a transposed left operand, whose step along k is no literal."""

_products = panel_products(COLUMNS)
_tile, _panel_product = _products.tile, _products.product


@lru_cache(maxsize=256)
def scratch_size(n: int, dtype) -> int:
    """Return the elements of scratch that one core needs in `product_over_rows` for N = `n`."""
    width = panel_width(dtype)
    return width + _ROW_BLOCK * (panels(n, dtype) * width + int(_LEFT_COLUMNS))


@jit_inner
def _pack_block(b, c, first, k, packed, place):
    """Pack the rows `first` to ``first + k`` of B, and those of C beside them, into panels at ``packed[place:]``.

    b, c  ``(values, stride, rows, columns)``, as in `product_over_rows`
    """
    b_values, b_stride, b_rows, n = b
    c_values, c_stride, c_rows, beside = c
    lanes = lanes_of(packed)
    width = COLUMNS * lanes
    for panel in range(0, n + beside, width):
        for r in range(first, first + k):
            from_b = (b_rows[r] if len(b_rows) else r) * b_stride
            from_c = (c_rows[r] if len(c_rows) else r) * c_stride
            for column in range(panel, panel + width, lanes):
                over = column - n  # column of C
                if over + lanes <= 0:
                    store(packed, place, load(b_values, from_b + column))
                elif over >= 0:
                    left = beside - over
                    at = from_c + over
                    store(packed, place, load(c_values, at) if left >= lanes else load_n(c_values, at, left))
                else:
                    store(packed, place, load_n(b_values, from_b + column, -over))
                    count = min(lanes + over, beside)
                    store_n(packed, place - over, load_n(c_values, from_c, count), count)
                place += lanes


@jit_inner
def _pack_columns(a, i, a_stride, k, columns, packed, place, sums, m):
    """Copy up to `_LEFT_COLUMNS` columns of A, k rows of them from element `i`, to ``packed[place:]``; add up the sums.

    In rows of `_LEFT_COLUMNS`: whole registers in and out, where a tile's few columns would be read line by line.
    """
    lanes = lanes_of(packed)
    for h in range(0, columns, lanes):
        count = min(lanes, columns - h)
        total = load_n(sums, m + h, count) if len(sums) else splat(packed, 0.0)
        for r in range(k):
            row = load(a, i + r * a_stride + h) if count == lanes else load_n(a, i + r * a_stride + h, count)
            store(packed, place + r * _LEFT_COLUMNS + h, row)
            total = total + row
        if len(sums):
            store_n(sums, m + h, total, count)


@jit
def product_over_rows(a, b, c, rows, out, sums, add, scratch, begin, end):
    """Write ``out[m] = sum over r of a[r, m] * [b[b_rows[r]], c[c_rows[r]]]``, and ``sums[m] = sum over r of a[r, m]``.

    For the columns m of A from `begin` to `end`. Beside B there may be a C: A is packed once for both.

    a        ``(values, stride)``: 1-D float, in; row r begins at element ``r * stride``
    b        ``(values, stride, b_rows, N)``: the same, with `b_rows` (rows,) int64, in: which row of B goes with row r
             of A; of length 0: the same row
    c        the same of C; its columns may be 0
    out      (A, N + C)   float, out
    sums     (A,)         float, out; of length 0: not wanted
    add      whether to add to what is in `out` and `sums`
    scratch  (S,)         float, overwritten; S = `scratch_size` of N + C; one for each core
    """
    mode = flush()
    a_values, a_stride = a
    out = out.reshape(-1)
    both = b[3] + c[3]
    width = COLUMNS * lanes_of(out)
    right = width
    left = right + (both + width - 1) // width * width * _ROW_BLOCK
    full = (both + width // 2 - 1) // width  # panels, but for a last one that is half empty or more
    for column in range(width):
        scratch[column] = 0.0
    for m in range(begin, begin if add else end):
        for column in range(0 if rows else both):  # an empty sum
            out[m * both + column] = 0.0
        if len(sums):
            sums[m] = 0.0
    for first in range(0, rows, _ROW_BLOCK):
        k = min(_ROW_BLOCK, rows - first)
        _pack_block(b, c, first, k, scratch, right)
        for m_first in range(begin, end, _LEFT_COLUMNS):
            m_last = min(m_first + _LEFT_COLUMNS, end)
            at = first * a_stride + m_first
            _pack_columns(a_values, at, a_stride, k, m_last - m_first, scratch, left, sums, m_first)
            m = m_first
            while m < m_last:
                height = tile_height(m_last - m)
                i = left + m - m_first
                for p in range(full):
                    panel = scratch, right + p * k * width, k
                    o = m * both + p * width
                    target = out, o, both, both - p * width
                    if first == 0 and not add:
                        zeros = SAME_FOR_ALL  # they stand at the start of scratch
                        start = scratch, zeros, SAME_FOR_ALL
                    else:
                        start = out, o, both
                    _tile(height, (scratch, i, _ACROSS), _LEFT_COLUMNS, panel, start, target)
                m += height
            if full * width < both:
                j = right + full * k * width
                o = m_first * both + full * width
                start = out, o, both
                if first == 0 and not add:
                    start = scratch, SAME_FOR_ALL, SAME_FOR_ALL
                _panel_product(
                    (scratch, left, _ACROSS),
                    _LEFT_COLUMNS,
                    m_last - m_first,
                    (scratch, j, j, k),
                    start,
                    (out, o, both, both - full * width),
                )
    restore(mode)
