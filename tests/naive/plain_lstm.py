"""The LSTM without options, its weights as a record: a short way to `cells` for the tests that need no more."""

from math import sqrt
from typing import NamedTuple

import numpy as np

from tests.naive import cells
from tests.naive.spec import Spec

GATES = "ifgo"
_SPEC = Spec("lstm")


class Weights(NamedTuple):
    """One direction of one LSTM layer, in torch's shapes."""

    w_ih: np.ndarray  # (4H, D)
    w_hh: np.ndarray  # (4H, H)
    b_ih: np.ndarray  # (4H,)
    b_hh: np.ndarray  # (4H,)

    @property
    def units(self):
        return self.w_hh.shape[1]


NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


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


def named(weights):
    """Return weights by torch's names."""
    return dict(zip(NAMES, weights, strict=True))


def lstm_step(x, h_prev, c_prev, weights):
    """One step of one sequence: x (D,), h_prev and c_prev (H,)."""
    return lstm_steps(x[None], h_prev, c_prev, weights)[0]


def lstm_steps(x, h0, c0, weights):
    """All steps of one sequence: x (T, D)."""
    found = cells.steps(_SPEC, x, (h0, c0), named(weights))
    return [Step(*(step[name] for name in Step._fields)) for step in found]


def lstm(sequences, h0, c0, weights, reverse=False):
    """Outputs of a list of sequences (T_n, D), and the states after their last steps."""
    outputs, (h, c) = cells.forward(_SPEC, sequences, (h0, c0), named(weights), reverse)
    return outputs, h, c


def lstm_backward(sequences, h0, c0, weights, dys, dh_last, dc_last, reverse=False):
    """Gradients of ``sum(dys * outputs) + sum(dh_last * h_last) + sum(dc_last * c_last)``, by BPTT."""
    found = cells.backward(_SPEC, sequences, (h0, c0), named(weights), dys, (dh_last, dc_last), reverse)
    return Gradients(found.xs, *found.states, Weights(*(found.weights[name] for name in NAMES)))


def random_weights(rng, features, units):
    """Weights of the size that torch starts from, so that gates are neither flat nor open."""
    bound = 1.0 / sqrt(units)
    shapes = ((4 * units, features), (4 * units, units), (4 * units,), (4 * units,))
    return Weights(*(rng.uniform(-bound, bound, shape) for shape in shapes))


def random_sequences(rng, lengths, features):
    return [rng.standard_normal((length, features)) for length in lengths]
