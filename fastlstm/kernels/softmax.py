"""Softmax and softmax cross-entropy, row by row, in place: the logits become their own gradient.

For one row z with the class probabilities ``p = softmax(z)``::

    log p_v = z_v - lse        lse = max z + log sum_v exp(z_v - max z)        (log-sum-exp)
    loss    = -log p_target,   d loss / d z_v = p_v - [v is the target]

A row is walked three times (largest value, exponentials and their sum, scaling) while it stands in cache; no second
copy of the logits exists. Exponentials are summed in blocks of registers and the blocks in float64, in an order that
depends on V alone: 50,000 float32 classes lose no digits, and a row's result is bitwise the same whatever the split.

NaN or +inf in a row makes its loss NaN; a class at -inf has probability 0. Exponentials so small that their products
would be denormal numbers, on which many CPUs crawl, are made 0: the classes whose logit lies about 60 (float32)
below the largest.

Letters: M rows, V classes.
"""

import math

import numpy as np

from ..simd.across import hmax, hsum
from ..simd.jit import jit, jit_inner
from ..simd.vector import fma, keep_n, lanes_of, load, load_n, splat, store, store_n, vmax
from .activations import vexp

__all__ = [
    "cross_entropy",
    "exponentials",
    "largest",
    "log_softmax_rows",
    "log_softmax_rows_backward",
    "scale_row",
    "smoothed_cross_entropy",
    "soft_cross_entropy",
    "softmax_cross_entropy",
    "softmax_row",
    "softmax_rows",
    "softmax_rows_backward",
]

_BLOCK = 32
"""Registers whose values are added up before the float64 total takes them."""


@jit_inner
def largest(z, row, classes):
    """Return the largest of ``z[row:row + classes]`` (NaN is passed over: the sum will hold it)."""
    width = lanes_of(z)
    end = row + classes
    rest = classes % width
    high = splat(z, z[row])
    for i in range(row, end - width + 1, width):
        high = vmax(high, load(z, i))
    if rest:
        high = vmax(high, keep_n(load_n(z, end - rest, rest), rest, high))
    return hmax(high)


@jit_inner
def _exponential(x, highest, tiny):
    """Return ``exp(x - highest)``, and 0 where that is below `tiny`: too little for the others to feel."""
    return vmax(vexp(x - highest) - tiny, splat(x, 0.0))


@jit_inner
def exponentials(z, row, classes, highest, keep):
    """Return the sum of ``exp(z - highest)`` over the row, as float64; write them over the row if `keep`."""
    width = lanes_of(z)
    end = row + classes
    rest = classes % width
    high = splat(z, highest)
    tiny = splat(z, np.finfo(z.dtype).tiny * 1e12)
    total = 0.0
    for block in range(row, end - rest, _BLOCK * width):
        part = splat(z, 0.0)
        for i in range(block, min(block + _BLOCK * width, end - rest), width):
            e = _exponential(load(z, i), high, tiny)
            if keep:
                store(z, i, e)
            part = part + e
        total += hsum(part)
    if rest:
        e = _exponential(load_n(z, end - rest, rest), high, tiny)
        if keep:
            store_n(z, end - rest, e, rest)
        total += hsum(keep_n(e, rest, splat(z, 0.0)))
    return total


@jit_inner
def scale_row(z, row, classes, factor):
    """Multiply the row by `factor`."""
    width = lanes_of(z)
    end = row + classes
    rest = classes % width
    by = splat(z, factor)
    for i in range(row, end - width + 1, width):
        store(z, i, load(z, i) * by)
    if rest:
        store_n(z, end - rest, load_n(z, end - rest, rest) * by, rest)


@jit_inner
def softmax_row(z, row, classes):
    """Overwrite ``z[row:row + classes]`` with its softmax: for kernels that have rows elsewhere than in a matrix."""
    total = exponentials(z, row, classes, largest(z, row, classes), True)
    scale_row(z, row, classes, 1.0 / total)


@jit
def softmax_rows(x, begin, end):
    """Overwrite each row with its softmax.

    x  (M, V)  float, contiguous, in/out: rows begin to end - 1 are overwritten; V >= 1
    """
    classes = x.shape[1]
    z = x.reshape(-1)
    for m in range(begin, end):
        softmax_row(z, m * classes, classes)


@jit_inner
def _subtract(z, row, classes, first, second):
    """Take `first` and then `second` from every value of the row."""
    width = lanes_of(z)
    end = row + classes
    rest = classes % width
    one = splat(z, first)
    two = splat(z, second)
    for i in range(row, end - width + 1, width):
        store(z, i, (load(z, i) - one) - two)
    if rest:
        store_n(z, end - rest, (load_n(z, end - rest, rest) - one) - two, rest)


@jit
def log_softmax_rows(x, begin, end):
    """Overwrite each row with the logarithm of its softmax.

    x  (M, V)  float, contiguous, in/out: rows begin to end - 1 are overwritten; V >= 1
    """
    classes = x.shape[1]
    z = x.reshape(-1)
    for m in range(begin, end):
        row = m * classes
        highest = largest(z, row, classes)
        total = exponentials(z, row, classes, highest, False)
        _subtract(z, row, classes, highest, math.log(total))


@jit_inner
def _inner(a, b, row, count):
    """Return the inner product of a row of each, as float64."""
    width = lanes_of(a)
    end = row + count
    rest = count % width
    total = 0.0
    for block in range(row, end - rest, _BLOCK * width):
        part = splat(a, 0.0)
        for i in range(block, min(block + _BLOCK * width, end - rest), width):
            part = fma(load(a, i), load(b, i), part)
        total += hsum(part)
    if rest:
        total += hsum(load_n(a, end - rest, rest) * load_n(b, end - rest, rest))
    return total


@jit
def softmax_rows_backward(dy, y, begin, end):
    """Overwrite the gradient of each row's softmax with that of what it was taken of: ``y * (dy - sum(dy * y))``.

    dy  (M, V)  float, contiguous, in/out: rows begin to end - 1 are overwritten
    y   (M, V)  float of the same type, contiguous, in: the softmax
    """
    classes = y.shape[1]
    width = lanes_of(y)
    rest = classes % width
    d = dy.reshape(-1)
    p = y.reshape(-1)
    for m in range(begin, end):
        row = m * classes
        last = row + classes - rest
        mean = splat(d, _inner(d, p, row, classes))
        for i in range(row, last, width):
            store(d, i, (load(d, i) - mean) * load(p, i))
        if rest:
            store_n(d, last, (load_n(d, last, rest) - mean) * load_n(p, last, rest), rest)


@jit
def log_softmax_rows_backward(dy, y, begin, end):
    """Overwrite the gradient of each row's log-softmax with that of the logits: ``dy - exp(y) * sum(dy)``.

    dy  (M, V)  float, contiguous, in/out: rows begin to end - 1 are overwritten
    y   (M, V)  float of the same type, contiguous, in: the log-softmax
    """
    classes = y.shape[1]
    width = lanes_of(y)
    rest = classes % width
    d = dy.reshape(-1)
    z = y.reshape(-1)
    for m in range(begin, end):
        row = m * classes
        last = row + classes - rest
        total = 0.0
        for i in range(row, row + classes):
            total += d[i]
        by = splat(d, -total)
        for i in range(row, last, width):
            store(d, i, fma(by, vexp(load(z, i)), load(d, i)))
        if rest:
            store_n(d, last, fma(by, vexp(load_n(z, last, rest)), load_n(d, last, rest)), rest)


@jit
def softmax_cross_entropy(logits, targets, weights, losses, begin, end):
    """Write each row's loss and overwrite its logits with their gradient ``weights[m] * (softmax - onehot)``.

    logits   (M, V)  float, contiguous, in/out
    targets  (M,)    int64, in: each in 0 .. V - 1
    weights  (M,)    float64, in: d value / d losses[m]
    losses   (M,)    float64, out: -log p[target], without the weight
    """
    classes = logits.shape[1]
    z = logits.reshape(-1)
    for m in range(begin, end):
        row = m * classes
        highest = largest(z, row, classes)
        right = np.float64(z[row + targets[m]]) - np.float64(highest)
        total = exponentials(z, row, classes, highest, True)
        losses[m] = math.log(total) - right
        scale_row(z, row, classes, weights[m] / total)
        z[row + targets[m]] -= weights[m]


@jit_inner
def _sum_of_differences(z, row, classes, highest):
    """Return the sum of ``z - highest`` over the row, as float64."""
    width = lanes_of(z)
    end = row + classes
    rest = classes % width
    high = splat(z, highest)
    total = 0.0
    for block in range(row, end - rest, _BLOCK * width):
        part = splat(z, 0.0)
        for i in range(block, min(block + _BLOCK * width, end - rest), width):
            part = part + (load(z, i) - high)
        total += hsum(part)
    if rest:
        total += hsum(keep_n(load_n(z, end - rest, rest) - high, rest, splat(z, 0.0)))
    return total


@jit
def smoothed_cross_entropy(logits, targets, smoothing, weights, losses, begin, end):
    """Like softmax_cross_entropy, where `smoothing` of a target is spread over all classes alike.

    The loss is ``-sum_v y_v log p_v`` for ``y_v = (1 - smoothing) [v is the target] + smoothing / V``.

    logits     (M, V)  float, contiguous, in/out
    targets    (M,)    int64, in: each in 0 .. V - 1
    smoothing  float64: 0 to 1
    weights    (M,)    float64, in: d value / d losses[m]
    losses     (M,)    float64, out: without the weight
    """
    classes = logits.shape[1]
    width = lanes_of(logits)
    rest = classes % width
    z = logits.reshape(-1)
    for m in range(begin, end):
        row = m * classes
        last = row + classes - rest
        highest = largest(z, row, classes)
        right = np.float64(z[row + targets[m]]) - np.float64(highest)
        others = _sum_of_differences(z, row, classes, highest) / classes
        total = exponentials(z, row, classes, highest, True)
        losses[m] = math.log(total) - (1.0 - smoothing) * right - smoothing * others
        by = splat(z, weights[m] / total)
        each = splat(z, -weights[m] * smoothing / classes)
        for i in range(row, last, width):
            store(z, i, fma(load(z, i), by, each))
        if rest:
            store_n(z, last, fma(load_n(z, last, rest), by, each), rest)
        z[row + targets[m]] -= weights[m] * (1.0 - smoothing)


@jit
def cross_entropy(logits, targets, losses, begin, end):
    """Write each row's loss and leave the logits as they are.

    logits   (M, V)  float, contiguous, in
    targets  (M,)    int64, in: each in 0 .. V - 1
    losses   (M,)    float64, out: -log p[target]; bitwise what softmax_cross_entropy gives
    """
    classes = logits.shape[1]
    z = logits.reshape(-1)
    for m in range(begin, end):
        row = m * classes
        highest = largest(z, row, classes)
        total = exponentials(z, row, classes, highest, False)
        losses[m] = math.log(total) - (np.float64(z[row + targets[m]]) - np.float64(highest))


@jit
def soft_cross_entropy(logits, targets, weights, losses, begin, end):
    """Like softmax_cross_entropy for a whole distribution as the target: ``loss = -sum_v y_v log p_v``.

    The gradient is ``weights[m] * (sum(y) * softmax - y)``, which needs no ``sum(y) = 1``.

    logits   (M, V)  float, contiguous, in/out
    targets  (M, V)  float of the same type, contiguous, in
    weights  (M,)    float64, in: d value / d losses[m]
    losses   (M,)    float64, out: without the weight
    """
    classes = logits.shape[1]
    width = lanes_of(logits)
    rest = classes % width
    z = logits.reshape(-1)
    y = targets.reshape(-1)
    floor = splat(z, -np.finfo(z.dtype).max)  # a class at -inf whose target is 0 adds 0, not NaN
    for m in range(begin, end):
        row = m * classes
        last = row + classes - rest
        highest = largest(z, row, classes)
        high = splat(z, highest)
        mass = 0.0  # sum of y
        inner = 0.0  # sum of y * (z - max)
        for block in range(row, last, _BLOCK * width):
            part = splat(z, 0.0)
            dot = splat(z, 0.0)
            for i in range(block, min(block + _BLOCK * width, last), width):
                part = part + load(y, i)
                dot = fma(load(y, i), vmax(load(z, i) - high, floor), dot)
            mass += hsum(part)
            inner += hsum(dot)
        if rest:
            mass += hsum(load_n(y, last, rest))
            inner += hsum(load_n(y, last, rest) * vmax(load_n(z, last, rest) - high, floor))
        total = exponentials(z, row, classes, highest, True)
        losses[m] = mass * math.log(total) - inner
        by = splat(z, weights[m] * mass / total)
        weight = splat(z, -weights[m])
        for i in range(row, last, width):
            store(z, i, fma(weight, load(y, i), load(z, i) * by))
        if rest:
            store_n(z, last, fma(weight, load_n(y, last, rest), load_n(z, last, rest) * by), rest)
