"""Softmax and its cross-entropies in float64, one class at a time; imports nothing of ours."""

from math import exp, log

import numpy as np


def softmax(z):
    """Return the probabilities of one row."""
    highest = max(z)
    e = [exp(v - highest) for v in z]
    return np.array([v / sum(e) for v in e])


def log_sum_exp(z):
    highest = max(z)
    return highest + log(sum(exp(v - highest) for v in z))


def cross_entropy(z, target):
    """Return the loss of one row and its gradient."""
    gradient = softmax(z)
    gradient[target] -= 1.0
    return log_sum_exp(z) - z[target], gradient


def soft_cross_entropy(z, y):
    """Return the loss of one row against a distribution, and its gradient."""
    lse = log_sum_exp(z)
    loss = sum(weight * (lse - v) for weight, v in zip(y, z, strict=True) if weight)
    return loss, sum(y) * softmax(z) - np.asarray(y)
