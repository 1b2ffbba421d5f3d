"""Training a language model, truncated BPTT with Adam and clipping: characters and words, beside the same in torch.

The curves of the first losses are compared before anything is timed.
"""

from collections.abc import Iterator
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np

import fastlstm as fl
from fastlstm.benchmark.cells import OURS, Cell, Contender, Runner
from fastlstm.benchmark.contenders import TORCH
from fastlstm.data.windows import Windows
from fastlstm.layers import PassContext
from fastlstm.models.language_network import LanguageNetwork
from fastlstm.models.language_options import LanguageModelOptions

from .cells import thread_counts

RATE, CLIP, EPSILON = 1e-3, 1.0, 1e-8
COMPARED = 6
"""First losses that must agree; each is paid for by both contenders."""


class Model(NamedTuple):
    """V tokens, E features of each, `layers` LSTM layers of H units, N streams, windows of T steps."""

    label: str
    V: int
    E: int
    H: int
    layers: int
    N: int
    T: int

    def windows(self) -> Any:
        """Return the windows of a text whose tokens follow Zipf's law; twice through it, the state goes on."""
        weights = 1.0 / np.arange(1, self.V + 1)
        ids = np.random.default_rng(0).choice(self.V, self.N * self.T * 20 + 1, p=weights / weights.sum())
        return cycle((w.inputs.rows.copy(), w.targets.copy(), w) for w in Windows(ids, self.N, self.T))

    def network(self) -> LanguageNetwork:
        """Return our network; torch takes over its weights."""
        options = LanguageModelOptions(embedding=self.E, hidden=self.H, layers=self.layers)
        return LanguageNetwork(options, self.V)

    @property
    def flops(self) -> float:
        """Operations of one training step."""
        inputs = self.E + self.H + (self.layers - 1) * 2 * self.H
        return 3 * 2.0 * self.N * self.T * (4 * self.H * inputs + self.V * self.H)


MODELS = [
    Model("characters: V=96, E=64, H=512, N=32, T=64", 96, 64, 512, 1, 32, 64),
    Model("words: V=10000, E=H=256, 2 layers, N=20, T=35", 10_000, 256, 256, 2, 20, 35),
]
TINY = [Model("tiny: V=20, E=6, H=8, 2 layers, N=3, T=5", 20, 6, 8, 2, 3, 5)]


def ours(model: Model, threads: int) -> Runner:
    """Take one step as our training loop does."""
    fl.set_num_threads(threads)
    network, windows, run = model.network(), model.windows(), PassContext(training=True)
    optimizer = fl.optimizers.Adam(RATE, epsilon=EPSILON, clipnorm=CLIP)
    params, state = network.params, None

    def call() -> float:
        nonlocal state
        ids, targets, window = next(windows)
        window = window._replace(inputs=window.inputs.with_rows(ids), targets=targets)
        loss, state, gradients = network.train_step(window, state, run)
        optimizer.update(list(params.values()), [gradients[name] for name in params])
        network.changed()
        return loss

    return Runner(call, lambda loss: {"loss": loss})


def in_torch(model: Model, threads: int) -> Runner:
    """Take one step as torch's users write it."""
    import torch
    from torch.nn.functional import cross_entropy

    torch.set_num_threads(threads)
    net = torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(model.V, model.E),
            "lstm": torch.nn.LSTM(model.E, model.H, model.layers),
            "output": torch.nn.Linear(model.H, model.V),
        }
    )
    net.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in model.network().params.items()})
    optimizer = torch.optim.Adam(net.parameters(), RATE, eps=EPSILON)
    windows, state = model.windows(), None

    def call() -> float:
        nonlocal state
        ids, targets, _ = next(windows)
        hidden, after = net["lstm"](net["embedding"](torch.from_numpy(ids).view(model.T, model.N)), state)
        loss = cross_entropy(net["output"](hidden.view(-1, model.H)), torch.from_numpy(targets))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimizer.step()
        state = tuple(part.detach() for part in after)
        return loss.item()

    return Runner(call, lambda loss: {"loss": loss})


CONTENDERS = (Contender(OURS, ours), Contender("torch", in_torch, TORCH))


def cells(tiny: bool) -> Iterator[Cell]:
    for threads in thread_counts():
        for model in TINY if tiny else MODELS:
            facts = {"flops": model.flops, "tokens": model.N * model.T}
            yield Cell(
                model.label,
                threads,
                lambda model=model: model,
                CONTENDERS,
                tolerance=1e-3,
                checks=COMPARED,
                facts=facts,
            )


def test_language_model(time_contender):
    time_contender()
