"""Forward and backward with the gradients of the input and of all weights: every shape, on one core and on two."""

from collections.abc import Iterator

from fastlstm.benchmark.cells import Cell

from .cells import recurrent_cells, shapes


def cells(tiny: bool) -> Iterator[Cell]:
    yield from recurrent_cells("training", shapes(tiny), products=3, tolerance=1e-3)


def test_training(time_contender):
    time_contender()
