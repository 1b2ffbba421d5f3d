"""Cases for every recurrent layer: the specs that are tested, and ragged batches with states, weights and a loss."""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from tests.naive import Spec, cells, random_sequences
from tests.naive.activations import KINKS
from tests.naive.spec import random_states, random_weights
from tests.tolerances import OUTPUT, assert_gradients_close, assert_outputs_close

HARD = "hard_sigmoid"

SPECS = (
    Spec("lstm"),
    Spec("lstm", use_bias=False),
    Spec("lstm", activation="relu", recurrent_activation=HARD),
    Spec("lstm", recurrent_activation="hard_sigmoid_keras2"),
    Spec("lstm", activation="softsign", recurrent_activation="softsign"),
    Spec("lstm", activation="linear", recurrent_activation="tanh"),
    Spec("lstm", activation="sigmoid", recurrent_activation="relu"),
    Spec("lstm", peephole=True),
    Spec("lstm", peephole=True, activation="softsign", recurrent_activation=HARD),
    Spec("lstm", coupled=True),
    Spec("lstm", coupled=True, recurrent_activation="hard_sigmoid_keras2", use_bias=False),
    Spec("lstm", coupled=True, peephole=True),
    Spec("lstm", projection=2),
    Spec("lstm", projection=3, use_bias=False),
    Spec("lstm", projection=2, peephole=True, recurrent_activation=HARD),
    Spec("lstm", projection=1, coupled=True, peephole=True),
    Spec("gru"),
    Spec("gru", reset_after=False),
    Spec("gru", use_bias=False),
    Spec("gru", reset_after=False, use_bias=False, recurrent_activation="hard_sigmoid_keras2"),
    Spec("gru", activation="relu", recurrent_activation=HARD),
    Spec("gru", activation="softsign", recurrent_activation="tanh", reset_after=False),
    Spec("gru", activation="linear", recurrent_activation="softsign"),
    Spec("gru", activation=HARD, recurrent_activation="relu", reset_after=False),
    Spec("gru", activation="sigmoid", recurrent_activation="linear"),
    Spec("rnn"),
    Spec("rnn", use_bias=False),
    Spec("rnn", activation="relu"),
    Spec("rnn", activation="sigmoid"),
    Spec("rnn", activation=HARD),
    Spec("rnn", activation="hard_sigmoid_keras2"),
    Spec("rnn", activation="linear"),
    Spec("rnn", activation="softsign"),
)
"""Every option at least once, every activation in each of its places."""

DEFAULT_OPTIONS = {kind: Spec(kind).options() for kind in ("lstm", "gru", "rnn")}


class Case(NamedTuple):
    """A batch for one layer, and the loss ``sum(dys * ys) + sum(d_finals * finals)``; all float64."""

    spec: Spec
    xs: list  # (T_n, D)
    states: tuple  # (h0 (N, P), c0 (N, H)) or (h0 (N, H),)
    weights: dict
    dys: list  # (T_n, P)
    d_finals: tuple

    @property
    def features(self):
        return self.xs[0].shape[1]

    @property
    def units(self):
        return self.states[-1].shape[1]

    @property
    def lengths(self):
        return [len(x) for x in self.xs]

    def keep(self, which):
        """Return the case of some of the sequences."""
        states, d_finals = (tuple(part[which] for part in parts) for parts in (self.states, self.d_finals))
        return self._replace(xs=self.xs[which], states=states, dys=self.dys[which], d_finals=d_finals)

    def loss(self, ys, finals):
        """Return the loss of outputs and final states."""
        outputs = sum((dy * y).sum() for dy, y in zip(self.dys, ys, strict=True))
        return outputs + sum((d * part).sum() for d, part in zip(self.d_finals, finals, strict=True))


def make_case(spec, lengths, features, units, seed, scale=1.0):
    """Build the case of these shapes and this seed; `scale` multiplies the weights.

    Gates that are not bounded get smaller weights and states, or products of gates and states would grow past any type.
    """
    rng = np.random.default_rng(seed)
    tame = 0.3 if spec.recurrent_activation in ("relu", "linear") else 1.0
    count, out = len(lengths), spec.state_widths(units)[0]
    return Case(
        spec,
        random_sequences(rng, lengths, features),
        tuple(tame * part for part in random_states(spec, rng, count, units)),
        {name: tame * scale * value for name, value in random_weights(spec, rng, features, units).items()},
        random_sequences(rng, lengths, out),
        random_states(spec, rng, count, units),
    )


def smooth_case(spec, lengths, features, units, scale=1.0, reverse=False, margin=0.01):
    """Return a case whose loss central differences may take: no number that goes into an activation is at a kink."""
    for seed in range(1000):
        case = make_case(spec, lengths, features, units, seed, scale)
        if _distance_from_kinks(case, reverse) > margin:
            return case
    raise AssertionError(f"{spec}: every case has a number at a kink; pass fewer steps or units")


def _distance_from_kinks(case, reverse):
    spec, nearest = case.spec, np.inf
    for n, x in enumerate(case.xs):
        start = tuple(part[n] for part in case.states)
        for step in cells.steps(spec, x[::-1] if reverse else x, start, case.weights):
            inner = {gate: spec.recurrent_activation for gate in "iforz"} | {gate: spec.activation for gate in "gnh"}
            given = [(inner[gate], a) for gate, a in step["a"].items()] + [(spec.activation, step.get("c", ()))]
            for name, numbers in given:
                for kink in KINKS.get(name, ()):
                    nearest = min(nearest, *abs(np.asarray(numbers) - kink), np.inf)
    return nearest


def cases_of(spec, max_sequences=5, max_steps=5, max_features=5, max_units=9):
    """Draw ragged batches for a layer of this spec; units from those that its projection needs."""
    return st.builds(
        make_case,
        st.just(spec),
        st.lists(st.integers(1, max_steps), min_size=1, max_size=max_sequences),
        st.integers(1, max_features),
        st.integers(1 + (spec.projection or 0), max_units),
        st.integers(0, 2**32 - 1),
    )


def assert_same_outputs(case, found, expected):
    """Compare (ys, finals) of both: within the bound of the type, in units of the largest value where that is above 1.

    Gates of relu or linear are not bounded, and values grow from step to step.
    """
    for n, (y, other) in enumerate(zip(found[0], expected[0], strict=True)):
        _assert_close(y, other, f"{case.spec}: y of sequence {n}")
    for part, other, name in zip(found[1], expected[1], cells.STATES[case.spec.kind], strict=True):
        _assert_close(part, other, f"{case.spec}: final {name}")


def _assert_close(actual, expected, what):
    scale = max(1.0, np.abs(expected).max(initial=0.0))
    assert_outputs_close(actual, expected, what=what, bound=OUTPUT[str(actual.dtype)] * scale)


def assert_same_gradients(case, found, expected):
    """Compare `cells.Gradients`: every array in units of its largest magnitude."""
    assert_gradients_close(np.concatenate(found.xs), np.concatenate(expected.xs), what=f"{case.spec}: dx")
    assert len(found.states) == len(expected.states)
    for part, other, name in zip(found.states, expected.states, cells.STATES[case.spec.kind], strict=False):
        assert_gradients_close(part, other, what=f"{case.spec}: d{name}0")
    assert found.weights.keys() == expected.weights.keys()
    for name, other in expected.weights.items():
        assert_gradients_close(found.weights[name], other, what=f"{case.spec}: gradient of {name}")


def naive_outputs(case, reverse=False):
    """Return (ys, finals) of the naive loops."""
    return cells.forward(case.spec, case.xs, case.states, case.weights, reverse)


def naive_gradients(case, reverse=False):
    """Return the naive loops' `cells.Gradients`."""
    return cells.backward(case.spec, case.xs, case.states, case.weights, case.dys, case.d_finals, reverse)
