"""Training on 32 sequences of 10 to 1000 steps, H = D = 128.

torch can take them packed or padded. A dense batch of as many true steps stands beside them as a yardstick.
torch's packed sequences take seconds a call: they are timed once, on one core, and left out of a quick run.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastlstm.benchmark import ours, peers
from fastlstm.benchmark.cells import OURS, Cell, Contender, Runner
from fastlstm.benchmark.contenders import TORCH
from fastlstm.benchmark.problems import Problem, Shape

from .cells import thread_counts


class Ragged(Problem):
    """Sequences of so many steps and H = D units, padded; the gradient that comes in is zero on padding."""

    def __init__(self, lengths: np.ndarray, units: int):
        super().__init__(Shape(len(lengths), int(lengths.max()), units, units))
        self.lengths = lengths
        for dy, length in zip(self.dy, lengths, strict=True):
            dy[length:] = 0.0

    def true_steps(self, padded: np.ndarray) -> list[np.ndarray]:
        """Return the steps of each sequence that are no padding."""
        return [row[:length] for row, length in zip(padded, self.lengths, strict=True)]


def ragged(problem: Ragged, threads: int) -> Runner:
    """Give ours a list of sequences."""
    return ours.training(problem, threads, problem.true_steps(problem.x))


def dense(problem: Ragged, threads: int) -> Runner:
    """Run ours on as many steps in all, every sequence as long as the others."""
    shape = problem.shape
    mean = Shape(shape.N, round(problem.lengths.mean()), shape.D, shape.H)
    return Runner(ours.training(Problem(mean), threads).call)


def padded(problem: Ragged, threads: int) -> Runner:
    """Let torch compute on the padding too."""
    runner = peers.torch_training(problem, threads)
    read: Any = runner.read

    def of_true_steps(raw: Any) -> dict[str, np.ndarray]:
        gradients = read(raw)
        return gradients | {"x": np.concatenate(problem.true_steps(gradients["x"]))}

    return Runner(runner.call, of_true_steps)


def packed(problem: Ragged, threads: int) -> Runner:
    """Pack the padded array, run, and go back through the packing."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence

    lstm, x = peers.torch_module(problem, threads), peers.time_major(problem.x)
    names, lengths = list(problem.weights), torch.from_numpy(problem.lengths)
    dy = pack_padded_sequence(torch.from_numpy(peers.time_major(problem.dy)), lengths, enforce_sorted=False).data

    def call() -> list[np.ndarray]:
        inputs = torch.from_numpy(x).requires_grad_()
        wanted = [inputs, *(getattr(lstm, name) for name in names)]
        y = lstm(pack_padded_sequence(inputs, lengths, enforce_sorted=False))[0].data
        return [gradient.numpy() for gradient in torch.autograd.grad(y, wanted, dy)]

    def read(gradients: list[np.ndarray]) -> dict[str, np.ndarray]:
        dx = np.concatenate(problem.true_steps(gradients[0].swapaxes(0, 1)))
        return {"x": dx} | dict(zip(names, gradients[1:], strict=True))

    return Runner(call, read)


CONTENDERS = (
    Contender(OURS, ragged),
    Contender(f"{OURS}, dense", dense),
    Contender("torch padded", padded, TORCH),
    Contender("torch packed", packed, TORCH, once=True),
)


def cells(tiny: bool) -> Iterator[Cell]:
    count, shortest, longest, units = (5, 1, 12, 8) if tiny else (32, 10, 1000, 128)
    lengths = np.linspace(shortest, longest, count).round().astype(int)
    lengths = lengths[np.random.default_rng(0).permutation(count)]
    label = f"{count} sequences of {lengths.min()} to {lengths.max()} steps"
    facts = {"flops": 3 * Shape(1, int(lengths.sum()), units, units).flops}
    for threads in thread_counts():
        contenders = tuple(c for c in CONTENDERS if threads == 1 or not c.once)
        # 16,000 rows are summed in another order by each
        yield Cell(label, threads, lambda: Ragged(lengths, units), contenders, tolerance=2e-3, facts=facts)


def test_ragged(time_contender):
    time_contender()
