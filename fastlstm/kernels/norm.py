"""Normalisation: each row by its own statistics, or each feature by those of all rows of a batch.

Statistics are right where the mean is large and the deviation small: differences from a first guess of the mean are
exact or nearly so, and the guess is corrected by their mean (the corrected two-pass algorithm of Chan, Golub and
LeVeque 1983). Sums are float64. Those over rows go through the rows in their order, for each feature by itself: cores
share features, and the bits do not depend on how many.

Letters: M rows, F features. 2-D arrays are contiguous and of one float type.
"""

import math

from ..simd.across import hsum
from ..simd.jit import jit, jit_inner
from ..simd.vector import fma, keep_n, lanes_of, load, load_n, splat, store, store_n

__all__ = [
    "batch_moments",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_sums",
    "layer_norm",
    "layer_norm_backward",
    "layer_norm_sums",
]

_BLOCK = 32
"""Registers whose values are added up before the float64 total takes them."""

_ROWS = 16
"""Rows whose values are added up in a register before the float64 totals take them."""


@jit_inner
def _moments(z, row, features, about):
    """Return the sums of ``z - about`` and of its square over the row, as float64."""
    width = lanes_of(z)
    end = row + features
    rest = features % width
    zero = splat(z, 0.0)
    origin = splat(z, about)
    first = 0.0
    second = 0.0
    for block in range(row, end - rest, _BLOCK * width):
        sums = zero
        squares = zero
        for i in range(block, min(block + _BLOCK * width, end - rest), width):
            d = load(z, i) - origin
            sums = sums + d
            squares = fma(d, d, squares)
        first += hsum(sums)
        second += hsum(squares)
    if rest:
        d = keep_n(load_n(z, end - rest, rest) - origin, rest, zero)
        first += hsum(d)
        second += hsum(d * d)
    return first, second


@jit
def layer_norm(x, weight, bias, y, stats, epsilon, about_mean, begin, end):
    """Write ``(x - mean) / sqrt(variance + epsilon) * weight + bias`` of each row.

    x           (M, F)  float, in
    weight      (F,)    float, in
    bias        (F,)    float, in
    y           (M, F)  float, out: rows begin to end - 1
    stats       (M, 3)  float, out: a guess of the mean, what the mean is above it, 1 / sqrt(variance + epsilon)
    epsilon     float64, in
    about_mean  bool, in: else mean is 0, and the variance that of the values themselves
    """
    features = x.shape[1]
    width = lanes_of(x)
    rest = features % width
    z = x.reshape(-1)
    out = y.reshape(-1)
    for m in range(begin, end):
        row = m * features
        stats[m, 0] = _moments(z, row, features, 0.0)[0] / features if about_mean else 0.0
        first, second = _moments(z, row, features, stats[m, 0])
        above = first / features if about_mean else 0.0
        stats[m, 1] = above
        stats[m, 2] = 1.0 / math.sqrt(max(second / features - above * above, 0.0) + epsilon)
        guess = splat(z, stats[m, 0])
        shift = splat(z, stats[m, 1])
        inverse = splat(z, stats[m, 2])
        for c in range(0, features - rest, width):
            d = (load(z, row + c) - guess) - shift
            store(out, row + c, fma(d * inverse, load(weight, c), load(bias, c)))
        if rest:
            c = features - rest
            d = (load_n(z, row + c, rest) - guess) - shift
            store_n(out, row + c, fma(d * inverse, load_n(weight, c, rest), load_n(bias, c, rest)), rest)


@jit
def layer_norm_backward(dy, x, weight, stats, about_mean, begin, end):
    """Overwrite dy with the gradient of x.

    With ``n = (x - mean) * inverse`` and ``g = dy * weight``: ``dx = inverse * (g - mean(g) - n * mean(g * n))``, where
    ``mean(g)`` stays away unless `about_mean`.

    dy          (M, F)  float, in/out: rows begin to end - 1
    x           (M, F)  float, in
    weight      (F,)    float, in
    stats       (M, 3)  float, in: as layer_norm wrote them
    about_mean  bool, in: as layer_norm had it
    """
    features = x.shape[1]
    width = lanes_of(x)
    rest = features % width
    last = features - rest
    z = x.reshape(-1)
    d = dy.reshape(-1)
    for m in range(begin, end):
        row = m * features
        guess = splat(z, stats[m, 0])
        shift = splat(z, stats[m, 1])
        inverse = splat(z, stats[m, 2])
        total = 0.0
        along = 0.0
        for block in range(0, last, _BLOCK * width):
            sums = splat(z, 0.0)
            products = splat(z, 0.0)
            for c in range(block, min(block + _BLOCK * width, last), width):
                g = load(d, row + c) * load(weight, c)
                n = ((load(z, row + c) - guess) - shift) * inverse
                sums = sums + g
                products = fma(g, n, products)
            total += hsum(sums)
            along += hsum(products)
        if rest:
            g = load_n(d, row + last, rest) * load_n(weight, last, rest)  # 0 in the other lanes
            n = ((load_n(z, row + last, rest) - guess) - shift) * inverse
            total += hsum(g)
            along += hsum(keep_n(g * n, rest, splat(z, 0.0)))
        mean = splat(z, total / features if about_mean else 0.0)
        slope = splat(z, -along / features)
        for c in range(0, last, width):
            g = load(d, row + c) * load(weight, c)
            n = ((load(z, row + c) - guess) - shift) * inverse
            store(d, row + c, inverse * fma(n, slope, g - mean))
        if rest:
            g = load_n(d, row + last, rest) * load_n(weight, last, rest)
            n = ((load_n(z, row + last, rest) - guess) - shift) * inverse
            store_n(d, row + last, inverse * fma(n, slope, g - mean), rest)


@jit_inner
def _take(a, i, count):
    """Return ``a[i:i + count]`` as a register: `count` is its lanes, or fewer where columns end."""
    return load(a, i) if count == lanes_of(a) else load_n(a, i, count)


@jit_inner
def _put(a, i, v, count):
    """Write the first `count` lanes, as `_take` reads them."""
    if count == lanes_of(a):
        store(a, i, v)
    else:
        store_n(a, i, v, count)


@jit_inner
def _clear(sums, begin, end):
    """Make the columns of both sums 0."""
    for c in range(begin, end):
        sums[0, c] = 0.0
        sums[1, c] = 0.0


@jit_inner
def _add(sums, part, begin, end):
    """Add the columns of what a block of rows gave, both sums of it."""
    for c in range(begin, end):
        sums[0, c] += part[0, c]
        sums[1, c] += part[1, c]


@jit
def layer_norm_sums(dy, x, stats, part, sums, begin, end):
    """Write the gradients of the weight and of the bias: ``sum(dy * n)`` and ``sum(dy)`` over the rows.

    dy     (M, F)  float, in
    x      (M, F)  float, in
    stats  (M, 3)  float, in: as layer_norm wrote them
    part   (2, F)  float, scratch: columns begin to end - 1
    sums   (2, F)  float64, out: columns begin to end - 1
    """
    rows, features = x.shape
    width = lanes_of(x)
    z = x.reshape(-1)
    d = dy.reshape(-1)
    out = part.reshape(-1)
    _clear(sums, begin, end)
    for block in range(0, rows, _ROWS):
        for c in range(begin, end, width):
            count = min(width, end - c)
            along = splat(z, 0.0)
            total = splat(z, 0.0)
            for m in range(block, min(block + _ROWS, rows)):
                g = _take(d, m * features + c, count)
                n = (_take(z, m * features + c, count) - splat(z, stats[m, 0])) - splat(z, stats[m, 1])
                along = fma(g, n * splat(z, stats[m, 2]), along)
                total = total + g
            _put(out, c, along, count)
            _put(out, features + c, total, count)
        _add(sums, part, begin, end)


@jit
def batch_moments(x, guess, part, sums, begin, end):
    """Write the sums of ``x - guess`` and of its square over the rows.

    x      (M, F)  float, in
    guess  (F,)    float, in
    part   (2, F)  float, scratch: columns begin to end - 1
    sums   (2, F)  float64, out: columns begin to end - 1
    """
    rows, features = x.shape
    width = lanes_of(x)
    z = x.reshape(-1)
    out = part.reshape(-1)
    _clear(sums, begin, end)
    for block in range(0, rows, _ROWS):
        for c in range(begin, end, width):
            count = min(width, end - c)
            origin = _take(guess, c, count)
            first = splat(z, 0.0)
            second = splat(z, 0.0)
            for m in range(block, min(block + _ROWS, rows)):
                d = _take(z, m * features + c, count) - origin
                first = first + d
                second = fma(d, d, second)
            _put(out, c, first, count)
            _put(out, features + c, second, count)
        _add(sums, part, begin, end)


@jit
def batch_norm(x, stats, factor, bias, y, begin, end):
    """Write ``(x - mean) * factor + bias``, with a mean, a factor and a bias for each feature.

    x       (M, F)  float, in
    stats   (3, F)  float, in: a guess of the mean, what the mean is above it, 1 / sqrt(variance + epsilon)
    factor  (F,)    float, in: weight / sqrt(variance + epsilon)
    bias    (F,)    float, in
    y       (M, F)  float, out: rows begin to end - 1
    """
    features = x.shape[1]
    width = lanes_of(x)
    z = x.reshape(-1)
    out = y.reshape(-1)
    of = stats.reshape(-1)
    for m in range(begin, end):
        for c in range(0, features, width):
            count = min(width, features - c)
            d = (_take(z, m * features + c, count) - _take(of, c, count)) - _take(of, features + c, count)
            _put(out, m * features + c, fma(d, _take(factor, c, count), _take(bias, c, count)), count)


@jit
def batch_norm_sums(dy, x, stats, part, sums, begin, end):
    """Write the gradients of the weight and of the bias: ``sum(dy * n)`` and ``sum(dy)`` over the rows.

    dy     (M, F)  float, in
    x      (M, F)  float, in
    stats  (3, F)  float, in: as batch_norm had them; ``n = (x - mean) / sqrt(variance + epsilon)``
    part   (2, F)  float, scratch: columns begin to end - 1
    sums   (2, F)  float64, out: columns begin to end - 1
    """
    rows, features = x.shape
    width = lanes_of(x)
    z = x.reshape(-1)
    d = dy.reshape(-1)
    of = stats.reshape(-1)
    out = part.reshape(-1)
    _clear(sums, begin, end)
    for block in range(0, rows, _ROWS):
        for c in range(begin, end, width):
            count = min(width, end - c)
            guess = _take(of, c, count)
            shift = _take(of, features + c, count)
            inverse = _take(of, 2 * features + c, count)
            along = splat(z, 0.0)
            total = splat(z, 0.0)
            for m in range(block, min(block + _ROWS, rows)):
                g = _take(d, m * features + c, count)
                n = ((_take(z, m * features + c, count) - guess) - shift) * inverse
                along = fma(g, n, along)
                total = total + g
            _put(out, c, along, count)
            _put(out, features + c, total, count)
        _add(sums, part, begin, end)


@jit
def batch_norm_backward(dy, x, stats, factor, means, begin, end):
    """Overwrite dy with the gradient of x: ``factor * (dy - mean(dy) - n * mean(dy * n))``.

    dy      (M, F)  float, in/out: rows begin to end - 1
    x       (M, F)  float, in
    stats   (3, F)  float, in: as batch_norm had them; ``n = (x - mean) / sqrt(variance + epsilon)``
    factor  (F,)    float, in: weight / sqrt(variance + epsilon)
    means   (2, F)  float, in: of ``dy * n`` and of dy over the batch; zeros where its statistics are constants
    """
    features = x.shape[1]
    width = lanes_of(x)
    z = x.reshape(-1)
    d = dy.reshape(-1)
    of = stats.reshape(-1)
    mean = means.reshape(-1)
    for m in range(begin, end):
        for c in range(0, features, width):
            count = min(width, features - c)
            n = (_take(z, m * features + c, count) - _take(of, c, count)) - _take(of, features + c, count)
            n = n * _take(of, 2 * features + c, count)
            g = _take(d, m * features + c, count) - _take(mean, features + c, count)
            g = _take(factor, c, count) * (g - n * _take(mean, c, count))
            _put(d, m * features + c, g, count)
