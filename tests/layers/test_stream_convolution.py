"""Causal convolutions, stepwise: the bits of the whole sequence, and a state that can be kept, moved and cleared."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastlstm as fl
from fastlstm.errors import OptionError, ShapeError
from fastlstm.layers import Layer
from tests.tolerances import assert_bitwise_equal


def wavenet(dtype="float32", **options):
    """Return a model of dilated causal convolutions and an LSTM."""
    model = fl.Sequential(
        [
            fl.Conv1D(9, 2, padding="causal", activation="relu", bias_initializer="random_normal", dtype=dtype),
            fl.Conv1D(20, 3, padding="causal", dilation_rate=2, activation="tanh", dtype=dtype),
            fl.Dropout(0.5),
            fl.Conv1D(5, 3, padding="causal", dilation_rate=5, dtype=dtype),
            fl.LSTM(7, return_sequences=True, dtype=dtype),
            fl.Conv1D(3, 1, activation="softmax", dtype=dtype),
        ],
        seed=4,
    )
    model.build(4)
    return model


@given(st.integers(1, 6), st.integers(1, 30), st.sampled_from(["float32", "float64"]))
def test_a_stream_has_the_bits_of_the_whole(batch, steps, dtype):
    model = wavenet(dtype)
    x = np.random.default_rng(steps).standard_normal((batch, steps, 4)).astype(dtype)
    whole = model.predict(x)
    session = model.stream(batch)
    for t in range(steps):
        assert_bitwise_equal(session.step(x[:, t]), whole[:, t])


def test_ids_go_in(rng):
    model = fl.Sequential([fl.Embedding(11, 6), fl.Conv1D(8, 4, padding="causal"), fl.Dense(3)], seed=0)
    model.build()
    ids = rng.integers(0, 11, (2, 9))
    whole, session = model.predict(ids), model.stream(2)
    for t in range(9):
        assert_bitwise_equal(session.step(ids[:, t]), whole[:, t])


@pytest.mark.usefixtures("share_everything")
def test_threads_change_no_bit(rng):
    model, x = wavenet(), rng.standard_normal((40, 12, 4)).astype(np.float32)
    fl.set_num_threads(1)
    whole = model.predict(x, batch_size=40)
    fl.set_num_threads(2)
    session = model.stream(40)
    for t in range(12):
        assert_bitwise_equal(session.step(x[:, t]), whole[:, t])


def test_reset_clears_one_or_all(rng):
    model, x = wavenet(), rng.standard_normal((3, 40, 4)).astype(np.float32)
    session = model.stream(3)
    for t in range(17):
        session.step(x[:, t])
    session.reset(1)
    whole, new = model.predict(x), model.predict(x[1:2, 17:])
    for t in range(17, 40):
        y = session.step(x[:, t])
        assert_bitwise_equal(y[[0, 2]], whole[[0, 2], t])
        assert_bitwise_equal(y[1], new[0, t - 17])
    session.reset()
    for t in range(17):
        assert_bitwise_equal(session.step(x[:, t]), whole[:, t])


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda stream: pickle.loads(pickle.dumps(stream)), fl.Stream.clone]
)
def test_a_copy_and_a_saved_state_go_on_alike(copied, rng):
    model, x = wavenet(), rng.standard_normal((2, 30, 4)).astype(np.float32)
    session = model.stream(2)
    for t in range(13):
        session.step(x[:, t])
    state, twin, later = session.state_dict(), copied(session), model.stream(2)
    assert {name for name in state if name.startswith("conv1d")} == {
        f"{name}.{part}" for name in ("conv1d", "conv1d_1", "conv1d_2") for part in ("x", "place")
    }
    assert state["conv1d_2.x"].shape == (2, 10, 20)
    later.load_state_dict(state)
    for t in range(13, 30):
        y = session.step(x[:, t])
        assert_bitwise_equal(twin.step(x[:, t]), y)
        assert_bitwise_equal(later.step(x[:, t]), y)


def test_a_place_beyond_the_state_is_taken_within_it(rng):
    model, x = wavenet(), rng.standard_normal((1, 4, 4)).astype(np.float32)
    session, other = model.stream(), model.stream()
    state = session.state_dict()
    moved = {name: value - 7 * session.state_dict()["conv1d_2.x"].shape[1] for name, value in state.items()}
    other.load_state_dict(state | {"conv1d_2.place": moved["conv1d_2.place"]})
    for t in range(4):
        assert_bitwise_equal(other.step(x[:, t]), session.step(x[:, t]))
    with pytest.raises(ShapeError, match=r"conv1d\.x has shape"):
        session.load_state_dict(state | {"conv1d.x": np.zeros((2, 1, 4))})


def test_a_stream_follows_weights_that_change(rng):
    conv, x = fl.Conv1D(4, 2, padding="causal"), rng.standard_normal((1, 3, 2)).astype(np.float32)
    conv(x)
    stream = fl.Stream([conv])
    stream.step(x[:, 0])
    conv.load_state_dict({name: 2 * value for name, value in conv.state_dict().items()})
    assert_bitwise_equal(stream.step(x[:, 1]), conv(x)[:, 1])


@pytest.mark.parametrize(
    "layer",
    [
        fl.Conv1D(3, 2),
        fl.Conv1D(3, 3, padding="same"),
        fl.Conv1D(3, 2, strides=2, padding="causal"),
        fl.MaxPooling1D(2),
        fl.GlobalAveragePooling1D(),
    ],
    ids=lambda layer: f"{layer.kind} {layer.config().get('padding')}",
)
def test_what_sees_later_steps_or_skips_some_says_so(layer):
    layer.build(4)
    with pytest.raises(OptionError, match=rf"{layer.kind} .*needs the whole sequence"):
        fl.Stream([layer])


class Doubled(Layer):
    """A layer of the user's own that looks at one row at a time."""

    by_row = True

    @property
    def features_out(self):
        return self.features_in

    def forward(self, x, context):
        return x.with_rows(x.rows * 2), None


def test_any_layer_that_looks_at_one_row_at_a_time_streams(rng):
    layers = [fl.Conv1D(4, 3, padding="causal"), Doubled(), fl.Dense(2)]
    features = 3
    for layer in layers:
        layer.build(features, 0)
        features = layer.features_out
    x = rng.standard_normal((2, 6, 3)).astype(np.float32)
    whole = x
    for layer in layers:
        whole = layer(whole)
    stream = fl.Stream(layers, 2)
    for t in range(6):
        assert_bitwise_equal(stream.step(x[:, t]), whole[:, t])
