"""exp, tanh and sigmoid of every lane of a Vec or of a whole Tile.

All rest on one reduction, ``2**t = s * (1 + p)`` with ``s = 2**n``, ``n = round(t)`` and ``p`` the polynomial
``2**f - 1`` of the remainder ``|f| <= 1/2``. Keeping ``p`` apart from 1 is what makes tanh right to the last bits near
zero: there ``s = 1`` and ``expm1(x) = p``.

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

Gates use the parts `one_plus_exp2`, `exp2_minus_1` and `expm1_twice`: ``sigmoid(x) = 1 / (1 + exp(-x))`` and
``tanh(x) = expm1(2x) / (expm1(2x) + 2)`` are fractions, and two fractions that are multiplied need one division.
"""

import math
from typing import Any, NamedTuple

from ..simd.jit import jit_inline
from ..simd.lanes import Lane
from ..simd.vector import lanewise, splat

__all__ = [
    "ACTIVATIONS",
    "LOG2E",
    "Activation",
    "constants_of",
    "exp2_minus_1",
    "exp_in_parts",
    "exp_of",
    "exp_parts",
    "expm1_twice",
    "one_plus_exp2",
    "sigmoid",
    "tanh",
    "vexp",
]

LOG2E = math.log2(math.e)


class _Constants(NamedTuple):
    """What the reduction needs for one float type."""

    shift: float  # 1.5 * 2**mantissa bits: adding it rounds to a whole number
    log2e: float  # in this type
    log2e_rest: float  # what it lacks
    lowest: float  # exp clamps below and above to stay among the normal numbers
    highest: float
    tanh_flat: float  # 2 * |x| beyond which tanh rounds to 1
    steep: float  # |t| beyond which 1 + 2**t stays as it is: a product with 2**tanh_flat is a normal number still
    polynomial: tuple[float, ...]  # (2**f - 1) / f, highest power first


_FLOAT32 = _Constants(
    shift=1.5 * 2.0**23,
    log2e=1.44269502162933349609375,
    log2e_rest=1.92596299112661746887e-8,
    lowest=-87.0,
    highest=88.0,
    tanh_flat=20.0,
    steep=96.0,
    # Chebyshev interpolation on [-1/2, 1/2]: within 1e-8 of the value
    polynomial=(
        1.545316294512069e-4,
        1.3390863364671234e-3,
        9.618082557277852e-3,
        5.550357114219078e-2,
        2.4022650760568126e-1,
        6.931471880262288e-1,
    ),
)

_FLOAT64 = _Constants(
    shift=1.5 * 2.0**52,
    log2e=LOG2E,
    log2e_rest=2.0355273740931033e-17,
    lowest=-708.0,
    highest=709.0,
    tanh_flat=40.0,
    steep=960.0,
    # Taylor: the first term left out is below 1e-17 of the value
    polynomial=tuple(math.log(2.0) ** k / math.factorial(k) for k in range(14, 0, -1)),
)


def constants_of(x: Lane) -> _Constants:
    """Return the constants of the lanes' float type."""
    return _FLOAT32 if x.vec.scalar.bitwidth == 32 else _FLOAT64


def _parts(shifted: Lane, f: Lane) -> tuple[Lane, Lane]:
    """Return ``(p, s)`` of a reduced argument: ``shifted`` is n plus the shift."""
    first, *others = constants_of(f).polynomial
    q = f.constant(first)
    for coefficient in others:
        q = q.fma(f, coefficient)
    return q * f, shifted.power_of_two()


def exp_parts(x: Lane) -> tuple[Lane, Lane]:
    """Return ``(p, s)`` with ``exp(x) = s * (1 + p)``; `x` is within ``lowest`` and ``highest`` already."""
    constants = constants_of(x)
    shifted = x.fma(constants.log2e, constants.shift)
    n = shifted - constants.shift
    return _parts(shifted, x.fma(constants.log2e_rest, x.fma(constants.log2e, -n)))


def exp_in_parts(x: Lane, lowest: float) -> tuple[Lane, Lane]:
    """Return ``(m, e)`` with ``exp(x) = m * 2**e``, e whole; `x` counts as `lowest` where it is below that."""
    constants = constants_of(x)
    x = x.at_least(lowest)
    shifted = x.fma(constants.log2e, constants.shift)
    e = shifted - constants.shift
    p, _ = _parts(shifted, x.fma(constants.log2e_rest, x.fma(constants.log2e, -e)))
    return p + 1.0, e


def _exp2_parts(t: Lane) -> tuple[Lane, Lane]:
    """Return ``(p, s)`` with ``2**t = s * (1 + p)``; `t` is within the normal exponents already."""
    shift = constants_of(t).shift
    shifted = t + shift
    return _parts(shifted, t - (shifted - shift))


def exp_of(x: Lane) -> Lane:
    """Return exp of every lane, between the clamps."""
    constants = constants_of(x)
    p, s = exp_parts(x.at_least(constants.lowest).at_most(constants.highest))
    return s.fma(p, s)


@lanewise
def vexp(x):
    """``vexp(x)``: exp of every lane."""
    return exp_of(x)


@lanewise
def one_plus_exp2(t):
    """``one_plus_exp2(t)``: ``1 + 2**t``; the denominator of ``sigmoid(x)`` for ``t = -x * LOG2E``."""
    steep = constants_of(t).steep
    p, s = _exp2_parts(t.at_least(-steep).at_most(steep))
    return s.fma(p, s) + 1.0


@lanewise
def exp2_minus_1(t):
    """``exp2_minus_1(t)``: ``2**t - 1``, where tanh is not flat yet; ``expm1(2x)`` for ``t = 2 * x * LOG2E``."""
    flat = constants_of(t).tanh_flat * LOG2E
    p, s = _exp2_parts(t.at_least(-flat).at_most(flat))
    return s.fma(p, s - 1.0)


def _expm1_twice(x: Lane) -> Lane:
    flat = constants_of(x).tanh_flat
    p, s = exp_parts((x + x).at_least(-flat).at_most(flat))
    return s.fma(p, s - 1.0)


@lanewise
def expm1_twice(x):
    """``expm1_twice(x)``: ``expm1(2x)``, where tanh is not flat yet."""
    return _expm1_twice(x)


@lanewise
def sigmoid(x):
    """``sigmoid(x)``: ``1 / (1 + exp(-x))`` of every lane."""
    return 1.0 / (exp_of(-x) + 1.0)


@lanewise
def tanh(x):
    """``tanh(x)``: the hyperbolic tangent of every lane, ``expm1(2x) / (expm1(2x) + 2)``."""
    minus_one = _expm1_twice(x)
    return minus_one / (minus_one + 2.0)


@lanewise
def relu(x):
    """``relu(x)``: x where it is above 0, else 0; NaN stays NaN."""
    return x.at_least(0.0)


@lanewise
def hard_sigmoid(x):
    """``hard_sigmoid(x)``: ``x / 6 + 1/2`` between 0 and 1, as in Keras 3 and torch."""
    return x.fma(1.0 / 6.0, 0.5).at_least(0.0).at_most(1.0)


@lanewise
def hard_sigmoid_keras2(x):
    """``hard_sigmoid_keras2(x)``: ``0.2 x + 1/2`` between 0 and 1, as in Keras 2 and ONNX."""
    return x.fma(0.2, 0.5).at_least(0.0).at_most(1.0)


@lanewise
def softsign(x):
    """``softsign(x)``: ``x / (1 + |x|)``."""
    return x / (x.call("fabs") + 1.0)


@jit_inline
def linear(x):
    """Return x."""
    return x


@jit_inline
def _slope_of_tanh(y):
    return splat(y, 1.0) - y * y


@jit_inline
def _slope_of_sigmoid(y):
    return y * (splat(y, 1.0) - y)


@lanewise
def _slope_of_relu(y):
    return y.one_above(0.0)


@lanewise
def _slope_of_hard_sigmoid(y):
    return y.one_above(0.0) * (1.0 - y).one_above(0.0) * (1.0 / 6.0)


@lanewise
def _slope_of_hard_sigmoid_keras2(y):
    return y.one_above(0.0) * (1.0 - y).one_above(0.0) * 0.2


@lanewise
def _slope_of_softsign(y):
    rest = 1.0 - y.call("fabs")
    return rest * rest


@jit_inline
def _slope_of_linear(y):
    return splat(y, 1.0)


class Activation(NamedTuple):
    """An elementwise function and its derivative as a function of its value, for kernels."""

    value: Any
    slope: Any


ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation(tanh, _slope_of_tanh),
    "sigmoid": Activation(sigmoid, _slope_of_sigmoid),
    "hard_sigmoid": Activation(hard_sigmoid, _slope_of_hard_sigmoid),
    "hard_sigmoid_keras2": Activation(hard_sigmoid_keras2, _slope_of_hard_sigmoid_keras2),
    "relu": Activation(relu, _slope_of_relu),
    "linear": Activation(linear, _slope_of_linear),
    "softsign": Activation(softsign, _slope_of_softsign),
}
"""The activations that cells may have, by Keras's names; ``hard_sigmoid_keras2`` is Keras 2's ``hard_sigmoid``."""
