"""A training loop uses the same memory from step to step: a profile of 1,000 steps is flat."""

import gc
import tracemalloc

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.data.windows import Windows
from fastlstm.layers import PassContext
from fastlstm.models.language_network import LanguageNetwork
from fastlstm.models.language_options import LanguageModelOptions
from fastlstm.training import loop, optimizers
from fastlstm.training.callbacks import Callback

BATCH, WARM, STEPS = 4, 300, 1000
"""Of the first steps, an epoch, each meets its shapes for the first time."""
GROWTH = 64 * 1024
"""Bytes that free lists of Python and NumPy may take: 64 a step, where one array that is kept takes more than 100."""


def size_of(workspace):
    """Return how many arrays a workspace holds that are not lent, and their bytes."""
    frames = [workspace._shared, *(frame for frames in workspace._free.values() for frame in frames)]
    arrays = [memory for frame in frames for memory, _ in frame._held.values()]
    return len(arrays), sum(memory.nbytes for memory in arrays)


class Profile:
    """What memory is held after the first `WARM` steps, and what after `STEPS` more."""

    def __init__(self, workspace):
        self.workspace, self.steps, self.marks = workspace, 0, []

    def step(self):
        self.steps += 1
        if self.steps in (WARM, WARM + STEPS):
            gc.collect()
            self.marks.append((tracemalloc.get_traced_memory()[0], *size_of(self.workspace())))

    def assert_flat(self):
        (traced, arrays, held), (traced_last, arrays_last, held_last) = self.marks
        assert arrays > 10
        assert (arrays_last, held_last) == (arrays, held), "the workspace grew"
        assert traced_last - traced < GROWTH, f"{traced_last - traced} bytes more after {STEPS} steps"


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


class Steps(Callback):
    def __init__(self, profile):
        self.profile = profile

    def on_train_batch_end(self, batch, logs):
        self.profile.step()


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("kinds", [(fl.LSTM, fl.LSTM), (fl.GRU, fl.SimpleRNN)])
def test_a_fit_of_a_stack_holds_no_more_after_a_thousand_steps(kinds, ragged, rng, traced, monkeypatch):
    contexts = []
    made = loop.PassContext
    monkeypatch.setattr(loop, "PassContext", lambda *a, **k: contexts.append(made(*a, **k)) or contexts[-1])
    one, two = kinds
    model = fl.Sequential(
        [
            fl.Embedding(11, 6),
            one(8, return_sequences=True, dropout=0.2, kernel_regularizer=1e-4),
            fl.Dropout(0.1),
            fl.Bidirectional(two(7, recurrent_dropout=0.2, return_sequences=True), merge_mode="sum"),
            fl.Dense(11, activation="softmax"),
        ],
        seed=1,
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    lengths = rng.integers(2, 12, BATCH * WARM) if ragged else np.full(BATCH * WARM, 9)
    x = [rng.integers(0, 11, length) for length in lengths]
    epochs = -(-(WARM + STEPS) // WARM)  # few: the history keeps the figures of each
    profile = Profile(lambda: contexts[0].workspace)
    model.fit(x, x, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0, callbacks=[Steps(profile)])
    profile.assert_flat()


@pytest.mark.parametrize("tied", [False, True])
def test_a_language_model_holds_no_more_after_a_thousand_steps(tied, rng, traced):
    options = LanguageModelOptions(embedding=8, hidden=8, layers=2, dropout=0.1, tied=tied)
    network, optimizer = LanguageNetwork(options, 30), optimizers.Adam(clipnorm=1.0)
    context = PassContext(training=True, rng=np.random.default_rng(0))
    profile = Profile(lambda: context.workspace)
    text = rng.integers(0, 30, 4 * 10 * 60 + 5)
    state, params = None, list(network.params.values())
    while profile.steps < WARM + STEPS:
        for window in Windows(text, streams=4, steps=10):
            step = network.train_step(window, state, context)
            state = step.state if len(step.state[0].h) == 4 else None
            optimizer.update(params, [step.gradients[name] for name in network.params])
            network.changed()
            profile.step()
            if profile.steps == WARM + STEPS:
                break
    profile.assert_flat()
