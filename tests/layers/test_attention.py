"""Attention and AdditiveAttention against loops and numeric gradients; their options, and what they refuse."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastlstm as fl
from fastlstm.data.packed import pack
from fastlstm.errors import NotBuiltError, OptionError, ShapeError
from fastlstm.layers import PassContext
from tests import gradcheck, strategies
from tests.layers.attending import KINDS, fits, layer_for, naive_result, random_case, train
from tests.tolerances import assert_bitwise_equal, assert_gradients_close, assert_outputs_close

every_kind = pytest.mark.parametrize("kind", KINDS)
QUERIES, MEMORIES = [3, 1, 5, 2], [2, 6, 1, 4]  # the longest of each are not partners


def assert_same(result, expected):
    for n, (got, wanted) in enumerate(zip(result.context, expected.context, strict=True)):
        assert_outputs_close(got, wanted, what=f"context of pair {n}")
    for n, (got, wanted) in enumerate(zip(result.weights, expected.weights, strict=True)):
        assert_outputs_close(got, wanted, what=f"weights of pair {n}")
    for place, (got, wanted) in enumerate(zip(result.inputs, expected.inputs, strict=True)):
        assert_close_gradients(np.concatenate(got), np.concatenate(wanted), f"input {place}")
    assert result.parameters.keys() == expected.parameters.keys()
    for name, wanted in expected.parameters.items():
        assert_close_gradients(result.parameters[name], wanted, name)


def assert_close_gradients(got, wanted, what):
    """Those of a memory of one step may be 0 exactly: then none has a scale."""
    if np.abs(wanted).max() < 1e-3:
        assert_outputs_close(got, wanted, what=what)
    else:
        assert_gradients_close(got, wanted, what=what)


@st.composite
def cases(draw):
    queries = draw(strategies.lengths_n(max_sequences=5, max_steps=7))
    memories = [draw(st.integers(1, 9)) for _ in queries]
    kind = draw(st.sampled_from(sorted(KINDS)))
    features = draw(st.tuples(st.integers(1, 20), st.integers(1, 20)) | st.tuples(*[st.integers(1, 20)] * 3))
    if not fits(kind, features):
        features = (features[-1], *features[1:])
    return kind, random_case(np.random.default_rng(draw(strategies.seeds())), queries, memories, features)


@given(cases(), st.booleans(), strategies.float_types())
def test_outputs_and_gradients_are_the_naive_ones(kind_and_case, causal, dtype):
    kind, case = kind_and_case
    layer = layer_for(kind, case, dtype, use_causal_mask=causal)
    assert_same(train(layer, case), naive_result(layer, case))


@pytest.mark.parametrize("kind", ["dot", "additive, projected"])
@pytest.mark.parametrize("features", [(70, 70), (65, 130, 65)], ids=str)
def test_several_panels_of_features_and_blocks_of_queries(kind, features, rng, dtype):
    case = random_case(rng, [2, 101], [9, 6], features)
    case = case._replace(inputs=[[x / 8 for x in part] for part in case.inputs])
    layer = layer_for(kind, case, dtype)
    assert_same(train(layer, case), naive_result(layer, case))


@every_kind
def test_a_loss_of_one_output_alone(kind, rng):
    case = random_case(rng, QUERIES, MEMORIES, (5, 5))
    layer = layer_for(kind, case)
    for chosen in ({"with_context": False}, {"with_weights": False}):
        assert_same(train(layer, case, **chosen), naive_result(layer, case, **chosen))


@every_kind
@pytest.mark.parametrize("features", [(4, 4), (4, 3, 4)], ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_gradients_are_the_numeric_ones(kind, features, causal, rng):
    features = features if fits(kind, features) else (features[0], features[1])
    case = random_case(rng, QUERIES, MEMORIES, features)
    layer = layer_for(kind, case, use_causal_mask=causal)
    result = train(layer, case)

    def loss():
        layer.changed()
        contexts, weights = layer(case.inputs, return_attention_scores=True)
        longest = max(MEMORIES)
        total = sum((d * c).sum() for d, c in zip(case.dcontext, contexts, strict=True))
        for d, w in zip(case.dweights, weights, strict=True):
            assert w.shape[1] == longest
            total += (d * w[:, : d.shape[1]]).sum()
        return total

    arrays = {f"{place}.{n}": x for place, part in enumerate(case.inputs) for n, x in enumerate(part)}
    gradients = {f"{place}.{n}": x for place, part in enumerate(result.inputs) for n, x in enumerate(part)}
    gradcheck.assert_gradients(loss, arrays | layer.arrays, gradients | result.parameters)


# --- dropout ----------------------------------------------------------------------------------------------------------


@every_kind
def test_dropout_scales_what_it_leaves_and_gradients_know_it(kind, rng):
    case = random_case(rng, QUERIES, MEMORIES, (5, 5))
    plain, layer = layer_for(kind, case), layer_for(kind, case, dropout=0.4)
    result = train(layer, case, PassContext(True, np.random.default_rng(0)))
    weights = train(plain, case).weights
    factors = [part / np.where(whole > 0, whole, 1.0) for part, whole in zip(result.weights, weights, strict=True)]
    flat = np.concatenate([f[:, :m].ravel() for f, m in zip(factors, MEMORIES, strict=True)])
    np.testing.assert_allclose(flat[flat > 0], 1 / 0.6, rtol=1e-12)
    assert 0 < (flat == 0).sum() < len(flat)
    assert_same(result, naive_result(layer, case, factors=factors))


def test_inference_drops_nothing(rng):
    case = random_case(rng, QUERIES, MEMORIES, (5, 5))
    for n, y in enumerate(layer_for("dot", case, dropout=0.9)(case.inputs)):
        assert_bitwise_equal(y, layer_for("dot", case)(case.inputs)[n])


def test_dropout_drops_a_fraction(rng):
    case = random_case(rng, [50] * 20, [50] * 20, (2, 2))
    weights = train(layer_for("dot", case, "float32", dropout=0.25), case).weights
    assert abs((np.concatenate(weights) == 0).mean() - 0.25) < 0.01


# --- forms ------------------------------------------------------------------------------------------------------------


def test_scores_are_returned_where_they_are_asked_for(rng):
    query, value = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 5, 4))
    context, scores = fl.Attention(return_attention_scores=True)([query, value])
    assert (context.shape, scores.shape) == ((2, 3, 4), (2, 3, 5))
    np.testing.assert_allclose(scores.sum(axis=2), 1, rtol=1e-6)
    again, same = fl.Attention()([query, value], return_attention_scores=True)
    assert_bitwise_equal(again, context)
    assert_bitwise_equal(same, scores)
    assert_bitwise_equal(fl.Attention()([query, value]), context)
    alone = fl.Attention(return_attention_scores=True)([query, value], return_attention_scores=False)
    assert_bitwise_equal(alone, context)


def test_padding_is_not_read_and_stays_zero(rng):
    query, value = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 5, 4))
    query[0, 1:] = value[0, 2:] = np.nan
    context, scores = fl.Attention()([query, value], lengths=[[1, 3], [2, 5]], return_attention_scores=True)
    assert np.isfinite(context).all()
    assert not context[0, 1:].any()
    assert not scores[0, 1:].any()
    assert not scores[0, 0, 2:].any()
    short = fl.Attention()([query[:1, :1], value[:1, :2]])
    assert_bitwise_equal(context[:1, :1], short)


def test_a_query_of_one_row_a_sequence_gives_one_row(rng):
    query, value = rng.standard_normal((2, 4)), rng.standard_normal((2, 5, 4))
    context, scores = fl.Attention()([query, value], return_attention_scores=True)
    assert (context.shape, scores.shape) == ((2, 4), (2, 5))


def test_the_hand_calculation_of_a_mean():
    query, value = np.zeros((1, 1, 2)), np.array([[[1.0, 2], [3, 4], [5, 9]]])
    np.testing.assert_allclose(fl.Attention()([query, value]), [[[3, 5]]], rtol=1e-6)


def test_keys_choose_and_values_are_chosen():
    keys, values = np.eye(3)[None] * 50, np.array([[[1.0], [2], [3]]])
    y = fl.Attention(dtype="float64")([np.eye(3)[None, [2, 0]] * 50, values, keys])
    np.testing.assert_allclose(y, [[[3], [1]]], rtol=1e-12)


@pytest.mark.parametrize("shuffled", [0, 1, 2])
def test_inputs_may_be_packed_in_any_order(shuffled, rng):
    """Sequences of one length may stand in any order: outputs and gradients do not tell."""
    case = random_case(rng, [2, 3, 3, 3], [4, 4, 2, 4], (4, 3, 4))
    layer = layer_for("general", case)
    expected = train(layer, case)
    context, other = PassContext(training=True), [3, 0, 2, 1]
    packed = [pack(part, features=True, dtype=np.float64) for part in case.inputs]
    x, form = pack([case.inputs[shuffled][n] for n in other], features=True, dtype=np.float64)
    x.order = np.array(other)[x.order]
    assert not np.array_equal(x.order, packed[shuffled][0].order)
    packed[shuffled] = x, form
    (y, _), cache = layer.run(tuple(one for one, _ in packed), context)
    for got, wanted in zip(form.unpack(y), expected.context, strict=True):
        assert_bitwise_equal(got, wanted)
    dy = to_rows_of(y, case.dcontext)
    dxs, _ = layer.run_back((dy, None), cache, context)
    alone = train(layer, case, with_weights=False)
    for place, dx in enumerate(dxs):
        for got, wanted in zip(form.unpack(packed[place][0].with_rows(dx)), alone.inputs[place], strict=True):
            assert_bitwise_equal(got, wanted, what=f"gradient of input {place}")


def to_rows_of(packed, sequences):
    """Return sequences in the user's order as rows of a batch that is packed in an order of its own."""
    in_order = [sequences[n] for n in packed.order]
    return np.concatenate([[x[t] for x in in_order if len(x) > t] for t in range(len(packed.batch_sizes))])


# --- causal -----------------------------------------------------------------------------------------------------------


@every_kind
def test_causal_attention_does_not_see_later_steps(kind, rng):
    case = random_case(rng, [9], [9], (4, 4))
    layer = layer_for(kind, case, use_causal_mask=True)
    x = np.stack(case.inputs[1])
    before, weights = layer([x, x], return_attention_scores=True)
    assert not np.triu(weights[0], 1).any()
    later = x.copy()
    later[:, 5:] += 1
    assert_bitwise_equal(layer([later, later])[:, :5], before[:, :5])
    assert_bitwise_equal(layer([x[:, :5], x[:, :5]]), before[:, :5])


def test_the_first_call_decides_whether_a_layer_is_causal(rng):
    x = rng.standard_normal((1, 4, 3))
    layer = fl.Attention()
    y = layer([x, x], use_causal_mask=True)
    assert_bitwise_equal(y, fl.Attention(use_causal_mask=True)([x, x]))
    assert_bitwise_equal(layer([x, x]), y)
    assert layer.config()["use_causal_mask"] is True
    with pytest.raises(OptionError, match="use_causal_mask=False, but calls before had True"):
        layer([x, x], use_causal_mask=False)


# --- symbols and models -----------------------------------------------------------------------------------------------


def test_symbols_say_what_comes_out():
    query, value = fl.Input((None, 6)), fl.Input((None, 8))
    context, scores = fl.Attention(score_mode="general")([query, value], return_attention_scores=True)
    assert (context.shape, scores.shape) == ((None, None, 8), (None, None, None))
    assert context.spec.axis.same_as(query.spec.axis)
    assert fl.AdditiveAttention(units=3)([query, value]).shape == (None, None, 8)
    assert fl.Attention(return_attention_scores=True)([fl.Input((8,)), value])[1].shape == (None, None)
    assert fl.Attention()([query, value, fl.Input((None, 6))]).shape == (None, None, 8)


@every_kind
def test_a_layer_is_made_again_from_its_config(kind, rng):
    case = random_case(rng, [2], [3], (4, 4))
    layer = layer_for(kind, case, dropout=0.25, use_causal_mask=True, return_attention_scores=True, name="a")
    again = type(layer)(**layer.config())
    again.build((4, 4))
    again.load_state_dict(layer.state_dict())
    assert again.config() == layer.config()
    for got, wanted in zip(again(case.inputs), layer(case.inputs), strict=True):
        assert_bitwise_equal(got[0], wanted[0])


@every_kind
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_compute_the_same(kind, copied, rng):
    case = random_case(rng, [2], [3], (4, 4))
    layer = layer_for(kind, case)
    expected = layer(case.inputs)[0]
    assert_bitwise_equal(copied(layer)(case.inputs)[0], expected)


@every_kind
def test_a_model_is_loaded_as_it_was_saved(kind, rng, tmp_path):
    query, value = fl.Input((None, 4)), fl.Input((None, 4))
    context, scores = KINDS[kind](use_causal_mask=True)([query, value], return_attention_scores=True)
    model = fl.Model([query, value], [fl.Dense(2)(context), scores], seed=0)
    inputs = [rng.standard_normal((5, 3, 4)), rng.standard_normal((5, 6, 4))]
    model.save(tmp_path / "model.safetensors")
    for got, wanted in zip(
        fl.load(tmp_path / "model.safetensors").predict(inputs), model.predict(inputs, batch_size=2), strict=True
    ):
        assert_bitwise_equal(got, wanted)


def test_a_model_learns_where_to_look(rng):
    """The query names a step of the memory, by its key; the answer is that step's value."""
    keys, values = rng.permuted(np.tile(np.arange(6), (256, 1)), axis=1), rng.standard_normal((256, 6, 1))
    keys = np.eye(6)[keys]
    asked = rng.integers(0, 6, (256, 3))
    query = np.take_along_axis(keys, asked[:, :, None], axis=1)
    target = np.take_along_axis(values, asked[:, :, None], axis=1)
    q, k, v = fl.Input((None, 6)), fl.Input((None, 6)), fl.Input((None, 1))
    for made in (fl.Attention(True, "general"), fl.AdditiveAttention(units=16)):
        context, scores = made([q, v, k], return_attention_scores=True)
        model = fl.Model([q, v, k], context, seed=0)
        model.compile(fl.optimizers.Adam(0.03), "mse")
        history = model.fit([query, values, keys], target, epochs=30, verbose=0).history["loss"]
        assert history[-1] < 0.1 * history[0]
        looked = fl.Model([q, v, k], scores).predict([query, values, keys])
        assert (looked.argmax(axis=2) == asked).mean() > 0.99


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fl.Attention(score_mode="concat"), "score_mode='concat'.*AdditiveAttention"),
        (lambda: fl.Attention(score_mode="cosine"), "score_mode='cosine'; expected 'dot' or 'general'$"),
        (lambda: fl.Attention(use_scale=1), "use_scale=1; expected True or False"),
        (lambda: fl.Attention(dropout=1.0), "dropout=1.0"),
        (lambda: fl.Attention(dtype="float16"), "float16"),
        (lambda: fl.AdditiveAttention(64), "use_scale=64"),
        (lambda: fl.AdditiveAttention(units=0), "units=0"),
        (lambda: fl.AdditiveAttention(use_causal_mask="yes"), "use_causal_mask='yes'"),
        (lambda: fl.Attention(return_attention_scores=None), "return_attention_scores=None"),
    ],
)
def test_options_that_make_no_sense(make, words):
    with pytest.raises(OptionError, match=words):
        make()


STEPS, ROW = np.zeros((2, 3, 4)), np.zeros((2, 4))


@pytest.mark.parametrize(
    ("layer", "inputs", "words"),
    [
        (fl.Attention, STEPS, "called on ndarray"),
        (fl.Attention, [STEPS], "called on 1 inputs; expected a list of 2 to 3"),
        (fl.Attention, [STEPS] * 4, "called on 4 inputs"),
        (fl.Attention, [STEPS, ROW], "the value has one row a sequence"),
        (fl.Attention, [STEPS, STEPS, ROW], "the key has one row a sequence"),
        (fl.Attention, [STEPS, np.zeros((2, 3, 5))], "queries have 4 features, keys 5.*general"),
        (fl.AdditiveAttention, [STEPS, np.zeros((2, 3, 5))], "queries have 4 features, keys 5.*units="),
        (fl.Attention, [STEPS, STEPS[:1]], "inputs of 2 and 1 sequences"),
        (fl.Attention, [STEPS, STEPS, np.zeros((2, 2, 4))], "other lengths"),
        (lambda: fl.Attention(use_causal_mask=True), [ROW, STEPS], "its step is not known"),
    ],
)
def test_inputs_that_do_not_go_together(layer, inputs, words):
    with pytest.raises(ShapeError, match=words):
        layer()(inputs)


@pytest.mark.parametrize(
    ("layer", "shapes", "words"),
    [
        (fl.Attention, [(None, 4), (4,)], "the value has one row a sequence"),
        (fl.Attention, [(None, 4), (None, 5)], "queries have 4 features, keys 5"),
        (lambda: fl.Attention(use_causal_mask=True), [(4,), (None, 4)], "its step is not known"),
    ],
)
def test_symbols_that_do_not_go_together(layer, shapes, words):
    with pytest.raises(ShapeError, match=words):
        layer()([fl.Input(shape) for shape in shapes])


def test_scores_are_no_memory_as_their_features_depend_on_the_batch():
    x = fl.Input((None, 4))
    _, scores = fl.Attention()([x, x], return_attention_scores=True)
    with pytest.raises(ShapeError, match="their features must be known"):
        fl.Attention()([scores, scores])


def test_other_features_than_before():
    layer = fl.Attention()
    layer([STEPS, STEPS])
    with pytest.raises(ShapeError, match="built for"):
        layer([STEPS[..., :2], STEPS[..., :2]])
    with pytest.raises(ShapeError, match="built for"):
        layer([fl.Input((None, 2)), fl.Input((None, 2))])


def test_parameters_do_not_tell_the_features():
    with pytest.raises(NotBuiltError, match="build"):
        fl.Attention(True).load_state_dict({"scale": [1.0]})


@every_kind
def test_nan_stays_in_its_pair(kind, rng):
    case = random_case(rng, QUERIES, MEMORIES, (4, 4))
    layer = layer_for(kind, case, "float32")
    clean = layer(case.inputs)
    case.inputs[1][2][0, 1] = np.nan
    for n, y in enumerate(layer(case.inputs)):
        if n == 2:
            assert np.isnan(y).any(axis=1).all()
        else:
            assert_bitwise_equal(y, clean[n])


def test_large_scores_choose_and_do_not_overflow(dtype):
    query, value = np.full((1, 2, 3), 1e15), np.arange(12.0).reshape(1, 4, 3)
    y, weights = fl.Attention(dtype=dtype)([query, value], return_attention_scores=True)
    np.testing.assert_array_equal(weights[0], [[0, 0, 0, 1]] * 2)
    np.testing.assert_array_equal(y[0], value[0, [3, 3]])
