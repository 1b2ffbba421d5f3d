"""What the suites share: thread counts, shapes, the kinds of cells, and cells made from them."""

from collections.abc import Iterator
from functools import partial

from fastlstm.benchmark.cells import Cell
from fastlstm.benchmark.machine import machine
from fastlstm.benchmark.ours import KINDS
from fastlstm.benchmark.problems import Problem, Shape

from .contenders import contenders

__all__ = ["recurrent_cells", "shapes", "thread_counts"]

_SHAPES = [
    Shape(1, 1, 128, 128),
    Shape(1, 100, 64, 64),
    Shape(1, 100, 128, 128),
    Shape(1, 100, 256, 256),
    Shape(1, 100, 512, 512),
    Shape(4, 2000, 32, 96),
    Shape(8, 100, 128, 128),
    Shape(32, 100, 128, 128),
    Shape(32, 100, 256, 256),
    Shape(32, 50, 512, 512),
    Shape(64, 50, 1024, 1024),
    Shape(128, 35, 64, 64),
    Shape(3, 57, 45, 77),
    Shape(16, 200, 128, 256, layers=2),
    Shape(8, 100, 80, 192, directions=2),
]
_TINY = [Shape(3, 7, 5, 9), Shape(2, 4, 6, 8, layers=2, directions=2)]


def thread_counts() -> list[int]:
    """Return one core and, where there are more, two."""
    return [1, 2][: machine()["cores"]]


def shapes(tiny: bool) -> list[Shape]:
    """Return the shapes of whole sequences; tiny ones where outputs are compared but nothing is timed."""
    return _TINY if tiny else _SHAPES


def recurrent_cells(
    task: str, shapes: list[Shape], products: int, tolerance: float = 1e-4, checks: int = 2
) -> Iterator[Cell]:
    """Yield a cell for each kind that fastlstm has a layer for, each thread count and shape.

    `products`: how many times the arithmetic of the forward products a call has.
    """
    for kind in KINDS:
        for threads in thread_counts():
            for shape in (shape._replace(kind=kind) for shape in shapes):
                facts = {"flops": products * shape.flops}
                if shape.N == 1:  # one sequence: each step reads the recurrent weights for one product
                    facts["weight_bytes"] = shape.recurrent_bytes * shape.passes * (1 if products == 1 else 2)
                yield Cell(
                    str(shape),
                    threads,
                    partial(Problem, shape),
                    contenders(task, kind),
                    kind=kind,
                    tolerance=tolerance,
                    checks=checks,
                    facts=facts,
                )
