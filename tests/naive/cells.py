"""Every recurrent layer through one face: outputs, final states, gradients by BPTT, and the trace of all gates.

States are tuples of arrays with one row a sequence: (h, c) of an LSTM, (h,) of the others. `reverse` runs each sequence
from its last step to its first; outputs and gradients stay at the steps that they belong to.
"""

from typing import NamedTuple

import numpy as np

from tests.naive import gru_cell, lstm_cell, rnn_cell

CELLS = {"lstm": lstm_cell, "gru": gru_cell, "rnn": rnn_cell}
STATES = {"lstm": "hc", "gru": "h", "rnn": "h"}


class Gradients(NamedTuple):
    """What `backward` returns."""

    xs: list  # (T_n, D) of each sequence
    states: tuple  # of each part of the initial state, one row a sequence
    weights: dict


def steps(spec, x, state, weights):
    """All that each step of one sequence x (T, D) computes, from a state of vectors."""
    found = []
    for x_t in x:
        found.append(CELLS[spec.kind].step(spec, x_t, state, weights))
        state = tuple(found[-1][part] for part in STATES[spec.kind])
    return found


def forward(spec, sequences, states, weights, reverse=False):
    """Return h of every step of each sequence (T_n, D), and the states after their last steps."""
    ys, ends = [], []
    for n, x in enumerate(sequences):
        found = steps(spec, x[::-1] if reverse else x, tuple(part[n] for part in states), weights)
        y = np.array([step["h"] for step in found])
        ys.append(y[::-1] if reverse else y)
        ends.append([found[-1][part] for part in STATES[spec.kind]])
    return ys, tuple(np.array(part) for part in zip(*ends, strict=True))


def trace(spec, sequences, states, weights, reverse=False):
    """Return, for each sequence, every gate and state by its letter: (T_n, H)."""
    traces = []
    for n, x in enumerate(sequences):
        found = steps(spec, x[::-1] if reverse else x, tuple(part[n] for part in states), weights)
        letters = [name for name in found[0] if name in "ifgorznch"]
        rows = {name: np.array([step[name] for step in found]) for name in letters}
        traces.append({name: row[::-1] if reverse else row for name, row in rows.items()})
    return traces


def backward(spec, sequences, states, weights, dys, d_finals, reverse=False):
    """Return the `Gradients` of ``sum(dys * ys) + sum(d_finals * finals)``, by BPTT."""
    d_weights = {name: np.zeros(value.shape) for name, value in weights.items()}
    d_states = tuple(np.zeros(part.shape) for part in states)
    dxs = []
    for n, x in enumerate(sequences):
        dy = dys[n]
        if reverse:
            x, dy = x[::-1], dy[::-1]
        start = tuple(part[n] for part in states)
        dx, d_start = _bptt(spec, x, start, weights, dy, tuple(part[n] for part in d_finals), d_weights)
        dxs.append(dx[::-1] if reverse else dx)
        for part, row in zip(d_states, d_start, strict=True):
            part[n] = row
    return Gradients(dxs, d_states, d_weights)


def _bptt(spec, x, start, weights, dy, d_final, d_weights):
    """BPTT of one sequence; adds to the weights' gradients."""
    found = steps(spec, x, start, weights)
    dx, d_state = np.zeros(x.shape), d_final
    for t in reversed(range(len(x))):
        before = tuple(found[t - 1][part] for part in STATES[spec.kind]) if t else start
        d_state = (d_state[0] + dy[t], *d_state[1:])  # h is what goes out
        dx[t], d_state = CELLS[spec.kind].step_backward(spec, x[t], before, weights, found[t], d_state, d_weights)
    return dx, d_state
