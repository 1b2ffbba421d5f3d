"""The CTC loss and its gradient beside torch's, from logits: softmax, forward, backward.

torch adds up logarithms in float32: of a gradient over 5,000 steps two digits are left.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastlstm.benchmark.cells import OURS, Cell, Contender, Runner
from fastlstm.benchmark.contenders import TORCH
from fastlstm.data.packed import pack
from fastlstm.threads import set_num_threads
from fastlstm.training.losses import CTC

from .cells import thread_counts


class Shape(NamedTuple):
    """Sequences, steps of the longest and of the shortest, classes, labels a sequence."""

    N: int
    T: int
    shortest: int
    V: int
    L: int

    def __str__(self) -> str:
        steps = str(self.T) if self.shortest == self.T else f"{self.shortest} to {self.T}"
        return f"{self.N} sequences of {steps} steps, {self.L} labels of {self.V} classes"


class Problem:
    """Logits (N, T, V) with a likely blank, as in training, and labels."""

    def __init__(self, shape: Shape):
        rng = np.random.default_rng(0)
        self.lengths = np.linspace(shape.T, shape.shortest, shape.N).round().astype(int)
        self.logits = rng.standard_normal((shape.N, shape.T, shape.V), np.float32)
        self.logits[:, :, 0] += 3.0
        self.labels = rng.integers(1, shape.V, (shape.N, shape.L))


def ours(problem: Problem, threads: int) -> Runner:
    """Let `fastlstm.training.losses.CTC` overwrite the logits, which are copied each time."""
    set_num_threads(threads)
    loss = CTC()
    output, form = pack(problem.logits, problem.lengths, features=True)
    labels, logits = loss.check_targets(problem.labels, output), output.rows.copy()

    def call() -> float:
        np.copyto(output.rows, logits)
        return loss.gradient(output, labels, fused=True)

    return Runner(call, lambda value: {"loss": value, "gradient": form.unpack(output)})


def torchs(problem: Problem, threads: int) -> Runner:
    """Run log_softmax, ctc_loss and both backwards."""
    import torch

    torch.set_num_threads(threads)
    logits = torch.from_numpy(problem.logits.swapaxes(0, 1).copy()).requires_grad_()
    labels, lengths = torch.from_numpy(problem.labels), torch.from_numpy(problem.lengths)
    counts = torch.full((len(labels),), labels.shape[1])

    def call() -> Any:
        log_probs = torch.nn.functional.log_softmax(logits, dim=2)
        loss = torch.nn.functional.ctc_loss(log_probs, labels, lengths, counts, reduction="sum") / len(labels)
        return loss.detach(), torch.autograd.grad(loss, logits)[0]

    return Runner(call, lambda raw: {"loss": raw[0].numpy(), "gradient": raw[1].numpy().swapaxes(0, 1)})


CONTENDERS = (Contender(OURS, ours), Contender("torch", torchs, TORCH))
SHAPES = [
    Shape(32, 200, 200, 64, 40),
    Shape(32, 200, 80, 64, 30),
    Shape(4, 5000, 5000, 30, 300),
    Shape(16, 500, 500, 1000, 60),
]
TINY = [Shape(3, 9, 9, 5, 4), Shape(4, 12, 6, 3, 3)]


def cells(tiny: bool) -> Iterator[Cell]:
    for threads in thread_counts():
        for shape in TINY if tiny else SHAPES:
            tolerance = 1e-5 * shape.T
            yield Cell(str(shape), threads, partial(Problem, shape), CONTENDERS, kind="", tolerance=tolerance)


def test_ctc_loss(time_contender):
    time_contender()
