"""Sequential's list of layers: names, building, weights in and out, layers from elsewhere; the textbook's model."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import DataError, NotBuiltError, OptionError, ShapeError
from tests.tolerances import assert_bitwise_equal


def test_layers_are_added_until_the_model_is_built():
    model = fl.Sequential()
    model.add(fl.LSTM(3))
    model.add(fl.Dense(2))
    assert not model.built
    model.build(4)
    assert model.built
    with pytest.raises(OptionError, match="built already; add layers before"):
        model.add(fl.Dense(1))
    assert len(model.layers) == 2
    assert model.predict(np.zeros((1, 5, 4))).shape == (1, 2)


def test_a_trained_layer_may_begin_a_new_model(rng):
    """An encoder taken over from another model, under a new head; its weights are the same arrays."""
    x = rng.standard_normal((8, 5, 3))
    old = fl.Sequential([fl.LSTM(4), fl.Dense(1)], seed=0)
    old.compile("sgd", "mse")
    old.fit(x, x[:, 0, 0], verbose=0)
    encoded = old.layers[0](x)
    for new in (fl.Sequential([old.layers[0], fl.Dense(2)], seed=1), fl.Sequential([old.layers[0]], seed=1)):
        if len(new.layers) == 1:
            new.add(fl.Dense(2))
        new.compile("sgd", "mse")
        new.build(3)
        assert_bitwise_equal(new.predict(x), new.layers[1](encoded))
        new.fit(x, np.zeros((8, 2)), verbose=0)
        encoded = old.layers[0](x)
        assert_bitwise_equal(new.predict(x), new.layers[1](encoded))


def test_names_with_a_dot_are_kept_apart(tmp_path):
    model = fl.Sequential([fl.Dense(3, name="head"), fl.Dense(2, name="head.out")], seed=0)
    model.build(4)
    model.save(tmp_path / "m")
    loaded = fl.load(tmp_path / "m")
    assert [layer.name for layer in loaded.layers] == ["head", "head.out"]
    assert_bitwise_equal(loaded.predict(np.ones((1, 4))), model.predict(np.ones((1, 4))))


def test_weights_go_out_as_copies_and_in_only_when_all_fit():
    model = fl.Sequential([fl.LSTM(3), fl.Dense(2)], seed=0)
    model.build(4)
    x = np.random.default_rng(0).standard_normal((2, 5, 4))
    before, weights = model.predict(x), model.get_weights()
    assert [w.shape for w in weights] == [(12, 4), (12, 3), (12,), (12,), (2, 3), (2,)]
    for weight in weights:
        weight += 1.0
    assert_bitwise_equal(model.predict(x), before)
    for wrong in (weights[:-1], [*weights, weights[0]], [w.T for w in weights]):
        with pytest.raises(ShapeError, match="number or shape"):
            model.set_weights(wrong)
    assert_bitwise_equal(model.predict(x), before)
    model.set_weights(weights)
    assert not np.allclose(model.predict(x), before)
    other = fl.Sequential([fl.LSTM(3), fl.Dense(2)], seed=9)
    other.build(4)
    other.set_weights([w.astype(float) for w in weights])
    assert_bitwise_equal(other.predict(x), model.predict(x))


def test_the_seed_makes_the_first_weights():
    first, same, other = (fl.Sequential([fl.LSTM(3), fl.Dense(2)], seed=seed) for seed in (3, 3, 4))
    for model in (first, same, other):
        model.build(4)
    for one, two, three in zip(first.get_weights(), same.get_weights(), other.get_weights(), strict=True):
        assert_bitwise_equal(one, two)
        assert one.ndim == 1 or not np.array_equal(one, three)  # biases begin alike


def test_a_model_without_layers():
    model = fl.Sequential()
    model.compile("sgd", "mse")
    for call in (lambda: model.fit(np.zeros((1, 2, 3)), [0]), lambda: model.build(3)):
        with pytest.raises(NotBuiltError, match="no layers; add some first"):
            call()


def test_a_summary_before_the_model_is_built(capsys):
    text = fl.Sequential([fl.LSTM(3, return_sequences=True), fl.Dense(2)]).summary()
    assert capsys.readouterr().out == text + "\n"
    assert "not built" in text
    assert "(N, T, 3)" in text


@pytest.mark.parametrize("optimizer", ["adam", fl.optimizers.RMSprop(0.002)])
def test_an_optimizer_of_another_model_is_refused_before_it_writes(optimizer):
    optimizer = fl.optimizers.get(optimizer)
    x = np.random.default_rng(0).standard_normal((4, 5, 3))
    for units in (3, 4):
        model = fl.Sequential([fl.LSTM(units), fl.Dense(1)], seed=0)
        model.compile(optimizer, "mse")
        if units == 3:
            model.fit(x, np.zeros(4), verbose=0)
    before = model.get_weights()
    with pytest.raises(ShapeError, match="each model needs an optimizer of its own"):
        model.fit(x, np.zeros(4), verbose=0)
    assert before == []  # it was not built yet: the weights are those that its seed gives
    fresh = fl.Sequential([fl.LSTM(4), fl.Dense(1)], seed=0)
    fresh.build(3)
    assert_bitwise_equal(model.predict(x), fresh.predict(x))


def test_the_textbooks_model_finds_a_token_thirty_steps_back():
    """What examples/last_token.py does with 20,000 tokens and 100 steps, in seconds."""
    rng = np.random.default_rng(0)

    def sequences(back):
        first = rng.integers(0, 4, len(back))
        return [np.concatenate(([f], rng.integers(4, 20, n))) for f, n in zip(first, back, strict=True)], first >= 2

    x, y = sequences(np.exp(rng.uniform(0.0, np.log(31), 2000)).astype(int))  # of many lengths, most of them short
    held, answers = sequences(np.full(500, 30))
    model = fl.Sequential(
        [
            fl.Embedding(input_dim=20, output_dim=16),
            fl.LSTM(32, return_sequences=True),
            fl.Dropout(0.2),
            fl.LSTM(16),
            fl.Dense(1, activation="sigmoid"),
        ],
        seed=1,
    )
    model.compile(optimizer=fl.optimizers.Adam(0.01), loss="binary_crossentropy", metrics=["accuracy"])
    model.fit(x[:32], y[:32], verbose=0)
    assert model.evaluate(np.array(held), answers)[1] < 0.8  # nothing gives the answer away
    model.fit(x, y, epochs=3, verbose=0)
    assert model.evaluate(np.array(held), answers)[1] >= 0.99
    later = [row.copy() for row in held]
    for row in later:
        row[0] ^= 2  # the first token alone
    assert model.evaluate(np.array(later), ~answers)[1] >= 0.99


def test_layers_of_two_types_are_named_and_dropout_takes_what_comes(rng):
    x, y = rng.standard_normal((8, 3, 2)), rng.standard_normal((8, 1))
    mixed = fl.Sequential([fl.LSTM(3, dtype="float64"), fl.Dense(1)])
    mixed.compile("adam", "mse")
    with pytest.raises(OptionError, match=r"dense computes in float32, lstm in float64"):
        mixed.fit(x, y, verbose=0)
    layers = [fl.LSTM(3, dtype="float64", return_sequences=True), fl.Dropout(0.5), fl.LastStep()]
    model = fl.Sequential([*layers, fl.Dense(1, dtype="float64")])
    model.compile("adam", "mse", metrics="mae")
    model.fit(x, y, verbose=0, callbacks=fl.callbacks.EarlyStopping("loss"))
    assert model.predict(x).dtype == np.float64


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fl.LSTM(2.5), "LSTM: units=2.5"),
        (lambda: fl.LSTM(True), "LSTM: units=True"),
        (lambda: fl.Dense("4"), "Dense: units='4'"),
        (lambda: fl.Embedding(0, 2), "Embedding: input_dim=0"),
        (lambda: fl.LSTM(2, dtype="foo"), "dtype is 'foo'"),
    ],
)
def test_sizes_are_whole_numbers(make, words):
    with pytest.raises(OptionError, match=words):
        make()


def test_what_is_missing_is_named(rng):
    x, y = rng.standard_normal((8, 3, 2)), rng.standard_normal((8, 1))
    model = fl.Sequential([fl.LSTM(3), fl.Dense(1)])
    model.compile("adam", "mse")
    with pytest.raises(OptionError, match="y is None"):
        model.fit(x, None)
    with pytest.raises(OptionError, match="no tuple"):
        model.fit(x, y, validation_data=x)
    with pytest.raises(DataError, match="no features"):
        model.fit(x[:, :, :0], y)
    model.fit(x, y, verbose=0)
    with pytest.raises(OptionError, match="batch_size=0"):
        model.evaluate(x, y, batch_size=0)
