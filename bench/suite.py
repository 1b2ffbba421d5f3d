"""From cells to pytest's parameters: one test for each contender, and one measurement for all contenders of a cell."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from fastlstm.benchmark.cells import Cell
from fastlstm.benchmark.compare import prepare
from fastlstm.benchmark.interleaved import time_interleaved

from .recorded import recorded_clock

__all__ = ["Key", "Measurement", "Measurements", "key_of", "parameters", "suite_of"]

Key = tuple[str, str, str, int]
"""A cell's suite, kind, label and threads."""


@dataclass(frozen=True)
class Measurement:
    """The times of a cell's contenders in each round, which of them were compared, and why others have none."""

    times: dict[str, list[float]]
    compared: set[str]
    errors: dict[str, Exception]


def suite_of(module: Any) -> str:
    """Return the name of a suite: that of its file, without ``test_``."""
    return str(module.__name__.rpartition(".")[2].removeprefix("test_"))


def key_of(suite: str, cell: Cell) -> Key:
    """Return what tells a cell from all others."""
    return suite, cell.kind, cell.label, cell.threads


def parameters(suite: str, cells: Iterable[Cell]) -> list[Any]:
    """Return pytest's parameters (kind, label, threads, contender); the names stay the same from run to run."""
    rows = []
    for cell in cells:
        title = " ".join(filter(None, (cell.kind, cell.label)))
        group = f"{suite}, {title}, {cell.threads} thread{'s' * (cell.threads > 1)}"
        for contender in cell.contenders:
            marks = [pytest.mark.benchmark(group=group, timer=recorded_clock)]
            if contender.missing:
                marks.append(pytest.mark.skip(reason=f"not installed: {', '.join(contender.missing)}"))
            if contender.once:
                marks.append(pytest.mark.slow)
            texts = filter(None, (cell.kind, cell.label, f"{cell.threads}t", contender.name))
            name = "-".join(map(_slug, texts))
            rows.append(pytest.param(cell.kind, cell.label, cell.threads, contender.name, id=name, marks=marks))
    return rows


def _slug(text: str) -> str:
    """Return a text without what a shell or ``pytest -k`` would read as its own."""
    return re.sub(r"[^\w.]+", "_", text).strip("_")


class Measurements:
    """The cells of a session; each is measured when the first of its contenders is asked for."""

    def __init__(self, seconds: float, min_rounds: int, compare_only: bool = False):
        self.seconds, self.min_rounds, self.compare_only = seconds, min_rounds, compare_only
        self.cells: dict[Key, Cell] = {}
        self._done: dict[Key, Measurement | Exception] = {}

    def of(self, key: Key, names: Collection[str]) -> Measurement:
        """Return a cell's measurement: ours and the contenders of these names, each for `seconds` on average."""
        if key not in self._done:
            try:
                self._done[key] = self._measure(self.cells[key], names)
            except Exception as error:  # ours: all contenders of the cell fail alike
                self._done[key] = error
        done = self._done[key]
        if isinstance(done, Exception):
            raise done
        return done

    def _measure(self, cell: Cell, names: Collection[str]) -> Measurement:
        prepared = prepare(cell, names)
        compared = {name for name, runner in prepared.runners.items() if runner.read is not None}
        if self.compare_only:
            times = {name: [seconds] for name, seconds in prepared.first.items()}
        else:
            times = time_interleaved(prepared, self.seconds * len(prepared.runners), self.min_rounds)
        return Measurement(times, compared, prepared.errors)
