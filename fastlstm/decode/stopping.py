"""Stop sequences: where generation of a sequence ends because of the ids it just produced."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fastlstm.errors import OptionError

__all__ = ["StopSequences"]


class StopSequences:
    """Tells when a sequence of ids ends with one of the stop sequences.

    Parameters
    ----------
    sequences : iterable of sequences of int
        Each at least one id long. None at all is allowed and stops nothing.

    Raises
    ------
    OptionError
        A stop sequence is empty or does not hold whole numbers.

    Examples
    --------
    >>> stop = StopSequences([[2], [7, 8, 7]])
    >>> stop.match([5, 7, 8, 7])
    (7, 8, 7)
    >>> stop.held_back([5, 7, 8])
    2
    >>> stop.ended([[5, 2], [2, 5]])
    array([ True, False])
    """

    def __init__(self, sequences: Iterable[Iterable[int]]) -> None:
        checked = []
        for sequence in sequences:
            try:
                ids = tuple(operator.index(id) for id in sequence)
            except TypeError:
                raise OptionError(f"a stop sequence must be a sequence of ids, got {sequence!r}") from None
            if not ids:
                raise OptionError("a stop sequence is empty and would stop everything; leave it out")
            checked.append(ids)
        # The longest first, so that match() is the whole of what has to be cut off.
        self.sequences: tuple[tuple[int, ...], ...] = tuple(sorted(set(checked), key=lambda ids: (-len(ids), ids)))

    def __repr__(self) -> str:
        return f"StopSequences({[list(ids) for ids in self.sequences]})"

    def match(self, ids: Sequence[int] | NDArray[np.integer]) -> tuple[int, ...] | None:
        """Return the longest stop sequence that `ids` ends with, or None."""
        for stop in self.sequences:
            if _ends_with(ids, stop):
                return stop
        return None

    def ended(self, rows: Iterable[Sequence[int] | NDArray[np.integer]]) -> NDArray[np.bool_]:
        """Tell for each row of ids whether it ends with a stop sequence; shape (N,), bool."""
        return np.array([self.match(row) is not None for row in rows], bool)

    def held_back(self, ids: Sequence[int] | NDArray[np.integer]) -> int:
        """Count the last ids that may be the beginning of a stop sequence.

        A stream that shows text as it comes shows all but these, and never takes anything back.
        """
        longest = max((len(stop) for stop in self.sequences), default=1) - 1
        for count in range(min(longest, len(ids)), 0, -1):
            if any(len(stop) > count and _ends_with(ids, stop[:count]) for stop in self.sequences):
                return count
        return 0


def _ends_with(ids: Sequence[int] | NDArray[np.integer], suffix: tuple[int, ...]) -> bool:
    return len(ids) >= len(suffix) and tuple(int(id) for id in ids[len(ids) - len(suffix) :]) == suffix
