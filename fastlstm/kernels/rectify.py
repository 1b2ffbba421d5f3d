"""Rectifiers with parameters of their own. Values are 1-D arrays of one float type, contiguous."""

from ..simd.jit import jit

__all__ = ["elu_backward", "rectify", "rectify_backward", "scale_below_zero"]


@jit
def rectify(x, y, slope, threshold, highest, begin, end):
    """Write x between `threshold` and `highest`, ``slope * (x - threshold)`` below, `highest` above; NaN stays NaN.

    x       (M,)     float, in
    y       (M,)     float, out: begin to end - 1
    slope, threshold, highest  float64, in
    """
    for i in range(begin, end):
        value = x[i]
        if value < threshold:
            value = slope * (value - threshold) if slope != 0.0 else 0.0  # 0, also for minus infinity
        elif value > highest:
            value = highest
        y[i] = value


@jit
def rectify_backward(dy, x, slope, threshold, highest, begin, end):
    """Multiply dy by the derivative of `rectify`: `slope` up to the threshold, then 1, and 0 from `highest` on.

    dy      (M,)     float, in/out: begin to end - 1
    x       (M,)     float, in
    slope, threshold, highest  float64, in
    """
    for i in range(begin, end):
        if x[i] <= threshold:
            dy[i] *= slope
        elif x[i] >= highest:
            dy[i] = 0.0


@jit
def scale_below_zero(y, factor, begin, end):
    """Multiply the values below 0 by `factor`.

    y       (M,)     float, in/out: begin to end - 1
    factor  float64, in
    """
    for i in range(begin, end):
        if y[i] < 0.0:
            y[i] *= factor


@jit
def elu_backward(dy, y, alpha, begin, end):
    """Multiply dy by the derivative of ELU: 1 above 0, ``y + alpha`` below.

    dy     (M,)      float, in/out: begin to end - 1
    y      (M,)      float, in: the values of ELU
    alpha  float64, in
    """
    for i in range(begin, end):
        if y[i] <= 0.0:
            dy[i] *= y[i] + alpha
