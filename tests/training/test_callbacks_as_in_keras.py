"""Callbacks where Keras's semantics are subtle: counts, thresholds, cooldown, names of files; and in real fits."""

import csv
import math

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import OptionError
from fastlstm.training.callbacks import Callback, CSVLogger, EarlyStopping, ModelCheckpoint, ReduceLROnPlateau
from tests.tolerances import assert_bitwise_equal


class Player:
    """Stands in for a model: its one weight is the number of the epoch, and saving writes that down."""

    def __init__(self):
        self.optimizer = fl.optimizers.SGD(1.0)
        self.stop_training = False
        self.weight = None
        self.saved = {}

    def get_weights(self):
        return [self.weight]

    def set_weights(self, weights):
        [self.weight] = weights

    def save(self, path):
        self.saved[path] = self.weight


def play(callback, values, name="val_loss"):
    """Run through epochs in which the figure `name` takes `values`; return the model as it is at the end."""
    callback.model = model = Player()
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        model.weight = epoch
        callback.on_epoch_end(epoch, {"loss": 9.0, name: value})
        if model.stop_training:
            break
    model.last_epoch = epoch
    callback.on_train_end()
    return model


def fit(callbacks, epochs=3, **options):
    rng = np.random.default_rng(0)
    model = fl.Sequential([fl.Dense(1)], seed=0)
    model.compile(fl.optimizers.SGD(0.01), "mse", ["mae"])
    x = rng.standard_normal((12, 3))
    history = model.fit(x, x.sum(axis=1), epochs=epochs, verbose=0, batch_size=4, callbacks=callbacks, **options)
    return model, history.history


@pytest.mark.parametrize(
    ("options", "values", "last"),
    [
        ({"patience": 2}, [5, 4, 4, 3, 3, 3], 5),  # an improvement starts the count again
        ({"patience": 1}, [5, 4, 4, 1], 2),
        ({"patience": 1, "min_delta": 0.5}, [5, 4.6, 4.4, 4.1], 1),  # measured from the best, not from the last
        ({"patience": 2, "min_delta": 0.5}, [5, 4.6, 4.4, 4.1], 3),
        ({"patience": 1, "min_delta": -0.5}, [5, 4.6, 4.4], 1),  # only its size counts
        ({"patience": 1, "mode": "max"}, [1, 2, 3, 2, 9], 3),
        ({"patience": 2}, [5, math.nan, math.nan, 1], 2),
    ],
)
def test_early_stopping_counts_from_the_best(options, values, last):
    callback = EarlyStopping(**options)
    model = play(callback, values)
    assert model.last_epoch == last
    assert callback.stopped_epoch == (last if model.stop_training else 0)


def test_early_stopping_restores_also_when_it_did_not_stop_and_forgets_all_of_it():
    callback = EarlyStopping(patience=2, restore_best_weights=True)
    assert play(callback, [5, 3, 4]).weight == 1
    assert play(callback, [1, 0, 2, 2]).last_epoch == callback.stopped_epoch == 3
    assert play(callback, [9, 8, 7]).weight == 2
    assert callback.stopped_epoch == 0


def test_early_stopping_in_a_fit_restores_bit_for_bit():
    class Worse(Callback):
        """Keeps the weights of the first epoch and makes the figures of the others look worse."""

        def on_epoch_end(self, epoch, logs):
            logs["loss"] += epoch
            if epoch == 0:
                self.first = self.model.get_weights()

    worse = Worse()
    model, history = fit([worse, EarlyStopping("loss", patience=2, restore_best_weights=True)], epochs=9)
    assert len(history["loss"]) == 3
    for weight, expected in zip(model.get_weights(), worse.first, strict=True):
        assert_bitwise_equal(weight, expected)


def test_checkpoint_saves_only_what_is_better():
    best = {"save_best_only": True}
    assert [*play(ModelCheckpoint("{epoch}", **best), [3, 4, 2, math.nan, 2, 1]).saved.values()] == [0, 2, 5]
    rising = ModelCheckpoint("{epoch}", "val_accuracy", **best)
    assert [*play(rising, [0.5, 0.4, 0.6], "val_accuracy").saved.values()] == [0, 2]


def test_checkpoint_in_a_fit_writes_models_that_load(tmp_path):
    model, history = fit([ModelCheckpoint(tmp_path / "{epoch}-{loss:.3f}.safetensors", "loss")])
    names = {f"{epoch + 1}-{loss:.3f}.safetensors" for epoch, loss in enumerate(history["loss"])}
    assert {path.name for path in tmp_path.iterdir()} == names
    last = fl.load(next(tmp_path.glob("3-*")))
    assert_bitwise_equal(last.get_weights()[0], model.get_weights()[0])


@pytest.mark.parametrize("name", ["{val_f1}", "{0}", "{loss:d}", "{loss", "{epoch:.2q}"])
def test_checkpoint_with_a_name_that_cannot_be_filled_in(name):
    with pytest.raises(OptionError, match=r"ModelCheckpoint.*there is epoch, loss, val_loss"):
        play(ModelCheckpoint(name), [1.0])


def rates(values, start=1.0, **options):
    """Return the learning rate after each epoch."""
    callback = ReduceLROnPlateau(**({"factor": 0.5, "patience": 1} | options))
    callback.model = model = Player()
    model.optimizer.learning_rate = start
    callback.on_train_begin()
    seen = []
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {"val_loss": value})
        seen.append(model.optimizer.learning_rate)
    return seen


def test_plateau_needs_a_change_of_min_delta():
    assert rates([1.0, 0.99995, 0.9999]) == [1, 0.5, 0.25]
    assert rates([1.0, 0.99, 0.98]) == [1, 1, 1]
    assert rates([1.0, 0.99, 0.98], min_delta=0.1) == [1, 0.5, 0.25]


def test_plateau_counts_nothing_while_it_cools_down():
    """In Keras the epoch that ends the cooldown is counted already."""
    assert rates([1] * 8, cooldown=3) == [1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]


def test_plateau_never_goes_below_min_lr_and_never_raises_the_rate():
    assert rates([1] * 5, min_lr=0.3) == [1, 0.5, 0.3, 0.3, 0.3]
    assert rates([1] * 3, start=0.1, min_lr=0.3) == [0.1, 0.1, 0.1]


def test_plateau_notes_the_rate_that_each_epoch_was_trained_with():
    class Rates(Callback):
        def __init__(self):
            self.seen = []

        def on_epoch_begin(self, epoch):
            self.seen.append(self.model.optimizer.learning_rate)

    seen = Rates()
    _, history = fit([seen, ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=100.0)], epochs=4)
    assert history["learning_rate"] == seen.seen == [0.01, 0.01, 0.01 / 2, 0.01 / 4]


def read(path, separator=","):
    with path.open(newline="", encoding="utf-8") as file:
        return [*csv.reader(file, delimiter=separator)]


def test_csv_holds_every_epoch_of_a_fit_to_the_last_digit(tmp_path):
    _, history = fit([CSVLogger(tmp_path / "log.csv")], validation_split=0.25)
    head, *lines = read(tmp_path / "log.csv")
    assert head == ["epoch", *sorted(history)]
    assert [int(line[0]) for line in lines] == [0, 1, 2]
    for epoch, line in enumerate(lines):
        assert [float(value) for value in line[1:]] == [history[name][epoch] for name in head[1:]]


def test_csv_appends_under_the_columns_that_are_there(tmp_path):
    path = tmp_path / "log.csv"
    fit([CSVLogger(path, separator=";", append=True)], epochs=1, validation_split=0.25)  # nothing is there yet
    fit([CSVLogger(path, separator=";", append=True)], epochs=1)
    head, _, line = read(path, ";")
    assert head == ["epoch", "loss", "mae", "val_loss", "val_mae"]
    assert line[3:] == ["", ""]


def test_hooks_come_in_order_and_know_the_fit():
    class Note(Callback):
        def __init__(self):
            self.calls = []

    def noting(name):
        return lambda self, *arguments: self.calls.append((name, *arguments[:1]))

    for name in ("train_begin", "train_end", "epoch_begin", "epoch_end", "train_batch_begin", "train_batch_end"):
        setattr(Note, f"on_{name}", noting(name))
    note = Note()
    fit([note], epochs=4, initial_epoch=2)
    batches = [(f"train_batch_{when}", batch) for batch in range(3) for when in ("begin", "end")]
    epochs = [[("epoch_begin", epoch), *batches, ("epoch_end", epoch)] for epoch in (2, 3)]
    assert note.calls == [("train_begin",), *epochs[0], *epochs[1], ("train_end",)]
    assert dict(note.params) == {"epochs": 4, "initial_epoch": 2, "steps": 3, "samples": 12}


def test_a_fit_after_one_that_was_stopped_runs():
    class Stop(Callback):
        def on_epoch_end(self, epoch, logs):
            self.model.stop_training = epoch == 1

    model, history = fit([Stop()], epochs=5)
    assert len(history["loss"]) == 2
    assert len(model.fit(np.ones((3, 3)), np.ones(3), epochs=2, verbose=0).epoch) == 2
