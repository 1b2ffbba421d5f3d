"""Rows of one pair of sequences, brought together, and the products of them.

A pair's rows stand in the batch far from each other, for its batch has all sequences' rows of a step side by side. So
they are copied: as panels, which both kinds of product take, rows by rows (`dots`) and a matrix by rows (`times`). R
rows of F features are ``ceil(F / W)`` panels of R rows, W features each (W is 4 registers), zeros from feature F on:
feature f of row r is at ``((f // W) * R + r) * W + f % W``.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...simd.dots import WIDTH, dot_step, no_sums, store_sums
from ...simd.host import REGISTERS
from ...simd.jit import jit_inner
from ...simd.tile import COLUMNS
from ...simd.vector import lanes_of, load, load_n, splat, store, store_n
from ..gemm import START, panel_products, panel_width, panels

__all__ = [
    "ACROSS",
    "QUERY_BLOCK",
    "BackwardScratch",
    "Pairs",
    "Scratch",
    "add",
    "clear",
    "copy",
    "dots",
    "gather",
    "multiply",
    "scatter",
    "scratch_for",
    "times",
]

QUERY_BLOCK = 48
"""Query steps that are taken at once, so that scratch stays small for long sequences: whole tiles of any height."""

_HEIGHT = 4 if REGISTERS.number >= 32 else 2
"""Rows of a tile of running dot products: 4 x 4 of 32 registers, 2 x 4 of 16."""

ACROSS = np.int64(1)
"""The stride of the rows of a transposed left operand, whose step along k is no literal."""

_product = panel_products(COLUMNS).product


class Pairs(NamedTuple):
    """Where the rows of each pair of sequences are.

    Attributes
    ----------
    query_rows, memory_rows : ndarray of int64, shape (steps + 1,)
        Row of the first sequence at each step (``Packed.offsets``): that of sequence n is n further on.
    query_steps, memory_steps : ndarray of int64, shape (N,)
        How many steps each sequence has.
    partners : ndarray of int64, shape (N,)
        Which sequence of the memory's batch goes with each of the queries'.
    """

    query_rows: NDArray[np.int64]
    query_steps: NDArray[np.int64]
    memory_rows: NDArray[np.int64]
    memory_steps: NDArray[np.int64]
    partners: NDArray[np.int64]


class Scratch(NamedTuple):
    """Memory of one core for `attend`: panels of a block of queries and of what they make, of keys and of values."""

    query: NDArray[Any]
    key: NDArray[Any]
    value: NDArray[Any]
    scores: NDArray[Any]
    context: NDArray[Any]
    zeros: NDArray[Any]


class BackwardScratch(NamedTuple):
    """Memory of one core for `attend_backward`; names with a d hold gradients."""

    query: NDArray[Any]
    key: NDArray[Any]
    value: NDArray[Any]
    weights: NDArray[Any]
    dquery: NDArray[Any]
    dkey: NDArray[Any]
    dvalue: NDArray[Any]
    dscores: NDArray[Any]
    dcontext: NDArray[Any]
    zeros: NDArray[Any]


def _padded(steps: int) -> int:
    """Return the memory steps that `dots` takes for these."""
    return -(-steps // WIDTH) * WIDTH


def scratch_for(
    steps: tuple[int, int], features: tuple[int, int], dtype: np.dtype[Any], *, backward: bool
) -> list[int]:
    """Return the elements of each array of `Scratch`, or of `BackwardScratch`.

    `steps` are those of the longest query and memory, `features` those of queries and values.
    """
    block, memory = min(steps[0], QUERY_BLOCK), _padded(steps[1])
    wide, out = (panels(count, dtype) * panel_width(dtype) for count in features)
    first = [block * wide, memory * wide, memory * out, block * memory]
    more = [block * wide, memory * wide, memory * out, block * memory] if backward else []
    return [*first, *more, block * out, panel_width(dtype)]


@jit_inner
def gather(rows, features, offsets, sequence, first, count, out, padded):
    """Copy the rows of `count` steps of a sequence, from step `first` on, to `out` as panels of `padded` rows."""
    lanes = lanes_of(out)
    width = COLUMNS * lanes
    for r in range(padded):
        exists = r < count
        row = (offsets[first + r] + sequence) * features if exists else 0
        for f in range(0, (features + width - 1) // width * width, lanes):
            at = (f // width * padded + r) * width + f % width
            left = features - f if exists else 0
            if left >= lanes:
                store(out, at, load(rows, row + f))
            else:
                store(out, at, load_n(rows, row + f, left))


@jit_inner
def scatter(panels_in, padded, rows, features, offsets, sequence, first, count):
    """Copy panels of `padded` rows back to the rows of `count` steps of a sequence."""
    lanes = lanes_of(rows)
    width = COLUMNS * lanes
    for r in range(count):
        row = (offsets[first + r] + sequence) * features
        for f in range(0, features, lanes):
            values = load(panels_in, (f // width * padded + r) * width + f % width)
            if features - f >= lanes:
                store(rows, row + f, values)
            else:
                store_n(rows, row + f, values, features - f)


@jit_inner
def copy(source, i, out, o, count):
    """Copy `count` values."""
    lanes = lanes_of(out)
    rest = count % lanes
    for c in range(0, count - rest, lanes):
        store(out, o + c, load(source, i + c))
    if rest:
        store_n(out, o + count - rest, load_n(source, i + count - rest, rest), rest)


@jit_inner
def add(z, i, more, f, count):
    """Add ``more[f:f + count]`` to ``z[i:i + count]``."""
    lanes = lanes_of(z)
    for c in range(0, count, lanes):
        n = min(lanes, count - c)
        store_n(z, i + c, load_n(z, i + c, n) + load_n(more, f + c, n), n)


@jit_inner
def multiply(z, i, factors, f, count):
    """Multiply ``z[i:i + count]`` by ``factors[f:f + count]``."""
    lanes = lanes_of(z)
    for c in range(0, count, lanes):
        n = min(lanes, count - c)
        store_n(z, i + c, load_n(z, i + c, n) * load_n(factors, f + c, n), n)


@jit_inner
def clear(values, count):
    """Write `count` zeros, whole registers of them."""
    for i in range(0, count, lanes_of(values)):
        store(values, i, splat(values, 0.0))


@jit_inner
def dots(a, a_rows, rows, b, b_rows, features, out):
    """Write ``out[r * b_rows + s] = a[r] . b[s]``, both of `features` features as panels of a_rows and b_rows rows."""
    lanes = lanes_of(a)
    width = COLUMNS * lanes
    r = 0
    while r < rows:
        tall = rows - r >= _HEIGHT
        for s in range(0, b_rows, WIDTH):
            if tall:
                acc = no_sums(_HEIGHT, a)
                for f in range(0, features, lanes):
                    panel, c = f // width, f % width
                    i = (panel * a_rows + r) * width + c
                    acc = dot_step(acc, a, i, width, b, (panel * b_rows + s) * width + c, width)
                store_sums(acc, out, r * b_rows + s, b_rows)
            else:
                one = no_sums(1, a)
                for f in range(0, features, lanes):
                    panel, c = f // width, f % width
                    i = (panel * a_rows + r) * width + c
                    one = dot_step(one, a, i, width, b, (panel * b_rows + s) * width + c, width)
                store_sums(one, out, r * b_rows + s, b_rows)
        r += _HEIGHT if tall else 1


@jit_inner
def times(left, k_stride, rows, right, right_rows, k, features, start, out, out_rows):
    """Write ``start + A @ B``, `rows` rows of it, to panels of out_rows rows.

    Element (r, c) of A is ``a[r * row_stride + c * k_stride]``, with `left` ``(a, row_stride)``. B is `right`, as
    panels of right_rows rows, of which k count. `start` is ``(values, stride)``: rows like those of `out`, or of stride
    0 and a panel of zeros.
    """
    a, row_stride = left
    values, stride = start
    width = COLUMNS * lanes_of(out)
    for f in range(0, features, width):
        j = f * right_rows
        o = f * out_rows
        _product(
            (a, START, row_stride),
            k_stride,
            rows,
            (right, j, j + right_rows * width, k),
            (values, o if stride else 0, stride),
            (out, o, width, width),
        )
