"""CRF: probabilities of tags, the scores that its loss takes, what is forbidden, and the way back."""

import copy
import doctest
import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastlstm as fl
from fastlstm.data.chain import ChainScores
from fastlstm.data.packed import pack
from fastlstm.errors import DataError, NotBuiltError, OptionError, ShapeError
from fastlstm.layers import PassContext
from fastlstm.runtime.workspace import Workspace
from tests import gradcheck, naive, strategies
from tests.naive import crf as paths
from tests.tolerances import GRADIENT, OUTPUT, assert_bitwise_equal, assert_outputs_close

NAMES = ("transitions", "start_transitions", "end_transitions")


def crf_of(rng, tags, dtype="float64", **options):
    """Return a layer whose scores are of order 1."""
    layer = fl.CRF(dtype=dtype, **options)
    layer.build(tags, 0)
    for array in layer.arrays.values():
        array[...] = rng.standard_normal(array.shape)
    return layer


def naive_of(layer, x):
    return paths.Scores(np.asarray(x, np.float64), *(np.asarray(part, np.float64) for part in layer.chain))


def train(layer, sequences, tags, context, weights=None):
    """Return the loss, the emissions' gradient in packed rows, and the gradients of the parameters."""
    x, _ = pack(sequences, features=True, dtype=layer.dtype)
    y, cache = layer.forward(x, context, linear=True)
    target = pack(tags, features=False)[0].rows
    loss = fl.losses.CRFLoss().gradient(y, target, weights, True)
    dx, gradients = layer.backward(y.rows, cache, context)
    return loss, dx, gradients


# --- forward ----------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 4), strategies.seeds(), strategies.float_types()
)
def test_the_output_is_the_probability_of_each_tag_at_each_step(lengths, tags, seed, dtype):
    rng = np.random.default_rng(seed)
    layer, sequences = crf_of(rng, tags, dtype), naive.random_sequences(rng, lengths, tags)
    for y, x in zip(layer(sequences), sequences, strict=True):
        assert y.dtype == dtype
        assert_outputs_close(y, paths.expected_counts(naive_of(layer, x.astype(dtype))).x)


def test_dense_padded_and_ragged_batches_give_the_same_bits(rng):
    layer, x = crf_of(rng, 5, "float32"), rng.standard_normal((3, 7, 5)).astype(np.float32)
    dense = layer(x)
    ragged = layer([x[0], x[1, :4], x[2]])
    padded = layer(np.where(np.arange(7)[None, :, None] < [[[7]], [[4]], [[7]]], x, np.nan), lengths=[7, 4, 7])
    assert dense.shape == x.shape
    assert_bitwise_equal(ragged[0], dense[0])
    assert_bitwise_equal(padded[2], dense[2])
    assert_bitwise_equal(padded[1, :4], ragged[1])
    assert (padded[1, 4:] == 0).all()
    assert_bitwise_equal(ragged[1], layer([x[1, :4]])[0])


def test_a_fresh_layer_has_the_names_shapes_and_range_of_pytorch_crf():
    layer = fl.CRF()
    layer.build(30, 0)
    shapes = {name: array.shape for name, array in layer.state_dict().items()}
    assert shapes == {"start_transitions": (30,), "end_transitions": (30,), "transitions": (30, 30)}
    for array in layer.params.values():
        assert 0.05 < np.abs(array).max() <= 0.1


def test_parameters_go_from_row_to_column(rng):
    layer = fl.CRF(dtype="float64")
    transitions = np.array([[0.0, math.log(3)], [0.0, 0.0]])  # of four paths, 0 1 is three times as likely
    layer.load_state_dict({"transitions": transitions, "start_transitions": [0, 0], "end_transitions": [0, 0]})
    np.testing.assert_allclose(layer(np.zeros((1, 2, 2)))[0], [[4 / 6, 2 / 6], [2 / 6, 4 / 6]], atol=1e-15)


# --- training ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [[1], [4, 4], [3, 5, 1]])
@pytest.mark.parametrize("forbidden", [None, [(0, 0), (None, 2), (1, None)]])
def test_gradients_are_the_numeric_ones(lengths, forbidden, rng):
    layer = crf_of(rng, 3, forbidden=forbidden)
    sequences = naive.random_sequences(rng, lengths, 3)
    tags = [np.array(paths.best_path(naive_of(layer, x))[0]) for x in sequences]
    weights = rng.uniform(0.5, 2.0, len(lengths))
    x, form = pack(sequences, features=True)
    loss, dx, gradients = train(layer, sequences, tags, PassContext(training=True), x.to_packed_order(weights))

    def value():
        losses = [paths.loss(naive_of(layer, x), y) for x, y in zip(sequences, tags, strict=True)]
        return float(weights @ losses) / len(losses)

    assert abs(loss - value()) < 1e-12
    arrays = {f"x{n}": part for n, part in enumerate(sequences)} | layer.arrays
    exact = {f"x{n}": part for n, part in enumerate(form.unpack(x.with_rows(dx)))} | gradients
    gradcheck.assert_gradients(value, arrays, exact)


@pytest.mark.parametrize("forbidden", [None, [(0, 0), (None, 2), (1, None)]])
def test_its_gradients_pass_the_library_s_own_check(forbidden, rng):
    layer = fl.CRF(forbidden)
    assert fl.testing.check_gradients(layer, (3, 6, 4), lengths=[6, 1, 4]) < 1e-7
    assert not layer.built
    assert fl.testing.check_gradients(crf_of(rng, 4, "float32", forbidden=forbidden), (2, 5, 4)) < 1e-7


def test_a_wrong_gradient_does_not_pass_it(monkeypatch):
    backward = fl.CRF.backward

    def wrong(self, dy, cache, context):
        dx, gradients = backward(self, dy, cache, context)
        return dx, gradients | {"transitions": gradients["transitions"].T.copy()}

    monkeypatch.setattr(fl.CRF, "backward", wrong)
    with pytest.raises(fl.testing.GradientError, match=r"CRF.*transitions"):
        fl.testing.check_gradients(fl.CRF(), (3, 6, 4))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first first", "last first"])
def test_a_layer_that_runs_twice_has_the_gradients_that_each_pass_has_alone(order, rng, dtype):
    layer, loss = crf_of(rng, 4, dtype), fl.losses.CRFLoss()
    batches = []
    for lengths in ([3, 7, 2], [5, 5]):
        sequences = naive.random_sequences(rng, lengths, 4)
        batches.append((sequences, [rng.integers(0, 4, length) for length in lengths]))
    alone = []
    for sequences, tags in batches:
        _, dx, gradients = train(layer, sequences, tags, PassContext(training=True, workspace=Workspace()))
        alone.append({name: value.copy() for name, value in (gradients | {"dx": dx}).items()})
    context = PassContext(training=True)
    for _ in range(2):  # the second time in memory that was used before
        passes = []
        for sequences, tags in batches:
            y, cache = layer.forward(pack(sequences, features=True, dtype=dtype)[0], context, linear=True)
            passes.append((y, cache, pack(tags, features=False)[0].rows))
        for y, _, target in passes:
            loss.gradient(y, target)
        found = {}
        for place in order:
            y, cache, _ = passes[place]
            dx, gradients = layer.backward(y.rows, cache, context)
            found[place] = gradients | {"dx": dx}
        for place, expected in enumerate(alone):
            assert found[place].keys() == expected.keys() == {*NAMES, "dx"}
            for name, value in expected.items():
                assert found[place][name].dtype == dtype
                assert_bitwise_equal(found[place][name], value, what=f"{name} of pass {place}")


def test_scores_are_a_copy_and_carry_the_chain(rng):
    layer = crf_of(rng, 3, forbidden=[(1, 2)])
    x, _ = pack(rng.standard_normal((2, 4, 3)), features=True)
    kept = x.rows.copy()
    for context in (PassContext(), PassContext(training=True)):
        y, _ = layer.forward(x, context, linear=True)
        assert isinstance(y, ChainScores)
        assert_bitwise_equal(y.rows, kept)
        y.rows[...] = 0.0
        assert_bitwise_equal(x.rows, kept)
        assert y.chain.transitions[1, 2] == -math.inf
        assert layer.params["transitions"][1, 2] != -math.inf
    other = y.with_rows(y.rows + 1)
    assert other.gradients is y.gradients
    assert other.chain is y.chain
    assert other.batch_sizes is y.batch_sizes


def test_training_through_the_probabilities_is_refused(rng):
    layer, context = crf_of(rng, 3), PassContext(training=True)
    layer.name = "tags"
    x, _ = pack(rng.standard_normal((2, 4, 3)), features=True)
    y, cache = layer.forward(x, context)
    assert_outputs_close(y.rows.sum(axis=1), np.ones(8))
    with pytest.raises(OptionError, match=r"CRF \(tags\).*loss='crf'"):
        layer.backward(np.ones_like(y.rows), cache, context)
    scores, cache = layer.forward(x, context, linear=True)
    with pytest.raises(OptionError, match="loss='crf'"):  # no loss has filled the gradients
        layer.backward(scores.rows, cache, context)


# --- what is forbidden ------------------------------------------------------------------------------------------

FORBIDDEN = [(0, 1), (1, 1), (None, 2), (2, None)]


@given(st.integers(1, 5), strategies.seeds())
def test_what_is_forbidden_has_probability_0(steps, seed):
    rng = np.random.default_rng(seed)
    layer, x = crf_of(rng, 3, forbidden=FORBIDDEN), rng.standard_normal((steps, 3)) * 30
    y = layer(x[None])[0]
    allowed = {path for path, _ in paths.all_paths(naive_of(layer, x))}
    possible = np.array([[any(path[t] == tag for path in allowed) for tag in range(3)] for t in range(steps)])
    assert (y[~possible] == 0).all()
    assert_outputs_close(y, paths.expected_counts(naive_of(layer, x)).x)
    for path in allowed:
        assert not {(0, 1), (1, 1)} & set(pairwise(path))
        assert path[0] != 2
        assert path[-1] != 2


def test_what_is_forbidden_has_gradient_0_and_its_parameter_counts_nothing(rng):
    layer, sequences = crf_of(rng, 3, forbidden=FORBIDDEN), naive.random_sequences(rng, [4, 6], 3)
    tags = [np.array(paths.best_path(naive_of(layer, x))[0]) for x in sequences]
    _, dx, gradients = train(layer, sequences, tags, PassContext(training=True))
    assert (gradients["transitions"][[0, 1], [1, 1]] == 0).all()
    assert gradients["start_transitions"][2] == 0
    assert gradients["end_transitions"][2] == 0
    assert (gradients["transitions"] != 0).sum() == 7
    dx = dx.copy()
    layer.arrays["transitions"][[0, 1], [1, 1]] = 100.0
    layer.changed()
    assert_bitwise_equal(train(layer, sequences, tags, PassContext(training=True))[1], dx)


@pytest.mark.parametrize(
    "forbidden",
    [
        [(0, 1), (2, 2)],
        ((0, 1), (2, 2)),
        [[0, 1], [2, 2]],
        np.array([[0, 1], [2, 2]]),
        np.array([[False, True, False], [False] * 3, [False, False, True]]),
        [[False, True, False], [False, False, False], [False, False, True]],
    ],
    ids=["list", "tuple", "lists", "array", "booleans", "lists of booleans"],
)
def test_ways_to_say_what_is_forbidden(forbidden, rng):
    layer = crf_of(rng, 3, forbidden=forbidden)
    assert (layer.chain.transitions == -np.inf).nonzero()[0].tolist() == [0, 2]
    assert (layer.chain.transitions == -np.inf).nonzero()[1].tolist() == [1, 2]
    described = json.loads(json.dumps(layer.config()))
    again = fl.CRF(**described)
    again.load_state_dict(layer.state_dict())
    x = rng.standard_normal((2, 4, 3))
    assert_bitwise_equal(again(x), layer(x))
    assert_bitwise_equal(copy.deepcopy(layer)(x), layer(x))


@pytest.mark.parametrize(
    "forbidden",
    [
        "BIO",
        5,
        [(0, 1, 2)],
        [(0, -1)],
        [(0.0, 1.0)],
        [(None, None)],
        [(True, 2)],
        [0, 1],
        np.zeros((2, 3), bool),
        np.zeros(3, bool),
        [("O", "I")],
        {0: 1},
    ],
    ids=str,
)
def test_what_forbids_nothing_sensible_is_refused(forbidden):
    with pytest.raises(OptionError, match="CRF: forbidden"):
        fl.CRF(forbidden=forbidden)


@pytest.mark.parametrize("forbidden", [[(0, 3)], [(None, 3)], np.zeros((4, 4), bool)], ids=["tag", "first", "array"])
def test_tags_that_there_are_not_are_refused_when_it_is_known_how_many_there_are(forbidden):
    with pytest.raises(OptionError, match="there are 3 tags"):
        fl.CRF(forbidden=forbidden).build(3)


def test_a_layer_that_is_built_again_forbids_the_same_of_more_tags():
    layer = fl.CRF(forbidden=[(0, 1)])
    for tags in (2, 4):
        layer.build(tags)
        assert np.argwhere(layer.chain.transitions == -np.inf).tolist() == [[0, 1]]
        assert layer.chain.transitions.shape == (tags, tags)


def test_a_sequence_without_any_allowed_path_is_named(rng):
    layer = fl.CRF(forbidden=[(0, 0), (1, 1), (0, 1)])  # 1 0 is the longest path
    x = [rng.standard_normal((length, 2)) for length in (1, 2, 3, 2)]
    assert len(layer(x[:2])) == 2
    with pytest.raises(DataError, match="every path of sequence 2, 3 steps, is forbidden"):
        layer(x)


# --- hostile input ----------------------------------------------------------------------------------------------


def test_inputs_that_do_not_fit():
    layer = fl.CRF()
    with pytest.raises(NotBuiltError):
        layer.state_dict()
    layer.build(3)
    with pytest.raises(ShapeError, match=r"4 features.*built for 3"):
        layer(np.zeros((1, 2, 4)))
    with pytest.raises(ShapeError, match="rank"):
        layer(np.zeros((5, 3)))
    with pytest.raises(DataError, match="no timesteps"):
        layer(np.zeros((5, 0, 3)))
    with pytest.raises(ShapeError, match="one row a sequence"):
        layer(fl.LSTM(3)(fl.Input((None, 2))))
    with pytest.raises(ShapeError, match="transitions has shape"):
        layer.load_state_dict(layer.state_dict() | {"transitions": np.zeros((3, 2))})


def test_nan_stays_in_its_own_sequence(rng, dtype):
    layer, x = crf_of(rng, 4, dtype), rng.standard_normal((3, 5, 4))
    expected = layer(x)
    x[1, 2, 3] = np.nan
    y = layer(x)
    assert np.isnan(y[1]).any()
    assert_bitwise_equal(y[[0, 2]], expected[[0, 2]])


def test_scores_that_are_far_apart_neither_overflow_nor_lose_their_sum(dtype, rng):
    layer = crf_of(rng, 3, dtype)
    y = layer(np.array([[[1e4, 0, 0], [-1e4, 0, 1e4], [0, 3e4, 0]], [[0, 0, 0], [8e37, 0, 0], [0, 0, 0]]]))
    assert_outputs_close(y.sum(axis=2), np.ones((2, 3)), bound=OUTPUT[dtype])
    np.testing.assert_allclose(y[0], [[1, 0, 0], [0, 0, 1], [0, 1, 0]], atol=GRADIENT[dtype])


def test_it_needs_the_whole_sequence():
    layer = fl.CRF()
    layer.build(3)
    with pytest.raises(OptionError, match="whole sequence"):
        fl.Stream([layer])


def test_the_examples_of_its_page_give_what_it_says():
    page = Path(__file__).parents[2] / "docs" / "crf.md"
    results = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert results.attempted >= 40
    assert results.failed == 0
