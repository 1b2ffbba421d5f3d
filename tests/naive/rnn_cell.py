"""One step of a simple (Elman) RNN; the numbered lines are those of ``docs/rnn.md``."""

import numpy as np

from tests.naive.activations import slope, value
from tests.naive.products import Part


def step(spec, x, state, weights):
    """x (D,), state (h (H,),): h and its pre-activation."""
    (h_prev,) = state
    units = len(h_prev)
    a = Part("ih", "h", units, weights)("h", x) + Part("hh", "h", units, weights)("h", h_prev)  # 0
    return {"h": np.array([value(spec.activation, number) for number in a]), "a": {"h": a}}  # 1


def step_backward(spec, x, state, weights, found, d_state, d_weights):
    """Return the gradients of x and of the state before, from that of the state after; add to `d_weights`."""
    (h_prev,), (dh,) = state, d_state
    units = len(h_prev)
    da = np.array([dh[unit] * slope(spec.activation, found["a"]["h"][unit]) for unit in range(units)])  # 1b
    dx = Part("ih", "h", units, weights, d_weights).backward("h", x, da)  # 0b
    return dx, (Part("hh", "h", units, weights, d_weights).backward("h", h_prev, da),)
