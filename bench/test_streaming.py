"""One step of one sequence, the state carried from call to call: H = D from 8 to 1024, on one core and on two."""

from collections.abc import Iterator
from dataclasses import replace

from fastlstm.benchmark.cells import Cell
from fastlstm.benchmark.problems import Shape

from .cells import recurrent_cells

UNITS = [8, 64, 128, 256, 512, 1024]
"""With 8 there is next to nothing to compute: what is left is the price of a call."""


def cells(tiny: bool) -> Iterator[Cell]:
    steps = [Shape(1, 1, units, units) for units in ([8, 24] if tiny else UNITS)]
    for cell in recurrent_cells("streaming", steps, products=1, checks=5):
        # a step reads the input weights too: with D = H, as many again
        facts = cell.facts | {"weight_bytes": 2 * cell.facts["weight_bytes"]}
        yield replace(cell, label=f"D = H = {cell.label.split(',')[-1]}", facts=facts)


def test_streaming(time_contender):
    time_contender()
