"""Activations of rows, value by value: what `Dense` and `Activation` have beyond those of cells, and the loops.

Slopes are functions of the result where that says enough: nothing but the output is then kept for the way back. Those
of gelu, silu, hard_silu and mish, which fall and rise, are functions of the argument.

Each is within 1e-6 (float32) or 1e-14 (float64) of the exact value, or of its size where that is above 1; far out it is
at its limit, without overflow (``exponential`` alone becomes infinite). NaN gives NaN.
"""

from functools import cache
from typing import Any, NamedTuple

from ..simd.jit import jit
from ..simd.lanes import Lane
from ..simd.vector import lanes_of, lanewise, load, load_n, store, store_n
from .activations import ACTIVATIONS, constants_of, exp_of, exp_parts
from .gelu import gelu, slope_of_gelu

__all__ = ["ELEMENTWISE", "RowActivation", "slopes_loop", "values_loop"]

_LEAKY = 0.2
"""Slope of leaky_relu below 0, Keras's."""

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
"""Fixed point at mean 0 and variance 1 (Klambauer et al. 2017)."""


def _expm1(x: Lane) -> Lane:
    """Return ``exp(x) - 1`` of every lane, right near 0 too."""
    constants = constants_of(x)
    p, s = exp_parts(x.at_least(constants.lowest).at_most(constants.highest))
    return s.fma(p, s - 1.0)


def _log1p(u: Lane) -> Lane:
    """Return ``log(1 + u)`` of lanes from 0 to 1: ``2 artanh(s)``, where ``s = u / (2 + u)`` is at most 1/3."""
    terms = 8 if u.vec.scalar.bitwidth == 32 else 17  # the first term left out is below 2e-9, below 2e-18 of the sum
    s = u / (u + 2.0)
    square = s * s
    series = u.constant(2.0 / (2 * terms - 1))
    for k in range(terms - 2, -1, -1):
        series = series.fma(square, 2.0 / (2 * k + 1))
    return s * series


def _softplus(x: Lane) -> Lane:
    return x.at_least(0.0) + _log1p(exp_of(-x.call("fabs")))


@lanewise
def _softplus_value(x):
    """``log(1 + exp(x))``."""
    return _softplus(x)


@lanewise
def _slope_of_softplus(y):
    """``1 - exp(-y)``: the sigmoid of x."""
    return -_expm1(-y)


@lanewise
def _log_sigmoid(x):
    """``log(sigmoid(x))``."""
    return -_softplus(-x)


@lanewise
def _slope_of_log_sigmoid(y):
    """``1 - exp(y)``."""
    return -_expm1(y)


@lanewise
def _elu(x):
    """Return x above 0, ``exp(x) - 1`` below (Clevert et al. 2016)."""
    return x.at_least(0.0) + _expm1(x.at_most(0.0))


@lanewise
def _slope_of_elu(y):
    """1 above 0, ``y + 1`` below."""
    return y.at_most(0.0) + 1.0


@lanewise
def _selu(x):
    """``scale * x`` above 0, ``scale * alpha * (exp(x) - 1)`` below."""
    return x.at_least(0.0) * _SELU_SCALE + _expm1(x.at_most(0.0)) * (_SELU_SCALE * _SELU_ALPHA)


@lanewise
def _slope_of_selu(y):
    """``scale`` above 0, ``y + scale * alpha`` below."""
    below = _SELU_SCALE * _SELU_ALPHA
    return y.at_most(0.0) + below + y.one_above(0.0) * (_SELU_SCALE - below)


@lanewise
def _exponential(x):
    """``exp(x)``, as the square of ``exp(x / 2)``: that reaches infinity and 0, where `exp_of` clamps."""
    root = exp_of(x * 0.5)
    return root * root


@lanewise
def _same(y):
    """Return y: the slope of exp."""
    return y


@lanewise
def _relu6(x):
    """Return x, held within 0 and 6."""
    return x.at_least(0.0).at_most(6.0)


@lanewise
def _slope_of_relu6(y):
    return y.one_above(0.0) * (6.0 - y).one_above(0.0)


@lanewise
def _hard_tanh(x):
    """Return x, held within -1 and 1."""
    return x.at_least(-1.0).at_most(1.0)


@lanewise
def _slope_of_hard_tanh(y):
    return y.one_above(-1.0) * (1.0 - y).one_above(0.0)


@lanewise
def _leaky_relu(x):
    """Return x above 0, ``0.2 x`` below."""
    return x.at_least(0.0) + x.at_most(0.0) * _LEAKY


@lanewise
def _slope_of_leaky_relu(y):
    return y.one_above(0.0) * (1.0 - _LEAKY) + _LEAKY


@lanewise
def _silu(x):
    """``x * sigmoid(x)``; far below 0, where that is nothing, x stays at a bound."""
    return x.at_least(constants_of(x).lowest) / (exp_of(-x) + 1.0)


@lanewise
def _slope_of_silu(x):
    """``s + x * s * (1 - s)`` with ``s = sigmoid(x)``, ``1 - s = s * exp(-x)``."""
    constants = constants_of(x)
    x = x.at_least(constants.lowest).at_most(constants.highest)
    e = exp_of(-x)
    s = 1.0 / (e + 1.0)
    return s + x * s * (s * e)


def _hard_sigmoid(x: Lane) -> Lane:
    return x.fma(1.0 / 6.0, 0.5).at_least(0.0).at_most(1.0)


@lanewise
def _hard_silu(x):
    """``x * hard_sigmoid(x)``."""
    return x.at_least(-3.0) * _hard_sigmoid(x)


@lanewise
def _slope_of_hard_silu(x):
    """0 below -3, 1 above 3, ``x / 3 + 1/2`` between."""
    h = _hard_sigmoid(x)
    between = h.one_above(0.0) * (1.0 - h).one_above(0.0)
    return h + x.at_least(-3.0).at_most(3.0) * (1.0 / 6.0) * between


def _mish_parts(x: Lane) -> tuple[Lane, Lane, Lane]:
    """Return x between bounds, ``w = exp(x)`` and ``n = w * (w + 2)``: ``tanh(softplus(x)) = n / (n + 2)``."""
    constants = constants_of(x)
    x = x.at_least(constants.lowest).at_most(constants.tanh_flat)
    w = exp_of(x)
    return x, w, w * (w + 2.0)


@lanewise
def _mish(x):
    """``x * tanh(softplus(x))`` (Misra 2019)."""
    _, _, n = _mish_parts(x)
    return x.at_least(constants_of(x).lowest) * (n / (n + 2.0))


@lanewise
def _slope_of_mish(x):
    """``n / (n + 2) + x * 4 * w * (w + 1) / (n + 2)^2``."""
    x, w, n = _mish_parts(x)
    share = 1.0 / (n + 2.0)
    return (n + x * 4.0 * w * (w + 1.0) * share) * share


class RowActivation(NamedTuple):
    """An elementwise function and its derivative, as a function of its value or (`of_input`) of its argument."""

    value: Any
    slope: Any
    of_input: bool = False
    cost: float = 0.4
    """Nanoseconds that either takes for a value, about."""


ELEMENTWISE: dict[str, RowActivation] = {
    **{name: RowActivation(*activation) for name, activation in ACTIVATIONS.items()},
    "softplus": RowActivation(_softplus_value, _slope_of_softplus),
    "log_sigmoid": RowActivation(_log_sigmoid, _slope_of_log_sigmoid),
    "elu": RowActivation(_elu, _slope_of_elu),
    "selu": RowActivation(_selu, _slope_of_selu),
    "exponential": RowActivation(_exponential, _same),
    "relu6": RowActivation(_relu6, _slope_of_relu6),
    "leaky_relu": RowActivation(_leaky_relu, _slope_of_leaky_relu),
    "hard_tanh": RowActivation(_hard_tanh, _slope_of_hard_tanh),
    "gelu": RowActivation(gelu, slope_of_gelu, of_input=True, cost=0.8),
    "silu": RowActivation(_silu, _slope_of_silu, of_input=True),
    "hard_silu": RowActivation(_hard_silu, _slope_of_hard_silu, of_input=True),
    "mish": RowActivation(_mish, _slope_of_mish, of_input=True),
}
"""By Keras's names; ``hard_sigmoid_keras2`` is Keras 2's ``hard_sigmoid``."""


@cache
def values_loop(name: str) -> Any:
    """Return the kernel ``(x, begin, end)`` that overwrites ``x[begin:end]`` with the values of an activation.

    x  (M,)  float, contiguous, in/out
    """
    value = ELEMENTWISE[name].value

    def values_of(x, begin, end):
        width = lanes_of(x)
        for i in range(begin, end - width + 1, width):
            store(x, i, value(load(x, i)))
        rest = (end - begin) % width
        if rest:
            store_n(x, end - rest, value(load_n(x, end - rest, rest)), rest)

    return jit(values_of, name)


@cache
def slopes_loop(name: str) -> Any:
    """Return the kernel ``(dy, kept, begin, end)`` that multiplies ``dy[begin:end]`` by the slopes of an activation.

    dy    (M,)  float, contiguous, in/out
    kept  (M,)  float of the same type, contiguous, in: the values, or the arguments where `of_input`
    """
    slope = ELEMENTWISE[name].slope

    def slopes_of(dy, kept, begin, end):
        width = lanes_of(dy)
        for i in range(begin, end - width + 1, width):
            store(dy, i, load(dy, i) * slope(load(kept, i)))
        rest = (end - begin) % width
        if rest:
            last = end - rest
            store_n(dy, last, load_n(dy, last, rest) * slope(load_n(kept, last, rest)), rest)

    return jit(slopes_of, name)
