"""Single steps of a recurrence, its state in buffers of its own: a step allocates nothing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import threads
from ..kernels.recurrent.descriptor import (
    APART,
    APART_WIDTH,
    CELLS,
    CHUNKS,
    GATES,
    HIDDEN,
    IDS,
    NOW,
    PARTS,
    STEP,
    X,
    new_descriptor,
)
from ..kernels.recurrent.sequence import sequence_loops
from ..kernels.recurrent.stream_step import worker_loop
from ..runtime import config
from ..runtime.coordinator import Coordinator
from ..runtime.workspace import address_of, aligned
from .geometry import NO_IDS
from .plan import StepPlan, step_plan_for
from .recurrence import PlainWeights, Recurrence

__all__ = ["Stepper"]

Array = NDArray[Any]


class Stepper:
    """Take `batch` sequences one step on at a call. A step gives the same bits as the same step of a whole sequence.

    Parameters
    ----------
    recurrence : Recurrence
        Its weights are packed again when they change.
    batch : int
        N.
    """

    def __init__(self, recurrence: Recurrence, batch: int):
        geometry = recurrence.geometry
        dtype, padded_units, width = geometry.dtype, geometry.padded_units, geometry.h_features
        self._recurrence, self._batch, self.geometry = recurrence, batch, geometry
        self._hidden = aligned((2, batch, width), dtype)  # before the step and after it, in turn
        self._cells = aligned((batch if geometry.cell.has_cell else 0, padded_units), dtype)
        self._hidden[...] = self._cells[...] = 0.0
        self._now = 0  # which half of `hidden` is the state
        self._gates = aligned((batch * geometry.gate_columns,), dtype)
        self._apart = aligned((batch * geometry.apart_columns(True),), dtype)
        size = batch * (geometry.gate_columns + geometry.apart_columns(False))
        self._scratch = aligned((size,), dtype)
        self._features = geometry.features
        self._plan, self._threads = StepPlan(1, 1, 0.0), 0
        self._infer = sequence_loops(geometry.cell).infer
        self._coordinator: Coordinator | None = None
        self._halves: tuple[Array, Array] = (self._hidden[0], self._hidden[1])
        self._alone: tuple[Any, ...] | None = None  # weights; a call's arguments from `hidden` on, for either half
        self._shared: tuple[object, object, Array, Array] | None = (
            None  # weights, table; descriptor, and x or ids for it
        )

    @property
    def state(self) -> tuple[Array, ...]:
        """The arrays that hold h, and c of cells that have one."""
        h = self._hidden[self._now]
        return (h, self._cells[:, : self.geometry.units]) if self.geometry.cell.has_cell else (h,)

    def may_keep(self, rows: int) -> bool:
        """Tell whether the products of a table of so many rows are few enough to be kept."""
        return rows * self.geometry.gate_columns * self.geometry.dtype.itemsize <= config.TUNED.stream_table_bytes

    def step(self, rows: Array) -> Array:
        """Read one row of features of each sequence (N, D); return h (N, P), valid until the next step but one."""
        weights, now = self._recurrence.packed(), self._now
        if self._threads != threads.get_num_threads():
            self._ask_plan(self.geometry.features)
        if self._plan.cores > 1:
            self._share(rows, None, NO_IDS, weights)
        else:
            known = self._alone
            if known is None or known[0] is not weights:
                known = self._know(weights)
            self._infer((rows.ravel(), 0, 0, self._features), self._features, NO_IDS, *known[1 + now])
        self._now = 1 - now
        return self._halves[1 - now]

    def step_of_table(self, ids: NDArray[np.int64], table: Array, version: object) -> Array:
        """Do the same with rows of a table, by their ids (N,)."""
        weights, now = self._recurrence.packed(), self._now
        products = self._recurrence.projected(table, version)
        if self._threads != threads.get_num_threads():
            self._ask_plan(0)
        if self._plan.cores > 1:
            self._share(ids, products, ids, weights)
        else:
            known = self._alone
            if known is None or known[0] is not weights:
                known = self._know(weights)
            self._infer((products.ravel(), 0, 0, self._features), self._features, ids, *known[1 + now])
        self._now = 1 - now
        return self._halves[1 - now]

    def _ask_plan(self, features: int) -> None:
        """Ask over how many cores a step goes."""
        self._threads = threads.get_num_threads()
        self._plan = step_plan_for(self.geometry, self._batch, features, self._threads)

    def _know(self, weights: PlainWeights) -> tuple[Any, ...]:
        """Keep what a step alone gives its kernel with these weights."""
        known = self._alone = weights, *(self._arguments(weights, back) for back in (False, True))
        return known

    def _arguments(self, weights: PlainWeights, reverse_out: bool) -> tuple[Any, ...]:
        """Return the arguments of ``infer`` from `hidden` on, for a step from the first half to the second or back."""
        width, batch = self.geometry.h_features, self._batch
        hidden = self._hidden.reshape(-1), width, width, reverse_out
        sizes = np.array([batch])
        return hidden, self._cells.reshape(-1), self.geometry.units, sizes, weights, batch, self._scratch, 0, batch

    def _share(self, source: Any, table: Array | None, ids: NDArray[np.int64], weights: PlainWeights) -> None:
        """Take the step on several cores, each with some of the units."""
        geometry, known, plan = self.geometry, self._shared, self._plan
        if self._coordinator is None:
            kernel = worker_loop(geometry.cell)
            self._coordinator = Coordinator(kernel, (kernel,), geometry.dtype)
        if known is None or known[0] is not weights or known[1] is not table:
            # what is read on all cores lies always in the same place
            given = aligned(source.shape, source.dtype) if table is None else np.empty(self._batch, np.int64)
            shape = self._batch, 1, geometry.features, geometry.units
            words = new_descriptor(STEP, weights, shape, geometry.h_features)
            words[X], words[IDS] = (address_of(given), 0) if table is None else (address_of(table), address_of(given))
            words[HIDDEN], words[CELLS] = address_of(self._hidden), address_of(self._cells)
            words[GATES], words[APART] = address_of(self._gates), address_of(self._apart)
            words[APART_WIDTH] = geometry.apart_columns(True)
            words[PARTS], words[CHUNKS] = plan.cores, plan.chunks
            known = self._shared = weights, table, words, given
        _, _, words, given = known
        given[...] = source if table is None else ids
        words[PARTS], words[CHUNKS], words[NOW] = plan.cores, plan.chunks, self._now
        self._coordinator.run(words, plan.cores - 1, plan.cost)
