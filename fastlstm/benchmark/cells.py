"""What is timed, as values: a cell is one problem on so many threads, a contender is one way to solve it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from .problems import GATES

__all__ = ["OURS", "Cell", "Contender", "Runner"]

OURS = "fastlstm"


@dataclass(frozen=True)
class Runner:
    """A contender that is ready to run: its weights are loaded, its inputs are laid out."""

    call: Callable[[], Any]  # what is timed
    read: Callable[[Any], Mapping[str, Any]] | None = None
    """From what `call` returned to named arrays, outside the timing. None: a yardstick, other work, not compared."""
    repeat: Callable[[float, bool], list[float]] | None = None
    """`interleaved.repeat`, done where `call` runs, if that is another process: the way there is not its work."""


@dataclass(frozen=True)
class Contender:
    """One way to do the work of a cell; nothing is imported or computed before `make`."""

    name: str  # the library, and the way where it has several
    make: Callable[[Any, int], Runner]  # from the cell's problem and the number of threads
    packages: tuple[str, ...] = ()  # what must be installed; the first is the library itself
    kinds: tuple[str, ...] = tuple(GATES)  # of cells: "LSTM", "GRU", "RNN"
    once: bool = False  # too slow for rounds: timed at its first call only

    @property
    def missing(self) -> list[str]:
        """Return the packages that it needs and that are not installed."""
        return [name for name in self.packages if find_spec(name) is None]


@dataclass(frozen=True)
class Cell:
    """One line of a table: the same work for all contenders, on so many threads."""

    label: str
    threads: int
    problem: Callable[[], Any]  # called when the cell is measured; all contenders are made from what it returns
    contenders: tuple[Contender, ...]  # ours first, with which the others are compared
    kind: str = "LSTM"  # of recurrent cell, or another part of a suite's table; "" where there is one part
    tolerance: float = 1e-4  # largest difference from ours, relative to the largest value of an array
    checks: int = 2  # calls that are compared; a state that is carried on shows in the later ones
    facts: dict[str, Any] = field(default_factory=dict)  # operations, bytes, tokens: for the report
