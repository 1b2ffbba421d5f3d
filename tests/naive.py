"""What the layers should compute, written so that it can be checked against ``docs/lstm.md`` line by line.

float64, plain loops, one sequence at a time, one gate at a time, one unit at a time. No batching, no padding, no
packing, nothing shared with the library: this file imports nothing of ours. Slow on purpose; use small shapes.
"""

from math import exp, log, sqrt
from math import tanh as _tanh
from typing import NamedTuple

import numpy as np

GATES = "ifgo"


class Weights(NamedTuple):
    """One direction of one LSTM layer, in torch's shapes."""

    w_ih: np.ndarray  # (4H, D)
    w_hh: np.ndarray  # (4H, H)
    b_ih: np.ndarray  # (4H,)
    b_hh: np.ndarray  # (4H,)

    @property
    def units(self):
        return self.w_hh.shape[1]


class Step(NamedTuple):
    """All that one step of one sequence computed: each a vector (H,)."""

    i: np.ndarray
    f: np.ndarray
    g: np.ndarray
    o: np.ndarray
    c: np.ndarray
    h: np.ndarray


class Gradients(NamedTuple):
    """What `lstm_backward` returns."""

    x: list[np.ndarray]  # (T_n, D) for each sequence
    h0: np.ndarray  # (N, H)
    c0: np.ndarray  # (N, H)
    weights: Weights


def sigmoid(a):
    """1 / (1 + exp(-a)) of one number, without overflow."""
    return 1.0 / (1.0 + exp(-a)) if a >= 0.0 else exp(a) / (1.0 + exp(a))


def tanh(a):
    return _tanh(a)


# --- LSTM ------------------------------------------------------------------------------------------------------------


def _preactivation(gate, unit, x, h_prev, weights):
    row = GATES.index(gate) * weights.units + unit
    a = weights.b_ih[row] + weights.b_hh[row]
    for d in range(len(x)):
        a += weights.w_ih[row, d] * x[d]
    for k in range(weights.units):
        a += weights.w_hh[row, k] * h_prev[k]
    return a


def lstm_step(x, h_prev, c_prev, weights):
    """One step of one sequence: x (D,), h_prev and c_prev (H,)."""
    values = {name: np.zeros(weights.units) for name in Step._fields}
    for unit in range(weights.units):
        a = {gate: _preactivation(gate, unit, x, h_prev, weights) for gate in GATES}  # 0
        i = sigmoid(a["i"])  # 1
        f = sigmoid(a["f"])  # 2
        g = tanh(a["g"])  # 3
        o = sigmoid(a["o"])  # 4
        c = f * c_prev[unit] + i * g  # 5
        h = o * tanh(c)  # 6
        for name, value in zip(Step._fields, (i, f, g, o, c, h), strict=True):
            values[name][unit] = value
    return Step(**values)


def lstm_steps(x, h0, c0, weights):
    """All steps of one sequence: x (T, D)."""
    steps, h, c = [], h0, c0
    for x_t in x:
        step = lstm_step(x_t, h, c, weights)
        steps.append(step)
        h, c = step.h, step.c
    return steps


def lstm(sequences, h0, c0, weights, reverse=False):
    """Outputs of a list of sequences (T_n, D), and the states after their last steps.

    `reverse` runs each sequence from its last step to its first; outputs stay at the steps that they belong to.
    """
    outputs, h_last, c_last = [], [], []
    for n, x in enumerate(sequences):
        steps = lstm_steps(x[::-1] if reverse else x, h0[n], c0[n], weights)
        y = np.array([step.h for step in steps])
        outputs.append(y[::-1] if reverse else y)
        h_last.append(steps[-1].h)
        c_last.append(steps[-1].c)
    return outputs, np.array(h_last), np.array(c_last)


def lstm_backward(sequences, h0, c0, weights, dys, dh_last, dc_last, reverse=False):
    """Gradients of ``sum(dys * outputs) + sum(dh_last * h_last) + sum(dc_last * c_last)``, by BPTT."""
    total = Weights(*(np.zeros_like(w) for w in weights))
    dxs, dh0, dc0 = [], np.zeros_like(h0), np.zeros_like(c0)
    for n, x in enumerate(sequences):
        dy = dys[n]
        if reverse:
            x, dy = x[::-1], dy[::-1]
        dx, dh0[n], dc0[n] = _bptt(x, h0[n], c0[n], weights, dy, dh_last[n], dc_last[n], total)
        dxs.append(dx[::-1] if reverse else dx)
    return Gradients(dxs, dh0, dc0, total)


def _bptt(x, h0, c0, weights, dy, dh_last, dc_last, total):
    """BPTT of one sequence; adds to the weights' gradients in `total`."""
    steps = lstm_steps(x, h0, c0, weights)
    units = weights.units
    dx = np.zeros_like(x)
    dh_next, dc_next = dh_last.copy(), dc_last.copy()
    for t in reversed(range(len(steps))):
        step = steps[t]
        h_prev = steps[t - 1].h if t else h0
        c_prev = steps[t - 1].c if t else c0
        dh = dy[t] + dh_next
        dh_next, dc_prev = np.zeros(units), np.zeros(units)
        for unit in range(units):
            i, f, g, o, c, _ = (value[unit] for value in step)
            do = dh[unit] * tanh(c)  # 6b
            dc = dc_next[unit] + dh[unit] * o * (1.0 - tanh(c) ** 2)
            di, dg, df = dc * g, dc * i, dc * c_prev[unit]  # 5b
            dc_prev[unit] = dc * f
            da = {
                "o": do * o * (1.0 - o),  # 4b
                "g": dg * (1.0 - g**2),  # 3b
                "f": df * f * (1.0 - f),  # 2b
                "i": di * i * (1.0 - i),  # 1b
            }
            for gate, value in da.items():  # 0b
                row = GATES.index(gate) * units + unit
                for d in range(x.shape[1]):
                    dx[t, d] += weights.w_ih[row, d] * value
                    total.w_ih[row, d] += value * x[t, d]
                for k in range(units):
                    dh_next[k] += weights.w_hh[row, k] * value
                    total.w_hh[row, k] += value * h_prev[k]
                total.b_ih[row] += value
                total.b_hh[row] += value
        dc_next = dc_prev
    return dx, dh_next, dc_next


# --- the other layers ------------------------------------------------------------------------------------------------


def embedding(ids, weight):
    """Row ``ids[m]`` of weight (V, E) for each id."""
    return np.array([[weight[token, e] for e in range(weight.shape[1])] for token in ids])


def embedding_backward(ids, vocabulary, dy):
    """Gradient of weight: the sum of the rows of dy (M, E) where each id stood."""
    dw = np.zeros((vocabulary, dy.shape[1]))
    for m, token in enumerate(ids):
        for e in range(dy.shape[1]):
            dw[token, e] += dy[m, e]
    return dw


def dense(x, weight, bias, activation=None):
    """x (M, D), weight (U, D), bias (U,): ``activation(x @ weight.T + bias)``."""
    y = np.zeros((len(x), len(weight)))
    for m in range(len(x)):
        for u in range(len(weight)):
            y[m, u] = bias[u] + sum(weight[u, d] * x[m, d] for d in range(x.shape[1]))
    return activate(y, activation)


def activate(a, activation):
    """Apply an activation by its name to rows (M, U)."""
    if activation == "softmax":
        return np.array([softmax(row) for row in a])
    function = {None: float, "sigmoid": sigmoid, "tanh": tanh, "relu": lambda value: max(value, 0.0)}[activation]
    return np.array([[function(value) for value in row] for row in a])


def dense_backward(x, weight, bias, activation, dy):
    """Gradients (x, weight, bias) of ``sum(dy * dense(x, ...))``."""
    y = dense(x, weight, bias, activation)
    dx, dw, db = np.zeros_like(x), np.zeros_like(weight), np.zeros_like(bias)
    for m in range(len(x)):
        for u in range(len(weight)):
            if activation == "softmax":  # every output depends on every pre-activation
                da = sum(dy[m, v] * y[m, v] * ((u == v) - y[m, u]) for v in range(len(weight)))
            else:
                slope = {
                    None: 1.0,
                    "sigmoid": y[m, u] * (1.0 - y[m, u]),
                    "tanh": 1.0 - y[m, u] ** 2,
                    "relu": float(y[m, u] > 0.0),
                }[activation]
                da = dy[m, u] * slope
            db[u] += da
            for d in range(x.shape[1]):
                dw[u, d] += da * x[m, d]
                dx[m, d] += da * weight[u, d]
    return dx, dw, db


def softmax(row):
    """exp(row) / sum(exp(row)), without overflow."""
    top = max(row)
    powers = [exp(value - top) for value in row]
    return np.array([power / sum(powers) for power in powers])


def log_softmax(row):
    """Logarithm of `softmax`."""
    top = max(row)
    total = log(sum(exp(value - top) for value in row))
    return np.array([value - top - total for value in row])


def last_step(sequences):
    return np.array([x[len(x) - 1] for x in sequences])


def max_pool(sequences):
    """The largest value of each feature over a sequence's true steps."""
    return np.array([[max(x[t, f] for t in range(len(x))) for f in range(x.shape[1])] for x in sequences])


def average_pool(sequences):
    """The mean of each feature over a sequence's true steps."""
    return np.array([[sum(x[t, f] for t in range(len(x))) / len(x) for f in range(x.shape[1])] for x in sequences])


# --- making things up ------------------------------------------------------------------------------------------------


def random_weights(rng, features, units):
    """Weights of the size that torch starts from, so that gates are neither flat nor open."""
    bound = 1.0 / sqrt(units)
    shapes = ((4 * units, features), (4 * units, units), (4 * units,), (4 * units,))
    return Weights(*(rng.uniform(-bound, bound, shape) for shape in shapes))


def random_sequences(rng, lengths, features):
    return [rng.standard_normal((length, features)) for length in lengths]
