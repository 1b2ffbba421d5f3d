"""Progress: silent, plain lines, or a bar, by `verbose` and by what the output is."""

import io
import re
import sys

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.training.progress import Progress, figures


class Terminal(io.StringIO):
    def isatty(self):
        return True


def fit(monkeypatch, stream, verbose, epochs=2, **options):
    monkeypatch.setattr(sys, "stderr", stream)
    x = np.random.default_rng(0).standard_normal((10, 3, 2))
    model = fl.Sequential([fl.LSTM(2), fl.Dense(1, activation="sigmoid")], seed=0)
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    model.fit(x, x[:, 0, 0] > 0, epochs=epochs, batch_size=4, verbose=verbose, **options)
    return stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_zero_is_silent(monkeypatch, capsys, stream):
    assert fit(monkeypatch, stream(), 0) == ""
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("stream", "verbose"), [(io.StringIO, "auto"), (io.StringIO, 1), (io.StringIO, 2), (Terminal, 2)]
)
def test_plain_lines(monkeypatch, stream, verbose):
    lines = fit(monkeypatch, stream(), verbose, validation_split=0.2).splitlines()
    number = r"[\d.e+-]+"
    for epoch, line in enumerate(lines, start=1):
        names = "".join(rf"{name} {number}  " for name in ("loss", "accuracy", "val_loss", "val_accuracy"))
        assert re.fullmatch(rf"epoch {epoch}/2  {names}[\d,]+ sequences/s", line), line
    assert len(lines) == 2


def test_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    text = fit(monkeypatch, Terminal(), "auto")
    assert "epoch 1/2" in text
    assert "epoch 2/2" in text
    assert "loss" in text
    assert "sequences/s" in text
    assert "\x1b[" in text  # it moves


def test_the_terminal_is_given_back_after_an_error(monkeypatch):
    class Fail(fl.callbacks.Callback):
        def on_train_batch_end(self, batch, logs):
            raise ZeroDivisionError

    stream = Terminal()
    with pytest.raises(ZeroDivisionError):
        fit(monkeypatch, stream, 1, callbacks=[Fail()])
    assert stream.getvalue().rstrip("\n").endswith("\x1b[?25h")  # the cursor shows again


def test_the_speed_counts_sequences(monkeypatch):
    progress = Progress(1, batches=4, sequences=100, verbose=0)
    clock = iter([10.0, 12.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    progress.on_epoch_begin(0)
    assert progress._speed(2) == "25 sequences/s"


def test_figures_are_short():
    assert figures({"loss": 0.123456, "accuracy": 1.0}) == "loss 0.1235  accuracy 1"
