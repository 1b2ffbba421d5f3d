"""Layers driven by hand: from a case of float64 arrays to outputs, final states and every gradient, as lists again."""

from typing import Any, NamedTuple

import numpy as np

import fastlstm as fl
from fastlstm.data.packed import pack
from fastlstm.data.pairs import rows_in
from fastlstm.layers import PassContext
from tests import naive

NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


class Result(NamedTuple):
    """All in the user's order; sequences as lists of (T_n, F)."""

    y: list
    h: np.ndarray
    c: np.ndarray
    dx: list
    dh0: np.ndarray
    dc0: np.ndarray
    gradients: dict


class Loss(NamedTuple):
    """``sum(dy * y) + sum(dh * h_last) + sum(dc * c_last)``: a loss whose gradients with respect to these are given."""

    dy: list
    dh: np.ndarray
    dc: np.ndarray

    def value(self, y, h, c):
        outputs = sum((dy * y_n).sum() for dy, y_n in zip(self.dy, y, strict=True))
        return outputs + (self.dh * h).sum() + (self.dc * c).sum()


def random_loss(case):
    draw = case.rng.standard_normal
    shape = (len(case.lengths), case.units)
    return Loss([draw((length, case.units)) for length in case.lengths], draw(shape), draw(shape))


def state_dict(weights, suffix=""):
    """Return naive weights under torch's names."""
    return {name + suffix: array for name, array in zip(NAMES, weights, strict=True)}


def lstm_of(weights, dtype="float64", **options):
    """Return a layer with these weights that returns sequences and states, unless told otherwise."""
    options = {"return_sequences": True, "return_state": True} | options
    layer = fl.LSTM(weights.units, dtype=dtype, **options)
    layer.load_state_dict(state_dict(weights))
    return layer


def packed_order(packed, array, dtype):
    return packed.to_packed_order(np.asarray(array, dtype))


def train_lstm(layer, case, loss, context=None):
    """PassContext `layer` forward as in training and back again."""
    context = context or PassContext(training=True)
    x, form = pack(case.sequences, features=True, dtype=layer.dtype)
    state = fl.LSTMState(packed_order(x, case.h0, layer.dtype), packed_order(x, case.c0, layer.dtype))
    y, final, cache = layer.run_steps(x, state, context)
    outputs = [part.copy() for part in form.unpack(y)]
    h, c = (x.to_user_order(part).copy() for part in final)
    dy = pack(loss.dy, features=True, dtype=layer.dtype)[0].rows
    d_final = fl.LSTMState(packed_order(x, loss.dh, layer.dtype), packed_order(x, loss.dc, layer.dtype))
    dx, d_state, gradients = layer.backward_steps(dy, d_final, cache, context)
    dh0, dc0 = (x.to_user_order(part) for part in d_state)
    return Result(outputs, h, c, form.unpack(x.with_rows(dx)), dh0, dc0, gradients)


def naive_result(case, loss):
    """Return what the naive loops make of the same case."""
    arguments = case.sequences, case.h0, case.c0, case.weights
    y, h, c = naive.lstm(*arguments)
    d = naive.lstm_backward(*arguments, loss.dy, loss.dh, loss.dc)
    return Result(y, h, c, d.x, d.h0, d.c0, state_dict(d.weights))


def forward_backward(layer, sequences, dy, context=None):
    """Run any layer on a ragged batch as in training; `dy` is a list (T_n, F), or (N, F) where one row comes out.

    Returns the output and the input's gradient in the same forms, and the gradients of the parameters.
    """
    context = context or PassContext(training=True)
    features = not layer.takes_ids
    x, form = pack(sequences, features=features, dtype=layer.dtype if features else None)
    if not layer.built:
        layer.build(x.rows.shape[1] if features else 0, 0)
    y, cache = layer.forward(x, context)
    out: Any = form.unpack(y)
    out = [part.copy() for part in out] if isinstance(out, list) else out.copy()
    if y.steps:
        given = pack(dy, features=True, dtype=layer.dtype)[0]
        which = rows_in(given, y, "dy")  # sequences that became equally long may stand in another order
        rows = given.rows if which is None else given.rows[which]
    else:
        rows = np.ascontiguousarray(packed_order(x, dy, layer.dtype)).copy()
    dx, gradients = layer.backward(rows, cache, context)
    return out, None if dx is None else form.unpack(x.with_rows(dx)), gradients
