"""Recurrent layers of any kind driven by hand: from a case to outputs, final states and every gradient."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.data.packed import pack
from fastlstm.layers import PassContext
from tests.cell_cases import DEFAULT_OPTIONS, SPECS
from tests.naive.cells import Gradients

CLASSES = {"lstm": "LSTM", "gru": "GRU", "rnn": "SimpleRNN"}
STATES = {"lstm": "LSTMState", "gru": "GRUState", "rnn": "RNNState"}

every_spec = pytest.mark.parametrize("spec", SPECS, ids=str)
one_of_each = pytest.mark.parametrize(
    "spec",
    [
        spec
        for spec in SPECS
        if spec.options().items() - DEFAULT_OPTIONS[spec.kind].items()
        <= {("peephole", True), ("coupled", True), ("projection", 2), ("reset_after", False)}
    ],
    ids=str,
)
"""The specs whose activations are the defaults: where a property cannot depend on an activation."""


def training_pass(seed=None):
    """Return how a training pass is made."""
    return PassContext(training=True, rng=np.random.default_rng(seed))


def new_layer(spec, units, dtype="float64", **options):
    """Return a layer without weights that returns sequences and states, unless told otherwise."""
    options = {"return_sequences": True, "return_state": True} | options
    given = {word: value for word, value in spec.options().items() if value != DEFAULT_OPTIONS[spec.kind][word]}
    return getattr(fl, CLASSES[spec.kind])(units, dtype=dtype, **given, **options)


def layer_of(case, dtype="float64", **options):
    """Return a layer with the weights of a case."""
    layer = new_layer(case.spec, case.units, dtype, **options)
    layer.load_state_dict(case.weights)
    return layer


def state_of(spec, parts):
    """Return parts of a state as the layer's own kind."""
    return getattr(fl, STATES[spec.kind])(*parts)


def call(layer, case, xs=None):
    """Return (ys, finals) of a call."""
    y, final = layer(case.xs if xs is None else xs, initial_state=state_of(case.spec, case.states))
    return y, tuple(final)


class Trained:
    """A forward of `layer` over `case`, as in training; `backward` goes back once."""

    def __init__(self, layer, case, context=None):
        self.layer, self.case, self.context = layer, case, context or training_pass()
        self.x, self.form = pack(case.xs, features=True, dtype=layer.dtype)
        y, final, self.cache = layer.run_steps(self.x, self._packed(case.states), self.context)
        self.ys = [part.copy() for part in self.form.unpack(y)]
        self.finals = tuple(self.x.to_user_order(part).copy() for part in final)

    def _packed(self, parts):
        """Return parts of a state as the layer takes them."""
        ordered = (self.x.to_packed_order(np.asarray(part, self.layer.dtype)) for part in parts)
        return state_of(self.case.spec, ordered)

    @property
    def outputs(self):
        return self.ys, self.finals

    def backward(self):
        """Return the gradients of the case's loss."""
        dy = pack(self.case.dys, features=True, dtype=self.layer.dtype)[0].rows
        d_final = self._packed(self.case.d_finals)
        dx, d_start, weights = self.layer.backward_steps(dy, d_final, self.cache, self.context)
        dxs = [part.copy() for part in self.form.unpack(self.x.with_rows(dx))]
        states = tuple(self.x.to_user_order(part).copy() for part in d_start)
        return Gradients(dxs, states, {name: value.copy() for name, value in weights.items()})


def train(layer, case, context=None):
    """Return (ys, finals) and the `Gradients` of the case's loss."""
    trained = Trained(layer, case, context)
    return trained.outputs, trained.backward()


def named(gradients):
    """Return gradients flat and by name, as `gradcheck` compares them."""
    found = {f"x{n}": dx for n, dx in enumerate(gradients.xs)}
    return found | {f"state{k}": part for k, part in enumerate(gradients.states)} | gradients.weights


def arrays_of(case, layer):
    """Return what a loss depends on, under the names that `named` gives its gradients."""
    found = {f"x{n}": x for n, x in enumerate(case.xs)}
    return found | {f"state{k}": part for k, part in enumerate(case.states)} | layer.arrays
