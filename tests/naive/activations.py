"""Activations of one number, and their slopes, both from the pre-activation ``a``."""

from math import cosh, erfc, exp, expm1, inf, log1p, pi, sqrt, tanh

NAMES = ("tanh", "sigmoid", "hard_sigmoid", "hard_sigmoid_keras2", "relu", "linear", "softsign")


def sigmoid(a):
    """1 / (1 + exp(-a)), without overflow."""
    return 1.0 / (1.0 + exp(-a)) if a >= 0.0 else exp(a) / (1.0 + exp(a))


def clipped(a, slope):
    """A line through (0, 1/2), held within 0 and 1."""
    return min(max(slope * a + 0.5, 0.0), 1.0)


ROW_NAMES = (
    *NAMES,
    *("softplus", "log_sigmoid", "elu", "selu", "exponential", "relu6", "leaky_relu", "hard_tanh"),
    *("gelu", "silu", "hard_silu", "mish"),
)
"""Those that rows may have; cells have only `NAMES`."""

SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772


def softplus(a):
    """log(1 + exp(a)), without overflow."""
    return max(a, 0.0) + log1p(exp(-abs(a)))


def normal(a):
    """The normal distribution: the probability of a number below a."""
    return 0.5 * erfc(-a / sqrt(2.0))


def power(a):
    """exp(a), infinite where that is too large."""
    return exp(a) if a < 709.7 else inf


VALUE = {
    "tanh": tanh,
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda a: clipped(a, 1 / 6),
    "hard_sigmoid_keras2": lambda a: clipped(a, 0.2),
    "relu": lambda a: max(a, 0.0),
    "linear": float,
    "softsign": lambda a: a / (1.0 + abs(a)),
    "softplus": softplus,
    "log_sigmoid": lambda a: -softplus(-a),
    "elu": lambda a: a if a > 0.0 else expm1(a),
    "selu": lambda a: SCALE * (a if a > 0.0 else ALPHA * expm1(a)),
    "exponential": power,
    "relu6": lambda a: min(max(a, 0.0), 6.0),
    "leaky_relu": lambda a: a if a > 0.0 else 0.2 * a,
    "hard_tanh": lambda a: min(max(a, -1.0), 1.0),
    "gelu": lambda a: a * normal(a),
    "silu": lambda a: a * sigmoid(a),
    "hard_silu": lambda a: a * clipped(a, 1 / 6),
    "mish": lambda a: a * tanh(softplus(a)),
}

SLOPE = {
    "tanh": lambda a: 1.0 / cosh(a) ** 2 if abs(a) < 300.0 else 0.0,
    "sigmoid": lambda a: sigmoid(a) * sigmoid(-a),
    "hard_sigmoid": lambda a: 1 / 6 if abs(a) < 3.0 else 0.0,
    "hard_sigmoid_keras2": lambda a: 0.2 if abs(a) < 2.5 else 0.0,
    "relu": lambda a: 1.0 if a > 0.0 else 0.0,
    "linear": lambda a: 1.0,
    "softsign": lambda a: 1.0 / (1.0 + abs(a)) ** 2,
    "softplus": sigmoid,
    "log_sigmoid": lambda a: sigmoid(-a),
    "elu": lambda a: 1.0 if a > 0.0 else exp(a),
    "selu": lambda a: SCALE if a > 0.0 else SCALE * ALPHA * exp(a),
    "exponential": power,
    "relu6": lambda a: 1.0 if 0.0 < a < 6.0 else 0.0,
    "leaky_relu": lambda a: 1.0 if a > 0.0 else 0.2,
    "hard_tanh": lambda a: 1.0 if abs(a) < 1.0 else 0.0,
    "gelu": lambda a: normal(a) + a * exp(-a * a / 2.0) / sqrt(2.0 * pi),
    "silu": lambda a: sigmoid(a) * (1.0 + a * sigmoid(-a)),
    "hard_silu": lambda a: 0.0 if a <= -3.0 else 1.0 if a >= 3.0 else a / 3.0 + 0.5,
    "mish": lambda a: tanh(softplus(a)) + a * sigmoid(a) * (1.0 / cosh(softplus(a)) ** 2 if a < 300.0 else 0.0),
}

KINKS = {
    "relu": (0.0,),
    "hard_sigmoid": (-3.0, 3.0),
    "hard_sigmoid_keras2": (-2.5, 2.5),
    "softsign": (0.0,),
    "elu": (0.0,),
    "selu": (0.0,),
    "relu6": (0.0, 6.0),
    "leaky_relu": (0.0,),
    "hard_tanh": (-1.0, 1.0),
    "hard_silu": (-3.0, 3.0),
}
"""Where a slope jumps, or (softsign) the slope of the slope: central differences go wrong there."""


def value(name, a):
    return VALUE[name](a)


def slope(name, a):
    return SLOPE[name](a)
