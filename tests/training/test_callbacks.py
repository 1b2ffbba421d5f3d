"""Callbacks on scripted figures: what each does, when, and what it refuses; and all of them in one fit."""

import csv
import math

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import LogFileError, ModelFileError, OptionError
from fastlstm.training import callbacks, optimizers, schedules


class Model:
    """What callbacks see of a model, and a record of what they do to it."""

    def __init__(self):
        self.optimizer = optimizers.SGD(1.0)
        self.stop_training = False
        self.weights = [np.zeros(1)]
        self.saved = []

    def get_weights(self):
        return [value.copy() for value in self.weights]

    def set_weights(self, weights):
        self.weights = weights

    def save(self, path):
        self.saved.append(path)


def play(callback, figures, name="val_loss", batches=1):
    """Run a fit whose epochs end with these figures; the model's weight is the epoch's number. Return the model."""
    model = Model()
    params = {"epochs": len(figures), "initial_epoch": 0, "steps": batches, "samples": 8}
    calls = callbacks.CallbackList([callback], model, params)
    calls.on_train_begin()
    model.rates = []
    for epoch, figure in enumerate(figures):
        calls.on_epoch_begin(epoch)
        for batch in range(batches):
            calls.on_train_batch_begin(batch)
            model.rates.append(model.optimizer.learning_rate)
            calls.on_train_batch_end(batch, {"loss": 1.0})
        model.weights = [np.array([float(epoch)])]
        model.epochs = epoch + 1
        calls.on_epoch_end(epoch, {"loss": 1.0, name: figure})
        if model.stop_training:
            break
    calls.on_train_end()
    return model


@pytest.mark.parametrize(
    ("options", "name", "figures", "epochs"),
    [
        ({}, "val_loss", [3, 2, 2, 1], 3),
        ({"patience": 2}, "val_loss", [3, 2, 2, 1, 1, 1, 0], 6),
        ({"min_delta": 0.5}, "val_loss", [3, 2, 1.8, 0], 3),
        ({"monitor": "val_accuracy"}, "val_accuracy", [0.1, 0.2, 0.2, 0.9], 3),
        ({"monitor": "val_accuracy", "mode": "min"}, "val_accuracy", [0.1, 0.2, 0.3], 2),
        ({"monitor": "auc", "patience": 5}, "auc", [0.1, 0.2, 0.3], 3),
        ({"start_from_epoch": 2}, "val_loss", [1, 2, 3, 2, 2, 0], 5),
        ({}, "val_loss", [3, math.nan, 1], 2),
    ],
)
def test_early_stopping_stops_after_the_right_epoch(options, name, figures, epochs):
    assert play(callbacks.EarlyStopping(**options), figures, name).epochs == epochs


@pytest.mark.parametrize(("restore", "weight"), [(True, 1.0), (False, 4.0)])
def test_early_stopping_goes_back_to_the_best_weights_if_asked(restore, weight):
    stop = callbacks.EarlyStopping(patience=3, restore_best_weights=restore)
    model = play(stop, [3, 1, 2, 2, 2, 0])
    assert stop.stopped_epoch == 4
    assert model.weights[0] == weight


def test_a_callback_forgets_an_earlier_fit():
    stop = callbacks.EarlyStopping()
    assert play(stop, [1, 1, 1]).epochs == 2
    assert play(stop, [3, 2, 1]).epochs == 3


def test_checkpoints_are_named_after_epoch_and_figures():
    model = play(callbacks.ModelCheckpoint("m-{epoch:02d}-{val_loss:.1f}"), [3, 1, 2])
    assert model.saved == ["m-01-3.0", "m-02-1.0", "m-03-2.0"]
    assert play(callbacks.ModelCheckpoint("m", save_best_only=True), [3, 1, 2, 0.5]).saved == ["m"] * 3


def test_a_plateau_lowers_the_rate_and_the_cooldown_waits():
    lower = {"factor": 0.5, "patience": 2}
    rates = play(callbacks.ReduceLROnPlateau(**lower), [3, 3, 3, 3, 3, 3]).rates
    assert rates == [1, 1, 1, 0.5, 0.5, 0.25]
    rates = play(callbacks.ReduceLROnPlateau(**lower, cooldown=2), [3, 3, 3, 3, 3, 3, 3]).rates
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    assert play(callbacks.ReduceLROnPlateau(**lower, min_lr=0.4), [3] * 7).rates[-1] == 0.4
    assert play(callbacks.ReduceLROnPlateau(**lower), [6, 5, 4, 3, 2, 1]).rates == [1] * 6


def test_a_schedule_moves_the_rate_by_batch_and_gives_it_back():
    model = play(callbacks.LearningRateScheduler(schedules.linear()), [1, 1], batches=4)
    assert model.rates == pytest.approx([1 - k / 8 for k in range(8)])
    assert model.optimizer.learning_rate == 1.0


def test_the_csv_file_holds_every_epoch_and_goes_on_if_asked(tmp_path):
    path = tmp_path / "log.csv"
    play(callbacks.CSVLogger(path), [9])
    play(callbacks.CSVLogger(path), [3, 0.1])
    play(callbacks.CSVLogger(path, append=True), [2])
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "0"]
    assert [float(row["val_loss"]) for row in rows] == [3, 0.1, 2]
    assert [float(row["loss"]) for row in rows] == [1, 1, 1]


def test_csv_lines_are_there_as_soon_as_the_epoch_ends(tmp_path):
    logger = callbacks.CSVLogger(tmp_path / "log.csv", separator=";")
    logger.on_train_begin()
    logger.on_epoch_end(0, {"loss": 0.5})
    assert (tmp_path / "log.csv").read_text().split() == ["epoch;loss", "0;0.5"]


def test_history_records_what_the_other_callbacks_add():
    x = np.random.default_rng(0).standard_normal((16, 3, 2))
    model = fl.Sequential([fl.LSTM(2), fl.Dense(1)], seed=0)
    model.compile("sgd", "mse")
    history = model.fit(x, x[:, 0, 0], epochs=3, verbose=0, callbacks=[callbacks.ReduceLROnPlateau(monitor="loss")])
    assert history.epoch == [0, 1, 2]
    assert history.history["learning_rate"] == [0.01] * 3
    assert len(history.history["loss"]) == 3


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: callbacks.EarlyStopping(mode="up"), "mode='up'"),
        (lambda: callbacks.EarlyStopping(monitor=None), "monitor=None; expected the name of a figure"),
        (lambda: callbacks.EarlyStopping(patience=1.5), "patience is 1.5; expected a whole number"),
        (lambda: callbacks.ReduceLROnPlateau(patience="x"), "patience is 'x'"),
        (lambda: callbacks.ReduceLROnPlateau(cooldown=-1), "cooldown is -1"),
        (lambda: callbacks.ReduceLROnPlateau(factor="x"), "factor='x'"),
        (lambda: callbacks.LearningRateScheduler(0.1), "schedule=0.1"),
        (lambda: callbacks.ModelCheckpoint(None), "filepath is None; expected the path of a file"),
        (lambda: callbacks.ModelCheckpoint(b"m"), "filepath is b'm'"),
        (lambda: callbacks.CSVLogger(None), "filename is None"),
        (lambda: callbacks.CSVLogger(""), "filename is ''"),
        (lambda: callbacks.CSVLogger("log.csv", separator=", "), "separator=', '; expected one character"),
        (lambda: callbacks.CSVLogger("log.csv", separator=None), "separator=None"),
        (lambda: play(callbacks.ModelCheckpoint("m-{loss.a}"), [1]), "there is epoch, loss, val_loss"),
        (lambda: callbacks.ReduceLROnPlateau(factor=1.0), "factor=1.0"),
        (lambda: play(callbacks.EarlyStopping("val_acc"), [1]), "'val_acc' is not among loss, val_loss"),
        (lambda: play(callbacks.ModelCheckpoint("m-{auc}"), [1]), "asks for 'auc'; there is epoch, loss, val_loss"),
        (lambda: play(object(), [1]), "expected instances of Callback"),
    ],
)
def test_mistakes(make, words):
    with pytest.raises(OptionError, match=words):
        make()


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: callbacks.CSVLogger(path), LogFileError),
        (lambda path: callbacks.ModelCheckpoint(path), ModelFileError),
    ],
    ids=["CSVLogger", "ModelCheckpoint"],
)
def test_a_missing_folder_is_told_before_the_first_epoch(tmp_path, make, error):
    path = tmp_path / "no" / "file"
    with pytest.raises(error, match=r"its folder is missing; make it first") as told:
        make(path).on_train_begin()
    assert isinstance(told.value, OSError)
    assert str(told.value).count(str(path)) == 1
    assert not path.parent.exists()
    path.parent.mkdir()
    make(path).on_train_begin()


def test_a_folder_that_is_named_after_the_epoch_is_not_looked_for(tmp_path):
    callbacks.ModelCheckpoint(tmp_path / "{epoch}" / "m").on_train_begin()


def test_a_log_that_cannot_be_written(tmp_path):
    with pytest.raises(LogFileError, match=f"CSVLogger: cannot write {tmp_path}: Is a directory; choose"):
        callbacks.CSVLogger(tmp_path).on_train_begin()
    (tmp_path / "gone").mkdir()
    logger = callbacks.CSVLogger(tmp_path / "gone" / "log.csv")
    logger.on_train_begin()
    (tmp_path / "gone" / "log.csv").unlink()
    (tmp_path / "gone").rmdir()
    with pytest.raises(LogFileError, match="its folder is missing"):
        logger.on_epoch_end(0, {"loss": 1.0})


def test_a_log_to_go_on_with_that_is_none(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"\xff\xfe\x00epoch")
    before = path.read_bytes()
    with pytest.raises(LogFileError, match=r"log\.csv is no CSV file.*append=False"):
        callbacks.CSVLogger(path, append=True).on_train_begin()
    assert path.read_bytes() == before
