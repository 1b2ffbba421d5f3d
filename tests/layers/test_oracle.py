"""Stacked LSTMs against arrays that torch computed in float64: outputs, final states, all gradients."""

import numpy as np
import pytest

import fastlstm as fl
from tests.layers import stacks
from tests.oracle import make_arrays


def load(shape):
    with np.load(make_arrays.stored(shape)) as arrays:
        case = {name: arrays[name] for name in arrays.files if not name.startswith("out_")}
        return case, {name.removeprefix("out_"): arrays[name] for name in arrays.files if name.startswith("out_")}


@pytest.mark.parametrize("shape", make_arrays.STORED, ids=str)
def test_everything_torch_computed(shape, dtype):
    case, expected = load(shape)
    assert len(expected) == 6 + 4 * shape.layers * shape.directions
    stacks.assert_as_torch(stacks.results(shape, case, dtype), expected)


def test_bidirectional_is_torchs_bidirectional(dtype):
    shape = make_arrays.STORED[2]
    assert shape.directions == 2
    case, expected = load(shape)
    layer = fl.Bidirectional(fl.LSTM(shape.h, return_sequences=True, return_state=True, dtype=dtype))
    layer.load_state_dict({name: case[name] for *_, name, _ in make_arrays.parameter_names(shape)})
    y, states = layer(case["x"], initial_state=tuple(zip(case["h0"], case["c0"], strict=True)))
    found = {"y": y, "h_n": np.stack([s.h for s in states]), "c_n": np.stack([s.c for s in states])}
    stacks.assert_as_torch(found, {name: expected[name] for name in found})


def test_the_arrays_stay_small():
    assert sum(path.stat().st_size for path in make_arrays.FOLDER.glob("*.npz")) < 1_000_000
