"""Normalisation by one row's statistics, or by one feature's, one value at a time, float64."""

from math import sqrt

import numpy as np


def _moments(values, about_mean=True):
    """Mean and biased variance; about 0 instead of the mean if told so."""
    mean = sum(values) / len(values) if about_mean else 0.0
    return mean, sum((value - mean) ** 2 for value in values) / len(values)


def layer_norm(x, weight, bias, epsilon, about_mean=True):
    """x (M, F), weight and bias (F,): each row with mean 0 and variance 1, then a weight and a bias a feature."""
    y = np.zeros_like(x)
    for m in range(len(x)):
        mean, variance = _moments(x[m], about_mean)
        for f in range(x.shape[1]):
            y[m, f] = (x[m, f] - mean) / sqrt(variance + epsilon) * weight[f] + bias[f]
    return y


def layer_norm_backward(x, weight, epsilon, dy, about_mean=True):
    """Gradients (x, weight, bias): every output of a row depends on every value of the row."""
    dx, dweight, dbias = np.zeros_like(x), np.zeros_like(weight), np.zeros_like(weight)
    features = x.shape[1]
    for m in range(len(x)):
        mean, variance = _moments(x[m], about_mean)
        deviation = sqrt(variance + epsilon)
        for f in range(features):
            dweight[f] += dy[m, f] * (x[m, f] - mean) / deviation
            dbias[f] += dy[m, f]
            for g in range(features):  # d of output f by value g
                direct = (f == g) - (1.0 / features if about_mean else 0.0)
                through = (x[m, f] - mean) * (x[m, g] - mean) / (features * deviation**2)
                dx[m, g] += dy[m, f] * weight[f] * (direct - through) / deviation
    return dx, dweight, dbias


def batch_norm(x, weight, bias, epsilon):
    """As `layer_norm`, over the column of each feature; returns its mean and variance of each too."""
    y, means, variances = np.zeros_like(x), np.zeros_like(weight), np.zeros_like(weight)
    for f in range(x.shape[1]):
        means[f], variances[f] = _moments(x[:, f])
        for m in range(len(x)):
            y[m, f] = (x[m, f] - means[f]) / sqrt(variances[f] + epsilon) * weight[f] + bias[f]
    return y, means, variances


def batch_norm_backward(x, weight, epsilon, dy):
    """Gradients (x, weight, bias): every output of a feature depends on all its values."""
    dx, dweight, dbias = np.zeros_like(x), np.zeros_like(weight), np.zeros_like(weight)
    for f in range(x.shape[1]):
        column, _, _ = layer_norm_backward(x[None, :, f], np.ones(len(x)), epsilon, dy[None, :, f])
        mean, variance = _moments(x[:, f])
        dx[:, f] = weight[f] * column[0]
        for m in range(len(x)):
            dweight[f] += dy[m, f] * (x[m, f] - mean) / sqrt(variance + epsilon)
            dbias[f] += dy[m, f]
    return dx, dweight, dbias


def frozen_norm_backward(x, weight, mean, variance, epsilon, dy):
    """The same where mean and variance are constants."""
    dx, dweight, dbias = np.zeros_like(x), np.zeros_like(weight), np.zeros_like(weight)
    for f in range(x.shape[1]):
        deviation = sqrt(variance[f] + epsilon)
        for m in range(len(x)):
            dx[m, f] = dy[m, f] * weight[f] / deviation
            dweight[f] += dy[m, f] * (x[m, f] - mean[f]) / deviation
            dbias[f] += dy[m, f]
    return dx, dweight, dbias
