"""Training on 32 sequences of 10 to 1000 steps, H = D = 128.

torch can take them packed or padded. A dense batch of as many true steps stands beside them as a yardstick.
``python -m bench.test_ragged [--seconds S | --quick]``. Why in one process: `fastlstm.benchmark.turns`.
torch's packed sequences take seconds a run: they are timed once, and left out of a quick run.
"""

import dataclasses
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from fastlstm.benchmark.contenders import FastLSTM, Torch, installed, list_of
from fastlstm.benchmark.problems import Problem, Shape
from fastlstm.benchmark.turns import OURS, Cell, Contender

from .measure import main, run_suite, thread_counts

N, UNITS = 32, 128
LENGTHS = np.linspace(10, 1000, N).round().astype(int)[np.random.default_rng(0).permutation(N)]


def torch_packed(problem: Problem, threads: int) -> Contender:
    """Pack the padded array, run, and go back through the packing."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence

    lstm, x = Torch.lstm(problem, threads), np.ascontiguousarray(problem.x.swapaxes(0, 1))
    names, lengths = list(problem.weights), torch.from_numpy(LENGTHS)
    packed_dy = pack_padded_sequence(
        torch.from_numpy(problem.dy.swapaxes(0, 1).copy()), lengths, enforce_sorted=False
    ).data

    def call() -> list[np.ndarray]:
        inputs = torch.from_numpy(x).requires_grad_()
        wanted = [inputs, *(getattr(lstm, name) for name in names)]
        y = lstm(pack_padded_sequence(inputs, lengths, enforce_sorted=False))[0].data
        return [gradient.numpy() for gradient in torch.autograd.grad(y, wanted, packed_dy)]

    def read(gradients: list[np.ndarray]) -> dict[str, np.ndarray]:
        return {"x": gradients[0].swapaxes(0, 1)} | dict(zip(names, gradients[1:], strict=True))

    return Contender("torch packed", call, read, once=True)


def without_padding(contender: Contender, name: str) -> Contender:
    """Return a contender that reads x's gradient at the true steps only, as ours comes."""
    read: Any = contender.read

    def true_steps(raw: Any) -> dict[str, np.ndarray]:
        gradients = dict(read(raw))
        return gradients | {
            "x": np.concatenate([dx[:length] for dx, length in zip(gradients["x"], LENGTHS, strict=True)])
        }

    return dataclasses.replace(contender, name=name, read=true_steps)


def ragged(threads: int, packed: bool) -> list[Contender]:
    """Return all contenders; the gradient that comes in is zero on padding."""
    problem = Problem(Shape(N, int(LENGTHS.max()), UNITS, UNITS))
    for dy, length in zip(problem.dy, LENGTHS, strict=True):
        dy[length:] = 0.0
    racers = FastLSTM.training(problem, threads, list_of(problem.x, [range(length) for length in LENGTHS]))
    dense = Problem(Shape(N, round(LENGTHS.mean()), UNITS, UNITS))
    [yardstick] = FastLSTM.training(dense, threads, name=f"{OURS}, dense")
    racers.append(dataclasses.replace(yardstick, read=None))
    if installed(Torch):
        racers += [without_padding(peer, "torch padded") for peer in Torch.training(problem, threads)]
        if packed:
            racers.append(without_padding(torch_packed(problem, threads), "torch packed"))
    return racers


def cells(packed: bool = True) -> Iterator[Cell]:
    """Yield the cells."""
    facts = {"flops": 3 * Shape(1, int(LENGTHS.sum()), UNITS, UNITS).flops}
    for threads in thread_counts():
        label = f"{N} sequences of {LENGTHS.min()} to {LENGTHS.max()} steps"
        # 16,000 rows are summed in another order by each
        yield Cell(label, threads, partial(ragged, threads, packed and threads == 1), tolerance=2e-3, facts=facts)


def test_ragged():
    assert run_suite("ragged", cells(packed=False))


if __name__ == "__main__":
    main("ragged", partial(cells, packed="--quick" not in sys.argv))
