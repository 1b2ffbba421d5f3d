"""Activations of one number, and their slopes, both from the pre-activation ``a``."""

from math import cosh, exp, tanh

NAMES = ("tanh", "sigmoid", "hard_sigmoid", "hard_sigmoid_keras2", "relu", "linear", "softsign")


def sigmoid(a):
    """1 / (1 + exp(-a)), without overflow."""
    return 1.0 / (1.0 + exp(-a)) if a >= 0.0 else exp(a) / (1.0 + exp(a))


def clipped(a, slope):
    """A line through (0, 1/2), held within 0 and 1."""
    return min(max(slope * a + 0.5, 0.0), 1.0)


VALUE = {
    "tanh": tanh,
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda a: clipped(a, 1 / 6),
    "hard_sigmoid_keras2": lambda a: clipped(a, 0.2),
    "relu": lambda a: max(a, 0.0),
    "linear": float,
    "softsign": lambda a: a / (1.0 + abs(a)),
}

SLOPE = {
    "tanh": lambda a: 1.0 / cosh(a) ** 2 if abs(a) < 300.0 else 0.0,
    "sigmoid": lambda a: sigmoid(a) * sigmoid(-a),
    "hard_sigmoid": lambda a: 1 / 6 if abs(a) < 3.0 else 0.0,
    "hard_sigmoid_keras2": lambda a: 0.2 if abs(a) < 2.5 else 0.0,
    "relu": lambda a: 1.0 if a > 0.0 else 0.0,
    "linear": lambda a: 1.0,
    "softsign": lambda a: 1.0 / (1.0 + abs(a)) ** 2,
}

KINKS = {"relu": (0.0,), "hard_sigmoid": (-3.0, 3.0), "hard_sigmoid_keras2": (-2.5, 2.5), "softsign": (0.0,)}
"""Where a slope jumps, or (softsign) the slope of the slope: central differences go wrong there."""


def value(name, a):
    return VALUE[name](a)


def slope(name, a):
    return SLOPE[name](a)
