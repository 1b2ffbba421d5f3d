"""Fused optimizer steps: each reads gradient, state and parameter once and writes state and parameter once.

The order of operations is torch's (``torch.optim``, one tensor at a time), so that the same gradients give its weights
to the last few bits. ``scale`` is multiplied into the gradient on the way: clipping by norm costs no pass of its own.

Every operation is lane by lane, so a result is bitwise the same however a tensor is split. State that decays towards
zero is made 0 before it becomes a denormal number, on which many CPUs crawl: a row of an embedding whose token is rare
would otherwise keep such numbers for good.

All arrays are 1-D, contiguous, of one float type and length n; scalars are float64.
"""

import numpy as np

from ..simd.across import add_squares, add_to_first, eight_zeros, sum_of_eight
from ..simd.jit import jit, jit_inner
from ..simd.vector import fma, lanes_of, lanewise, load, load_n, splat, store, store_n, vsqrt

__all__ = ["NORM_BLOCK", "adam", "momentum", "rmsprop", "rmsprop_momentum", "sgd", "squared_norm"]

NORM_BLOCK = 4096
"""Elements whose squares become one partial sum of ``squared_norm``."""


@lanewise
def _zero_below(x, bound):
    """``_zero_below(x, bound)``: 0 in the lanes whose size is below `bound`; NaN stays NaN."""
    return x.zero_below(bound)


@jit
def squared_norm(x, partials, begin, end):
    """Write the sums of squares of the blocks ``begin`` to ``end - 1`` of NORM_BLOCK elements each.

    x         (n,)                    float, in
    partials  (ceil(n / NORM_BLOCK),) float64, out: accumulated in float64, in an order that depends on n alone
    """
    for block in range(begin, end):
        first = block * NORM_BLOCK
        last = min(first + NORM_BLOCK, x.size)
        sums = eight_zeros()
        whole = last - (last - first) % 8
        for i in range(first, whole, 8):
            sums = add_squares(sums, x, i)
        for i in range(whole, last):
            sums = add_to_first(sums, np.float64(x[i]) ** 2)
        partials[block] = sum_of_eight(sums)


@jit_inner
def _take(a, i, end):
    """Return the register at ``a[i:]``; lanes from `end` on are not read."""
    return load(a, i) if end - i >= lanes_of(a) else load_n(a, i, end - i)


@jit_inner
def _put(a, i, v, end):
    """Write the register to ``a[i:]``, but nothing from `end` on."""
    if end - i >= lanes_of(a):
        store(a, i, v)
    else:
        store_n(a, i, v, end - i)


@jit_inner
def _negligible(a):
    """Return the size below which first-order state counts as 0; its square, in second-order state, is still normal."""
    return np.sqrt(np.finfo(a.dtype).tiny) * 64.0


@jit_inner
def _mean_square(s, g, keep, add, least):
    """Return ``keep * s + add * g * g``."""
    return _zero_below(fma(add * g, g, s * keep), least)


@jit
def sgd(param, grad, scale, learning_rate, begin, end):
    """``param -= learning_rate * scale * grad`` on elements begin to end - 1.

    param  (n,)  float, in/out
    grad   (n,)  float, in
    """
    by = splat(param, scale)
    down = splat(param, -learning_rate)
    for i in range(begin, end, lanes_of(param)):
        _put(param, i, fma(down, _take(grad, i, end) * by, _take(param, i, end)), end)


@jit
def momentum(param, grad, velocity, scale, learning_rate, beta, nesterov, begin, end):
    """SGD with momentum: ``v = beta * v + g``; ``param -= learning_rate * v`` (Nesterov: ``* (g + beta * v)``).

    param     (n,)  float, in/out
    grad      (n,)  float, in: g = scale * grad
    velocity  (n,)  float, in/out: zeros at the start
    nesterov        bool
    """
    by = splat(param, scale)
    keep = splat(param, beta)
    down = splat(param, -learning_rate)
    bound = splat(param, _negligible(param))
    for i in range(begin, end, lanes_of(param)):
        g = _take(grad, i, end) * by
        v = _zero_below(fma(_take(velocity, i, end), keep, g), bound)
        _put(velocity, i, v, end)
        _put(param, i, fma(down, fma(v, keep, g) if nesterov else v, _take(param, i, end)), end)


@jit
def rmsprop(param, grad, square, scale, learning_rate, rho, epsilon, begin, end):
    """RMSprop: ``s = rho * s + (1 - rho) * g * g``; ``param -= learning_rate * g / (sqrt(s) + epsilon)``.

    param   (n,)  float, in/out
    grad    (n,)  float, in: g = scale * grad
    square  (n,)  float, in/out: zeros at the start
    """
    by = splat(param, scale)
    keep = splat(param, rho)
    add = splat(param, 1.0 - rho)
    down = splat(param, -learning_rate)
    eps = splat(param, epsilon)
    bound = splat(param, _negligible(param))
    least = bound * bound * add
    for i in range(begin, end, lanes_of(param)):
        g = _zero_below(_take(grad, i, end) * by, bound)
        s = _mean_square(_take(square, i, end), g, keep, add, least)
        _put(square, i, s, end)
        _put(param, i, _take(param, i, end) + down * g / (vsqrt(s) + eps), end)


@jit
def rmsprop_momentum(param, grad, square, velocity, scale, learning_rate, rho, epsilon, beta, begin, end):
    """RMSprop whose quotient feeds a velocity: ``v = beta * v + g / (sqrt(s) + epsilon)``; ``param -= rate * v``.

    param     (n,)  float, in/out
    grad      (n,)  float, in: g = scale * grad
    square    (n,)  float, in/out: zeros at the start; s as in `rmsprop`
    velocity  (n,)  float, in/out: zeros at the start
    """
    by = splat(param, scale)
    keep = splat(param, rho)
    add = splat(param, 1.0 - rho)
    down = splat(param, -learning_rate)
    eps = splat(param, epsilon)
    roll = splat(param, beta)
    bound = splat(param, _negligible(param))
    least = bound * bound * add
    for i in range(begin, end, lanes_of(param)):
        g = _zero_below(_take(grad, i, end) * by, bound)
        s = _mean_square(_take(square, i, end), g, keep, add, least)
        v = _zero_below(_take(velocity, i, end) * roll + g / (vsqrt(s) + eps), bound)
        _put(square, i, s, end)
        _put(velocity, i, v, end)
        _put(param, i, fma(down, v, _take(param, i, end)), end)


@jit
def adam(param, grad, mean, square, factors, begin, end):
    """Adam (Kingma and Ba 2015), and AdamW (Loshchilov and Hutter 2019) by `factors`.

    ::

        param  = shrink * param                                    AdamW: shrink = 1 - rate * decay
        g      = scale * grad + penalty * param                    Adam with L2 penalty
        mean   = mean + (1 - beta1) * (g - mean)
        square = beta2 * square + (1 - beta2) * g * g
        param -= step_size * mean / (sqrt(square) / root + epsilon)

    with ``step_size = rate / (1 - beta1**t)`` and ``root = sqrt(1 - beta2**t)`` at step t = 1, 2, ...

    param    (n,)  float, in/out
    grad     (n,)  float, in
    mean     (n,)  float, in/out: zeros at the start
    square   (n,)  float, in/out: zeros at the start
    factors  (8,)  float64, in: scale, step_size, root, epsilon, beta1, beta2, shrink, penalty
    """
    scale = splat(param, factors[0])
    step = splat(param, -factors[1])
    root = splat(param, factors[2])
    eps = splat(param, factors[3])
    first = splat(param, 1.0 - factors[4])
    keep = splat(param, factors[5])
    add = splat(param, 1.0 - factors[5])
    shrink = splat(param, factors[6])
    penalty = splat(param, factors[7])
    bound = splat(param, _negligible(param))
    least = bound * bound * add
    for i in range(begin, end, lanes_of(param)):
        p = _take(param, i, end) * shrink
        g = _zero_below(fma(penalty, p, _take(grad, i, end) * scale), bound)
        m = _take(mean, i, end)
        m = _zero_below(fma(first, g - m, m), bound)
        s = _mean_square(_take(square, i, end), g, keep, add, least)
        _put(mean, i, m, end)
        _put(square, i, s, end)
        _put(param, i, p + step * m / (vsqrt(s) / root + eps), end)
