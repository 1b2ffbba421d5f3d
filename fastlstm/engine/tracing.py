"""What a recurrence computes, step by step and by name: its gates, its cell states and its hidden states.

The numbers are those that the training forward keeps for BPTT, without dropout; h has the bits of inference.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.packed import Packed
from .context import PassContext
from .recurrence import Recurrence, State
from .training import forward
from .weights import rows_in_torch_order

__all__ = ["Traced", "trace"]


class Traced(NamedTuple):
    """What one run of a recurrence computed, as packed rows."""

    batch: Packed
    """The batch that was read: its steps and its order are those of the arrays here."""
    gates: dict[str, NDArray[Any]]
    """The value of each gate after its activation, (M, H), in public order: i, f, g, o; r, z, n; none of a plain RNN,
    whose only gate is h itself."""
    cell: NDArray[Any] | None
    """c, (M, H); None for a cell that has none."""
    hidden: NDArray[Any]
    """h, (M, P)."""

    def turned(self) -> "Traced":
        """Return the same with the steps of every sequence in the opposite order."""

        def turn(rows: NDArray[Any]) -> NDArray[Any]:
            return self.batch.with_rows(rows).reversed().rows

        gates = {name: turn(rows) for name, rows in self.gates.items()}
        return Traced(self.batch, gates, None if self.cell is None else turn(self.cell), turn(self.hidden))


def trace(recurrence: Recurrence, x: Packed, state: State | None) -> tuple[Traced, State]:
    """Run all steps from a state in packed order (None: zeros); return what they computed, and the final state."""
    hidden, final, cache = forward(recurrence, x, state, PassContext(training=True))
    geometry = recurrence.geometry
    cell, units, total = geometry.cell, geometry.units, len(hidden)
    rows = rows_in_torch_order(geometry, cache.gates, np.empty((total, geometry.gates * units), geometry.dtype))
    by_gate = rows.reshape(total, geometry.gates, units)
    gates = {name: by_gate[:, place] for place, name in enumerate(cell.gates) if name != "h"}
    if cell.has_cell and "f" not in gates:  # line 2c of docs/lstm.md: the forget gate of a coupled LSTM
        gates = {"i": gates["i"], "f": 1.0 - gates["i"], "g": gates["g"], "o": gates["o"]}
    cells = cache.cells[x.sequences :, :units] if cell.has_cell else None
    return Traced(x, gates, cells, hidden), final
