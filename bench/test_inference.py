"""Whole sequences, no gradients: every shape, on one core and on two; and inputs that make sums denormal or saturate.

``python -m bench.test_inference [--seconds S | --quick]``. Why in one process: `fastlstm.benchmark.turns`.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np

from fastlstm.benchmark.contenders import FastLSTM
from fastlstm.benchmark.problems import Problem, Shape
from fastlstm.benchmark.turns import OURS, Cell, Contender

from .contenders import contenders
from .measure import main, run_suite, thread_counts
from .shapes import SHAPES

SCALED = Shape(32, 100, 128, 128)


def scaled() -> list[Contender]:
    """Return ourselves on normal inputs, tiny ones and large ones: three times the same arithmetic."""
    made = []
    for name, scale in ((OURS, 1.0), ("inputs and weights times 1e-38", 1e-38), ("inputs times 1e4", 1e4)):
        problem = Problem(SCALED)
        problem.x *= np.float32(scale)
        if scale < 1.0:
            problem.weights = {key: value * np.float32(scale) for key, value in problem.weights.items()}
        [contender] = FastLSTM.inference(problem, 1, name)
        made.append(Contender(name, contender.call))
    return made


def cells() -> Iterator[Cell]:
    """Yield the cells."""
    for threads in thread_counts():
        for shape in SHAPES:
            make = partial(lambda shape, threads: contenders("inference", Problem(shape), threads), shape, threads)
            facts = {"flops": shape.flops, "recurrent_bytes": shape.recurrent_bytes, "passes": shape.passes}
            yield Cell(str(shape), threads, make, facts=facts)
    yield Cell(f"{SCALED} scaled", 1, scaled)


def test_inference():
    assert run_suite("inference", cells())


if __name__ == "__main__":
    main("inference", cells)
