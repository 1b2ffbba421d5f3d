"""Line 0 of every cell, gate by gate and row by row, and its backward."""

import numpy as np


def rows_of(gate, gates, units):
    """Return the rows of a stacked weight that belong to a gate."""
    first = gates.index(gate) * units
    return slice(first, first + units)


def product(weight, x):
    """weight (R, C), x (C,): a sum for each row."""
    return np.array([row @ x for row in weight])


def product_backward(weight, x, da, d_weight):
    """Add the gradient of weight to `d_weight`; return that of x."""
    dx = np.zeros(len(x))
    for r, row in enumerate(weight):
        d_weight[r] += da[r] * x
        dx += da[r] * row
    return dx


class Part:
    """The weights of one side of line 0, ``weight_{side}_l0`` and ``bias_{side}_l0``: "ih" of x, "hh" of h_prev."""

    def __init__(self, side, gates, units, weights, d_weights=None):
        self.gates, self.units = gates, units
        self.names = f"weight_{side}_l0", f"bias_{side}_l0"
        self.weights, self.d_weights = weights, d_weights

    def __call__(self, gate, v):
        """Return ``W_gate v + b_gate``."""
        rows, (weight, bias) = rows_of(gate, self.gates, self.units), self.names
        a = product(self.weights[weight][rows], v)
        return a + self.weights[bias][rows] if bias in self.weights else a

    def backward(self, gate, v, da):
        """Add the gradients of weight and bias; return that of v."""
        rows, (weight, bias) = rows_of(gate, self.gates, self.units), self.names
        if bias in self.weights:
            self.d_weights[bias][rows] += da
        return product_backward(self.weights[weight][rows], v, da, self.d_weights[weight][rows])
