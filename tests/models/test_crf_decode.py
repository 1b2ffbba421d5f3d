"""The best path of tags: against enumeration of every path, for layers and models, in the form of the input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastlstm as fl
from fastlstm import decode_tags
from fastlstm.errors import DataError, NotBuiltError, OptionError, ShapeError
from tests import naive, strategies
from tests.naive import crf as paths


def crf_of(rng, tags, **options):
    layer = fl.CRF(dtype="float64", **options)
    layer.build(tags, 0)
    for array in layer.arrays.values():
        array[...] = 2 * rng.standard_normal(array.shape)
    return layer


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 4), st.booleans(), strategies.seeds())
def test_the_path_is_the_best_of_all(lengths, tags, forbid, seed):
    rng = np.random.default_rng(seed)
    layer = crf_of(rng, tags, forbidden=[(0, 0), (None, 1), (1, None)] if forbid and tags > 2 else None)
    sequences = naive.random_sequences(rng, lengths, tags)
    found = decode_tags(layer, sequences)
    assert len(found) == len(sequences)
    for path, x in zip(found, sequences, strict=True):
        scores = paths.Scores(x, *layer.chain)
        best, score = paths.best_path(scores)
        assert path.dtype == np.int64
        assert tuple(path) == best
        assert paths.score(scores, path) == pytest.approx(score, abs=1e-12)


def test_it_is_not_the_path_of_the_most_probable_tags():
    """Tag 0 is the likeliest at the first step, by two paths together, but the best path begins with tag 1."""
    layer = fl.CRF(dtype="float64")
    transitions = np.log([[0.5, 0.5], [0.95, 0.05]])
    layer.load_state_dict({"transitions": transitions, "start_transitions": [0, 0], "end_transitions": [0, 0]})
    x = np.log([[[0.6, 0.4], [0.5, 0.5]]])
    assert layer(x)[0].argmax(axis=1).tolist()[0] == 0
    assert decode_tags(layer, x).tolist() == [[1, 0]]


def test_the_form_is_that_of_the_input(rng):
    layer, x = crf_of(rng, 3), rng.standard_normal((40, 6, 3))
    lengths = rng.integers(1, 7, 40)
    lengths[0] = 5
    expected = decode_tags(layer, [part[:length] for part, length in zip(x, lengths, strict=True)])
    assert [len(path) for path in expected] == lengths.tolist()
    padded = np.where(np.arange(6)[None, :, None] < lengths[:, None, None], x, np.nan)
    tags = decode_tags(layer, padded, lengths)
    assert tags.shape == (40, 6)
    for row, path in zip(tags, expected, strict=True):
        assert row[: len(path)].tolist() == path.tolist()
        assert (row[len(path) :] == 0).all()
    dense = decode_tags(layer, x)
    assert dense.shape == (40, 6)
    assert dense[0].tolist() == decode_tags(layer, [x[0]])[0].tolist()
    assert decode_tags(layer, x.tolist()).tolist() == dense.tolist()


def tagger(rng, **options):
    layers = fl.Embedding(9, 4, **options), fl.LSTM(5, return_sequences=True), fl.Dense(3), fl.CRF()
    model = fl.Sequential(layers, seed=0)
    model.build()
    for array in model.layers[-1].arrays.values():
        array[...] = rng.standard_normal(array.shape)
    return model


def test_a_model_s_paths_are_those_of_its_emissions_whatever_the_batches(rng):
    model, x = tagger(rng), [rng.integers(0, 9, length) for length in rng.integers(1, 9, 75)]
    emissions = fl.Sequential(model.layers[:-1]).predict(x)
    expected = decode_tags(model.layers[-1], emissions)
    for got, wanted in zip(decode_tags(model, x), expected, strict=True):
        assert got.tolist() == wanted.tolist()
    graph = fl.Input((None,), dtype="int64")
    symbol = graph
    for layer in model.layers:
        symbol = layer(symbol)
    same = fl.Model(graph, symbol)
    for got, wanted in zip(decode_tags(same, x), expected, strict=True):
        assert got.tolist() == wanted.tolist()
    other = fl.Model(graph, [fl.Dense(2)(symbol), symbol])
    for got, wanted in zip(decode_tags(other, x), expected, strict=True):
        assert got.tolist() == wanted.tolist()


def test_padding_is_left_out(rng):
    model, ids = tagger(rng), [np.array([1, 2, 3]), np.array([4])]
    expected = decode_tags(model, ids)
    tags = decode_tags(model, np.array([[1, 2, 3, 8], [4, 8, 8, 8]]), [3, 1])
    assert tags.tolist() == [[*expected[0], 0], [*expected[1], 0, 0, 0]]


def test_padding_before_and_after_is_left_out_where_ids_of_0_are_padding(rng):
    model = tagger(rng, mask_zero=True)
    expected = decode_tags(model, [np.array([1, 2, 3]), np.array([4])])
    after = decode_tags(model, np.array([[1, 2, 3, 0], [4, 0, 0, 0]]))
    before = decode_tags(model, np.array([[0, 1, 2, 3], [0, 0, 0, 4]]))
    assert after.tolist() == [[*expected[0], 0], [*expected[1], 0, 0, 0]]
    assert before.tolist() == [[0, *expected[0]], [0, 0, 0, *expected[1]]]


def test_a_model_that_is_only_a_crf(rng):
    layer, x = crf_of(rng, 3), rng.standard_normal((2, 5, 3))
    expected = decode_tags(layer, x)
    assert decode_tags(fl.Sequential([layer]), x).tolist() == expected.tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_emissions_that_are_no_numbers_name_their_sequence(value, rng):
    layer, x = crf_of(rng, 3), rng.standard_normal((50, 4, 3))
    x[41, 2, 1] = value
    with pytest.raises(DataError, match="sequence 41"):
        decode_tags(layer, x)
    with pytest.raises(DataError, match="sequence 41"):
        decode_tags(fl.Sequential([layer]), x)


def test_what_cannot_be_decoded_is_refused(rng):
    x = rng.standard_normal((2, 5, 3))
    with pytest.raises(NotBuiltError, match="CRF has no weights"):
        decode_tags(fl.CRF(), x)
    with pytest.raises(NotBuiltError, match="no weights"):
        decode_tags(fl.Sequential([fl.Dense(3), fl.CRF()]), x)
    dense = fl.Sequential([fl.Dense(3)])
    dense.build(3)
    with pytest.raises(OptionError, match="0 of the model's outputs come from a CRF"):
        decode_tags(dense, x)
    for thing in (fl.Dense(3), None, x):
        with pytest.raises(OptionError, match="no model with a CRF"):
            decode_tags(thing, x)
    symbol = fl.Input((None, 3))
    two = fl.Model(symbol, [fl.CRF()(symbol), fl.CRF()(symbol)])
    with pytest.raises(OptionError, match="2 of the model's outputs"):
        decode_tags(two, x)
    with pytest.raises(ShapeError, match="4 features"):
        decode_tags(crf_of(rng, 3), np.zeros((1, 2, 4)))
    with pytest.raises(DataError, match="forbidden"):
        decode_tags(crf_of(rng, 2, forbidden=[(0, 0), (0, 1), (1, 0), (1, 1)]), np.zeros((1, 2, 2)))
