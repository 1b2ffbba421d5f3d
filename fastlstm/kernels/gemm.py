"""Packed matrix products on register tiles.

The right operand is packed into panels of ``4 * L`` columns (L lanes of a register): element (k, c) of panel p stands
at ``packed[(p * K + k) * 4 * L + c]``, zeros beyond the last column. A tile of R rows walks down one panel.

Every output element is one chain of fused multiply-adds in the order of k, begun from its start value. So a result
does not depend on the tile its row fell into, on the rows beside it, or on how many cores shared the work.

The parts of kernels see every array as 1-D: one specialisation for each float type then serves all callers, and is
compiled once in a process.

Letters: M rows, K the summed index, N columns, P = ceil(N / 4L) panels. Arrays are contiguous; matrices are passed
with the offset of their first element and their strides in elements, so that one kernel serves A and A transposed.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from ..simd.denormals import flush, restore
from ..simd.host import REGISTERS
from ..simd.tile import (
    COLUMNS,
    ROWS,
    load_rows_n,
    never_inline,
    prefetch,
    rank1,
    splat_columns,
    store_rows,
    store_rows_n,
    transpose,
)
from ..simd.vector import lanes_of, load, load_n, splat, store, store_n
from ._jit import jit, jit_inline, jit_inner

__all__ = [
    "K_BLOCK",
    "ROW_BLOCK",
    "first_block",
    "pack",
    "panel_product",
    "panel_width",
    "panels",
    "product",
    "product_over_rows",
    "row_onto_panel",
    "rows_by_panels",
    "scratch_size",
    "tile_height",
]

ROW_BLOCK = 256
"""Rows that `product_over_rows` sums before it goes on: its packed block of both operands stays in the L2 cache."""

_LEFT_BLOCK, _LEFT_BLOCK_OF_LARGE = 1 << 15, 1 << 17
"""Elements of the left operand that `product` keeps in the L2 cache while it walks over all panels, if these lie in
caches too, or if reading them is dear."""

_LARGE = 1 << 19
"""Elements of a packed operand, 2 MB of float32, from which on the L2 cache does not hold it.

Other processes may have the L3 cache: so a panel is fetched while the one before it is multiplied."""

K_BLOCK = np.int64(1024)
"""Rows of a longer panel that are multiplied with all rows of the left operand before the next: they stay in the L2
cache. A rounding more or less does not come of it: what is stored and loaded again is the running value itself."""

_LEFT_COLUMNS = np.int64(48)
"""Columns of the left operand that `product_over_rows` packs at once: whole registers and whole tiles of any size."""

SAME_FOR_ALL, START = np.int64(0), np.int64(0)
"""The stride of a start that all rows share, and the first of all rows. Typed: Numba would compile everything once more
for a literal 0.

But the step along k is the literal 1 wherever `panel_product` is called, and no star before it hides that: what knows
it when it is compiled is 5 to 12 % faster."""

_ONE_GROUP = np.int64(1)
"""Of rows, all in one."""

_ACROSS = np.int64(1)
"""The stride of the rows of a transposed left operand, whose step along k is no literal."""


@lru_cache(maxsize=16)
def panel_width(dtype) -> int:
    """Return the columns of one packed panel for arrays of `dtype`: 4 registers."""
    return COLUMNS * REGISTERS.lanes(dtype.itemsize)


def panels(columns: int, dtype) -> int:
    """Return how many panels hold `columns` columns."""
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


def _make_tile(rows: int, columns: int = COLUMNS, fetched: int = 0) -> Any:
    """Return the kernel of one tile: walk down the first `columns` registers of a panel, then write the rows.

    At each step along k it asks for `fetched` registers more from ``panel[f]`` on.

    The tiles of most products are parts of their callers: calling one costs as much as 10 of its steps along k. But in
    a caller that holds all of them there are not registers enough, and the longest loops lost 15 % by it.
    """
    apart = rows > 1 and (fetched > 0 or columns < COLUMNS)

    def tile(a, i, row_stride, k_stride, panel, j, k, start, s, start_stride, out, o, out_stride, n, f):
        if apart:
            never_inline()
        step = COLUMNS * lanes_of(panel)
        ahead = fetched * lanes_of(panel)
        if start_stride == 0:
            acc = splat_columns(rows, columns, start, s)
        else:
            acc = load_rows_n(rows, columns, start, s, start_stride, n)
        for _ in range(k):
            prefetch(fetched, panel, f)
            acc = rank1(acc, a, i, row_stride, panel, j)
            i += k_stride
            j += step
            f += ahead
        if n >= columns * lanes_of(panel):
            store_rows(acc, out, o, out_stride)
        else:
            store_rows_n(acc, out, o, out_stride, n)

    # Numba names machine code after the function, and a number that begins anew in each process: without a name of its
    # own, a tile from one process's cache takes the place of one of another height from another's.
    tile.__qualname__ = tile.__name__ = f"tile_of_{rows}_by_{columns}_fetching_{fetched}"
    return jit_inner(tile) if apart else jit_inline(tile)


_FETCHED = COLUMNS // 2
"""Registers of the next panel that a tile asks for at each step along k: two tiles fetch all of it."""

row_times_panel, _tile2, _tile3 = (_make_tile(rows) for rows in (1, 2, 3))
_tile4, _tile5, _tile6 = (_make_tile(rows) for rows in (4, 5, 6)) if ROWS == 6 else (_tile3, _tile3, _tile3)
_tall_fetching = _make_tile(ROWS, fetched=_FETCHED)
_half_row = _make_tile(1, COLUMNS // 2)
_narrow = _make_tile(ROWS, COLUMNS // 2)
"""The tallest tile for a last panel that is half empty or more: half the arithmetic."""


@jit_inline
def _tile(height, a, i, row_stride, k_stride, panel, j, k, start, s, start_stride, out, o, out_stride, n):
    """Make the tile of a height a part of the caller."""
    if height == 6:
        _tile6(a, i, row_stride, k_stride, panel, j, k, start, s, start_stride, out, o, out_stride, n, j)
    elif height == 5:
        _tile5(a, i, row_stride, k_stride, panel, j, k, start, s, start_stride, out, o, out_stride, n, j)
    elif height == 4:
        _tile4(a, i, row_stride, k_stride, panel, j, k, start, s, start_stride, out, o, out_stride, n, j)
    elif height == 3:
        _tile3(a, i, row_stride, k_stride, panel, j, k, start, s, start_stride, out, o, out_stride, n, j)
    elif height == 2:
        _tile2(a, i, row_stride, k_stride, panel, j, k, start, s, start_stride, out, o, out_stride, n, j)
    else:
        row_times_panel(a, i, row_stride, k_stride, panel, j, k, start, s, start_stride, out, o, out_stride, n, j)


@jit_inline
def row_onto_panel(a, i, panel, j, k, out, o, half):
    """Add one row times a panel, or its first `half`, to what is in `out`; as a part of the caller."""
    width = lanes_of(panel)
    s = SAME_FOR_ALL
    if half:
        _half_row(a, i, s, 1, panel, j, k, out, o, s, out, o, s, COLUMNS // 2 * width, j)
    else:
        row_times_panel(a, i, s, 1, panel, j, k, out, o, s, out, o, s, COLUMNS * width, j)


@jit_inline
def first_block(k):
    """Return how many of the `k` rows of a panel are multiplied first."""
    return k if k <= 2 * K_BLOCK else K_BLOCK


@jit_inner
def panel_product(a, i, row_stride, k_stride, rows, panel, j, j_next, k, start, s, start_stride, out, o, out_stride, n):
    """Write `rows` rows by one panel of ``start + A @ B``, in tiles.

    Row r and column c of A are ``a[i + r * row_stride + c * k_stride]``; the panel begins at ``panel[j]`` and has k
    rows; row r of the start values begins at ``start[s + r * start_stride]`` (stride 0: the same for all rows, a whole
    panel wide), that of the output at ``out[o + r * out_stride]``, where only the first n columns exist. A hint: the
    panel that is multiplied next begins at ``panel[j_next]``, if there is one.
    """
    never_inline()
    far = len(panel) >= _LARGE
    fetching = far and k <= K_BLOCK  # two longer panels would drive each other out of the L2 cache
    fetched = j_next
    half = _FETCHED * lanes_of(panel) * k
    row = 0
    while row < rows:
        height = tile_height(rows - row)
        r, q, w = i + row * row_stride, s + row * start_stride, o + row * out_stride
        if height == ROWS and n <= COLUMNS // 2 * lanes_of(panel):
            _narrow(a, r, row_stride, k_stride, panel, j, k, start, q, start_stride, out, w, out_stride, n, j)
        elif height == ROWS and fetching:
            _tall_fetching(
                a, r, row_stride, k_stride, panel, j, k, start, q, start_stride, out, w, out_stride, n, fetched
            )
            fetching = fetched == j_next  # by the second tile all of it
            fetched += half
        else:
            _tile(height, a, r, row_stride, k_stride, panel, j, k, start, q, start_stride, out, w, out_stride, n)
        row += height


@jit_inner
def rows_by_panels(a, a_first, a_group, a_stride, groups, packed, k, bias, out, out_group, out_stride, n, begin, end):
    """Do what `product` does, for a kernel that it is a part of: arrays are 1-D.

    And do it for the rows of so many groups: row r of group g begins at ``a[a_first + g * a_group + r * a_stride]``
    and at ``out[g * out_group + r * out_stride]``.
    """
    width = COLUMNS * lanes_of(packed)
    block = _LEFT_BLOCK if len(packed) < _LARGE else _LEFT_BLOCK_OF_LARGE
    block = max(ROWS * 4, block // max(min(k, 2 * K_BLOCK), 1) // ROWS * ROWS)
    block = max(ROWS * 4, block // groups // ROWS * ROWS)
    top = first_block(k)
    for first in range(begin, end, block):
        last = min(first + block, end)
        for p in range((n + width - 1) // width):
            j = p * k * width
            for group in range(groups):
                i = a_first + group * a_group + first * a_stride
                o = group * out_group + first * out_stride + p * width
                panel_product(
                    a,
                    i,
                    a_stride,
                    1,
                    last - first,
                    packed,
                    j,
                    j + top * width,
                    top,
                    bias,
                    p * width,
                    SAME_FOR_ALL,
                    out,
                    o,
                    out_stride,
                    n - p * width,
                )
                for done in range(top, k, K_BLOCK):
                    part = min(K_BLOCK, k - done)
                    panel_product(
                        a,
                        i + done,
                        a_stride,
                        1,
                        last - first,
                        packed,
                        j + done * width,
                        j + (done + part) * width,
                        part,
                        out,
                        o,
                        out_stride,
                        out,
                        o,
                        out_stride,
                        n - p * width,
                    )


@jit
def product(a, a_stride, packed, k, bias, out, out_stride, n, begin, end):
    """Write ``out[r] = bias + a[r] @ B`` for the rows r from `begin` to `end`.

    a       (M, K)           float, in; row r begins at element ``r * a_stride``
    packed  (P * K * 4L,)    float, in: B (K, N), see `pack`
    bias    (P * 4L,)        float, in: the start of every row, zeros beyond N
    out     (M, N)           float, out; row r begins at element ``r * out_stride``
    """
    mode, only = flush(), START
    rows_by_panels(
        *(a.reshape(-1), only, only, a_stride, _ONE_GROUP, packed, k, bias),
        *(out.reshape(-1), only, out_stride, n, begin, end),
    )
    restore(mode)


@lru_cache(maxsize=256)
def scratch_size(n: int, dtype) -> int:
    """Return the elements of scratch that one core needs in `product_over_rows` for N = `n`."""
    width = panel_width(dtype)
    return width + ROW_BLOCK * (panels(n, dtype) * width + int(_LEFT_COLUMNS))


@jit_inner
def _pack_block(b, b_stride, b_rows, n, c, c_stride, c_rows, beside, first, k, packed, place):
    """Pack the rows `first` to ``first + k`` of B, and those of C beside them, into panels at ``packed[place:]``."""
    lanes = lanes_of(packed)
    width = COLUMNS * lanes
    for panel in range(0, n + beside, width):
        for r in range(first, first + k):
            from_b = (b_rows[r] if len(b_rows) else r) * b_stride
            from_c = (c_rows[r] if len(c_rows) else r) * c_stride
            for column in range(panel, panel + width, lanes):
                over = column - n  # column of C
                if over + lanes <= 0:
                    store(packed, place, load(b, from_b + column))
                elif over >= 0:
                    left = beside - over
                    store(packed, place, load(c, from_c + over) if left >= lanes else load_n(c, from_c + over, left))
                else:
                    store(packed, place, load_n(b, from_b + column, -over))
                    count = min(lanes + over, beside)
                    store_n(packed, place - over, load_n(c, from_c, count), count)
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
def product_over_rows(
    a, a_stride, b, b_stride, b_rows, n, c, c_stride, c_rows, beside, rows, out, sums, add, scratch, begin, end
):
    """Write ``out[m] = sum over r of a[r, m] * [b[b_rows[r]], c[c_rows[r]]]``, and ``sums[m] = sum over r of a[r, m]``.

    The product A transposed times B that every weight gradient is, and the bias gradient on the way; for the columns
    m of A from `begin` to `end`. Beside B there may be a C: A is packed once for both.

    a        (rows, A)    float, in; row r begins at element ``r * a_stride``
    b        (any, N)     float, in; row r begins at element ``r * b_stride``
    b_rows   (rows,)      int64, in: which row of B goes with row r of A; of length 0: the same row
    c        (any, C)     float, in; like `b`, with `c_stride` and `c_rows`; C is `beside`, and may be 0
    out      (A, N + C)   float, out
    sums     (A,)         float, out; of length 0: not wanted
    add      whether to add to what is in `out` and `sums`
    scratch  (S,)         float, overwritten; S = `scratch_size` of N + C; one for each core
    """
    mode = flush()
    a = a.reshape(-1)
    b = b.reshape(-1)
    c = c.reshape(-1)
    out = out.reshape(-1)
    both = n + beside
    width = COLUMNS * lanes_of(out)
    right = width
    left = right + (both + width - 1) // width * width * ROW_BLOCK
    full = (both + width // 2 - 1) // width  # panels, but for a last one that is half empty or more
    for column in range(width):
        scratch[column] = 0.0
    for m in range(begin, begin if add else end):
        for column in range(0 if rows else both):  # an empty sum
            out[m * both + column] = 0.0
        if len(sums):
            sums[m] = 0.0
    for first in range(0, rows, ROW_BLOCK):
        k = min(ROW_BLOCK, rows - first)
        _pack_block(b, b_stride, b_rows, n, c, c_stride, c_rows, beside, first, k, scratch, right)
        for m_first in range(begin, end, _LEFT_COLUMNS):
            m_last = min(m_first + _LEFT_COLUMNS, end)
            _pack_columns(a, first * a_stride + m_first, a_stride, k, m_last - m_first, scratch, left, sums, m_first)
            m = m_first
            while m < m_last:
                height = tile_height(m_last - m)
                i = left + m - m_first
                for p in range(full):
                    j = right + p * k * width
                    o = m * both + p * width
                    rest = both - p * width
                    if first == 0 and not add:
                        zeros = SAME_FOR_ALL  # they stand at the start of scratch
                        _tile(
                            *(height, scratch, i, _ACROSS, _LEFT_COLUMNS, scratch, j, k),
                            *(scratch, zeros, SAME_FOR_ALL, out, o, both, rest),
                        )
                    else:
                        _tile(
                            *(height, scratch, i, _ACROSS, _LEFT_COLUMNS, scratch, j, k),
                            *(out, o, both, out, o, both, rest),
                        )
                m += height
            if full * width < both:
                j = right + full * k * width
                o = m_first * both + full * width
                start, s, start_stride = out, o, both
                if first == 0 and not add:
                    start, s, start_stride = scratch, SAME_FOR_ALL, SAME_FOR_ALL
                panel_product(
                    *(scratch, left, _ACROSS, _LEFT_COLUMNS, m_last - m_first, scratch, j, j, k),
                    *(start, s, start_stride, out, o, both, both - full * width),
                )
    restore(mode)
