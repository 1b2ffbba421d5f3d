"""Training steps of whole models beside the same nets in torch: an encoder-decoder with attention, a text classifier.

A step takes a batch through the model and back and moves the parameters by Adam. The first step's loss is compared.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import fastlstm as fl
from fastlstm.benchmark.cells import OURS, Cell, Contender, Runner
from fastlstm.benchmark.contenders import TORCH

from .cells import thread_counts

RATE = 1e-3


class Translation(NamedTuple):
    """Sequences, steps of the shortest and of the longest, vocabulary, features of a word, units."""

    N: int
    shortest: int
    longest: int
    V: int
    E: int
    H: int

    def __str__(self) -> str:
        return f"{self.N} pairs of {self.shortest} to {self.longest} steps, {self.E} to {self.H}"


class Classes(NamedTuple):
    """Sequences, steps, vocabulary, features of a word, units of the first and of the second layer."""

    N: int
    T: int
    V: int
    E: int
    H: int
    H2: int

    def __str__(self) -> str:
        return f"{self.N} texts of {self.T} words of {self.V}, {self.E}, {self.H}, {self.H2}"


class Pairs:
    """Sources and targets of many lengths, and our model of them, whose weights torch's takes."""

    def __init__(self, shape: Translation):
        rng = np.random.default_rng(0)
        self.shape = shape
        lengths = rng.integers(shape.shortest, shape.longest + 1, (2, shape.N))
        self.source, self.target = ([rng.integers(1, shape.V, n) for n in some] for some in lengths)

    def model(self) -> fl.Model:
        """Return the encoder-decoder with Luong's general attention."""
        shape = self.shape
        source, target = fl.Input((None,)), fl.Input((None,))
        read = fl.Embedding(shape.V, shape.E)(source)
        memory, h, c = fl.LSTM(shape.H, return_sequences=True, return_state=True)(read)
        words = fl.Embedding(shape.V, shape.E)(target)
        hidden = fl.LSTM(shape.H, return_sequences=True)(words, initial_state=[h, c])
        context = fl.Attention(score_mode="general")([hidden, memory])
        both = fl.Dense(shape.H, activation="tanh")(fl.Concatenate()([hidden, context]))
        return fl.Model([source, target], fl.Dense(shape.V, activation="softmax")(both), seed=0)


class Texts:
    """Texts as ids, their classes, and our model of them: the textbook's."""

    def __init__(self, shape: Classes):
        rng = np.random.default_rng(0)
        self.shape = shape
        self.x, self.y = rng.integers(0, shape.V, (shape.N, shape.T)), rng.integers(0, 2, shape.N)

    def model(self) -> fl.Model:
        """Return embedding, two LSTMs and a sigmoid, as a graph."""
        x = fl.Input((None,))
        first = fl.LSTM(self.shape.H, return_sequences=True)(fl.Embedding(self.shape.V, self.shape.E)(x))
        return fl.Model(x, fl.Dense(1, activation="sigmoid")(fl.LSTM(self.shape.H2)(first)), seed=0)


def our_pairs(problem: Pairs, threads: int) -> Runner:
    """Take a step with `Model.train_on_batch`."""
    fl.set_num_threads(threads)
    model = problem.model()
    model.compile(fl.optimizers.Adam(RATE), "sparse_categorical_crossentropy")
    return _ours(lambda: model.train_on_batch([problem.source, problem.target], problem.target))


def our_texts(problem: Texts, threads: int) -> Runner:
    """Take a step with `Model.train_on_batch`."""
    fl.set_num_threads(threads)
    model = problem.model()
    model.compile(fl.optimizers.Adam(RATE), "binary_crossentropy")
    return _ours(lambda: model.train_on_batch(problem.x, problem.y))


def _ours(step: Any) -> Runner:
    first = step()
    return Runner(step, lambda _: {"loss": np.array(first)})


def torch_pairs(problem: Pairs, threads: int) -> Runner:
    """Take a step of the same net: the encoder's batch is packed, for its last state is that of the last true step."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

    torch.set_num_threads(threads)
    shape, weights = problem.shape, [torch.tensor(value) for value in problem.model().get_weights()]
    read, words = torch.nn.Embedding(shape.V, shape.E), torch.nn.Embedding(shape.V, shape.E)
    encoder, decoder = (torch.nn.LSTM(shape.E, shape.H, batch_first=True) for _ in range(2))
    general = torch.nn.Linear(shape.H, shape.H, bias=False)
    both, out = torch.nn.Linear(2 * shape.H, shape.H), torch.nn.Linear(shape.H, shape.V)
    net = torch.nn.ModuleList([words, read, encoder, decoder, general, both, out])  # as our model goes through them
    _take(net, weights)
    source, target = (
        pad_sequence([torch.from_numpy(one) for one in some], True) for some in (problem.source, problem.target)
    )
    lengths = torch.tensor([len(one) for one in problem.source])
    beyond = torch.arange(source.shape[1])[None] >= lengths[:, None]
    labels = pad_sequence([torch.from_numpy(one) for one in problem.target], True, -100)
    optimizer = torch.optim.Adam(net.parameters(), RATE)

    def step() -> float:
        optimizer.zero_grad()
        packed, state = encoder(pack_padded_sequence(read(source), lengths, True, enforce_sorted=False))
        memory, _ = pad_packed_sequence(packed, True)
        hidden, _ = decoder(words(target), state)
        scores = (hidden @ general(memory).transpose(1, 2)).masked_fill(beyond[:, None], -torch.inf)
        context = torch.softmax(scores, -1) @ memory
        logits = out(torch.tanh(both(torch.cat([hidden, context], -1))))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        loss.backward()
        optimizer.step()
        return loss.item()

    return _ours(step)


def torch_texts(problem: Texts, threads: int) -> Runner:
    """Take a step of the same net."""
    import torch

    torch.set_num_threads(threads)
    shape, weights = problem.shape, [torch.tensor(value) for value in problem.model().get_weights()]
    words = torch.nn.Embedding(shape.V, shape.E)
    first = torch.nn.LSTM(shape.E, shape.H, batch_first=True)
    second, out = torch.nn.LSTM(shape.H, shape.H2, batch_first=True), torch.nn.Linear(shape.H2, 1)
    net = torch.nn.ModuleList([words, first, second, out])
    _take(net, weights)
    x, y = torch.from_numpy(problem.x), torch.from_numpy(problem.y.astype(np.float32))[:, None]
    optimizer = torch.optim.Adam(net.parameters(), RATE)

    def step() -> float:
        optimizer.zero_grad()
        last = second(first(words(x))[0])[0][:, -1]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(out(last), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return _ours(step)


def _take(net: Any, weights: list[Any]) -> None:
    """Give a net our weights, which are in the order of its layers."""
    import torch

    with torch.no_grad():
        for parameter, value in zip(net.parameters(), weights, strict=True):
            parameter.copy_(value)


TRANSLATIONS = [Translation(64, 12, 20, 60, 128, 256)]
TEXTS = [Classes(32, 100, 20_000, 128, 128, 64)]


def cells(tiny: bool) -> Iterator[Cell]:
    translations = [Translation(3, 2, 5, 9, 4, 6)] if tiny else TRANSLATIONS
    texts = [Classes(3, 5, 20, 4, 6, 5)] if tiny else TEXTS
    for threads in thread_counts():
        for pairs in translations:
            contenders = Contender(OURS, our_pairs), Contender("torch", torch_pairs, TORCH)
            yield Cell(str(pairs), threads, partial(Pairs, pairs), contenders, kind="encoder-decoder")
        for classes in texts:
            contenders = Contender(OURS, our_texts), Contender("torch", torch_texts, TORCH)
            yield Cell(str(classes), threads, partial(Texts, classes), contenders, kind="classifier")


def test_models(time_contender):
    time_contender()
