"""Our layers, stacked by hand in one direction or both, computing what ``oracle/make_arrays.py`` asks of torch."""

from typing import NamedTuple

import numpy as np

import fastlstm as fl
from fastlstm.data.packed import pack
from fastlstm.layers import PassContext
from tests.oracle.make_arrays import parameter_names
from tests.tolerances import assert_gradients_close, assert_outputs_close


class _Pass(NamedTuple):
    """One direction of one layer, gone forward."""

    lstm: fl.LSTM
    state: int  # place in h0 and c0
    cache: object


def build(shape, case, dtype):
    """Return the layers as rows of directions: ``layers[layer][direction]``."""
    tensors = {}
    for layer, direction, name, torch_name, _ in parameter_names(shape):
        tensors.setdefault((layer, direction), {})[f"{name}_l0"] = case[torch_name]
    layers = []
    for layer in range(shape.layers):
        row = []
        for direction in range(shape.directions):
            lstm = fl.LSTM(shape.h, return_sequences=True, go_backwards=direction == 1, dtype=dtype)
            lstm.load_state_dict(tensors[layer, direction])
            row.append(lstm)
        layers.append(row)
    return layers


def results(shape, case, dtype):
    """Return y, h_n, c_n and all gradients under the names that `torch_results` gives them."""
    x, form = pack(case["x"], case["lengths"], features=True, dtype=dtype)
    dy, _ = pack(case["dy"], case["lengths"], features=True, dtype=dtype)
    context = PassContext(training=True)
    h, c = [], []
    passes = []
    out = x
    for row in build(shape, case, dtype):
        parts = []
        for direction, lstm in enumerate(row):
            place = len(h)
            state = fl.LSTMState(*(x.to_packed_order(case[name][place].astype(dtype)) for name in ("h0", "c0")))
            y, final, cache = lstm.run_steps(out, state, context)
            parts.append((y.reversed() if direction else y).rows)
            h.append(x.to_user_order(final.h).copy())
            c.append(x.to_user_order(final.c).copy())
            passes.append(_Pass(lstm, place, cache))
        out = out.with_rows(np.concatenate(parts, axis=1))
    found = {"y": form.unpack(out), "h_n": np.stack(h), "c_n": np.stack(c)}
    found["d_h0"], found["d_c0"] = np.empty_like(found["h_n"]), np.empty_like(found["c_n"])

    names = {(layer, direction, name): torch for layer, direction, name, torch, _ in parameter_names(shape)}
    gradient = dy.rows
    for layer in reversed(range(shape.layers)):
        below = 0
        for direction in range(shape.directions):
            step = passes[layer * shape.directions + direction]
            part = x.with_rows(gradient[:, direction * shape.h : (direction + 1) * shape.h])
            part = (part.reversed() if direction else part).rows
            d_final = fl.LSTMState(*(x.to_packed_order(case[name][step.state].astype(dtype)) for name in ("dh", "dc")))
            dx, d_state, gradients = step.lstm.backward_steps(part, d_final, step.cache, context)
            below = below + dx
            found["d_h0"][step.state] = x.to_user_order(d_state.h)
            found["d_c0"][step.state] = x.to_user_order(d_state.c)
            for name, value in gradients.items():
                found["d_" + names[layer, direction, name.removesuffix("_l0")]] = value.copy()
        gradient = below
    return found | {"d_x": form.unpack(x.with_rows(gradient))}


def assert_as_torch(found, expected):
    """Outputs and states within the bound of the type, gradients within theirs relative to their scale."""
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        (assert_gradients_close if name.startswith("d_") else assert_outputs_close)(found[name], wanted, what=name)
