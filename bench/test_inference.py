"""Whole sequences, no gradients: every shape, on one core and on two; and inputs that make sums denormal or large."""

from collections.abc import Iterator

import numpy as np

from fastlstm.benchmark import ours
from fastlstm.benchmark.cells import OURS, Cell, Contender, Runner
from fastlstm.benchmark.problems import Problem, Shape

from .cells import recurrent_cells, shapes


def scaled(problem: Problem, threads: int, inputs: float, weights: float = 1.0) -> Runner:
    """Run ours with larger or smaller numbers: the same arithmetic, other outputs."""
    other = Problem(problem.shape)
    other.x *= np.float32(inputs)
    other.weights = {key: value * np.float32(weights) for key, value in other.weights.items()}
    return Runner(ours.inference(other, threads).call)


SCALED = (
    Contender(OURS, ours.inference),
    Contender(f"{OURS}, inputs and weights times 1e-38", lambda *given: scaled(*given, 1e-38, 1e-38)),
    Contender(f"{OURS}, inputs times 1e4", lambda *given: scaled(*given, 1e4)),
)


def cells(tiny: bool) -> Iterator[Cell]:
    yield from recurrent_cells("inference", shapes(tiny), products=1)
    shape = Shape(3, 7, 5, 9) if tiny else Shape(32, 100, 128, 128)
    yield Cell(f"{shape}, scaled", 1, lambda: Problem(shape), SCALED)


def test_inference(time_contender):
    time_contender()
