"""The layers without a state, one row and one unit at a time, float64: embedding, dense, pooling, softmax."""

from math import exp, log

import numpy as np

from tests.naive import activations


def embedding(ids, weight):
    """Row ``ids[m]`` of weight (V, E) for each id."""
    return np.array([[weight[token, e] for e in range(weight.shape[1])] for token in ids])


def embedding_backward(ids, vocabulary, dy):
    """Gradient of weight: the sum of the rows of dy (M, E) where each id stood."""
    dw = np.zeros((vocabulary, dy.shape[1]))
    for m, token in enumerate(ids):
        for e in range(dy.shape[1]):
            dw[token, e] += dy[m, e]
    return dw


def dense(x, weight, bias, activation=None):
    """x (M, D), weight (U, D), bias (U,): ``activation(x @ weight.T + bias)``."""
    y = np.zeros((len(x), len(weight)))
    for m in range(len(x)):
        for u in range(len(weight)):
            y[m, u] = bias[u] + sum(weight[u, d] * x[m, d] for d in range(x.shape[1]))
    return activate(y, activation)


def activate(a, activation):
    """Apply an activation by its name to rows (M, U)."""
    if activation in ("softmax", "log_softmax"):
        return np.array([{"softmax": softmax, "log_softmax": log_softmax}[activation](row) for row in a])
    return np.array([[activations.value(activation or "linear", value) for value in row] for row in a])


def activate_backward(a, activation, dy):
    """Gradient of ``sum(dy * activate(a, activation))``, one pair of values at a time."""
    da = np.zeros_like(a)
    for m in range(len(a)):
        p = softmax(a[m])
        for u in range(a.shape[1]):
            if activation == "softmax":  # every output depends on every pre-activation
                da[m, u] = sum(dy[m, v] * p[v] * ((u == v) - p[u]) for v in range(a.shape[1]))
            elif activation == "log_softmax":
                da[m, u] = sum(dy[m, v] * ((u == v) - p[u]) for v in range(a.shape[1]))
            else:
                da[m, u] = dy[m, u] * activations.slope(activation or "linear", a[m, u])
    return da


def dense_backward(x, weight, bias, activation, dy):
    """Gradients (x, weight, bias) of ``sum(dy * dense(x, ...))``."""
    da = activate_backward(dense(x, weight, bias), activation, dy)
    dx, dw, db = np.zeros_like(x), np.zeros_like(weight), np.zeros_like(bias)
    for m in range(len(x)):
        for u in range(len(weight)):
            db[u] += da[m, u]
            for d in range(x.shape[1]):
                dw[u, d] += da[m, u] * x[m, d]
                dx[m, d] += da[m, u] * weight[u, d]
    return dx, dw, db


def softmax(row):
    """exp(row) / sum(exp(row)), without overflow."""
    top = max(row)
    powers = [exp(value - top) for value in row]
    return np.array([power / sum(powers) for power in powers])


def log_softmax(row):
    """Logarithm of `softmax`."""
    top = max(row)
    total = log(sum(exp(value - top) for value in row))
    return np.array([value - top - total for value in row])


def last_step(sequences):
    return np.array([x[len(x) - 1] for x in sequences])


def max_pool(sequences):
    """The largest value of each feature over a sequence's true steps."""
    return np.array([[max(x[t, f] for t in range(len(x))) for f in range(x.shape[1])] for x in sequences])


def average_pool(sequences):
    """The mean of each feature over a sequence's true steps."""
    return np.array([[sum(x[t, f] for t in range(len(x))) / len(x) for f in range(x.shape[1])] for x in sequences])
