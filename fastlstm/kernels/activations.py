"""exp, tanh and sigmoid of every lane of a Vec or of a whole Tile.

All three rest on one reduction, ``exp(x) = s * (1 + p)`` with ``s = 2**n``, ``n = round(x / ln 2)`` and ``p`` the
polynomial ``exp(r) - 1`` of the remainder ``|r| <= ln(2) / 2``. Keeping ``p`` apart from 1 is what makes tanh right to
the last bits near zero: there ``s = 1`` and ``expm1(x) = p``.

Largest errors against the correctly rounded result (``tests/kernels/test_activations.py`` holds them):

=========  ===========  ===========
function   float32      float64
=========  ===========  ===========
exp        2 ulp        2 ulp
tanh       4 ulp        4 ulp
sigmoid    4 ulp        4 ulp
=========  ===========  ===========

NaN gives NaN. exp of x below the least normal number's logarithm gives 0 or that number; above the largest, infinity
is not reached: x is clamped, so exp(inf) is about the largest power of two.
"""

import math
from typing import NamedTuple

from numba.extending import overload

from ..simd.vector import (
    fma,
    lanes_of,
    load,
    load_n,
    power_of_two,
    splat,
    store,
    store_n,
    vec_like,
    vmax,
    vmin,
)
from ._jit import jit

__all__ = ["sigmoid", "sigmoid_rows", "tanh", "tanh_rows", "vexp"]


class _Constants(NamedTuple):
    """What the reduction needs for one float type."""

    shift: float  # 1.5 * 2**mantissa bits: adding it rounds to a whole number
    ln2_high: float  # ln 2 with trailing zero bits, so that n * ln2_high is exact
    ln2_low: float
    lowest: float  # exp clamps below and above to stay among the normal numbers
    highest: float
    tanh_flat: float  # 2 * |x| beyond which tanh rounds to 1
    polynomial: tuple[float, ...]  # (exp(r) - 1 - r) / r**2, highest power first


_FLOAT32 = _Constants(
    shift=1.5 * 2.0**23,
    ln2_high=0.693359375,
    ln2_low=-2.12194440e-4,
    lowest=-87.0,
    highest=88.0,
    tanh_flat=20.0,
    # Cephes expf (Moshier 1989): minimax on [-ln(2)/2, ln(2)/2]
    polynomial=(
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    ),
)

_FLOAT64 = _Constants(
    shift=1.5 * 2.0**52,
    ln2_high=6.93145751953125e-1,
    ln2_low=1.42860682030941723212e-6,
    lowest=-708.0,
    highest=709.0,
    tanh_flat=40.0,
    # Taylor: the first term left out is r**14 / 14! < 5e-18
    polynomial=tuple(1.0 / math.factorial(k) for k in range(13, 1, -1)),
)


def _of(register) -> _Constants:
    """Return the constants for the float type of a Vec or Tile type."""
    return _FLOAT32 if vec_like(register).scalar.bitwidth == 32 else _FLOAT64


def _reduce(x):  # pragma: no cover - exists for its overload
    raise NotImplementedError


@overload(_reduce)
def _reduce_overload(x):
    """Return ``(p, s)`` with ``exp(x) = s * (1 + p)``; `x` is within ``lowest`` and ``highest`` already."""
    constants = _of(x)
    shift, high, low = constants.shift, -constants.ln2_high, -constants.ln2_low
    polynomial = constants.polynomial
    log2e = math.log2(math.e)

    def reduce(x):
        shifted = fma(x, splat(x, log2e), splat(x, shift))
        n = shifted - splat(x, shift)
        r = fma(n, splat(x, low), fma(n, splat(x, high), x))
        q = splat(x, polynomial[0])
        for k in range(1, len(polynomial)):
            q = fma(q, r, splat(x, polynomial[k]))
        return fma(q, r * r, r), power_of_two(shifted)

    return reduce


def vexp(x):  # pragma: no cover - exists for its overload
    """Return exp of every lane of the Vec or Tile `x`."""
    raise NotImplementedError


@overload(vexp)
def _vexp(x):
    constants = _of(x)
    lowest, highest = constants.lowest, constants.highest

    def exp(x):
        p, s = _reduce(vmin(vmax(x, splat(x, lowest)), splat(x, highest)))
        return fma(s, p, s)

    return exp


def sigmoid(x):  # pragma: no cover - exists for its overload
    """Return 1 / (1 + exp(-x)) of every lane of the Vec or Tile `x`."""
    raise NotImplementedError


@overload(sigmoid)
def _sigmoid(x):
    return lambda x: splat(x, 1.0) / (splat(x, 1.0) + vexp(-x))


def tanh(x):  # pragma: no cover - exists for its overload
    """Return the hyperbolic tangent of every lane of the Vec or Tile `x`: ``expm1(2x) / (expm1(2x) + 2)``."""
    raise NotImplementedError


@overload(tanh)
def _tanh(x):
    flat = _of(x).tanh_flat

    def tanh(x):
        p, s = _reduce(vmin(vmax(x + x, splat(x, -flat)), splat(x, flat)))
        minus_one = fma(s, p, s - splat(x, 1.0))
        return minus_one / (minus_one + splat(x, 2.0))

    return tanh


@jit
def sigmoid_rows(x, begin, end):
    """Overwrite ``x[begin:end]`` (1-D, contiguous float) with its sigmoid."""
    width = lanes_of(x)
    for i in range(begin, end - width + 1, width):
        store(x, i, sigmoid(load(x, i)))
    rest = (end - begin) % width
    if rest:
        store_n(x, end - rest, sigmoid(load_n(x, end - rest, rest)), rest)


@jit
def tanh_rows(x, begin, end):
    """Overwrite ``x[begin:end]`` (1-D, contiguous float) with its hyperbolic tangent."""
    width = lanes_of(x)
    for i in range(begin, end - width + 1, width):
        store(x, i, tanh(load(x, i)))
    rest = (end - begin) % width
    if rest:
        store_n(x, end - rest, tanh(load_n(x, end - rest, rest)), rest)
