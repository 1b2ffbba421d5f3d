"""SlidingLayer: what layers that look at steps through a sliding window have in common."""

from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..data.packed import Packed
from ..engine.sliding import SlidingWindow, Taps, packed_rows, rows_in_place, taps_of
from ..errors import OptionError, ShapeError
from ..runtime.workspace import Frame
from .base import Layer, size

__all__ = ["SlidingLayer", "one_of", "single"]


def single(kind: str, word: str, value: object) -> int:
    """Return a size that was passed as a whole number or, as Keras allows, as a tuple of one."""
    if isinstance(value, tuple | list) and len(value) == 1:
        value = value[0]
    return size(kind, word, value)


def one_of(kind: str, word: str, value: object, *choices: str) -> str:
    """Return the choice that was passed as `word`, in any case; raise OptionError for another."""
    if not isinstance(value, str) or value.lower() not in choices:
        raise OptionError(f"{kind}: {word}={value!r}; expected one of {', '.join(choices)}")
    return value.lower()


class SlidingLayer(Layer):
    """Base of layers that look at steps through a sliding window.

    Parameters
    ----------
    window : SlidingWindow
    word : str
        The argument that set the window's size, as errors name it.
    name, dtype
        See `Layer`.
    """

    def __init__(self, window: SlidingWindow, word: str, *, name: str | None, dtype: DTypeLike):
        super().__init__(name=name, dtype=dtype)
        self.window = window
        self.changes_lengths = not window.keeps_lengths
        self._word = word

    def lengths_out(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many windows sequences of these lengths have; raise ShapeError where one has none."""
        if len(lengths):
            self._check(int(lengths.min()))
        return self.window.windows_in(lengths)

    def _check(self, shortest: int) -> None:
        """Raise ShapeError unless a sequence of so many steps has a window."""
        window = self.window
        if window.padding != "valid" or shortest >= window.reach:
            return
        covers = f"{self._word}={window.size}"
        if window.dilation > 1:
            covers += f" with dilation_rate={window.dilation} covers {window.reach} steps"
        raise ShapeError(
            f"{self.kind}: a sequence has {shortest} step{'s' * (shortest != 1)}, {covers}: with padding='valid' "
            "nothing is left of it; leave such sequences out, or choose padding='same'"
        )

    def look(self, x: Packed, frame: Frame | None) -> tuple[NDArray[Any], Taps]:
        """Return rows of the batch and which of them every window sees; in training, in packed order.

        Raises
        ------
        ShapeError
            A sequence has no window.
        """
        self._check(len(x.batch_sizes) if x.dense else int(x.lengths[-1]))
        source = rows_in_place(x) if frame is None else packed_rows(x)
        return source.rows, taps_of(x, source, self.window, _memory if frame is None else frame.take)


def _memory(name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    return cast(NDArray[Any], np.empty(shape, dtype))
