"""Rows by one packed panel, in register tiles; and by all panels of a matrix.

Arguments that travel together are tuples:

======  ==========================================  ===================================================================
left    ``(a, i, row_stride)``                      row r and column k of A are ``a[i + r * row_stride + k * k_stride]``
panel   ``(packed, j, j_next, k)``                  a panel of k rows begins at ``packed[j]``; the next one, a hint, at
                                                    ``packed[j_next]``
start   ``(start, s, stride)``                      start values of row r begin at ``start[s + r * stride]``; of stride
                                                    0: all rows have the same, a whole panel wide
out     ``(out, o, stride, n)``                     row r begins at ``out[o + r * stride]``, where only n columns exist
======  ==========================================  ===================================================================
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ...runtime import config
from ...simd.host import REGISTERS
from ...simd.jit import jit_inline, jit_inner
from ...simd.tile import (
    COLUMNS,
    ROWS,
    load_rows_n,
    never_inline,
    prefetch,
    rank1,
    splat_columns,
    store_rows,
    store_rows_n,
)
from ...simd.vector import lanes_of

__all__ = [
    "COLUMNS",
    "K_BLOCK",
    "ONE_GROUP",
    "SAME_FOR_ALL",
    "START",
    "PanelProducts",
    "first_block",
    "panel_products",
    "panel_width",
    "panels",
    "tile_height",
]

_LEFT_BLOCK, _LEFT_BLOCK_OF_LARGE = config.TUNED.left_block
_LARGE = config.TUNED.large_operand
K_BLOCK = np.int64(config.TUNED.k_block)
"""Rows of a longer panel that are multiplied with all rows of the left operand before the next. A rounding more or less
does not come of it: what is stored and loaded again is the running value itself."""

SAME_FOR_ALL, START = np.int64(0), np.int64(0)
"""The stride of a start that all rows share, and the first of all rows. Typed: Numba would compile everything once more
for a literal 0.

But the step along k is the literal 1 wherever `product` of a panel is called, and no star before it hides that: code
that knows it is 5 to 12 % faster."""

ONE_GROUP = np.int64(1)
"""Of rows, all in one."""


@lru_cache(maxsize=16)
def panel_width(dtype, columns: int = COLUMNS) -> int:
    """Return the columns of one packed panel for arrays of `dtype`, `columns` registers wide."""
    return columns * REGISTERS.lanes(dtype.itemsize)


def panels(columns: int, dtype) -> int:
    """Return how many panels of `COLUMNS` registers hold `columns` columns."""
    return -(-columns // panel_width(dtype))


@jit_inner
def tile_height(rows):
    """Return the height of the next tile when `rows` are left, so that no small one is left over needlessly.

    One row or two are bound by loads: 7 rows are cut 4 + 3, not 6 + 1, 8 and 10 in halves.
    """
    if ROWS == 6:
        if rows == 7 or rows == 8:
            return 4
        if rows == 10:
            return 5
        return min(rows, 6)
    if rows == 4:
        return 2
    return min(rows, 3)


@jit_inline
def first_block(k):
    """Return how many of the `k` rows of a panel are multiplied first."""
    return k if k <= 2 * K_BLOCK else K_BLOCK


def _make_tile(rows: int, width: int, columns: int, fetched: int = 0) -> Any:
    """Return the kernel of one tile: walk down the first `columns` registers of a panel `width` registers wide.

    At each step along k it asks for `fetched` registers more from ``packed[f]`` on.

    The tiles of most products are parts of their callers: calling one costs as much as 10 of its steps along k. But in
    a caller that holds all of them there are not registers enough, and the longest loops lost 15 % by it.
    """
    apart = rows > 1 and (fetched > 0 or columns < width)

    def tile(left, k_stride, panel, start, out, f):
        if apart:
            never_inline()
        a, i, row_stride = left
        packed, j, k = panel
        values, s, start_stride = start
        written, o, out_stride, n = out
        step = width * lanes_of(packed)
        ahead = fetched * lanes_of(packed)
        if start_stride == 0:
            acc = splat_columns(rows, columns, values, s)
        else:
            acc = load_rows_n(rows, columns, values, s, start_stride, n)
        for _ in range(k):
            prefetch(fetched, packed, f)
            acc = rank1(acc, a, i, row_stride, packed, j)
            i += k_stride
            j += step
            f += ahead
        if n >= columns * lanes_of(packed):
            store_rows(acc, written, o, out_stride)
        else:
            store_rows_n(acc, written, o, out_stride, n)

    # Without a name of its own, a tile from one process's cache takes the place of one of another height.
    variant = f"of_{rows}_by_{columns}_in_{width}_fetching_{fetched}"
    return jit_inner(tile, variant) if apart else jit_inline(tile, variant)


class PanelProducts(NamedTuple):
    """Products with panels of one width, for kernels.

    tile(height, left, k_stride, panel, start, out)
        One tile, inlined; its `panel` is ``(packed, j, k)``.
    product(left, k_stride, rows, panel, start, out)
        Write ``start + A @ B`` of `rows` rows by one panel, in tiles.
    row(left, panel, out)
        Add one row times a panel to what is in `out`, inlined; `panel` is ``(packed, j, k)``. All columns of the panel
        exist, or its first two registers.
    row_of_some(left, panel, out)
        The same for any number of columns.
    all_panels(left, rows, packed, k, bias, out)
        Write rows by all panels of a matrix. Groups of rows: `left` is ``(a, first, group, stride, groups)``: row r of
        group g begins at ``a[first + g * group + r * stride]``; `rows` is the range of r, ``(begin, end)``; `out` is
        ``(out, group, stride, n)``: that row begins at ``out[g * group + r * stride]``.
    """

    tile: Any
    product: Any
    row: Any
    row_of_some: Any
    all_panels: Any


@lru_cache(maxsize=4)
def panel_products(width: int) -> PanelProducts:
    """Return the products with panels that are `width` registers wide, `COLUMNS` or 3."""
    narrow_columns = COLUMNS // 2
    fetched_columns = -(-width // 2)  # of the next panel at each step along k: two tiles fetch all of it
    tile1, tile2, tile3 = (_make_tile(rows, width, width) for rows in (1, 2, 3))
    tile4, tile5, tile6 = (_make_tile(rows, width, width) for rows in (4, 5, 6)) if ROWS == 6 else (tile3, tile3, tile3)
    tall_fetching = _make_tile(ROWS, width, width, fetched_columns)
    half_row = _make_tile(1, width, narrow_columns)
    narrow = _make_tile(ROWS, width, narrow_columns)  # for a last panel that is half empty: half the arithmetic
    variant = f"by_{width}"

    def tile_in(height, left, k_stride, panel, start, out):
        f = panel[1]
        if height == 6:
            tile6(left, k_stride, panel, start, out, f)
        elif height == 5:
            tile5(left, k_stride, panel, start, out, f)
        elif height == 4:
            tile4(left, k_stride, panel, start, out, f)
        elif height == 3:
            tile3(left, k_stride, panel, start, out, f)
        elif height == 2:
            tile2(left, k_stride, panel, start, out, f)
        else:
            tile1(left, k_stride, panel, start, out, f)

    tile = jit_inline(tile_in, variant)

    def row_onto(left, panel, out):
        a, i = left
        written, o, n = out
        s = SAME_FOR_ALL
        lanes = lanes_of(written)
        if n <= narrow_columns * lanes:
            half_row((a, i, s), 1, panel, (written, o, s), (written, o, s, narrow_columns * lanes), panel[1])
        else:
            tile1((a, i, s), 1, panel, (written, o, s), (written, o, s, width * lanes), panel[1])

    row = jit_inline(row_onto, variant)

    def row_onto_some(left, panel, out):
        a, i = left
        written, o, n = out
        tile1((a, i, SAME_FOR_ALL), 1, panel, (written, o, ONE_GROUP), (written, o, SAME_FOR_ALL, n), panel[1])

    row_of_some = jit_inline(row_onto_some, variant)

    def panel_product(left, k_stride, rows, panel, start, out):
        never_inline()
        a, i, row_stride = left
        packed, j, j_next, k = panel
        values, s, start_stride = start
        written, o, out_stride, n = out
        lanes = lanes_of(packed)
        far = len(packed) >= _LARGE
        fetching = far and k <= K_BLOCK  # two longer panels would drive each other out of the L2 cache
        fetched = j_next
        half = fetched_columns * lanes * k
        row_number = 0
        while row_number < rows:
            height = tile_height(rows - row_number)
            at_left = a, i + row_number * row_stride, row_stride
            at_panel = packed, j, k
            at_start = values, s + row_number * start_stride, start_stride
            at_out = written, o + row_number * out_stride, out_stride, n
            if height == ROWS and n <= narrow_columns * lanes:
                narrow(at_left, k_stride, at_panel, at_start, at_out, j)
            elif height == ROWS and fetching:
                tall_fetching(at_left, k_stride, at_panel, at_start, at_out, fetched)
                fetching = fetched == j_next  # by the second tile all of it
                fetched += half
            else:
                tile(height, at_left, k_stride, at_panel, at_start, at_out)
            row_number += height

    product = jit_inner(panel_product, variant)

    def all_panels_of(left, rows, packed, k, bias, out):
        a, a_first, a_group, a_stride, groups = left
        begin, end = rows
        written, out_group, out_stride, n = out
        columns = width * lanes_of(packed)
        block = _LEFT_BLOCK if len(packed) < _LARGE else _LEFT_BLOCK_OF_LARGE
        block = max(ROWS * 4, block // max(min(k, 2 * K_BLOCK), 1) // ROWS * ROWS)
        block = max(ROWS * 4, block // groups // ROWS * ROWS)
        top = first_block(k)
        for first in range(begin, end, block):
            last = min(first + block, end)
            for p in range((n + columns - 1) // columns):
                j = p * k * columns
                for group in range(groups):
                    i = a_first + group * a_group + first * a_stride
                    o = group * out_group + first * out_stride + p * columns
                    target = written, o, out_stride, n - p * columns
                    product(
                        (a, i, a_stride),
                        1,
                        last - first,
                        (packed, j, j + top * columns, top),
                        (bias, p * columns, SAME_FOR_ALL),
                        target,
                    )
                    for done in range(top, k, K_BLOCK):
                        part = min(K_BLOCK, k - done)
                        product(
                            (a, i + done, a_stride),
                            1,
                            last - first,
                            (packed, j + done * columns, j + (done + part) * columns, part),
                            (written, o, out_stride),
                            target,
                        )

    return PanelProducts(tile, product, row, row_of_some, jit_inner(all_panels_of, variant))
