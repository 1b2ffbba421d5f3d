"""One step of one sequence, the state carried from call to call: H = D from 64 to 1024, on one core and on two.

``python -m bench.test_streaming [--seconds S | --quick]``. Why in one process: `fastlstm.benchmark.turns`.
"""

from collections.abc import Iterator
from functools import partial

from fastlstm.benchmark.problems import Problem, Shape
from fastlstm.benchmark.turns import Cell

from .contenders import contenders
from .measure import main, run_suite, thread_counts
from .shapes import STREAMED


def cells() -> Iterator[Cell]:
    """Yield the cells."""
    for threads in thread_counts():
        for units in STREAMED:
            shape = Shape(1, 1, units, units)
            make = partial(lambda shape, threads: contenders("streaming", Problem(shape), threads), shape, threads)
            # a step reads the input weights too: with D = H, as many again
            facts = {"flops": shape.flops, "recurrent_bytes": 2 * shape.recurrent_bytes, "passes": 1}
            yield Cell(f"D = H = {units}", threads, make, checks=5, facts=facts)


def test_streaming():
    assert run_suite("streaming", cells())


if __name__ == "__main__":
    main("streaming", cells)
