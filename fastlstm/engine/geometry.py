"""The geometry of a recurrence: its cell, its sizes, and how they lie in registers; and what a batch asks of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.lengths import same_length
from ..data.packed import Packed
from ..kernels.cells import Cell
from ..kernels.recurrent.layout import packed_units_of
from ..kernels.recurrent.sequence import apart_width
from ..runtime import config
from ..simd.host import REGISTERS

__all__ = ["NO_IDS", "BatchShape", "Direction", "Geometry"]

NO_IDS = np.empty(0, np.int64)
"""For a `Direction` whose `x` holds features."""


class Geometry:
    """A cell and its sizes. Letters as in `kernels.recurrent.sequence`.

    Parameters
    ----------
    cell : Cell
    units, features, h_features : int
        H, D, and P: H, but for a projection.
    dtype : dtype
    """

    __slots__ = (
        "_key",
        "cell",
        "dtype",
        "features",
        "gate_columns",
        "gates",
        "h_features",
        "lanes",
        "padded_units",
        "panel_width",
        "panels",
        "plain",
        "scales",
        "units",
    )

    def __init__(self, cell: Cell, units: int, features: int, h_features: int, dtype: np.dtype[Any]):
        self.cell, self.units, self.features, self.h_features, self.dtype = cell, units, features, h_features, dtype
        self._key = cell.name, units, features, h_features, dtype
        self.lanes = REGISTERS.lanes(dtype.itemsize)
        """L, the values of a register."""
        self.gates = len(cell.gates)
        """G."""
        self.plain = cell.plain
        """Whether the cell has no weights besides W_ih, W_hh and biases that are added to the inputs."""
        self.scales = np.array(cell.scales)
        """The cell's ``scales``."""
        self.padded_units = -(-units // self.lanes) * self.lanes
        """Units up to whole registers, B * L: a row of cells."""
        self.panels = -(-units // (cell.blocks * self.lanes))
        """Panels of the recurrent weights."""
        self.panel_width = cell.columns * self.lanes
        """Columns of a panel, C * L."""
        self.gate_columns = self.gates * packed_units_of(units, self.lanes, cell.halves)
        """Columns of a row of gates, G * S."""

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Geometry) and self._key == other._key)

    def __hash__(self) -> int:
        return hash(self._key)

    def apart_columns(self, training: bool) -> int:
        """Columns that a row needs beside the gates, A."""
        return apart_width(self.cell, self.units, self.lanes, training)

    def cost(self, rows: int, features: int | None = None) -> float:
        """Estimate the nanoseconds of arithmetic, on one core, of `rows` steps that read so many features besides h."""
        tuned = config.TUNED
        inputs = self.h_features + (self.features if features is None else features) + tuned.units_overhead
        projection = self.units * self.h_features if self.cell.project else 0
        return tuned.ns_per_multiply * rows * (self.units * inputs * self.gates + projection) / 4


class BatchShape(NamedTuple):
    """The lengths of a batch's sequences."""

    sequences: int
    """N."""
    steps: int
    """T, of the longest."""
    total: int
    """M, the rows of all."""
    batch_sizes: NDArray[np.int64]
    lengths: NDArray[np.int64] | None
    """Of each sequence in packed order; None where all are alike."""

    def last_rows(self) -> slice | NDArray[np.int64]:
        """Return the rows of each sequence's last step, in packed order."""
        if self.lengths is None:
            return slice(self.total - self.sequences, self.total)
        offsets = np.concatenate(([0], np.cumsum(self.batch_sizes)))
        rows: NDArray[np.int64] = offsets[self.lengths - 1] + np.arange(self.sequences)
        return rows

    @classmethod
    def of(cls, x: Packed) -> "BatchShape":
        """Return the shape of a batch."""
        lengths = None if x.dense else x.lengths
        return cls(x.sequences, len(x.batch_sizes), x.total, x.batch_sizes, lengths)

    @classmethod
    def dense(cls, count: int, steps: int) -> "BatchShape":
        """Return the shape of a batch of `count` sequences of `steps` steps."""
        return cls(count, steps, count * steps, same_length(steps, count), None)


class Direction(NamedTuple):
    """One direction of a batch: arguments of `kernels.recurrent.sequence`'s ``infer``."""

    x: tuple[NDArray[Any], int, int, int]
    """A `data.packed.Strided`, as a plain tuple."""
    ids: NDArray[np.int64]
    hidden: tuple[NDArray[Any], int, int, bool]
    """Values, row width, P, and whether steps go out from the last row to the first."""
    cells: NDArray[Any]
    """(N, B * L): c0, after the call the final c; (0, B * L) for a cell that has none."""
    weights: Sequence[NDArray[Any]]
