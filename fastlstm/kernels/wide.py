"""Wide numbers: ``m * 2**e`` with both parts in registers, so that products of thousands of probabilities stay exact.

A chain of probabilities leaves the float64 numbers after some hundred factors. In logarithms it does not, but sums then
take an exponential and a logarithm each, and lose digits as the logarithm grows. A wide number keeps all 53 bits of its
significand, and its exponent is a whole number in a float64 of its own: a product is a product and a sum, a sum of two
needs one shift. That is exact where the logarithm of 1e-10000 has lost four digits.

A significand is never 0: what cannot be is a number with an exponent of about `ZERO`, of which nothing is left when it
is added to a number that can be.
"""

from ..simd.vector import lanewise
from .activations import exp_in_parts

__all__ = ["NEVER", "ZERO", "exp_exponent", "exp_significand", "exponent_of", "scaled", "significand_of"]

ZERO = -(2.0**51)
"""Exponent of what cannot be."""

NEVER = -(2.0**49)
"""A number whose exponent is lower than this counts as 0."""

_LEAST = -1023.0
"""Exponent from which a power of two is 0: one below those of the normal numbers."""


@lanewise
def scaled(m, n):
    """``scaled(m, n)``: ``m * 2**n`` for whole numbers n up to 1023; 0 where n is below -1022."""
    return m * (n.at_least(_LEAST) + 1.5 * 2.0**52).power_of_two()


@lanewise
def exponent_of(x):
    """``exponent_of(x)``: the exponent of a float64 number, positive and normal."""
    return x.exponent()


@lanewise
def significand_of(x):
    """``significand_of(x)``: ``x / 2**exponent_of(x)``, from 1 to less than 2."""
    return x.significand()


@lanewise
def exp_exponent(x):
    """``exp_exponent(x)``: the whole number e with ``exp(x) = m * 2**e``, for any x up to 0; below `NEVER` for -inf."""
    return exp_in_parts(x, NEVER)[1]


@lanewise
def exp_significand(x):
    """``exp_significand(x)``: the m that goes with it, from 0.7 to 1.42."""
    return exp_in_parts(x, NEVER)[0]
