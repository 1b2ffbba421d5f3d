"""A Sequential on disk: the same model comes back, compiled as it was; torch takes its LSTMs; names; the summary."""

import numpy as np
import pytest

import fastlstm as fl
from tests.tolerances import assert_bitwise_equal, assert_outputs_close


def everything(dtype="float32"):
    """Return a model with every kind of layer that takes parameters or options."""
    return fl.Sequential(
        [
            fl.Embedding(11, 5, dtype=dtype),
            fl.Bidirectional(fl.LSTM(4, return_sequences=True, dtype=dtype), merge_mode="sum"),
            fl.Dropout(0.1, dtype=dtype),
            fl.LSTM(6, return_sequences=True, recurrent_dropout=0.1, go_backwards=True, name="middle", dtype=dtype),
            fl.LSTM(3, return_sequences=True, dtype=dtype),
            fl.GlobalMaxPooling1D(dtype=dtype),
            fl.Dense(4, activation="relu", use_bias=False, dtype=dtype),
            fl.Dense(2, activation="softmax", dtype=dtype),
        ],
        seed=1,
    )


def test_the_same_model_comes_back_and_trains_on(rng, tmp_path, dtype):
    x, y = rng.integers(0, 11, (12, 7)), rng.integers(0, 2, 12)
    model = everything(dtype)
    model.compile(
        fl.optimizers.AdamW(0.01, clipnorm=1.0),
        "sparse_categorical_crossentropy",
        ["accuracy"],
        weighted_metrics=["accuracy"],
    )
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "m.safetensors")
    loaded = fl.load(tmp_path / "m.safetensors")
    assert_bitwise_equal(loaded.predict(x), model.predict(x))
    assert [layer.config() for layer in loaded.layers] == [layer.config() for layer in model.layers]
    assert loaded.evaluate(x, y, return_dict=True) == model.evaluate(x, y, return_dict=True)
    assert loaded.optimizer.config() == model.optimizer.config()
    loaded.fit(x, y, verbose=0)


@pytest.mark.parametrize("loss", [fl.losses.Huber(0.25), fl.losses.BinaryCrossentropy(from_logits=True), "mae"])
def test_options_of_the_loss_come_back(rng, tmp_path, loss):
    x, y = rng.standard_normal((5, 4, 2)), np.array([0.0, 1.0, 0.0, 1.0, 1.0])
    model = fl.Sequential([fl.LSTM(3), fl.Dense(1)])
    model.compile("sgd", loss, metrics=["binary_accuracy"])
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "m")
    assert fl.load(tmp_path / "m").evaluate(x, y) == model.evaluate(x, y)


def test_a_loss_of_the_users_own_does_not_stop_a_save(rng, tmp_path):
    class Own(fl.losses.MSE):
        pass

    model = fl.Sequential([fl.LSTM(3), fl.Dense(1)])
    model.compile("sgd", Own())
    model.build(2)
    with pytest.warns(UserWarning, match=r"Own, which was made inside a function.*call compile again after loading"):
        model.save(tmp_path / "m")
    loaded = fl.load(tmp_path / "m")
    assert loaded.loss is None
    assert_bitwise_equal(loaded.state_dict()["lstm.weight_ih_l0"], model.state_dict()["lstm.weight_ih_l0"])


def test_loading_makes_no_start_values(tmp_path, request):
    model, ids = everything(), np.arange(10)[None]
    model.build()
    model.save(tmp_path / "m")
    request.getfixturevalue("no_orthogonal_start")
    assert_bitwise_equal(fl.load(tmp_path / "m").predict(ids), model.predict(ids))


def test_torch_takes_the_tensors_as_they_are(rng, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.numpy import load_file

    model = fl.Sequential(
        [fl.LSTM(7, return_sequences=True), fl.Bidirectional(fl.LSTM(4, return_sequences=True))], seed=0
    )
    model.build(3)
    model.save(tmp_path / "m")
    tensors = load_file(tmp_path / "m")
    x = rng.standard_normal((2, 6, 3)).astype(np.float32)
    y = torch.tensor(x)
    for name, module in (
        ("lstm", torch.nn.LSTM(3, 7, batch_first=True)),
        ("bidirectional", torch.nn.LSTM(7, 4, batch_first=True, bidirectional=True)),
    ):
        own = {k.removeprefix(f"{name}."): torch.tensor(v) for k, v in tensors.items() if k.startswith(f"{name}.")}
        module.load_state_dict(own, strict=True)
        y, _ = module(y)
    assert_outputs_close(model.predict(x), y.detach().numpy())


def test_layers_are_named_as_in_keras():
    assert [layer.name for layer in everything().layers] == [
        "embedding",
        "bidirectional",
        "dropout",
        "middle",
        "lstm",
        "global_max_pooling1d",
        "dense",
        "dense_1",
    ]


def test_state_dict_goes_into_another_model_and_only_whole(rng):
    one, other = everything(), everything()
    one.build()
    other.build()
    other.load_state_dict({name: value + 1 for name, value in one.state_dict().items()})
    for name, value in other.state_dict().items():
        assert_bitwise_equal(value, one.state_dict()[name] + 1)
    tensors = one.state_dict()
    tensors["gru.weight"] = np.zeros(1)
    with pytest.raises(fl.errors.ShapeError, match="gru"):
        other.load_state_dict(tensors)
    with pytest.raises(fl.errors.ShapeError, match="in number or shape"):
        other.set_weights(one.get_weights()[:-1])


def test_summary_counts_parameters(capsys):
    model = fl.Sequential([fl.Embedding(10, 4), fl.LSTM(3), fl.Dense(1)])
    assert "not built" in model.summary()
    model.build()
    text = model.summary()
    assert capsys.readouterr().out.endswith(text + "\n")
    lstm = 4 * 3 * 4 + 4 * 3 * 3 + 2 * 4 * 3
    for line, words in zip(
        text.splitlines()[2:],
        (
            ["embedding", "(N, T, 4)", "40"],
            ["lstm", "(N, 3)", str(lstm)],
            ["dense", "(N, 1)", "4"],
            [f"{40 + lstm + 4:,} parameters"],
        ),
        strict=True,
    ):
        for word in words:
            assert word in line


def test_calling_a_model_builds_it(rng):
    x = rng.standard_normal((2, 5, 3))
    model = fl.Sequential([fl.LSTM(3, return_sequences=True)], seed=0)
    y = model(x)
    assert_bitwise_equal(np.ascontiguousarray(model.predict(x)), np.ascontiguousarray(y))
    assert_bitwise_equal(model([x[0]])[0], np.ascontiguousarray(y[0]))


def test_rows_without_time(rng):
    x = rng.standard_normal((9, 4))
    model = fl.Sequential([fl.Dense(3, activation="tanh"), fl.Dense(1)], seed=0)
    model.compile(fl.optimizers.Adam(0.05), "mse")
    history = model.fit(x, x @ [1.0, -1.0, 0.5, 0.0], epochs=200, verbose=0).history
    assert history["loss"][-1] < 0.01 * history["loss"][0]
    assert model.predict(x).shape == (9, 1)
