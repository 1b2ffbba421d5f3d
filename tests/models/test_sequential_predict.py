"""Sequential's inputs and outputs: dense, padded and ragged batches are one thing; targets and weights by step."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import DataError, NotBuiltError, OptionError, ShapeError
from tests.tolerances import assert_bitwise_equal

N, T, D, K = 9, 7, 3, 4


def stack(kind, seed=4):
    """Return a compiled, built model of each kind of output."""
    layers = {
        "last": [fl.LSTM(5, return_sequences=True), fl.Dropout(0.3), fl.LSTM(6), fl.Dense(K, activation="softmax")],
        "steps": [fl.LSTM(5, return_sequences=True), fl.Dense(K, activation="softmax")],
        "both_ways": [fl.Bidirectional(fl.LSTM(5, return_sequences=True)), fl.Dense(K, activation="softmax")],
        "pooled": [fl.LSTM(5, return_sequences=True), fl.GlobalMaxPooling1D(), fl.Dense(K, activation="softmax")],
        "bare": [fl.LSTM(K, return_sequences=True)],
    }[kind]
    model = fl.Sequential(layers, seed=seed)
    model.build(D)
    model.compile(fl.optimizers.SGD(0.5), "mse" if kind == "bare" else "sparse_categorical_crossentropy")
    return model


KINDS = ["last", "steps", "both_ways", "pooled", "bare"]


def ragged(seed=0, count=N):
    """Return a padded array with rubbish in the padding, its lengths, and the same as a list."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, T, D)).astype(np.float32)
    lengths = rng.integers(1, T + 1, count)
    lengths[:2] = T, 1
    sequences = [row[:length].copy() for row, length in zip(x, lengths, strict=True)]
    for row, length in zip(x, lengths, strict=True):
        row[length:] = np.nan
    return x, lengths, sequences


def targets_by_step(kind, seed=1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((N, T, K)) if kind == "bare" else rng.integers(0, K, (N, T))


@pytest.mark.parametrize("kind", KINDS)
def test_dense_padded_and_list_predictions_are_the_same_bits(kind):
    model = stack(kind)
    x, lengths, sequences = ragged()
    padded, listed = model.predict(x, lengths=lengths), model.predict(sequences)
    for n, length in enumerate(lengths):
        alone = model.predict(sequences[n][None])[0]  # one dense sequence
        if kind in ("last", "pooled"):
            assert_bitwise_equal(padded[n], alone)
        else:
            assert_bitwise_equal(padded[n, :length], alone)
            assert (padded[n, length:] == 0).all()
        assert_bitwise_equal(listed[n], alone)
    assert isinstance(listed, list) == (kind not in ("last", "pooled"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 2, 4, 100, None])
def test_predictions_do_not_depend_on_the_batch_size(kind, size):
    model = stack(kind)
    x, lengths, sequences = ragged()
    whole = model.predict(np.nan_to_num(x))
    assert whole.shape[:2] == ((N, K) if kind in ("last", "pooled") else (N, T))
    assert_bitwise_equal(model.predict(np.nan_to_num(x), batch_size=size), whole)
    assert_bitwise_equal(model.predict(x, size, lengths=lengths), model.predict(x, lengths=lengths))
    for one, other in zip(model.predict(sequences, batch_size=size), model.predict(sequences), strict=True):
        assert_bitwise_equal(one, other)


def test_a_call_is_a_prediction_in_one_batch():
    model, (x, lengths, _) = stack("steps"), ragged()
    assert_bitwise_equal(model(x, lengths=lengths), model.predict(x, batch_size=2, lengths=lengths))
    fresh = fl.Sequential([fl.Embedding(10, 4), fl.LSTM(3), fl.Dense(2)], seed=0)
    assert fresh(np.zeros((2, 5), int)).shape == (2, 2)
    assert fresh.built


@pytest.mark.parametrize("kind", ["steps", "both_ways", "bare"])
def test_losses_by_step_count_true_steps_alone(kind):
    """Padded, as a list, and worked out from the predictions: the mean over all true steps."""
    model, (x, lengths, sequences), y = stack(kind), ragged(), targets_by_step(kind)
    y_list = [row[:length] for row, length in zip(y, lengths, strict=True)]
    predictions = zip(model.predict(sequences), y_list, strict=True)
    if kind == "bare":
        rows = [
            ((p.astype(float) - t) ** 2).mean(axis=1) for p, t in zip(model.predict(sequences), y_list, strict=True)
        ]
    else:
        predictions = zip(model.predict(sequences), y_list, strict=True)
        rows = [-np.log(p[np.arange(len(t)), t].astype(float)) for p, t in predictions]
    expected = np.concatenate(rows).mean()
    padded = model.evaluate(x, y, lengths=lengths)
    assert padded == pytest.approx(expected, rel=1e-6)
    assert model.evaluate(sequences, y_list) == padded
    assert model.evaluate(x, y, lengths=lengths, batch_size=2) == pytest.approx(padded, rel=1e-6)


@pytest.mark.parametrize("kind", ["steps", "both_ways", "bare"])
def test_fitting_by_step_is_the_same_padded_as_a_list_and_dense(kind):
    (x, lengths, sequences), y = ragged(), targets_by_step(kind)
    y_list = [row[:length] for row, length in zip(y, lengths, strict=True)]
    padded, listed = stack(kind), stack(kind)
    one = padded.fit(x, y, lengths=lengths, epochs=2, batch_size=4, verbose=0).history
    other = listed.fit(sequences, y_list, epochs=2, batch_size=4, verbose=0).history
    assert one == other
    for weight, expected in zip(padded.get_weights(), listed.get_weights(), strict=True):
        assert_bitwise_equal(weight, expected)

    dense, full = stack(kind), stack(kind)
    whole = np.nan_to_num(x)
    again = dense.fit(whole, y, verbose=0).history
    assert full.fit(whole, y, lengths=np.full(N, T), verbose=0).history == again
    assert_bitwise_equal(full.get_weights()[0], dense.get_weights()[0])


def test_targets_of_sequences_follow_their_sequences():
    """Packing sorts by length: each target, weight and prediction must come along."""
    model, (x, lengths, sequences) = stack("last"), ragged()
    y = np.arange(N) % K
    probability = model.predict(sequences)[np.arange(N), y].astype(float)
    assert model.evaluate(x, y, lengths=lengths) == pytest.approx(-np.log(probability).mean(), rel=1e-6)
    weights = np.random.default_rng(2).random(N)
    weighted = model.evaluate(sequences, y, sample_weight=weights, batch_size=4)
    assert weighted == pytest.approx(-(weights * np.log(probability)).mean(), rel=1e-6)


def test_weights_by_sequence_and_by_step():
    model, (x, lengths, sequences), y = stack("steps"), ragged(), targets_by_step("steps")
    y_list = [row[:length] for row, length in zip(y, lengths, strict=True)]
    rng = np.random.default_rng(3)
    by_sequence, by_step = rng.random(N), rng.random((N, T))
    predictions = zip(model.predict(sequences), y_list, strict=True)
    rows = [-np.log(p[np.arange(len(t)), t].astype(float)) for p, t in predictions]
    count = lengths.sum()

    expected = sum(weight * row.sum() for weight, row in zip(by_sequence, rows, strict=True)) / count
    assert model.evaluate(x, y, lengths=lengths, sample_weight=by_sequence) == pytest.approx(expected, rel=1e-6)
    assert model.evaluate(sequences, y_list, sample_weight=by_sequence) == pytest.approx(expected, rel=1e-6)

    expected = sum((weight[: len(row)] * row).sum() for weight, row in zip(by_step, rows, strict=True)) / count
    assert model.evaluate(x, y, lengths=lengths, sample_weight=by_step) == pytest.approx(expected, rel=1e-6)
    by_step_list = [weight[:length] for weight, length in zip(by_step, lengths, strict=True)]
    assert model.evaluate(sequences, y_list, sample_weight=by_step_list) == pytest.approx(expected, rel=1e-6)


def test_ids_may_be_any_integers_and_any_form():
    model = fl.Sequential([fl.Embedding(10, 4), fl.LSTM(5), fl.Dense(2)], seed=0)
    model.build()
    ids = np.random.default_rng(0).integers(0, 10, (6, 5))
    expected = model.predict(ids)
    for given in (ids.astype(np.uint8), ids.astype(">i4"), ids.tolist(), np.asfortranarray(ids), [*ids]):
        assert_bitwise_equal(model.predict(given), expected)
    listed = model.predict([ids[0, :2], ids[1, :5], ids[2, :1]])
    assert_bitwise_equal(listed[1], expected[1])


@pytest.mark.parametrize("form", ["<f8", ">f4", "<f2", "int", "fortran", "strided"])
def test_features_may_have_any_type_and_layout(form):
    model = stack("last")
    x = np.random.default_rng(0).integers(-3, 4, (N, T, D)).astype(np.float32)  # exact in every type
    given = {
        "int": lambda: x.astype(int),
        "fortran": lambda: np.asfortranarray(x),
        "strided": lambda: np.repeat(x, 2, axis=1)[:, ::2],
    }.get(form, lambda: x.astype(form))()
    assert_bitwise_equal(model.predict(given), model.predict(x))


def test_models_without_time():
    model = fl.Sequential([fl.Dense(8, activation="tanh"), fl.Dropout(0.1), fl.Dense(1)], seed=0)
    model.compile(fl.optimizers.Adam(0.05), "mse")
    x = np.random.default_rng(0).standard_normal((64, D))
    y = x[:, 0] * x[:, 1]
    losses = model.fit(x, y, epochs=60, verbose=0).history["loss"]
    assert losses[-1] < 0.3 * np.var(y)
    assert model.predict(x).shape == (64, 1)
    assert model.evaluate(x, y) == pytest.approx(((model.predict(x)[:, 0] - y) ** 2).mean(), rel=1e-5)


# --- what cannot be ---------------------------------------------------------------------------------------------------


def test_predict_evaluate_and_save_need_weights(tmp_path):
    model = fl.Sequential([fl.LSTM(3), fl.Dense(1)])
    for call in (
        lambda: model.predict(np.zeros((1, 2, 3))),
        lambda: model.evaluate(np.zeros((1, 2, 3)), [0]),
        lambda: model.save(tmp_path / "m"),
        lambda: model.set_weights([]),
        lambda: model.state_dict(),
    ):
        with pytest.raises(NotBuiltError, match=r"no weights yet; call fit, or build\(features\)"):
            call()
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (np.zeros((2, T, D + 1)), ShapeError, "4 features.*built for 3"),
        (np.zeros((2, T)), ShapeError, "rank 2; expected rank 3"),
        (np.zeros((2, T, D, 1)), ShapeError, "rank 4; expected rank 3"),
        (np.zeros((0, T, D)), DataError, "empty"),
        (np.zeros((2, 0, D)), DataError, "no timesteps"),
        ([], DataError, "empty"),
        ([np.zeros((2, D)), np.zeros((0, D))], DataError, "sequence 1 has length 0"),
        ([np.zeros((2, D)), np.zeros((2, D + 1))], ShapeError, r"sequence 1 has shape \(2, 4\), sequence 0 \(2, 3\)"),
        (np.full((2, T, D), "a"), DataError, "dtype"),
    ],
)
def test_inputs_that_do_not_fit(x, error, words):
    model = stack("last")
    with pytest.raises(error, match=words):
        model.predict(x)
    with pytest.raises(error, match=words):
        model.fit(x, np.zeros(max(len(x), 1), int), verbose=0)
    assert model.optimizer.steps == 0


def test_lengths_go_with_one_array():
    with pytest.raises(OptionError, match="lengths= goes with one padded array"):
        stack("last").predict([np.zeros((2, D))], lengths=[2])
    with pytest.raises(OptionError, match="batch_size=0"):
        stack("last").predict(np.zeros((1, T, D)), batch_size=0)


@pytest.mark.parametrize(
    ("kind", "y", "words"),
    [
        ("steps", np.zeros(N, int), "one target a sequence, but the model puts out one row a step.*return_sequences"),
        ("steps", np.zeros((N, T - 1), int), "other numbers of steps than x"),
        ("last", [np.zeros(T, int)] * N, "one array a sequence, but the model puts out one row a sequence"),
        ("last", np.zeros((N, T), int), "targets have shape"),
    ],
)
def test_targets_of_the_other_kind(kind, y, words):
    model = stack(kind)
    with pytest.raises(ShapeError, match=words):
        model.fit(np.zeros((N, T, D)), y, verbose=0)
    assert model.optimizer.steps == 0


def test_weights_that_cannot_be():
    model, x, y = stack("steps"), np.zeros((N, T, D)), np.zeros((N, T), int)
    with pytest.raises(ShapeError, match="weight"):
        model.fit(x, y, sample_weight=np.ones((N, T - 2)), verbose=0)
    with pytest.raises(ShapeError, match="weight"):
        model.fit(x, y, sample_weight=np.ones((N, T, 1)), verbose=0)
    with pytest.raises(ShapeError, match="weight"):
        stack("last").fit(x, y[:, 0], sample_weight=[np.ones(T)] * N, verbose=0)
    for bad in (np.nan, np.inf):
        weights = np.ones((N, T))
        weights[5, 3] = bad
        for given in (weights, [*weights], weights[:, 3]):
            with pytest.raises(DataError, match=r"sample_weight of sequence 5 is .*expected finite"):
                model.fit(x, y, sample_weight=given, verbose=0)
    assert model.optimizer.steps == 0
