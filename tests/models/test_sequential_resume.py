"""Training that goes on from a file: the same steps as if it had never stopped, bit for bit."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import ModelFileError, NotBuiltError, OptionError
from fastlstm.training.checkpoint import load_file, save_file
from tests.tolerances import assert_bitwise_equal

OPTIMIZERS = {
    "sgd": lambda: fl.optimizers.SGD(0.1),
    "momentum": lambda: fl.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda: fl.optimizers.RMSprop(0.01),
    "rmsprop with momentum": lambda: fl.optimizers.RMSprop(0.01, momentum=0.5),
    "adam": lambda: fl.optimizers.Adam(0.01, clipnorm=0.5),
    "adamw": lambda: fl.optimizers.AdamW(0.01),
}


@pytest.fixture
def data(rng):
    x = rng.standard_normal((22, 5, 3))
    return x, (x[:, 0, 0] > 0).astype(int)


def make(optimizer="adam", dtype="float32", name=None):
    """Return a model that draws at every turn: dropout within and between the layers."""
    layers = [
        fl.Bidirectional(fl.LSTM(3, return_sequences=True, recurrent_dropout=0.2, dtype=dtype)),
        fl.Dropout(0.3, dtype=dtype),
        fl.LSTM(4, dtype=dtype, name=name),
        fl.Dense(1, activation="sigmoid", dtype=dtype),
    ]
    model = fl.Sequential(layers, seed=3)
    model.compile(OPTIMIZERS[optimizer](), "binary_crossentropy", ["accuracy"])
    return model


def fit(model, data, first, last, **options):
    return model.fit(*data, batch_size=6, initial_epoch=first, epochs=last, verbose=0, **options).history


def assert_same_weights(one, other):
    for value, expected in zip(one.get_weights(), other.get_weights(), strict=True):
        assert_bitwise_equal(value, expected)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_fit_goes_on_from_a_file_as_if_it_had_never_stopped(data, tmp_path, optimizer):
    whole, first = make(optimizer), make(optimizer)
    losses = fit(whole, data, 0, 5)
    before = fit(first, data, 0, 2)
    first.save(tmp_path / "m", optimizer=True)
    resumed = fl.load(tmp_path / "m")
    after = fit(resumed, data, 2, 5)
    assert {name: before[name] + after[name] for name in before} == losses
    assert_same_weights(resumed, whole)
    assert resumed.optimizer.steps == whole.optimizer.steps == 5 * 4


@pytest.mark.parametrize("optimizer", sorted(set(OPTIMIZERS) - {"sgd"}))
def test_without_the_optimizers_memory_the_steps_are_others(data, tmp_path, optimizer):
    """Else the test above would show nothing."""
    whole, first = make(optimizer), make(optimizer)
    fit(whole, data, 0, 2)
    fit(first, data, 0, 1)
    first.save(tmp_path / "m")
    cold = fl.load(tmp_path / "m")
    cold.rng = first.rng
    fit(cold, data, 1, 2)
    assert cold.optimizer.steps == 4
    assert not np.array_equal(cold.get_weights()[0], whole.get_weights()[0])


def test_two_fits_in_one_process_are_one():
    """Shuffled: the second draws the order that the first would have drawn next."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((22, 5, 3))
    data = x, (x[:, 0, 0] > 0).astype(int)
    whole, parts = make(), make()
    losses = fit(whole, data, 0, 3)["loss"]
    assert [loss for n in range(3) for loss in fit(parts, data, n, n + 1)["loss"]] == losses
    assert_same_weights(parts, whole)


def test_each_epochs_checkpoint_can_be_gone_on_from(data, tmp_path):
    whole = make(dtype="float64")
    keep = fl.callbacks.ModelCheckpoint(tmp_path / "m-{epoch}", save_optimizer=True)
    losses = fit(whole, data, 0, 3, callbacks=[keep])["loss"]
    for done in (1, 2):
        resumed = fl.load(tmp_path / f"m-{done}")
        assert fit(resumed, data, done, 3)["loss"] == losses[done:]
        assert_same_weights(resumed, whole)


def test_a_lowered_learning_rate_comes_back(data, tmp_path):
    model = make()
    fit(model, data, 0, 1)
    model.optimizer.learning_rate /= 3
    model.save(tmp_path / "m", optimizer=True)
    assert fl.load(tmp_path / "m").optimizer.learning_rate == model.optimizer.learning_rate


def test_before_the_first_step_there_is_only_a_count(data, tmp_path):
    model, other = make(), make()
    for each in (model, other):
        each.build(3)
    model.save(tmp_path / "m", optimizer=True)
    assert [name for name in load_file(tmp_path / "m")[0] if name.startswith("optimizer")] == ["optimizer.steps"]
    assert fit(fl.load(tmp_path / "m"), data, 0, 2) == fit(other, data, 0, 2)


def test_tensors_are_named_after_their_parameters(data, tmp_path):
    model = make(name="middle")
    fit(model, data, 0, 1)
    model.save(tmp_path / "m", optimizer=True)
    tensors, _ = load_file(tmp_path / "m")
    for name, value in model.state_dict().items():
        assert_bitwise_equal(tensors[name], value)
        for slot in ("mean", "square"):
            assert tensors[f"optimizer.{slot}.{name}"].shape == value.shape
    assert tensors["optimizer.steps"] == 4
    assert len(tensors) == 3 * len(model.state_dict()) + 1


def test_a_layer_may_be_called_optimizer(data, tmp_path):
    model = make(name="optimizer")
    fit(model, data, 0, 1)
    model.save(tmp_path / "m", optimizer=True)
    assert_same_weights(fl.load(tmp_path / "m"), model)
    clash = fl.Sequential([fl.Dense(4, name="optimizer.mean.dense"), fl.Dense(1, name="dense")])
    clash.compile("adam", "mse")
    clash.build(3, steps=False)
    with pytest.raises(OptionError, match=r"needs the name optimizer\.mean\.dense\.bias.*rename"):
        clash.save(tmp_path / "clash", optimizer=True)


def test_files_without_the_state_load_as_before(data, tmp_path):
    """The description of such a file has not changed: what an earlier version wrote is this."""
    model = make()
    fit(model, data, 0, 1)
    model.save(tmp_path / "m")
    tensors, config = load_file(tmp_path / "m")
    assert tensors.keys() == model.state_dict().keys()
    assert config.keys() == {"model", "layers", "compiled"}
    loaded = fl.load(tmp_path / "m")
    assert loaded.optimizer.steps == 0
    assert_same_weights(loaded, model)


def test_what_cannot_be_kept(data, tmp_path):
    class Own(fl.losses.MSE):
        pass

    model = fl.Sequential([fl.LSTM(3), fl.Dense(1)])
    model.build(3)
    with pytest.raises(NotBuiltError, match="optimizer=True: the model is not compiled"):
        model.save(tmp_path / "m", optimizer=True)
    model.compile("adam", Own())
    with pytest.warns(UserWarning, match="Own"), pytest.raises(OptionError, match="class of your own"):
        model.save(tmp_path / "m", optimizer=True)
    model.compile("adam", "mse")
    model.rng = np.random.Generator(np.random.MT19937(0))
    with pytest.raises(OptionError, match=r"MT19937, expected PCG64.*default_rng"):
        model.save(tmp_path / "m", optimizer=True)
    assert not [*tmp_path.iterdir()]


def test_an_optimizer_that_moved_another_model(data, tmp_path):
    used = make()
    fit(used, data, 0, 1)
    for more in (0, 20):  # parameters: fewer than the optimizer knows, and more
        model = fl.Sequential([fl.Dense(1) for _ in range(1 + more)])
        model.compile(used.optimizer, "mse")
        model.build(3)
        with pytest.raises(OptionError, match="Adam was used with another model"):
            model.save(tmp_path / "m", optimizer=True)


def test_the_state_of_another_optimizer(data, tmp_path):
    model = make("adam")
    fit(model, data, 0, 1)
    model.save(tmp_path / "m", optimizer=True)
    tensors, config = load_file(tmp_path / "m")
    config["compiled"]["optimizer"] = ["rmsprop", {}]
    save_file(tmp_path / "m", tensors, config)
    with pytest.raises(ModelFileError, match=r"m is not a Sequential.*optimizer\.mean\.lstm"):
        fl.load(tmp_path / "m")
