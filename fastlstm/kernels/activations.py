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

NaN gives NaN. exp clamps its argument to -87 .. 88 (float32) or -708 .. 709 (float64), just inside the normal numbers:
beyond, it gives the value at the bound, neither 0 nor infinity.
"""

import math
from typing import NamedTuple

from ..simd.lanes import Lane
from ..simd.vector import lanes_of, lanewise, load, load_n, store, store_n
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


def _of(x: Lane) -> _Constants:
    return _FLOAT32 if x.vec.scalar.bitwidth == 32 else _FLOAT64


def _reduce(x: Lane) -> tuple[Lane, Lane]:
    """Return ``(p, s)`` with ``exp(x) = s * (1 + p)``; `x` is within ``lowest`` and ``highest`` already."""
    constants = _of(x)
    shifted = x.fma(math.log2(math.e), constants.shift)
    n = shifted - constants.shift
    r = n.fma(-constants.ln2_low, n.fma(-constants.ln2_high, x))
    q = x.constant(constants.polynomial[0])
    for coefficient in constants.polynomial[1:]:
        q = q.fma(r, coefficient)
    return q.fma(r * r, r), shifted.power_of_two()


def _exp(x: Lane) -> Lane:
    constants = _of(x)
    p, s = _reduce(x.at_least(constants.lowest).at_most(constants.highest))
    return s.fma(p, s)


@lanewise
def vexp(x):
    """``vexp(x)``: exp of every lane."""
    return _exp(x)


@lanewise
def sigmoid(x):
    """``sigmoid(x)``: ``1 / (1 + exp(-x))`` of every lane."""
    return 1.0 / (_exp(-x) + 1.0)


@lanewise
def tanh(x):
    """``tanh(x)``: the hyperbolic tangent of every lane, ``expm1(2x) / (expm1(2x) + 2)``."""
    flat = _of(x).tanh_flat
    p, s = _reduce((x + x).at_least(-flat).at_most(flat))
    minus_one = s.fma(p, s - 1.0)
    return minus_one / (minus_one + 2.0)


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
