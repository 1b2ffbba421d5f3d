"""Forward and backward with the gradients of the input and of all weights: every shape, on one core and on two.

``python -m bench.test_training [--seconds S | --quick]``. Why in one process: `fastlstm.benchmark.turns`.
"""

from collections.abc import Iterator
from functools import partial

from fastlstm.benchmark.problems import Problem
from fastlstm.benchmark.turns import Cell

from .contenders import contenders
from .measure import main, run_suite, thread_counts
from .shapes import SHAPES


def cells() -> Iterator[Cell]:
    """Yield the cells."""
    for threads in thread_counts():
        for shape in SHAPES:
            make = partial(lambda shape, threads: contenders("training", Problem(shape), threads), shape, threads)
            # forward and backward both read the recurrent weights at each step
            facts = {"flops": 3 * shape.flops, "recurrent_bytes": shape.recurrent_bytes, "passes": 2 * shape.passes}
            yield Cell(str(shape), threads, make, tolerance=1e-3, facts=facts)


def test_training():
    assert run_suite("training", cells())


if __name__ == "__main__":
    main("training", cells)
