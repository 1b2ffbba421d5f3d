"""Windows for truncated BPTT: a text cut into streams that are read side by side, some steps at a time.

Stream n of N is the n-th piece of the text; a window is the same T steps of every stream. The state after one window
is the start of the next, so the streams are read through as if the window were as long as they are (Mikolov et al.,
2010; Zaremba, Sutskever and Vinyals, 2014).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, ShapeError
from .numbers import as_numbers, whole
from .packed import Packed

__all__ = ["Window", "Windows"]


class Window(NamedTuple):
    """The same few steps of every stream.

    Attributes
    ----------
    inputs : Packed
        Ids, one a row; valid until the next window is taken.
    targets : ndarray of int64, shape (M,)
        The id that follows each input; valid until the next window is taken.
    """

    inputs: Packed
    targets: NDArray[np.int64]


class Windows:
    """All windows of a text, in order: each id but the last is an input once, each but the first a target once.

    The streams' lengths differ by at most one, longest first, so only the very last step may have fewer rows than
    streams, and the last window fewer steps than the others. No window allocates anything that grows with it.

    Parameters
    ----------
    ids : ndarray of int, shape (M,)
        The text.
    streams : int
        N, how many pieces of the text are read side by side.
    steps : int
        T, how many steps a window has.

    Raises
    ------
    DataError
        The text is shorter than one window: it has fewer than ``streams * steps + 1`` ids. Or these are no integers, or
        masked.
    OptionError
        `streams` or `steps` is no whole number from 1 on.
    ShapeError
        `ids` has not one axis.

    Examples
    --------
    >>> for inputs, targets in Windows(np.arange(8), streams=2, steps=2):
    ...     print(inputs.rows, inputs.batch_sizes, targets)
    [0 4 1 5] [2 2] [1 5 2 6]
    [2 6 3] [2 1] [3 7 4]
    """

    def __init__(self, ids: NDArray[Any], streams: int, steps: int):
        streams, steps = whole(streams, "Windows: streams"), whole(steps, "Windows: steps")
        ids = as_numbers(ids, "Windows: ids")
        if ids.ndim != 1:
            raise ShapeError(f"Windows: ids has shape {ids.shape}; expected (ids,)")
        if ids.dtype.kind not in "iu":
            raise DataError(f"Windows: ids has dtype {ids.dtype}; expected integers")
        if len(ids) <= streams * steps:
            raise DataError(
                f"the text has {len(ids)} tokens, less than one window: {streams} streams of {steps} steps need "
                f"{streams * steps + 1}; give more text, or choose fewer streams or a shorter window"
            )
        self.ids = ids
        self.streams = streams
        self.steps = steps

    @property
    def targets(self) -> int:
        """How many ids are predicted in all: M - 1."""
        return len(self.ids) - 1

    def __len__(self) -> int:
        longest = -(-self.targets // self.streams)
        return -(-longest // self.steps)

    def __iter__(self) -> Iterator[Window]:
        shortest, longer = divmod(self.targets, self.streams)
        stream = np.arange(self.streams)
        starts = stream * shortest + np.minimum(stream, longer)
        place = (np.arange(self.steps)[:, None] + starts).reshape(-1)  # of each row's input in the text
        full = np.full(self.steps, self.streams, np.int64)
        raw = np.empty(len(place), self.ids.dtype)
        inputs, targets = np.empty(len(place), np.int64), np.empty(len(place), np.int64)
        for first in range(0, shortest + (longer > 0), self.steps):
            batch_sizes, rows = full, len(place)
            whole_steps = min(self.steps, shortest - first)
            if whole_steps < self.steps:  # the last window
                batch_sizes = full[: whole_steps + (longer > 0)].copy()
                batch_sizes[whole_steps:] = longer
                rows = int(batch_sizes.sum())
            for out, source in ((inputs, self.ids), (targets, self.ids[1:])):
                np.take(source, place[:rows], out=raw[:rows], mode="clip")
                out[:rows] = raw[:rows]
            place += self.steps
            yield Window(Packed(inputs[:rows], batch_sizes), targets[:rows])
