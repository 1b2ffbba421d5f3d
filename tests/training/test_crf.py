"""The CRF's loss against a plain loop in torch, through layers and optimizers; weights, targets, metrics, files."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastlstm as fl
from fastlstm.data.chain import Chain, ChainScores
from fastlstm.data.packed import pack
from fastlstm.errors import DataError, OptionError, ShapeError
from fastlstm.training.losses import CRFLoss
from tests import naive, strategies
from tests.naive import crf as paths
from tests.tolerances import assert_bitwise_equal, assert_gradients_close


def random_chain(rng, tags, dtype="float64"):
    return Chain(*(rng.standard_normal(size).astype(dtype) for size in ((tags, tags), tags, tags)))


def scores_of(sequences, chain):
    return ChainScores(pack(sequences, features=True)[0], chain)


def packed_tags(tags):
    return pack(tags, features=False)[0].rows


def torch_losses(torch, x, lengths, tags, transitions, start, end):
    """Return the loss of each sequence of a padded batch, in the plainest way: a loop over steps, logsumexp in each."""
    steps = torch.arange(x.shape[1])
    alive = steps[None] < lengths[:, None]
    alpha = start + x[:, 0]
    for t in range(1, x.shape[1]):
        moved = torch.logsumexp(alpha[:, :, None] + transitions, dim=1) + x[:, t]
        alpha = torch.where(alive[:, t, None], moved, alpha)
    score = start[tags[:, 0]] + (x.gather(2, tags[:, :, None])[:, :, 0] * alive).sum(1)
    score = score + (transitions[tags[:, :-1], tags[:, 1:]] * alive[:, 1:]).sum(1)
    score = score + end[tags.gather(1, lengths[:, None] - 1)[:, 0]]
    return torch.logsumexp(alpha + end, dim=1) - score


@given(strategies.lengths_n(5, 12), st.integers(1, 12), strategies.float_types(), strategies.seeds())
def test_losses_and_gradients_are_those_of_a_loop_in_torch(lengths, tags, dtype, seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    count, steps = len(lengths), max(lengths)
    x, chain = rng.standard_normal((count, steps, tags)).astype(dtype), random_chain(rng, tags, dtype)
    gold, weights = rng.integers(0, tags, (count, steps)), rng.uniform(0.5, 2.0, count)

    leaves = [torch.tensor(array.astype(np.float64), requires_grad=True) for array in (x, *chain)]
    each = torch_losses(torch, leaves[0], torch.tensor(lengths), torch.tensor(gold), *leaves[1:])
    (each * torch.tensor(weights)).mean().backward()

    packed, form = pack(x, lengths, features=True)
    scores = ChainScores(packed.with_rows(packed.rows.copy()), chain)
    target, own = pack(gold, lengths, features=False)[0].rows, packed.to_packed_order(weights)
    losses = packed.to_user_order(CRFLoss().sequences(scores, target))
    np.testing.assert_allclose(losses, each.detach().numpy(), rtol=1e-12, atol=1e-11)
    loss = CRFLoss().gradient(scores, target, own)
    np.testing.assert_allclose(loss, np.mean(weights * losses), rtol=1e-13)
    # the sums in float64 are rounded once: small gradients beside large ones keep their digits
    unit = np.finfo(dtype).eps
    np.testing.assert_allclose(form.unpack(scores), leaves[0].grad.numpy(), rtol=0, atol=max(unit, 1e-12))
    for name, leaf in zip(("transitions", "start_transitions", "end_transitions"), leaves[1:], strict=True):
        assert scores.gradients[name].dtype == dtype
        np.testing.assert_allclose(scores.gradients[name], leaf.grad.numpy(), rtol=unit, atol=max(unit, 1e-12))


def test_value_and_gradient_agree_and_value_leaves_the_output(rng, dtype):
    sequences = [x.astype(dtype) for x in naive.random_sequences(rng, [4, 7, 1], 5)]
    scores = scores_of(sequences, random_chain(rng, 5, dtype))
    kept, target = scores.rows.copy(), packed_tags([rng.integers(0, 5, len(x)) for x in sequences])
    for weights in (None, np.array([1.0, 0.0, 3.0])):
        loss = CRFLoss()
        value = loss.value(scores, target, weights)
        assert_bitwise_equal(scores.rows, kept)
        each = loss.sequences(scores, target)
        assert value == pytest.approx(np.mean(each if weights is None else weights * each), rel=1e-14)
        moved = scores.with_rows(kept.copy())
        assert loss.gradient(moved, target, weights) == value
        assert not np.array_equal(moved.rows, kept)


def test_the_gradient_is_that_of_the_library_s_own_check(rng):
    assert fl.testing.check_gradients(CRFLoss(), (3, 6, 4), lengths=[6, 1, 4]) < 1e-7


def test_marginals_for_metrics(rng):
    x, chain = rng.standard_normal((4, 3)), random_chain(rng, 3)
    scores = scores_of([x], chain)
    kept = scores.rows.copy()
    marginals = CRFLoss().marginals(scores)
    np.testing.assert_allclose(marginals, paths.expected_counts(paths.Scores(x, *chain)).x, atol=1e-14)
    assert_bitwise_equal(scores.rows, kept)


# --- targets and weights ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "error", "match"),
    [
        (np.zeros(4), ShapeError, "shape"),
        (np.zeros((5, 2)), ShapeError, "shape"),
        (np.array([0, 1, 2, 3, 0]), DataError, "target 3"),
        (np.array([0, -1, 2, 1, 0]), DataError, "target -1"),
        (np.array([0, 1, 2, np.nan, 0]), DataError, "target nan"),
        (np.array([0, 0.5, 1, 1, 1]), DataError, "whole"),
    ],
)
def test_targets_that_name_no_tag(target, error, match, rng):
    scores = scores_of([rng.standard_normal((5, 3))], random_chain(rng, 3))
    with pytest.raises(error, match=f"crf.*{match}"):
        CRFLoss().check_targets(target, scores)
    with pytest.raises(error, match=f"crf.*{match}"):
        CRFLoss().check_targets(target, scores.rows)


@pytest.mark.parametrize("given", [np.array([0, 1, 2]), np.array([[0], [1], [2]]), np.array([0.0, 1.0, 2.0], "f4")])
def test_targets_become_int64(given, rng):
    scores = scores_of([rng.standard_normal((3, 3))], random_chain(rng, 3))
    taken = CRFLoss().check_targets(given, scores)
    assert taken.dtype == np.int64
    assert taken.tolist() == [0, 1, 2]


def test_weights_are_one_a_sequence(rng):
    scores = scores_of([rng.standard_normal((3, 3)), rng.standard_normal((2, 3))], random_chain(rng, 3))
    target = np.zeros(5, np.int64)
    for weights in (np.ones(5), np.ones((2, 1)), np.ones(1)):
        with pytest.raises(ShapeError, match="one for each sequence"):
            CRFLoss().value(scores, target, weights)
        with pytest.raises(ShapeError, match="one for each sequence"):
            CRFLoss().gradient(scores, target, weights)


@pytest.mark.parametrize(
    ("forbidden", "tags", "match"),
    [
        ((0, 1), [2, 2, 0, 1], "sequence 1 of the batch: tag 1 follows tag 0 at step 3"),
        ((None, 2), [2, 2, 0, 1], "sequence 1 of the batch: it begins with tag 2"),
        ((1, None), [2, 2, 0, 1], "sequence 1 of the batch: it ends with tag 1"),
    ],
)
def test_targets_that_the_layer_forbids_are_named(forbidden, tags, match, rng):
    layer = fl.CRF(forbidden=[forbidden], dtype="float64")
    x, _ = pack([rng.standard_normal((length, 3)) for length in (1, 4, 6)], features=True)
    layer.build(3, 0)
    scores, _ = layer.forward(x, fl.layers.PassContext(), linear=True)
    target = packed_tags([np.zeros(1, int), np.array(tags), np.zeros(6, int)])
    for call in (CRFLoss().sequences, CRFLoss().value, CRFLoss().gradient):
        with pytest.raises(DataError, match=match):
            call(scores.with_rows(scores.rows.copy()), target)
    weights = x.to_packed_order(np.array([1.0, 0.0, 1.0]))  # a sequence that does not count may do what it likes
    value = CRFLoss().value(scores, target, weights)
    assert math.isfinite(value)
    assert CRFLoss().gradient(scores, target, weights) == value


def test_a_loss_that_diverges_is_not_taken_for_a_forbidden_path(rng):
    scores = scores_of([rng.standard_normal((3, 3))], random_chain(rng, 3))
    scores.rows[1, 1] = np.nan
    assert math.isnan(CRFLoss().value(scores, np.zeros(3, np.int64)))
    assert math.isnan(CRFLoss().gradient(scores, np.zeros(3, np.int64)))


def test_an_output_without_a_chain_is_refused(rng):
    x, _ = pack(rng.standard_normal((2, 3, 4)), features=True)
    for call in (CRFLoss().value, CRFLoss().gradient, CRFLoss().sequences):
        with pytest.raises(OptionError, match=r"Dense\(tags\), CRF\(\)"):
            call(x, np.zeros(6, np.int64))


# --- in a model -------------------------------------------------------------------------------------------------


def tagging_data(rng, count=24):
    """Return sequences of ids, and tags that depend on the tag before."""
    x = [rng.integers(0, 12, length) for length in rng.integers(1, 9, count)]
    return x, [np.cumsum(ids) % 3 for ids in x]


def tagger(seed=0, **options):
    return fl.Sequential(
        [fl.Embedding(12, 6), fl.LSTM(8, return_sequences=True), fl.Dense(3), fl.CRF(**options)], seed=seed
    )


def test_twenty_steps_of_training_are_those_of_torch(rng):
    torch = pytest.importorskip("torch")
    data = [(rng.standard_normal((4, 6, 5)), rng.integers(0, 3, (4, 6))) for _ in range(20)]
    model = fl.Sequential([fl.Dense(3, dtype="float64"), fl.CRF(dtype="float64")], seed=0)
    model.compile(fl.optimizers.SGD(0.5), "crf")
    model.build(5)
    given = [model.layers[0].params[name] for name in ("weight", "bias")]
    given += [model.layers[1].params[name] for name in ("transitions", "start_transitions", "end_transitions")]
    leaves = [torch.tensor(array.copy(), requires_grad=True) for array in given]
    optimizer, lengths = torch.optim.SGD(leaves, lr=0.5), torch.full((4,), 6)
    for x, y in data:
        ours = model.train_on_batch(x, y)
        optimizer.zero_grad()
        emissions = torch.tensor(x) @ leaves[0].T + leaves[1]
        theirs = torch_losses(torch, emissions, lengths, torch.tensor(y), *leaves[2:]).mean()
        theirs.backward()
        optimizer.step()
        assert ours == pytest.approx(theirs.item(), rel=1e-9)
    for array, leaf in zip(given, leaves, strict=True):
        assert_gradients_close(array, leaf.detach().numpy())


def test_a_tagger_learns_what_its_data_say(rng):
    x, y = tagging_data(rng, 300)
    model = tagger()
    model.compile(fl.optimizers.Adam(0.02), "crf", metrics=["accuracy"])
    history = model.fit(x, y, epochs=25, verbose=0).history
    assert history["accuracy"][-1] > 0.95
    loss, accuracy = model.evaluate(x, y)
    best = np.concatenate([p.argmax(axis=1) for p in model.predict(x)])
    assert accuracy == pytest.approx(np.mean(best == np.concatenate(y)))
    right = [-math.log(1e-300 + np.prod(p[np.arange(len(t)), t])) for p, t in zip(model.predict(x), y, strict=True)]
    assert loss < 1.0
    assert np.mean(right) < 1.0


def test_evaluate_is_the_mean_over_all_sequences_whatever_the_batches(rng):
    x, y = tagging_data(rng)
    weights = rng.uniform(0.0, 2.0, len(x))
    model = tagger()
    model.compile("sgd", "crf")
    model.build()
    chain = model.layers[-1].chain
    body = fl.Sequential(model.layers[:-1])
    emissions = body.predict(x)
    each = [
        paths.loss(paths.Scores(part.astype(np.float64), *chain), tags) for part, tags in zip(emissions, y, strict=True)
    ]
    for size in (1, 7, 100):
        assert model.evaluate(x, y, batch_size=size) == pytest.approx(np.mean(each), rel=1e-6)
        given = model.evaluate(x, y, batch_size=size, sample_weight=weights)
        assert given == pytest.approx(np.mean(weights * each), rel=1e-6)


@pytest.mark.usefixtures("share_everything")
def test_training_has_the_same_bits_on_any_number_of_threads(rng):
    x, y = tagging_data(rng, 40)
    weights = []
    for threads in (1, 2):
        fl.set_num_threads(threads)
        model = tagger(seed=3)
        model.compile("adam", "crf")
        model.fit(x, y, epochs=2, verbose=0, batch_size=40)
        weights.append(model.get_weights())
    for one, two in zip(*weights, strict=True):
        assert_bitwise_equal(one, two)


def test_a_model_is_saved_and_loaded_with_what_it_forbids(rng, tmp_path):
    x, y = tagging_data(rng)
    model = tagger(forbidden=[(0, 2), (None, 1)])
    model.compile("adam", "crf", metrics=["accuracy"])
    y = [np.where(tags > 0, 0, tags) for tags in y]
    model.fit(x, y, epochs=1, verbose=0)
    model.save(tmp_path / "tagger.safetensors")
    loaded = fl.load(tmp_path / "tagger.safetensors")
    assert loaded.layers[-1].forbidden == [(0, 2), (None, 1)]
    assert loaded.evaluate(x, y) == model.evaluate(x, y)
    for one, two in zip(loaded.predict(x), model.predict(x), strict=True):
        assert_bitwise_equal(one, two)
    assert all((p[0, 1] == 0).all() for p in loaded.predict(x))


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "mse"])
def test_a_model_that_ends_with_a_crf_takes_no_other_loss(loss, rng):
    x, y = tagging_data(rng)
    model = tagger()
    model.compile("sgd", loss)
    with pytest.raises(OptionError, match="loss='crf'"):
        model.fit(x, y, verbose=0)


def test_the_loss_takes_no_model_that_ends_without_a_crf(rng):
    x, y = tagging_data(rng)
    model = fl.Sequential([fl.Embedding(12, 6), fl.Dense(3)])
    model.compile("sgd", "crf")
    with pytest.raises(OptionError, match="CRF"):
        model.fit(x, y, verbose=0)
