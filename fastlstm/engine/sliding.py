"""Windows that slide over the steps of sequences: how many there are, what each one sees, and which ones see a step.

A window has ``size`` taps, ``dilation`` steps apart, and moves by ``stride`` steps. Padding lies around the true steps
of each sequence: what a window sees does not depend on the batch that its sequence is in.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.lengths import longest_first, same_length
from ..data.packed import Packed, writeable
from ..kernels.taps import find_taps, turn_taps
from ..runtime import config
from ..runtime.pool import parallel_for

__all__ = ["SlidingWindow", "StepRows", "Taps", "packed_rows", "reads_of", "rows_in_place", "taps_of"]

Memory = Callable[[str, tuple[int, ...], Any], NDArray[Any]]
"""Gives memory for an array, of a name, a shape and a dtype."""

_NS_PER_TAP = 1.0
"""Estimate, in ns: to find one row."""


class SlidingWindow(NamedTuple):
    """Where windows over a sequence stand, with Keras's meaning of `padding`.

    valid
        No padding: every tap sees a true step. A sequence shorter than the window has none.
    same
        As many windows as strides fit into the sequence; the padding is halved, the odd step comes last (as in
        TensorFlow).
    causal
        All padding comes first: the last tap of a window sees the window's own step.
    """

    size: int
    stride: int = 1
    dilation: int = 1
    padding: str = "valid"

    @property
    def reach(self) -> int:
        """Steps from the first tap to the last, both counted."""
        return (self.size - 1) * self.dilation + 1

    @property
    def keeps_lengths(self) -> bool:
        """Whether there is a window for each step."""
        return self.stride == 1 and (self.padding != "valid" or self.size == 1)

    def windows_in(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many windows sequences of these lengths have: none, or fewer, where they are too short."""
        if self.padding != "valid":
            return -(-lengths // self.stride)
        return (lengths - self.reach) // self.stride + 1

    def before(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many steps of padding come before sequences of these lengths."""
        if self.padding == "valid":
            return np.zeros_like(lengths)
        if self.padding == "causal":
            return np.full_like(lengths, self.reach - 1)
        seen = (self.windows_in(lengths) - 1) * self.stride + self.reach
        before: NDArray[np.int64] = np.maximum(seen - lengths, 0) // 2
        return before


class Taps(NamedTuple):
    """What every window of a batch sees.

    Attributes
    ----------
    rows : ndarray of int64, shape (K, R)
        The row that tap k of window r sees; -1 in the padding. Window r makes row r of the output.
    batch_sizes : ndarray of int64
        Those of the output.
    before : ndarray of int64, shape (N,)
        Steps of padding before each sequence.
    """

    rows: NDArray[np.int64]
    batch_sizes: NDArray[np.int64]
    before: NDArray[np.int64]

    def output(self, rows: NDArray[Any], x: Packed) -> Packed:
        """Return the batch of one row for each window over `x`; its sequences keep their order."""
        return Packed(rows, self.batch_sizes, x.order)


class StepRows(NamedTuple):
    """Rows as they lie in memory: row ``begins[t] + n * apart`` is step t of the n-th longest sequence."""

    rows: NDArray[Any]
    begins: NDArray[np.int64]
    apart: int


def packed_rows(x: Packed) -> StepRows:
    """Return the rows in their packed order, as kernels take them."""
    return StepRows(writeable(np.ascontiguousarray(x.rows)), x.offsets, 1)


def rows_in_place(x: Packed) -> StepRows:
    """Return the rows as they lie, without a copy where they lie step by step or sequence by sequence."""
    given = x.in_place
    if given.ndim == 3:
        by_sequence = given.swapaxes(0, 1)
        if by_sequence.flags.c_contiguous and by_sequence.flags.writeable:
            steps = len(given)
            return StepRows(by_sequence.reshape(-1, x.features), np.arange(steps), steps)
    return packed_rows(x)


def taps_of(x: Packed, source: StepRows, window: SlidingWindow, memory: Memory) -> Taps:
    """Find which rows of `source` all windows over a batch see; its sequences have one window each at least."""
    steps = len(x.batch_sizes)
    if x.dense and steps * x.sequences * window.size <= config.TUNED.kept_taps:
        return _dense_taps(steps, x.sequences, source.apart, window)
    lengths = x.lengths
    if window.keeps_lengths:
        batch_sizes = x.batch_sizes
    elif x.dense:
        batch_sizes = same_length(int(window.windows_in(lengths[:1])[0]), x.sequences)
    else:
        batch_sizes = longest_first(window.windows_in(lengths))[1]  # longer ones have no fewer: the order stays
    return _find(source.begins, source.apart, lengths, batch_sizes, window, memory)


@lru_cache(maxsize=64)
def _dense_taps(steps: int, count: int, apart: int, window: SlidingWindow) -> Taps:
    """Return the taps of a dense batch, which others share: they must not be written to."""
    lengths = np.full(count, steps)
    batch_sizes = same_length(int(window.windows_in(lengths[:1])[0]), count)
    begins = np.arange(steps) * (count if apart == 1 else 1)

    def memory(name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        return np.empty(shape, dtype)

    return _find(begins, apart, lengths, batch_sizes, window, memory)


def _find(
    begins: NDArray[np.int64],
    apart: int,
    lengths: NDArray[np.int64],
    batch_sizes: NDArray[np.int64],
    window: SlidingWindow,
    memory: Memory,
) -> Taps:
    """Find the taps of windows over sequences of these lengths, so many windows at each step."""
    out_begins, before = np.concatenate(([0], np.cumsum(batch_sizes))), window.before(lengths)
    rows = memory("taps", (window.size, int(out_begins[-1])), np.int64)
    parallel_for(
        find_taps,
        *(begins, apart, lengths, before, out_begins, window.stride, window.dilation, rows),
        count=len(batch_sizes),
        cost=_NS_PER_TAP * rows.size,
    )
    return Taps(rows, batch_sizes, before)


def reads_of(taps: Taps, total: int, memory: Memory) -> NDArray[np.int64]:
    """Return, for `total` rows, which window sees each by which tap: (K, M), -1 where none does.

    The taps are those of rows in packed order.
    """
    size = len(taps.rows)
    windows = memory("windows", (size, total), np.int64)
    parallel_for(turn_taps, taps.rows, windows, count=size, cost=_NS_PER_TAP * (windows.size + taps.rows.size))
    return windows
