"""An LSTM after an Embedding multiplies the rows of the table, not those of the batch, where that is less work."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastlstm as fl
from fastlstm.data.packed import pack
from fastlstm.layers import PassContext
from tests import strategies
from tests.tolerances import assert_bitwise_equal, assert_gradients_close

TOKENS, FEATURES, UNITS = 5, 3, 19


def layers_of(dtype="float32", **options):
    embedding = fl.Embedding(TOKENS, FEATURES, dtype=dtype)
    lstm = fl.LSTM(UNITS, return_sequences=True, dtype=dtype, **options)
    embedding.build(0, 1)
    lstm.build(FEATURES, 2)
    return embedding, lstm


def gathered(embedding, ids, context):
    packed, form = pack(ids, features=False)
    x, cache = embedding.forward(packed, context)
    return x, cache, form


@st.composite
def batches(draw):
    """Ids of sequences that together are longer than the table twice over."""
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=7).filter(lambda n: sum(n) >= 2 * TOKENS))
    rng = np.random.default_rng(draw(strategies.seeds()))
    return [rng.integers(0, TOKENS, length) for length in lengths]


@given(batches(), strategies.float_types())
def test_inference_has_the_bits_of_rows_that_were_looked_up(ids, dtype):
    embedding, lstm = layers_of(dtype)
    x, _, form = gathered(embedding, ids, PassContext())
    y, state, _ = lstm.run_steps(x, None, PassContext())
    assert x.lookup is not None, "the rows were made"
    expected, last = lstm(embedding(ids)), lstm.run_steps(x.with_rows(x.rows), None, PassContext())[1]
    for one, other in zip(form.unpack(y), expected, strict=True):
        assert_bitwise_equal(one, other)
    assert_bitwise_equal(state.c, last.c)


@given(batches(), strategies.float_types())
def test_training_has_the_bits_and_the_gradients_of_rows_that_were_looked_up(ids, dtype):
    found = []
    for projected in (True, False):
        embedding, lstm = layers_of(dtype)
        context = PassContext(training=True)
        x, cache, _ = gathered(embedding, ids, context)
        if not projected:
            x = x.with_rows(x.rows.copy())
        y, of_lstm = lstm.forward(x, context)
        assert (x.lookup is not None) == projected
        dy = np.random.default_rng(0).standard_normal(y.rows.shape).astype(dtype)
        dx, gradients = lstm.backward(dy, of_lstm, context)
        _, of_embedding = embedding.backward(dx, cache, context)
        found.append((y.rows.copy(), {k: v.copy() for k, v in (gradients | of_embedding).items()}))
    assert_bitwise_equal(found[0][0], found[1][0])
    for name, expected in found[1][1].items():
        assert_gradients_close(found[0][1][name], expected, what=name)


@pytest.mark.parametrize("options", [{"go_backwards": True}, {"dropout": 0.5}])
def test_a_layer_that_cannot_use_the_table_asks_for_the_rows(options, rng):
    embedding, lstm = layers_of(**options)
    ids = rng.integers(0, TOKENS, (4, 6))
    context = PassContext(training=True)
    x, cache, _ = gathered(embedding, ids, context)
    y, of_lstm = lstm.forward(x, context)
    dx, _ = lstm.backward(np.ones_like(y.rows), of_lstm, context)
    assert dx.shape == (24, FEATURES)
    assert embedding.backward(dx, cache, context)[1]["weight"].shape == (TOKENS, FEATURES)


@pytest.mark.parametrize("which", [0, 1])
def test_the_products_follow_the_weights_of_both_layers(which, rng):
    model = fl.Sequential([fl.Embedding(TOKENS, FEATURES), fl.LSTM(UNITS, return_sequences=True)], seed=0)
    ids = rng.integers(0, TOKENS, (3, 8))
    model.build()
    model.predict(ids)
    stream = model.stream(3)
    stream.step(ids[:, 0])
    layer = model.layers[which]
    layer.load_state_dict({name: value + 0.25 for name, value in layer.state_dict().items()})
    embedding, lstm = model.layers
    expected = lstm(embedding(ids))
    assert_bitwise_equal(model.predict(ids), expected)
    stream.reset()
    for t in range(8):
        assert_bitwise_equal(stream.step(ids[:, t]), expected[:, t])


@pytest.mark.usefixtures("share_everything")
def test_gradients_do_not_depend_on_the_cores_where_few_sequences_share_units(rng):
    ids = rng.integers(0, TOKENS, (2, 30))
    found = []
    for threads in (1, 2):
        fl.set_num_threads(threads)
        embedding, _ = layers_of()
        lstm = fl.LSTM(200, return_sequences=True)
        lstm.build(FEATURES, 2)
        context = PassContext(training=True)
        x, cache, _ = gathered(embedding, ids, context)
        y, of_lstm = lstm.forward(x, context)
        dx, gradients = lstm.backward(np.ones_like(y.rows), of_lstm, context)
        found.append({k: v.copy() for k, v in (gradients | embedding.backward(dx, cache, context)[1]).items()})
    for name, expected in found[0].items():
        assert_bitwise_equal(found[1][name], expected, what=name)
