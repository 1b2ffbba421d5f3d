"""Layers, losses, metrics and optimizers of the user's own in model files: registered, passed, or refused in time."""

import warnings

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import ModelFileError, OptionError
from fastlstm.layers import registry
from tests.tolerances import assert_bitwise_equal


class Scale(fl.Layer):
    """``x * (gain + shift)``, one gain a feature; not registered."""

    takes_samples = True

    def __init__(self, shift=0.0, *, name=None, dtype="float32"):
        super().__init__(name=name, dtype=dtype)
        self.shift = shift

    def config(self):
        return super().config() | {"shift": self.shift}

    def create(self, features, rng):
        return {"gain": np.ones(features)}

    def _factor(self):
        return self.params["gain"] + self.dtype.type(self.shift)

    def forward(self, x, context):
        return x.with_rows(x.rows * self._factor()), x.rows

    def backward(self, dy, cache, context):
        return dy * self._factor(), {"gain": (dy * cache).sum(axis=0)}


@fl.register("tests")
class Registered(Scale):
    """The same, registered."""


@fl.register
class Bare(fl.Layer):
    """Without a constructor of its own, or anything else."""

    def forward(self, x, context):
        return x.with_rows(-x.rows), None

    def backward(self, dy, cache, context):
        return -dy, {}


@fl.register("tests")
class Plain(Bare):
    """Its constructor takes neither name nor dtype."""

    def __init__(self):
        super().__init__()


class Squared(fl.Loss):
    def __init__(self, factor=1.0):
        self.factor = factor

    def config(self):
        return {"factor": self.factor}

    def rows(self, output, target):
        return self.factor * ((output - target) ** 2).mean(axis=1)

    def gradient_rows(self, output, target):
        return self.factor * 2 * (output - target) / output.shape[1]


class Within(fl.Metric):
    """Share of rows whose outputs are near."""

    def __init__(self, reach=1.0):
        super().__init__()
        self.reach = reach

    def config(self):
        return {"reach": self.reach}

    def rows(self, output, target):
        return (np.abs(output - target) < self.reach).all(axis=1)


class Halving(fl.optimizers.SGD):
    """Steps half as long."""

    def _step(self, param, grad, scale, state):
        super()._step(param, grad, 0.5 * scale, state)


REGISTERED = {cls: type(cls.__name__, (cls,), {}) for cls in (Squared, Within, Halving)}
for one in REGISTERED.values():
    fl.register("tests")(one)


@pytest.fixture
def data(rng):
    return rng.standard_normal((12, 4, 3)), rng.standard_normal((12, 2))


def trained(data, layer, loss="mse", metrics=(), optimizer="adam"):
    model = fl.Sequential([fl.LSTM(5, return_sequences=True), layer, fl.LastStep(), fl.Dense(2)], seed=0)
    model.compile(optimizer, loss, metrics=metrics)
    model.fit(*data, epochs=2, batch_size=4, verbose=0)
    return model


def assert_same_model(loaded, model, data):
    assert_bitwise_equal(loaded.predict(data[0]), model.predict(data[0]))
    assert loaded.evaluate(*data, return_dict=True) == model.evaluate(*data, return_dict=True)
    assert loaded.layers[1].config() == model.layers[1].config()


def test_registered_classes_are_saved_and_loaded_in_silence(data, tmp_path):
    loss, metric, optimizer = REGISTERED.values()
    model = trained(data, Registered(0.25), loss(2.0), [metric(0.3), "mae"], optimizer(0.01))
    model.save(tmp_path / "m", optimizer=True)
    loaded = fl.load(tmp_path / "m")
    assert type(loaded.layers[1]) is Registered
    assert (type(loaded.loss), loaded.loss.factor) == (loss, 2.0)
    assert type(loaded.optimizer) is optimizer
    assert (type(loaded.metrics[0]), loaded.metrics[0].reach) == (metric, 0.3)
    assert_same_model(loaded, model, data)
    more = [one.fit(*data, epochs=3, initial_epoch=2, verbose=0).history for one in (model, loaded)]
    assert more[0] == more[1]


def test_others_are_saved_with_a_warning_and_loaded_through_custom_objects(data, tmp_path):
    model = trained(data, Scale(0.25), Squared(2.0), [Within(0.3)], Halving(0.01))
    with pytest.warns(UserWarning, match="your own and not registered") as warned:
        model.save(tmp_path / "m")
    assert len(warned) == 4
    assert {one.filename for one in warned} == {__file__}
    assert any("custom_objects={'Scale': Scale}), or put @fastlstm.register above" in str(w.message) for w in warned)
    classes = {cls.__name__: cls for cls in (Scale, Squared, Within, Halving)}
    loaded = fl.load(tmp_path / "m", custom_objects=classes)
    assert type(loaded.optimizer) is Halving
    assert_same_model(loaded, model, data)
    with pytest.raises(ModelFileError, match=r"layer of kind 'tests[\w.]*:Scale'.*custom_objects=\{'Scale': Scale\}"):
        fl.load(tmp_path / "m")
    with pytest.raises(ModelFileError, match=r"optimizer of kind 'tests.*:Halving'.*compile=False"):
        fl.load(tmp_path / "m", {"Scale": Scale})
    plain = fl.load(tmp_path / "m", {"Scale": Scale}, compile=False)
    assert plain.loss is None
    assert_bitwise_equal(plain.predict(data[0]), model.predict(data[0]))


def test_loading_without_compiling_leaves_the_optimizers_state(data, tmp_path):
    model = trained(data, Registered(), "mse")
    model.save(tmp_path / "m", optimizer=True)
    plain = fl.load(tmp_path / "m", compile=False)
    assert plain.optimizer is None
    assert_bitwise_equal(plain.predict(data[0]), model.predict(data[0]))


@pytest.mark.parametrize("layer", [Bare(name="minus"), Bare(), Plain()])
def test_layers_that_define_next_to_nothing(layer, data, tmp_path):
    model = trained(data, layer)
    model.save(tmp_path / "m")
    loaded = fl.load(tmp_path / "m")
    assert loaded.layers[1].name == model.layers[1].name
    assert_same_model(loaded, model, data)


def test_the_dtype_of_a_layer_whose_constructor_does_not_take_it(rng, tmp_path):
    layer = Plain()
    layer.dtype = np.dtype(np.float64)
    model = fl.Sequential([fl.LSTM(3, dtype="float64", return_sequences=True), layer, fl.Dense(1, dtype="float64")])
    x = rng.standard_normal((2, 3, 4))
    expected = model(x)
    model.save(tmp_path / "m")
    assert_bitwise_equal(fl.load(tmp_path / "m").predict(x), expected)


def test_a_class_of_a_function_is_refused_before_anything_is_written(data, tmp_path):
    class Local(Scale):
        pass

    model = trained(data, Local())
    with pytest.raises(OptionError, match=r"layer is of class .*<locals>\.Local.*top of a module.*@fastlstm\.register"):
        model.save(tmp_path / "m")
    assert not [*tmp_path.iterdir()]
    fl.register("tests")(Local)
    model.save(tmp_path / "m")
    assert_same_model(fl.load(tmp_path / "m"), model, data)


def test_a_class_that_bears_the_name_of_one_of_ours_is_not_taken_for_it(data, tmp_path):
    dense = type("Dense", (Scale,), {"__module__": __name__})
    model = trained(data, dense(0.5))
    with pytest.warns(UserWarning, match="your own"):
        model.save(tmp_path / "m")
    loaded = fl.load(tmp_path / "m", {"Dense": dense})
    assert type(loaded.layers[1]) is dense
    assert type(loaded.layers[3]) is fl.Dense
    assert_same_model(loaded, model, data)


@fl.register("tests")
class Wide(fl.GRU):
    """A recurrent layer of the user's own, for a layer that holds others."""


def test_a_layer_within_another(rng, tmp_path):
    model = fl.Sequential([fl.Bidirectional(Wide(3), backward_layer=fl.LSTM(3, go_backwards=True)), fl.Dense(1)])
    x = rng.standard_normal((2, 4, 3)).astype(np.float32)
    expected = model(x)
    model.save(tmp_path / "m")
    loaded = fl.load(tmp_path / "m")
    assert [type(layer) for layer in loaded.layers[0].directions] == [Wide, fl.LSTM]
    assert_bitwise_equal(loaded.predict(x), expected)


# --- what cannot be made again says so when it is saved ----------------------------------------------------------


@fl.register("tests")
class Lacking(Scale):
    def config(self):
        return {"name": self.name, "dtype": self.dtype.name}


@fl.register("tests")
class Surplus(Scale):
    def config(self):
        return super().config() | {"colour": "red"}


@fl.register("tests")
class Unwritable(Scale):
    def config(self):
        return super().config() | {"shift": np.ones(2)}


@fl.register("tests")
class NoDict(Scale):
    def config(self):
        return [1.0]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Lacking, r"Lacking\.config\(\) lacks shift.*super\(\)\.config\(\) \| \{'shift': self\.shift\}"),
        (Surplus, r"Surplus\.config\(\) has colour, which its constructor does not take"),
        (Unwritable, r"Unwritable\.config\(\) returned what JSON cannot hold"),
        (NoDict, r"NoDict\.config\(\) returned list; expected a dict"),
    ],
)
def test_a_config_that_makes_no_such_layer(kind, words, data, tmp_path):
    model = trained(data, kind())
    with pytest.raises(OptionError, match=words):
        model.save(tmp_path / "m")
    assert not [*tmp_path.iterdir()]


def test_a_loss_whose_config_lacks_something_costs_the_compilation_and_not_the_weights(data, tmp_path):
    class Silent(Squared):
        def config(self):
            return {}

    fl.register("tests")(Silent)
    model = trained(data, Registered(), Silent())
    with pytest.warns(UserWarning, match=r"Silent\.config\(\) lacks factor.*call compile again"):
        model.save(tmp_path / "m")
    loaded = fl.load(tmp_path / "m")
    assert loaded.loss is None
    assert_bitwise_equal(loaded.predict(data[0]), model.predict(data[0]))


# --- the registry -------------------------------------------------------------------------------------------------


def test_names_and_packages():
    assert registry.registered_name(Registered) == "tests>Registered"
    assert registry.registered_name(Bare) == "Custom>Bare"
    assert registry.registered_name(Scale) is None
    assert registry.find("tests>Registered", fl.Layer) is Registered
    assert registry.find("tests>Nothing", fl.Layer) is None
    renamed = fl.register("tests", name="Other")(type("Some", (Scale,), {}))
    assert registry.registered_name(renamed) == "tests>Other"


def test_a_subclass_of_a_registered_class_is_not_registered():
    assert registry.registered_name(type("Sub", (Registered,), {})) is None


def test_the_same_class_may_be_registered_again_but_no_other_under_its_name():
    def define():
        @fl.register("again")
        class Notebook(Scale):
            pass

        return Notebook

    first, second = define(), define()
    assert first is not second
    assert registry.find("again>Notebook", fl.Layer) is second
    with pytest.raises(OptionError, match=r"Notebook is registered as 'again>Notebook' already.*another package"):
        fl.register("again", name="Notebook")(Scale)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fl.register("a>b"), "package='a>b'"),
        (lambda: fl.register("a")(lambda x: x), "is no class"),
        (lambda: registry.custom_objects([Scale]).__enter__(), "custom_objects is list; expected a dict"),
        (lambda: registry.custom_objects({"Scale": Scale()}).__enter__(), "maps 'Scale' to"),
    ],
)
def test_bad_requests(call, words):
    with pytest.raises(OptionError, match=words):
        call()


def test_a_class_of_the_wrong_kind(data, tmp_path):
    model = trained(data, Scale())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(tmp_path / "m")
    with pytest.raises((OptionError, ModelFileError), match="no Layer; pass the class that was saved"):
        fl.load(tmp_path / "m", {"Scale": Squared})


def test_classes_passed_to_one_load_are_not_there_for_the_next(data, tmp_path):
    model = trained(data, Scale())
    with pytest.warns(UserWarning, match="Scale"):
        model.save(tmp_path / "m")
    fl.load(tmp_path / "m", {"Scale": Scale})
    with pytest.raises(ModelFileError, match="Scale"):
        fl.load(tmp_path / "m")


def test_a_graph_holds_them_too(rng, tmp_path):
    """Both outputs have a loss of the user's own; a class as such stands for an object of it."""
    loss, metric, _ = REGISTERED.values()
    x = fl.Input((4, 3))
    h = Registered(0.5)(fl.LSTM(5, return_sequences=True)(x))
    model = fl.Model(x, [fl.Dense(2, name="steps")(h), fl.Dense(1, name="last")(fl.LastStep()(h))])
    model.compile("adam", loss, metrics={"steps": [metric(0.4)], "last": ["mse"]}, loss_weights=[1.0, 0.5])
    data, targets = rng.standard_normal((6, 4, 3)), [rng.standard_normal((6, 4, 2)), rng.standard_normal((6, 1))]
    model.fit(data, targets, epochs=2, verbose=0)
    model.save(tmp_path / "m")
    loaded = fl.load(tmp_path / "m")
    assert [type(one) for one in loaded.loss.values()] == [loss, loss]
    assert loaded.evaluate(data, targets, return_dict=True) == model.evaluate(data, targets, return_dict=True)
    assert type(fl.Model.load(tmp_path / "m").layers[1]) is Registered
