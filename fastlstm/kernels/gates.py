"""The LSTM's weights in blocks: the i, f, g, o of the same L units side by side, and back in torch's order.

Of the last block, half is enough if it has no more than L / 2 units: its gates then stand L / 2 apart, not L.

Letters as in ``kernels/lstm.py``.
"""

import numpy as np

from ..simd.tile import COLUMNS, transpose
from ..simd.vector import join, lanes_of, load, load_n, splat, store, store_n, upper
from ._jit import jit, jit_inline
from .activations import LOG2E

__all__ = [
    "GATE_UNITS",
    "load_block",
    "pack_gates",
    "pack_gates_transposed",
    "span",
    "span_of",
    "store_block",
    "unpack_gates",
]

GATE_UNITS = np.array([-LOG2E, -LOG2E, 2.0 * LOG2E, -LOG2E])
"""What the weights of i, f, g and o are multiplied by: a gate then needs ``2**a`` and nothing before it."""


def span_of(units: int, lanes: int) -> int:
    """Return the units up to halves of a register, S: a row of gates has four times as many columns."""
    half = lanes // 2
    return (units + half - 1) // half * half


span = jit_inline(span_of)
"""The same for kernels."""


@jit_inline
def load_block(gates, g, half):
    """Return the four gates of a block; of half a block in the lower lanes."""
    width = lanes_of(gates)
    i, f = load(gates, g), load(gates, g + width)
    if half:
        return i, upper(i), f, upper(f)
    return i, f, load(gates, g + 2 * width), load(gates, g + 3 * width)


@jit_inline
def store_block(gates, g, half, i, f, z, o):
    """Store the four gates of a block as they are laid out."""
    width = lanes_of(gates)
    if half:
        store(gates, g, join(i, f))
        store(gates, g + width, join(z, o))
    else:
        store(gates, g, i)
        store(gates, g + width, f)
        store(gates, g + 2 * width, z)
        store(gates, g + 3 * width, o)


@jit
def pack_gates(w, k, units, scales, packed, begin, end):
    """Pack the blocks `begin` to `end` of a weight (4H, K), gates i f g o in rows, into panels (K, 4 * L).

    Bias vectors are the case K = 1. Of half a block, the second half of the panel is zeros.

    w       (4H * K,)         float, in
    scales  (4,) float64, in  a factor for each gate
    packed  (B * K * 4 * L,)  float, out; zeros for padding units
    """
    width = lanes_of(packed)
    for first in range(begin * width, end * width, width):
        whole = first + width <= units
        apart = min(width, span(units, width) - first)
        if apart < width:
            for place in range(first * 4 * k, (first + width) * 4 * k):
                packed[place] = 0.0
        for gate in range(4):
            source = (gate * units + first) * k
            place = first * 4 * k + gate * apart
            for c in range(0, k, width):
                if whole and c + width <= k:
                    transpose(w, source + c, k, scales[gate], packed, place + c * 4 * width, 4 * width)
                    continue
                for lane in range(apart):
                    for i in range(c, min(c + width, k)):
                        exists = first + lane < units
                        packed[place + i * 4 * width + lane] = (
                            w[source + lane * k + i] * scales[gate] if exists else 0.0
                        )


@jit
def pack_gates_transposed(w, n, units, packed, begin, end):
    """Pack a weight (4H, N) as the right operand of a product over gates: panels (4 * S, 4 * L) of its columns.

    The panels `begin` to `end`.

    w       (4H * N,)                        float, in
    packed  (ceil(N / 4L) * 4 * S * 4 * L,)  float, out; zeros for padding
    """
    width = lanes_of(packed)
    wide = COLUMNS * width
    place = begin * 4 * span(units, width) * wide
    for c in range(begin * wide, end * wide, wide):
        for first in range(0, units, width):
            for gate in range(4):
                for unit in range(first, min(first + width, span(units, width))):
                    source = (gate * units + unit) * n + c
                    for v in range(0, wide, width):
                        count = n - c - v if unit < units else 0
                        if count >= width:
                            store(packed, place, load(w, source + v))
                        elif count > 0:
                            store(packed, place, load_n(w, source + v, count))
                        else:
                            store(packed, place, splat(packed, 0.0))
                        place += width


@jit
def unpack_gates(packed, first_column, stride, k, units, w, begin, end):
    """Copy the blocks `begin` to `end` of rows in the order of the columns of `gates` into torch's order.

    packed  (any,)        float, in: row r of 4 * S begins at element ``r * stride + first_column``
    w       (4H * K,)     float, out
    """
    width = lanes_of(packed)
    for first in range(begin * width, end * width, width):
        apart = min(width, span(units, width) - first)
        for gate in range(4):
            for unit in range(first, min(first + width, units)):
                source = (first * 4 + gate * apart + unit - first) * stride + first_column
                target = (gate * units + unit) * k
                for c in range(0, k, width):
                    if c + width <= k:
                        store(w, target + c, load(packed, source + c))
                    else:
                        store_n(w, target + c, load_n(packed, source + c, k - c), k - c)
