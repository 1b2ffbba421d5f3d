"""Losses of one row in float64, one output at a time, as Keras defines them; imports nothing of ours."""

from math import exp, fabs, log, sqrt

EPSILON = 1e-7


def clip(value, low, high):
    return min(max(value, low), high)


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def softmax(z):
    e = [exp(v - max(z)) for v in z]
    return [v / sum(e) for v in e]


def sigmoid(z):
    return 1 / (1 + exp(-z))


def shares(p):
    """Probabilities as Keras takes them: shares of their sum, away from 0 and 1."""
    return [clip(v / sum(p), EPSILON, 1 - EPSILON) for v in p]


def binary_crossentropy(p, y, smoothing=0.0):
    total = []
    for one, target in zip(p, y, strict=True):
        target = target * (1 - smoothing) + 0.5 * smoothing
        one = clip(one, EPSILON, 1 - EPSILON)
        total.append(-target * log(one) - (1 - target) * log(1 - one))
    return mean(total)


def categorical_crossentropy(p, y, smoothing=0.0):
    y = [target * (1 - smoothing) + smoothing / len(y) for target in y]
    return -sum(target * log(one) for target, one in zip(y, shares(p), strict=True))


def sparse_categorical_crossentropy(p, y, smoothing=0.0):
    return categorical_crossentropy(p, [float(k == y) for k in range(len(p))], smoothing)


def mse(p, y):
    return mean((a - b) ** 2 for a, b in zip(p, y, strict=True))


def mae(p, y):
    return mean(fabs(a - b) for a, b in zip(p, y, strict=True))


def mape(p, y):
    return 100 * mean(fabs((b - a) / max(fabs(b), EPSILON)) for a, b in zip(p, y, strict=True))


def msle(p, y):
    return mean((log(max(a, EPSILON) + 1) - log(max(b, EPSILON) + 1)) ** 2 for a, b in zip(p, y, strict=True))


def huber(p, y, delta=1.0):
    def one(error):
        return error**2 / 2 if error <= delta else delta * error - delta**2 / 2

    return mean(one(fabs(a - b)) for a, b in zip(p, y, strict=True))


def log_cosh(p, y):
    return mean(log((exp(a - b) + exp(b - a)) / 2) for a, b in zip(p, y, strict=True))


def kl_divergence(p, y):
    total = 0.0
    for a, b in zip(p, y, strict=True):
        a, b = clip(a, EPSILON, 1), clip(b, EPSILON, 1)
        total += b * log(b / a)
    return total


def poisson(p, y):
    return mean(a - b * log(a + EPSILON) for a, b in zip(p, y, strict=True))


def cosine_similarity(p, y):
    def unit(v):
        length = max(sqrt(sum(one**2 for one in v)), EPSILON)
        return [one / length for one in v]

    return -sum(a * b for a, b in zip(unit(p), unit(y), strict=True))


def hinge(p, y):
    return mean(max(1 - (1 if b > 0 else -1) * a, 0) for a, b in zip(p, y, strict=True))


def squared_hinge(p, y):
    return mean(max(1 - (1 if b > 0 else -1) * a, 0) ** 2 for a, b in zip(p, y, strict=True))


def categorical_hinge(p, y):
    right = sum(a * b for a, b in zip(p, y, strict=True))
    wrong = max((1 - b) * a for a, b in zip(p, y, strict=True))
    return max(wrong - right + 1, 0)


def pinball(p, y, quantiles):
    total = []
    for d, target in enumerate(y):
        for k, q in enumerate(quantiles):
            error = target - p[d * len(quantiles) + k]
            total.append(q * error if error >= 0 else (q - 1) * error)
    return mean(total)
