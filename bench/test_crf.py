"""The CRF's loss and all its gradients beside a loop over steps in torch, as pytorch-crf has it."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastlstm.benchmark.cells import OURS, Cell, Contender, Runner
from fastlstm.benchmark.contenders import TORCH
from fastlstm.data.chain import Chain, ChainScores
from fastlstm.data.packed import pack
from fastlstm.threads import set_num_threads
from fastlstm.training.losses import CRFLoss

from .cells import thread_counts


class Shape(NamedTuple):
    """Sequences, steps of the longest and of the shortest, tags."""

    N: int
    T: int
    shortest: int
    K: int

    def __str__(self) -> str:
        steps = str(self.T) if self.shortest == self.T else f"{self.shortest} to {self.T}"
        return f"{self.N} sequences of {steps} steps, {self.K} tags"


class Problem:
    """Emissions (N, T, K), tags, and the scores of a chain."""

    def __init__(self, shape: Shape):
        rng = np.random.default_rng(0)
        self.lengths = np.linspace(shape.T, shape.shortest, shape.N).round().astype(int)
        self.x = rng.standard_normal((shape.N, shape.T, shape.K), np.float32)
        self.tags = rng.integers(0, shape.K, (shape.N, shape.T))
        self.chain = Chain(*(rng.standard_normal(size, np.float32) for size in ((shape.K, shape.K), shape.K, shape.K)))


def ours(problem: Problem, threads: int) -> Runner:
    """Let `fastlstm.training.losses.CRFLoss` overwrite the emissions, which are copied each time."""
    set_num_threads(threads)
    loss = CRFLoss()
    packed, form = pack(problem.x, problem.lengths, features=True)
    tags, _ = pack(problem.tags, problem.lengths, features=False)
    scores, emissions = ChainScores(packed, problem.chain), packed.rows.copy()
    target = loss.check_targets(tags.rows, scores)

    def call() -> float:
        np.copyto(scores.rows, emissions)
        return loss.gradient(scores, target)

    return Runner(call, lambda value: scores.gradients | {"loss": value, "x": form.unpack(scores)})


def torchs(problem: Problem, threads: int) -> Runner:
    """Add up all paths by a logsumexp a step, padding and all; autograd goes back."""
    import torch

    torch.set_num_threads(threads)
    x, *chain = (torch.tensor(array, requires_grad=True) for array in (problem.x, *problem.chain))
    transitions, start, end = chain
    tags, lengths = torch.from_numpy(problem.tags), torch.from_numpy(problem.lengths)
    alive = torch.arange(x.shape[1])[None] < lengths[:, None]
    last = tags.gather(1, lengths[:, None] - 1)[:, 0]
    ragged = not bool(alive.all())

    def call() -> Any:
        alpha = start + x[:, 0]
        for t in range(1, x.shape[1]):
            moved = torch.logsumexp(alpha[:, :, None] + transitions, dim=1) + x[:, t]
            alpha = torch.where(alive[:, t, None], moved, alpha) if ragged else moved
        gold = (x.gather(2, tags[:, :, None])[:, :, 0] * alive).sum(1) + start[tags[:, 0]] + end[last]
        gold = gold + (transitions[tags[:, :-1], tags[:, 1:]] * alive[:, 1:]).sum(1)
        loss = (torch.logsumexp(alpha + end, dim=1) - gold).mean()
        return loss.detach(), torch.autograd.grad(loss, [x, *chain])

    names = ("x", "transitions", "start_transitions", "end_transitions")

    def read(raw: Any) -> dict[str, np.ndarray]:
        return {"loss": raw[0].numpy()} | {name: value.numpy() for name, value in zip(names, raw[1], strict=True)}

    return Runner(call, read)


CONTENDERS = (Contender(OURS, ours), Contender("torch loop", torchs, TORCH))
SHAPES = [Shape(32, 50, 50, 20), Shape(32, 50, 5, 20), Shape(32, 30, 30, 9), Shape(16, 400, 400, 50)]
TINY = [Shape(3, 7, 7, 4), Shape(4, 9, 2, 9)]


def cells(tiny: bool) -> Iterator[Cell]:
    for threads in thread_counts():
        for shape in TINY if tiny else SHAPES:
            yield Cell(str(shape), threads, partial(Problem, shape), CONTENDERS, kind="")


def test_crf(time_contender):
    time_contender()
