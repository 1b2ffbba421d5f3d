"""Weights in the order of the gates' columns: blocks of L units, in a block gate after gate; and back in torch's order.

Of a cell with four gates, half of a last block is enough if it has no more than L / 2 units: its gates then stand L / 2
apart, not L. So S, the units that a row of gates has room for, is H up to half registers; for other cells, up to whole
ones.

Letters as in ``kernels/recurrent/sequence.py``; G gates, C registers of a panel: G of them, or 4 where G is 1.
"""

from functools import lru_cache
from typing import Any

from ...simd.jit import jit, jit_inline
from ...simd.tile import COLUMNS, transpose
from ...simd.vector import lanes_of, load, load_n, splat, store, store_n
from ..cells import Cell

__all__ = [
    "all_weights",
    "pack_gates",
    "pack_gates_transposed",
    "packed_units",
    "packed_units_of",
    "unpack_gates",
]


def packed_units_of(units: int, lanes: int, halves: bool) -> int:
    """Return S for so many units: a row of gates has G times as many columns."""
    step = lanes // 2 if halves else lanes
    return (units + step - 1) // step * step


packed_units = jit_inline(packed_units_of)
"""The same for kernels."""


@lru_cache(maxsize=64)
def all_weights(cell: Cell) -> Any:
    """Return the kernel that tells the six packed weights of a tuple that lacks those `cell` has none of."""
    if not cell.plain:

        def as_they_are(weights):
            return weights

        return jit_inline(as_they_are, cell.name)

    def with_none(weights):
        packed, bias, recurrent = weights
        none = bias[:0]
        return packed, bias, recurrent, none, none, none

    return jit_inline(with_none, cell.name)


@jit
def pack_gates(w, k, units, scales, packed, begin, end):
    """Pack the panels `begin` to `end` of a weight (G * H, K), gate after gate in rows, into panels (K, C * L).

    Bias vectors are the case K = 1.

    w       (G * H * K,)      float, in
    scales  (G,) float64, in  a factor for each gate
    packed  (P * K * C * L,)  float, out; zeros for padding units
    """
    lanes = lanes_of(packed)
    gates = len(scales)
    columns = 3 if gates == 3 else COLUMNS
    width = columns * lanes
    each = columns // gates * lanes  # units of a panel
    room = packed_units(units, lanes, gates == COLUMNS)
    for panel in range(begin, end):
        first_unit = panel * each
        if first_unit + each > room:  # half a block, or fewer blocks than a panel has
            for place in range(panel * width * k, (panel + 1) * width * k):
                packed[place] = 0.0
        for first in range(first_unit, min(first_unit + each, room), lanes):
            whole = first + lanes <= units
            apart = min(lanes, room - first)
            for gate in range(gates):
                source = (gate * units + first) * k
                place = panel * width * k + (first - first_unit) * gates + gate * apart
                for c in range(0, k, lanes):
                    if whole and c + lanes <= k:
                        transpose(w, source + c, k, scales[gate], packed, place + c * width, width)
                        continue
                    for lane in range(apart):
                        for i in range(c, min(c + lanes, k)):
                            exists = first + lane < units
                            packed[place + i * width + lane] = (
                                w[source + lane * k + i] * scales[gate] if exists else 0.0
                            )


@jit
def pack_gates_transposed(w, n, units, gates, packed, begin, end):
    """Pack a weight (G * H, N) as the right operand of a product over gates: panels (G * S, 4 * L) of its columns.

    The panels `begin` to `end`.

    w       (G * H * N,)                     float, in
    packed  (ceil(N / 4L) * G * S * 4 * L,)  float, out; zeros for padding
    """
    lanes = lanes_of(packed)
    width = COLUMNS * lanes
    room = packed_units(units, lanes, gates == COLUMNS)
    place = begin * gates * room * width
    for c in range(begin * width, end * width, width):
        for first in range(0, room, lanes):
            for gate in range(gates):
                for unit in range(first, min(first + lanes, room)):
                    source = (gate * units + unit) * n + c
                    for v in range(0, width, lanes):
                        count = n - c - v if unit < units else 0
                        if count >= lanes:
                            store(packed, place, load(w, source + v))
                        elif count > 0:
                            store(packed, place, load_n(w, source + v, count))
                        else:
                            store(packed, place, splat(packed, 0.0))
                        place += lanes


@jit
def unpack_gates(packed, first_column, row_stride, k, units, gates, w, begin, end):
    """Copy the blocks of L units `begin` to `end` of rows in the order of the columns of `gates` into torch's order.

    packed  (any,)        float, in: row r of G * S begins at element ``r * row_stride + first_column``
    w       (G * H * K,)  float, out
    """
    lanes = lanes_of(packed)
    room = packed_units(units, lanes, gates == COLUMNS)
    for first in range(begin * lanes, end * lanes, lanes):
        apart = min(lanes, room - first)
        for gate in range(gates):
            for unit in range(first, min(first + lanes, units)):
                source = (first * gates + gate * apart + unit - first) * row_stride + first_column
                target = (gate * units + unit) * k
                for c in range(0, k, lanes):
                    if c + lanes <= k:
                        store(w, target + c, load(packed, source + c))
                    else:
                        store_n(w, target + c, load_n(packed, source + c, k - c), k - c)
