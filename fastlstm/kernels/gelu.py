"""GELU, ``x * Phi(x)`` with the normal distribution itself (Hendrycks and Gimpel 2016), not its approximation by tanh.

The upper tail is ``Phi(-a) = erfc(z) / 2`` for ``a = |x|``, ``z = a / sqrt(2)``, and ``erfc(z) = exp(-z^2) * q / (1 +
2z)``, where ``q`` goes from 1 to ``2 / sqrt(pi)`` so smoothly that a polynomial in ``t = (z - k) / (z + k)`` gives it
for every z (Shepherd and Laframboise 1981). Then ``gelu(x) = max(x, 0) - a * Phi(-a)``.
"""

import math
from typing import NamedTuple

from ..simd.lanes import Lane
from ..simd.vector import lanewise
from .activations import exp_of

__all__ = ["gelu", "slope_of_gelu"]


class _Constants(NamedTuple):
    """What the tail needs for one float type."""

    flat: float  # from this a on the tail is 0, for all that a sum with it tells
    k: float
    polynomial: tuple[float, ...]  # q, highest power of t first


_FLOAT32 = _Constants(
    flat=12.5,
    k=2.0,
    # Chebyshev interpolation over 0 <= z <= 10: within 2e-8 of the value
    polynomial=(
        2.0319588536538246e-05,
        -0.0003758978723736679,
        -0.0012518441649415361,
        0.00128473429232426,
        0.008640511788759917,
        -0.008048552250709405,
        -0.054206034000196586,
        0.16405369934148734,
        -0.1660312703474525,
        -0.0927639180787554,
        1.2769783907971164,
    ),
)

_FLOAT64 = _Constants(
    flat=37.0,
    k=3.75,
    # Chebyshev interpolation over 0 <= z <= 27: within 2e-17 of the value
    polynomial=(
        -2.337706312522679e-09,
        -6.593472109737e-10,
        3.285862244913645e-08,
        1.5447520210241472e-08,
        -2.529623443943851e-07,
        -4.760016599968858e-08,
        1.7486585524429924e-06,
        -9.804551146365724e-07,
        -1.1443386715647735e-05,
        2.2387333351774618e-05,
        5.164908072285061e-05,
        -0.00029015496980854525,
        0.00029371362337406084,
        0.001755626014932829,
        -0.009746579546764526,
        0.02836227740102912,
        -0.058693398590904264,
        0.0923043211614774,
        -0.10880393014168528,
        0.08227673849011403,
        0.003585415485463297,
        -0.1402405985855467,
        1.2375126308378275,
    ),
)


def _tail(x: Lane) -> tuple[Lane, Lane, Lane]:
    """Return ``a = |x|`` up to the bound, ``exp(-a^2 / 2)`` and ``Phi(-a)``."""
    constants = _FLOAT32 if x.vec.scalar.bitwidth == 32 else _FLOAT64
    a = x.call("fabs").at_most(constants.flat)
    z = a * math.sqrt(0.5)
    e = exp_of(-(z * z))
    t = (z - constants.k) / (z + constants.k)
    first, *others = constants.polynomial
    q = t.constant(first)
    for coefficient in others:
        q = q.fma(t, coefficient)
    return a, e, e * q * 0.5 / (z + z + 1.0)


@lanewise
def gelu(x):
    """``gelu(x)``: ``x * Phi(x)``."""
    a, _, tail = _tail(x)
    return x.at_least(0.0) - a * tail


@lanewise
def slope_of_gelu(x):
    """``slope_of_gelu(x)``: ``Phi(x) + x * phi(x)``."""
    a, e, tail = _tail(x)
    above = x.one_above(0.0)
    sign = above + above - 1.0
    return above - sign * tail + sign * a * e * (1.0 / math.sqrt(2.0 * math.pi))
