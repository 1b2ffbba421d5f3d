"""Convolutions and pooling by windows over the steps of one sequence, one value at a time, float64."""

from math import fsum

import numpy as np

from tests.naive.layers import activate


def windows(length, size, stride=1, padding="valid", dilation=1):
    """The steps that each window sees, tap by tap; None in the padding."""
    reach = (size - 1) * dilation + 1
    if padding == "valid":
        before, count = 0, len(range(0, length - reach + 1, stride))
    else:
        count = len(range(0, length, stride))
        total = max((count - 1) * stride + reach - length, 0)  # TensorFlow's rule
        before = reach - 1 if padding == "causal" else total // 2
    seen = []
    for window in range(count):
        steps = [window * stride - before + k * dilation for k in range(size)]
        seen.append([step if 0 <= step < length else None for step in steps])
    return seen


def conv1d(x, weight, bias, activation=None, **options):
    """x (T, D), weight (U, D, K), bias (U,): one row for each window."""
    seen = windows(len(x), weight.shape[2], **options)
    y = np.zeros((len(seen), len(weight)))
    for s, steps in enumerate(seen):
        for u in range(len(weight)):
            y[s, u] = bias[u]
            for k, t in enumerate(steps):
                for d in range(x.shape[1]):
                    y[s, u] += weight[u, d, k] * x[t, d] if t is not None else 0.0
    return activate(y, activation)


def conv1d_backward(x, weight, dz, **options):
    """Gradients (x, weight, bias) of ``sum(dz * conv1d(x, ...))`` without an activation."""
    dx, dw, db = np.zeros_like(x), np.zeros_like(weight), np.zeros(len(weight))
    for s, steps in enumerate(windows(len(x), weight.shape[2], **options)):
        for u in range(len(weight)):
            db[u] += dz[s, u]
            for k, t in enumerate(steps):
                for d in range(x.shape[1] if t is not None else 0):
                    dx[t, d] += dz[s, u] * weight[u, d, k]
                    dw[u, d, k] += dz[s, u] * x[t, d]
    return dx, dw, db


def pool(x, kind, **options):
    """The largest value ("max") or the mean ("average") of each feature over the true steps of each window."""
    rows = []
    for steps in windows(len(x), **options):
        seen = [[x[t, f] for t in steps if t is not None] for f in range(x.shape[1])]
        rows.append([max(values) if kind == "max" else fsum(values) / len(values) for values in seen])
    return np.array(rows)


def pool_backward(x, kind, dy, **options):
    """Gradient of x: of ``sum(dy * pool(x, ...))``; of equal values the first takes it."""
    dx = np.zeros_like(x)
    for s, steps in enumerate(windows(len(x), **options)):
        true = [t for t in steps if t is not None]
        for f in range(x.shape[1]):
            if kind == "max":
                dx[max(true, key=lambda t, f=f: (x[t, f], -t)), f] += dy[s, f]
            else:
                for t in true:
                    dx[t, f] += dy[s, f] / len(true)
    return dx
