"""What goes wrong in a Sequential says so, and loses nothing."""

import math

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import DataError, DivergedError, ModelFileError, NotBuiltError, OptionError, ShapeError
from tests.tolerances import assert_bitwise_equal


@pytest.fixture
def x(rng):
    return rng.standard_normal((20, 6, 3))


@pytest.fixture
def y(x):
    return (x[:, 0, 0] > 0).astype(int)


@pytest.fixture
def model():
    model = fl.Sequential([fl.LSTM(4), fl.Dense(1, activation="sigmoid")], seed=0)
    model.compile("adam", "binary_crossentropy")
    return model


def assert_unchanged(model, before):
    for value, old in zip(model.get_weights(), before, strict=True):
        assert_bitwise_equal(value, old)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("shuffle", [False, True])
def test_nan_or_infinity_in_the_input_names_the_batch_before_any_weight_moves(model, x, y, bad, shuffle):
    model.fit(x, y, verbose=0)
    before = model.get_weights()
    x[13, 4, 2] = bad
    batch = "batch 4 of 5" if not shuffle else "batch [1-5] of 5"
    with pytest.raises(DataError, match=rf"NaN or infinity in {batch}: sequence 13, step 4"):
        model.fit(x, y, batch_size=4, shuffle=shuffle, verbose=0)
    assert_unchanged(model, before)


def test_nan_in_a_ragged_batch_names_the_sequence_and_the_step(model, rng):
    x = [rng.standard_normal((n, 3)) for n in (2, 5, 3, 7)]
    x[2][1, 0] = math.nan
    with pytest.raises(DataError, match="batch 1 of 1: sequence 2, step 1"):
        model.fit(x, [0, 1, 0, 1], verbose=0)


def test_nan_beyond_the_lengths_is_no_nan(model, x, y):
    clean, lengths = x.copy(), np.full(20, 4)
    x[:, 4:] = math.nan
    model.build(3)
    start = model.get_weights()
    model.fit(x, y, lengths=lengths, shuffle=False, verbose=0)
    after = model.get_weights()
    model.set_weights(start)
    model.compile("adam", "binary_crossentropy")
    model.fit(clean, y, lengths=lengths, shuffle=False, verbose=0)
    assert_unchanged(model, after)


def test_nan_in_validation_data_is_found_before_training(model, x, y):
    model.build(3)
    before = model.get_weights()
    x[-1, 0, 0] = math.nan
    with pytest.raises(DataError, match="validation data"):
        model.fit(x, y, validation_split=0.2, verbose=0)
    assert_unchanged(model, before)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_loss_that_becomes_nan_names_the_step_and_keeps_the_last_good_weights(x, batch):
    """Targets so large that their squares overflow: finite input, infinite loss, at a batch of our choice."""
    x, y = x.astype(np.float32), x[:, 0].astype(np.float32)

    def fit(count, rows):
        model = fl.Sequential([fl.LSTM(4, dtype="float64"), fl.Dense(3, dtype="float64")], seed=0)
        model.compile("sgd", "mse")
        if count:
            model.fit(x[:rows], targets[:rows], batch_size=4, shuffle=False, verbose=0)
        return model

    targets = y.astype(np.float64)
    targets[4 * batch] = 1e200
    model = fit(0, 0)
    with pytest.raises(
        DivergedError, match=rf"loss became inf at batch {batch + 1} of 5 in epoch 1, after {batch} steps"
    ):
        model.fit(x, targets, batch_size=4, shuffle=False, verbose=0)
    last_good = fit(1, 4 * (batch - 1)) if batch > 1 else fit(0, 0)
    last_good.build(3)
    assert_unchanged(model, last_good.get_weights())
    assert np.isfinite(model.predict(x)).all()


def test_a_learning_rate_far_too_high_leaves_weights_that_work(model, x, y):
    model.compile(fl.optimizers.SGD(1e300), "binary_crossentropy")
    with pytest.raises(DivergedError, match="lower learning rate"):
        model.fit(x, y, batch_size=4, epochs=3, verbose=0)
    assert np.isfinite(model.predict(x)).all()
    assert math.isfinite(model.evaluate(x, y))


def test_an_interrupt_leaves_weights_and_kernels_in_step(model, x, y):
    class Interrupt(fl.callbacks.Callback):
        def on_train_batch_end(self, batch, logs):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, verbose=0, callbacks=[Interrupt()])
    predicted, copy = model.predict(x), fl.Sequential([fl.LSTM(4), fl.Dense(1, activation="sigmoid")])
    copy.build(3)
    copy.set_weights(model.get_weights())
    assert_bitwise_equal(predicted, copy.predict(x))


def test_an_interrupt_between_two_tensors_puts_the_weights_back(model, x, y, monkeypatch):
    model.build(3)
    before = model.get_weights()
    step, calls = fl.optimizers.Adam._step, []

    def interrupt(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        step(*args)

    monkeypatch.setattr(fl.optimizers.Adam, "_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, verbose=0)
    assert_unchanged(model, before)


@pytest.mark.parametrize("call", ["predict", "evaluate", "save", "state_dict"])
def test_use_before_there_are_weights(model, x, y, call, tmp_path):
    arguments = {"predict": (x,), "evaluate": (x, y), "save": (tmp_path / "m",), "state_dict": ()}[call]
    with pytest.raises(NotBuiltError, match=f"{call}: the model has no weights yet"):
        getattr(model, call)(*arguments)


def test_use_before_compile(x, y):
    model = fl.Sequential([fl.LSTM(4), fl.Dense(1)])
    with pytest.raises(NotBuiltError, match="call compile"):
        model.fit(x, y, verbose=0)
    with pytest.raises(NotBuiltError, match="no layers"):
        fl.Sequential().build(3)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda x, y: (x[:, :, :2], y), ShapeError, "2 features, this layer was built for 3"),
        (lambda x, y: (x[:, :, 0], y), ShapeError, "rank 2; expected rank 3"),
        (lambda x, y: (x[:, 0, 0], y), ShapeError, "rank 1"),
        (lambda x, y: ([], []), DataError, "empty"),
        (lambda x, y: (x[:0], y[:0]), DataError, "empty"),
        (lambda x, y: ([x[0], x[1][:0]], y[:2]), DataError, "sequence 1 has length 0"),
        (lambda x, y: (x, y[:-1]), ShapeError, "x holds 20 sequences, y 19"),
        (lambda x, y: (x, y + 1), DataError, "expected 0 to 1"),
        (lambda x, y: (x, np.stack([y, y], 1)), ShapeError, r"\(20, 2\)"),
        (lambda x, y: (x, np.full(20, math.nan)), DataError, "targets hold NaN"),
    ],
)
def test_data_that_does_not_fit(model, x, y, change, error, words):
    model.build(3)
    before = model.get_weights()
    with pytest.raises(error, match=words):
        model.fit(*change(x, y), verbose=0, shuffle=False)
    assert_unchanged(model, before)


@pytest.mark.parametrize("change", [lambda x: x[:, :, :2], lambda x: x[:, :, 0], lambda x: [], lambda x: x[:, :0]])
def test_predict_checks_its_input_too(model, x, change):
    model.build(3)
    with pytest.raises((ShapeError, DataError)):
        model.predict(change(x))


@pytest.mark.parametrize("lengths", [np.zeros(20, int), np.full(20, 7), np.ones(19, int), np.full(20, 2.0)])
def test_lengths_that_do_not_fit(model, x, y, lengths):
    for call in (lambda: model.fit(x, y, lengths=lengths, verbose=0), lambda: model.predict(x, lengths=lengths)):
        model.build(3)
        with pytest.raises((DataError, ShapeError), match="lengths"):
            call()


@pytest.mark.parametrize("wrong", [-1, 9])
def test_ids_outside_the_vocabulary_are_found_before_training(rng, wrong):
    model = fl.Sequential([fl.Embedding(9, 3), fl.LSTM(4), fl.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.build()
    before, x, y = model.get_weights(), rng.integers(0, 9, (40, 5)), rng.integers(0, 3, 40)
    x[39, 2] = wrong
    with pytest.raises(DataError, match=f"id {wrong} is outside the vocabulary"):
        model.fit(x, y, verbose=0, shuffle=False)
    with pytest.raises(DataError, match=f"id {wrong}"):
        model.predict(x)
    x[39, 2], y[39] = 0, 3
    with pytest.raises(DataError, match="3 classes"):
        model.fit(x, y, verbose=0, shuffle=False)
    assert_unchanged(model, before)


def test_a_target_a_sequence_where_the_model_puts_out_steps(x, y):
    model = fl.Sequential([fl.LSTM(4, return_sequences=True), fl.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ShapeError, match="return_sequences=False"):
        model.fit(x, y, verbose=0)


def test_layers_that_do_not_follow_each_other(x, y):
    model = fl.Sequential([fl.LSTM(4), fl.LSTM(4)])
    model.compile("sgd", "mse")
    with pytest.raises(ShapeError, match="lstm puts out one row each: set return_sequences=True"):
        model.fit(x, y, verbose=0)
    with pytest.raises(ShapeError, match="only be the first"):
        fl.Sequential([fl.LSTM(4, return_sequences=True), fl.Embedding(3, 2)]).build(3)
    layer = fl.LSTM(4)
    with pytest.raises(OptionError, match="twice"):
        fl.Sequential([layer, layer])
    with pytest.raises(OptionError, match="called 'a'"):
        fl.Sequential([fl.LSTM(4, name="a"), fl.LSTM(4, name="a")])
    with pytest.raises(OptionError, match="no layer"):
        fl.Sequential(["lstm"])


@pytest.mark.parametrize(
    ("activation", "loss", "words"),
    [
        (None, "binary_crossentropy", "write activation='sigmoid'"),
        ("relu", "sparse_categorical_crossentropy", "write activation='softmax'"),
        ("softmax", fl.losses.SparseCategoricalCrossentropy(from_logits=True), "drop one of the two"),
    ],
)
def test_a_loss_that_does_not_go_with_the_last_activation(x, y, activation, loss, words):
    model = fl.Sequential([fl.LSTM(4), fl.Dense(2, activation=activation)])
    model.compile("sgd", loss)
    with pytest.raises(OptionError, match=words):
        model.fit(x, y, verbose=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"epochs": 0}, "epochs=0"),
        ({"initial_epoch": 2}, "initial_epoch=2"),
        ({"validation_split": 1.0}, "validation_split=1.0"),
        ({"validation_split": 0.01}, None),
        ({"validation_split": -0.1}, "validation_split=-0.1"),
        ({"validation_split": 0.99}, "leaves one side empty"),
        ({"validation_split": "0.2"}, "validation_split='0.2'"),
        ({"batch_size": 2.5}, "batch_size=2.5; expected a whole number"),
        ({"epochs": "3"}, "epochs='3'"),
        ({"epochs": True}, "epochs=True"),
        ({"initial_epoch": 0.0}, "initial_epoch is 0.0; expected a whole number"),
    ],
)
def test_options_of_fit(model, x, y, options, words):
    if words is None:  # Keras's floor(20 * 0.99) leaves one sequence
        assert "val_loss" in model.fit(x, y, verbose=0, **options).history
        return
    with pytest.raises(OptionError, match=words):
        model.fit(x, y, verbose=0, **options)


@pytest.mark.parametrize(
    ("class_weight", "words"),
    [
        ({0: -1.0}, "class_weight of class 0 is -1.0; expected a finite number, 0 or more"),
        ({0: 1.0, 1: math.nan}, "class_weight of class 1 is nan"),
        ({1: math.inf}, "class 1 is inf"),
        ({1: "heavy"}, "class 1 is 'heavy'"),
        ({1: None}, "class 1 is None"),
        ({1: True}, "class 1 is True"),
        ({"cat": 1.0}, "names class 'cat'; expected whole numbers"),
        ({0.5: 1.0}, "names class 0.5"),
        ({-1: 1.0}, "names class -1"),
        ({0: 1.0, 2: 3.0}, "names class 2; the model has 2 classes: 0 to 1"),
        ([1.0, 2.0], r"class_weight=\[1.0, 2.0\]; expected a mapping"),
        ("balanced", "class_weight='balanced'"),
    ],
)
def test_class_weights_that_cannot_be(model, x, y, class_weight, words):
    model.build(3)
    before = model.get_weights()
    with pytest.raises(OptionError, match=words):
        model.fit(x, y, class_weight=class_weight, verbose=0)
    assert_unchanged(model, before)


def test_class_weights_are_held_to_the_models_classes(x, y):
    model = fl.Sequential([fl.LSTM(4), fl.Dense(3, activation="softmax")], seed=0)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x, y, class_weight={np.int64(2): np.float32(3.0), 0: 0}, verbose=0)
    with pytest.raises(OptionError, match="class 3; the model has 3 classes"):
        model.fit(x, y, class_weight={3: 1.0}, verbose=0)
    counts = fl.Sequential([fl.LSTM(4), fl.Dense(1)], seed=0)  # one output that may stand for any number
    counts.compile("sgd", "mse")
    counts.fit(x, y * 7, class_weight={7: 2.0}, verbose=0)


@pytest.mark.parametrize("verbose", ["x", 3, -1, None, 1.0, "1", np.array([1, 2])])
def test_verbose_is_one_of_four(model, x, y, verbose):
    model.build(3)
    before = model.get_weights()
    for call, arguments in (("fit", (x, y)), ("evaluate", (x, y)), ("predict", (x,))):
        with pytest.raises(OptionError, match=f"{call}: verbose=.*; expected 'auto', 0"):
            getattr(model, call)(*arguments, verbose=verbose)
    assert_unchanged(model, before)


@pytest.mark.parametrize("verbose", ["auto", 0, 1, 2, False, True, np.int64(0)])
def test_every_verbose_of_keras(model, x, y, verbose, capsys):
    model.fit(x, y, verbose=verbose)
    model.evaluate(x, y, verbose=verbose)
    model.predict(x, verbose=verbose)
    assert bool(capsys.readouterr().out) == (verbose not in ("auto", 0))


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, "8", True])
def test_batch_sizes_of_evaluate_and_predict(model, x, y, batch_size):
    model.build(3)
    with pytest.raises(OptionError, match="evaluate: batch_size="):
        model.evaluate(x, y, batch_size=batch_size)
    with pytest.raises(OptionError, match="predict: batch_size="):
        model.predict(x, batch_size=batch_size)


def test_a_saved_model_that_is_damaged_or_foreign(model, tmp_path):
    from fastlstm.training.checkpoint import save_file

    model.build(3)
    path = tmp_path / "m.safetensors"
    model.save(path)
    raw = path.read_bytes()
    for damaged in (raw[:-1], raw[:-1] + bytes([raw[-1] ^ 1]), b"hello", b""):
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError, match=r"m\.safetensors"):
            fl.load(path)
    save_file(path, {}, {"model": "Transformer"})
    with pytest.raises(ModelFileError, match="'Transformer'"):
        fl.load(path)
    with pytest.raises(ModelFileError, match="not a Sequential"):
        fl.Sequential.load(path)
    save_file(path, {}, {"model": "Sequential", "layers": [{"kind": "Conv", "config": {}, "features": 1}]})
    with pytest.raises(ModelFileError, match=r"m\.safetensors is not a Sequential.*'Conv'"):
        fl.load(path)
    save_file(path, {}, {"model": "Sequential"})
    with pytest.raises(ModelFileError, match=r"m\.safetensors is not .*'layers'"):
        fl.Sequential.load(path)


@pytest.mark.parametrize("seed", [-1, 1.5, "x", True, [1, 2]])
def test_seeds_that_are_no_whole_number(seed):
    with pytest.raises(OptionError, match=r"Sequential: seed is .*; expected a whole number, at least 0"):
        fl.Sequential([fl.LSTM(4)], seed=seed)


@pytest.mark.parametrize("features", [-1, 2.5, "3", None, True])
def test_features_that_are_no_whole_number(features):
    with pytest.raises(OptionError, match=r"LSTM: features is .*; expected a whole number, at least 0"):
        fl.LSTM(4).build(features)
    with pytest.raises(OptionError, match="LSTM: features is"):
        fl.Sequential([fl.LSTM(4)]).build(features)
