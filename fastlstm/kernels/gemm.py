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

from typing import Any

import numpy as np

from ..simd.host import REGISTERS
from ..simd.tile import COLUMNS, ROWS, load_rows_n, rank1, splat_columns, store_rows, store_rows_n, transpose
from ..simd.vector import lanes_of, load, load_n, splat, store, store_n
from ._jit import jit, jit_inline, jit_inner

__all__ = [
    "ROW_BLOCK",
    "pack",
    "panel_product",
    "panel_width",
    "panels",
    "product",
    "product_over_rows",
    "row_times_panel",
    "scratch_size",
    "tile_height",
]

ROW_BLOCK = 256
"""Rows that `product_over_rows` sums before it goes on: its packed block of both operands stays in the L2 cache."""

_LEFT_BLOCK = 1 << 15
"""Elements of the left operand that `product` keeps in the L2 cache while it walks over all panels."""

_LEFT_COLUMNS = np.int64(48)
"""Columns of the left operand that `product_over_rows` packs at once: whole registers and whole tiles of any size."""

SAME_FOR_ALL = np.int64(0)
"""The stride of a start that all rows share. Typed: Numba would compile everything once more for a literal 0."""


def panel_width(dtype) -> int:
    """Return the columns of one packed panel for arrays of `dtype`: 4 registers."""
    return COLUMNS * REGISTERS.lanes(dtype.itemsize)


def panels(columns: int, dtype) -> int:
    """Return how many panels hold `columns` columns."""
    return -(-columns // panel_width(dtype))


@jit_inner
def tile_height(rows):
    """Return the height of the next tile when `rows` are left, so that no single row is left over needlessly.

    One row is bound by loads, two or more by arithmetic: 7 rows are cut 4 + 3, not 6 + 1.
    """
    if ROWS == 6:
        if rows >= 8 or rows == 6:
            return 6
        if rows == 7 or rows == 4:
            return 4
        return 3 if rows == 5 else rows
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


def _make_tile(rows: int, columns: int = COLUMNS, compile_: Any = jit_inner) -> Any:
    """Return the kernel of one tile: walk down the first `columns` registers of a panel, then write the rows."""

    def tile(a, i, row_stride, k_stride, panel, j, k, start, s, start_stride, out, o, out_stride, n):
        step = COLUMNS * lanes_of(panel)
        if start_stride == 0:
            acc = splat_columns(rows, columns, start, s)
        else:
            acc = load_rows_n(rows, columns, start, s, start_stride, n)
        for _ in range(k):
            acc = rank1(acc, a, i, row_stride, panel, j)
            i += k_stride
            j += step
        if n >= columns * lanes_of(panel):
            store_rows(acc, out, o, out_stride)
        else:
            store_rows_n(acc, out, o, out_stride, n)

    # Numba names machine code after the function, and a number that begins anew in each process: without a name of its
    # own, a tile from one process's cache takes the place of one of another height from another's.
    tile.__qualname__ = tile.__name__ = f"{compile_.__name__}_tile_of_{rows}_by_{columns}"
    return compile_(tile)


_tile1, _tile2, _tile3 = (_make_tile(rows) for rows in (1, 2, 3))
_narrow = _make_tile(ROWS, COLUMNS // 2)
"""The tallest tile for a last panel that is half empty or more: half the arithmetic."""

row_times_panel = _make_tile(1, compile_=jit_inline)
"""One row by one panel, made part of its caller: a call costs as much as 10 of its steps along k."""


@jit_inline
def _tile_up_to_3(height, a, i, row_stride, k_stride, panel, j, k, start, s, start_stride, out, o, out_stride, n):
    if height == ROWS and n <= COLUMNS // 2 * lanes_of(panel):
        _narrow(a, i, row_stride, k_stride, panel, j, k, start, s, start_stride, out, o, out_stride, n)
    elif height == 3:
        _tile3(a, i, row_stride, k_stride, panel, j, k, start, s, start_stride, out, o, out_stride, n)
    elif height == 2:
        _tile2(a, i, row_stride, k_stride, panel, j, k, start, s, start_stride, out, o, out_stride, n)
    else:
        _tile1(a, i, row_stride, k_stride, panel, j, k, start, s, start_stride, out, o, out_stride, n)


if ROWS == 6:
    _tile4, _tile6 = (_make_tile(rows) for rows in (4, 6))

    @jit_inline
    def _tile_up_to_6(height, a, i, row_stride, k_stride, panel, j, k, start, s, start_stride, out, o, out_stride, n):
        if height == 6 and n <= COLUMNS // 2 * lanes_of(panel):
            _narrow(a, i, row_stride, k_stride, panel, j, k, start, s, start_stride, out, o, out_stride, n)
        elif height == 6:
            _tile6(a, i, row_stride, k_stride, panel, j, k, start, s, start_stride, out, o, out_stride, n)
        elif height == 4:
            _tile4(a, i, row_stride, k_stride, panel, j, k, start, s, start_stride, out, o, out_stride, n)
        else:
            _tile_up_to_3(
                height, a, i, row_stride, k_stride, panel, j, k, start, s, start_stride, out, o, out_stride, n
            )

    _tile = _tile_up_to_6
else:
    _tile = _tile_up_to_3


@jit_inner
def panel_product(a, i, row_stride, k_stride, rows, panel, j, k, start, s, start_stride, out, o, out_stride, n):
    """Write `rows` rows by one panel of ``start + A @ B``, in tiles.

    Row r and column c of A are ``a[i + r * row_stride + c * k_stride]``; the panel begins at ``panel[j]`` and has k
    rows; row r of the start values begins at ``start[s + r * start_stride]`` (stride 0: the same for all rows, a whole
    panel wide), that of the output at ``out[o + r * out_stride]``, where only the first n columns exist.
    """
    row = 0
    while row < rows:
        height = tile_height(rows - row)
        _tile(
            height,
            a,
            i + row * row_stride,
            row_stride,
            k_stride,
            panel,
            j,
            k,
            start,
            s + row * start_stride,
            start_stride,
            out,
            o + row * out_stride,
            out_stride,
            n,
        )
        row += height


@jit
def product(a, a_stride, packed, k, bias, out, out_stride, n, begin, end):
    """Write ``out[r] = bias + a[r] @ B`` for the rows r from `begin` to `end`.

    a       (M, K)           float, in; row r begins at element ``r * a_stride``
    packed  (P * K * 4L,)    float, in: B (K, N), see `pack`
    bias    (P * 4L,)        float, in: the start of every row, zeros beyond N
    out     (M, N)           float, out; row r begins at element ``r * out_stride``
    """
    a = a.reshape(-1)
    out = out.reshape(-1)
    width = COLUMNS * lanes_of(packed)
    block = max(ROWS * 4, _LEFT_BLOCK // max(k, 1) // ROWS * ROWS)
    for first in range(begin, end, block):
        last = min(first + block, end)
        for p in range((n + width - 1) // width):
            panel_product(
                a,
                first * a_stride,
                a_stride,
                1,
                last - first,
                packed,
                p * k * width,
                k,
                bias,
                p * width,
                SAME_FOR_ALL,
                out,
                first * out_stride + p * width,
                out_stride,
                n - p * width,
            )


def scratch_size(n: int, dtype) -> int:
    """Return the elements of scratch that one core needs in `product_over_rows` for N = `n`."""
    width = panel_width(dtype)
    return width + ROW_BLOCK * (panels(n, dtype) * width + int(_LEFT_COLUMNS))


@jit_inner
def _pack_block(b, b_stride, b_rows, first, k, n, packed, place):
    """Pack the rows `first` to ``first + k`` of B into panels at ``packed[place:]``."""
    lanes = lanes_of(packed)
    width = COLUMNS * lanes
    for c in range(0, n, width):
        for r in range(first, first + k):
            source = (b_rows[r] if len(b_rows) else r) * b_stride + c
            for v in range(0, width, lanes):
                if c + v + lanes <= n:
                    store(packed, place + v, load(b, source + v))
                else:
                    store(packed, place + v, load_n(b, source + v, n - c - v))
            place += width


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
def product_over_rows(a, a_stride, b, b_stride, b_rows, rows, out, n, sums, add, scratch, begin, end):
    """Write ``out[m] = sum over r of a[r, m] * b[b_rows[r]]``, and ``sums[m] = sum over r of a[r, m]``.

    The product A transposed times B that every weight gradient is, and the bias gradient on the way; for the columns
    m of A from `begin` to `end`.

    a        (rows, A)    float, in; row r begins at element ``r * a_stride``
    b        (any, N)     float, in; row r begins at element ``r * b_stride``
    b_rows   (rows,)      int64, in: which row of B goes with row r of A; of length 0: the same row
    out      (A, N)       float, out
    sums     (A,)         float, out; of length 0: not wanted
    add      whether to add to what is in `out` and `sums`
    scratch  (S,)         float, overwritten; S = `scratch_size`; one for each core
    """
    a = a.reshape(-1)
    b = b.reshape(-1)
    out = out.reshape(-1)
    width = COLUMNS * lanes_of(out)
    right = width
    left = right + (n + width - 1) // width * width * ROW_BLOCK
    for c in range(width):
        scratch[c] = 0.0
    for m in range(begin, begin if add else end):
        for c in range(0 if rows else n):  # an empty sum
            out[m * n + c] = 0.0
        if len(sums):
            sums[m] = 0.0
    for first in range(0, rows, ROW_BLOCK):
        k = min(ROW_BLOCK, rows - first)
        _pack_block(b, b_stride, b_rows, first, k, n, scratch, right)
        for m_first in range(begin, end, _LEFT_COLUMNS):
            m_last = min(m_first + _LEFT_COLUMNS, end)
            _pack_columns(a, first * a_stride + m_first, a_stride, k, m_last - m_first, scratch, left, sums, m_first)
            m = m_first
            while m < m_last:
                height = tile_height(m_last - m)
                i = left + m - m_first
                for p in range((n + width - 1) // width):
                    j = right + p * k * width
                    o = m * n + p * width
                    rest = n - p * width
                    if first == 0 and not add:
                        zeros = SAME_FOR_ALL  # they stand at the start of scratch
                        _tile(
                            *(height, scratch, i, 1, _LEFT_COLUMNS, scratch, j, k),
                            *(scratch, zeros, SAME_FOR_ALL, out, o, n, rest),
                        )
                    else:
                        _tile(height, scratch, i, 1, _LEFT_COLUMNS, scratch, j, k, out, o, n, out, o, n, rest)
                m += height
