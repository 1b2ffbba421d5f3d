"""A recurrence: one geometry, its parameters, and what is derived from them. Its passes are in modules of their own."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import threads
from ..data.packed import EmbeddingGather, Packed
from ..runtime import config
from ..runtime.workspace import aligned, zeros
from . import inference
from .autotuner import AutoTuner
from .geometry import NO_IDS, BatchShape, Direction, Geometry
from .plan import Plan, plan_for
from .products import times
from .weights import PackedWeights, pack_weights

__all__ = ["PlainWeights", "Recurrence", "State", "projectable", "run_both"]

State = tuple[NDArray[Any], ...]
"""h, and c of cells that have one: each (N, P) or (N, H), in packed order."""

PlainWeights = tuple[NDArray[Any], ...]
"""A `PackedWeights` as a plain tuple, without what a plain cell lacks: it costs half as much to pass to a kernel."""

Source = tuple[tuple[NDArray[Any], int, int, int], NDArray[np.int64]]
"""Where inputs lie: ``x`` and ``ids`` of a `geometry.Direction`."""

_PLANS = 256
"""Plans that are kept at most."""


class _Projected(NamedTuple):
    """The input products of every row of a table, and what they were made from."""

    weights: PlainWeights
    version: object
    products: NDArray[Any]


def projectable(x: Packed) -> EmbeddingGather | None:
    """Return what the rows are made of, if the products of the whole table cost less than those of the rows."""
    lookup = x.lookup
    return lookup if lookup is not None and 2 * len(lookup.table) <= x.total else None


class Recurrence:
    """What runs a recurrent layer.

    Parameters
    ----------
    geometry : Geometry
    params : mapping of str to array
        The layer's own, by torch's names: read when they are packed.
    """

    def __init__(self, geometry: Geometry, params: Mapping[str, NDArray[Any]]):
        self.geometry, self.params = geometry, params
        self.tuner = AutoTuner()
        self._weights: list[tuple[PlainWeights, PackedWeights]] = []  # none, or the one that all calls use
        self._projected: _Projected | None = None
        self._plans: dict[tuple[int, int, int, bool, int], Plan] = {}
        self._tuned = config.TUNED
        self._padded_units, self._h_features, self._dtype = geometry.padded_units, geometry.h_features, geometry.dtype
        self._has_cell = geometry.cell.has_cell

    def changed(self) -> None:
        """Forget what was derived from the parameters."""
        self._weights, self._projected = [], None  # a thread that packs the old ones just now keeps the old list
        self.tuner.forget_weights()

    def packed(self) -> PlainWeights:
        """Return the weights as kernels of inference take them."""
        kept = self._weights
        return kept[0][0] if kept else self._pack(kept)[0]

    def record(self) -> PackedWeights:
        """Return the weights by name."""
        kept = self._weights
        return kept[0][1] if kept else self._pack(kept)[1]

    def _pack(self, kept: list[tuple[PlainWeights, PackedWeights]]) -> tuple[PlainWeights, PackedWeights]:
        """Pack the weights, and let the next call find them."""
        record = pack_weights(self.geometry, self.params)
        kept.append((tuple(record[:3] if self.geometry.cell.plain else record), record))
        return kept[0]

    def projected(self, table: NDArray[Any], version: object) -> NDArray[Any]:
        """Return ``W_ih e + b`` of every row e of a table: (V, G * S), kept until one of them changes."""
        weights, known = self.packed(), self._projected
        if known is None or known.weights is not weights or known.version is not version:
            products = self.project(table, aligned((len(table), self.geometry.gate_columns), self._dtype))
            known = self._projected = _Projected(weights, version, products)
        return known.products

    def project(self, rows: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
        """Write ``W_ih x + b`` of rows (M, D) to `out` (M, G * S), and return it."""
        weights = self.record()
        return times(rows, weights.input, weights.bias, out, self.geometry.cell.columns)

    # --- inference ------------------------------------------------------------------------------------------------

    def plan(self, count: int, steps: int, directions: int, backwards: bool) -> Plan:
        """Return the plan for dense batches of a shape."""
        if self._tuned is not config.TUNED:
            self._plans, self._tuned = {}, config.TUNED
        key = count, steps, directions, backwards, threads.get_num_threads()
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= _PLANS:
                self._plans = {}
            batch = BatchShape.dense(count, steps)
            plan = self._plans[key] = plan_for(self.geometry, batch, key[-1], directions, backwards)
        return plan

    def start(self, count: int, state: State | None) -> NDArray[Any]:
        """Return the array of c, (N, B * L), with the start state; (0, B * L) for a cell that has none."""
        if not self._has_cell:
            return np.empty((0, self._padded_units), self._dtype)
        cells = zeros((count, self._padded_units), self._dtype)
        if state is not None:
            cells[:, : self.geometry.units] = state[1]
        return cells

    def infer_dense(
        self, x: tuple[NDArray[Any], int, int, int], count: int, steps: int, state: State | None, backwards: bool
    ) -> tuple[NDArray[Any], State]:
        """Run a dense batch whose rows lie as `x` says; return h of every step, time-major, and the final state.

        The state's arrays are views.
        """
        total = count * steps
        hidden, cells = aligned((count + total, self._h_features), self._dtype), self.start(count, state)
        hidden[:count] = 0.0 if state is None else state[0]
        if backwards:
            values, _, step, sequence = x
            x = values, (steps - 1) * step, -step, sequence
        plan, place = (
            self.plan(count, steps, 1, backwards),
            (hidden.reshape(-1), self._h_features, self._h_features, False),
        )
        if plan.serial:
            inference.run_serial(self.geometry, plan, x, NO_IDS, place, cells, self.packed())
        else:
            direction = Direction(x, NO_IDS, place, cells, self.packed())
            inference.run(self.geometry, plan, (direction,), self.tuner)
        return hidden[count:], self.state_of(hidden[total:], cells)

    def infer(self, x: Packed, state: State | None) -> tuple[NDArray[Any], State]:
        """Run a batch in packed order, read as it lies; return h of every step (M, P) and the final state, views."""
        count = x.sequences
        hidden = aligned((count + x.total, self._h_features), self._dtype)
        hidden[:count] = 0.0 if state is None else state[0]
        plan = self._plan_of(x)
        place, cells = (hidden.reshape(-1), self._h_features, self._h_features, False), self.start(count, state)
        direction = Direction(*self.input_of(x, plan), place, cells, self.packed())
        inference.run(self.geometry, plan, (direction,), self.tuner)
        rows = hidden[count:]
        return rows, self.state_of(x.last_of(rows), cells)

    def _plan_of(self, x: Packed, directions: int = 1) -> Plan:
        """Return the plan of a batch, in any order of its steps."""
        if x.dense:
            step = 1 if x.lookup is not None else x.strided().step
            return self.plan(x.sequences, len(x.batch_sizes), directions, step < 0)
        return plan_for(self.geometry, BatchShape.of(x), threads.get_num_threads(), directions)

    def input_of(self, x: Packed, plan: Plan) -> Source:
        """Return where a batch's rows lie; of rows of a table, where their products do, if that is less work."""
        lookup = projectable(x)
        if lookup is not None and not inference.shares_units(plan):
            return (self.projected(lookup.table, lookup.version).reshape(-1), 0, 0, 0), lookup.ids
        values, first, step, sequence = x.strided()
        return (values, first, step, sequence), NO_IDS

    def state_of(self, h: NDArray[Any], cells: NDArray[Any]) -> State:
        """Return the state whose c is in an array of kernels."""
        return (h, cells[:, : self.geometry.units]) if self._has_cell else (h,)


def run_both(
    recurrences: tuple[Recurrence, Recurrence],
    inputs: tuple[Source, Source],
    shape: tuple[int, int],
    states: tuple[State | None, State | None],
    tuner: AutoTuner,
) -> tuple[NDArray[Any], Callable[[], tuple[State, State]]]:
    """Run both directions of a dense batch (N, T) beside each other.

    Both have one geometry; the second one's input is read from its end. Both write into the halves of the same rows
    (M, 2P), which are returned with what gives both final states. Cores share directions and sequences.
    """
    ahead, back = recurrences
    (count, steps), features = shape, ahead.geometry.h_features
    total = count * steps
    # N rows of h0 for the forward direction, the M rows of the output, N rows of h0 for the backward one
    hidden = aligned((total + 2 * count, 2 * features), ahead.geometry.dtype)
    hidden[:count, :features] = 0.0 if states[0] is None else states[0][0]
    hidden[total + count :, features:] = 0.0 if states[1] is None else states[1][0]
    values = hidden.reshape(-1)
    places = (
        (values, 2 * features, features, False),
        (values[(2 * count + 1) * features :], 2 * features, features, True),
    )
    cells = ahead.start(count, states[0]), back.start(count, states[1])
    directions = (
        Direction(*inputs[0], places[0], cells[0], ahead.packed()),
        Direction(*inputs[1], places[1], cells[1], back.packed()),
    )
    inference.run(ahead.geometry, ahead.plan(count, steps, 2, False), directions, tuner)
    return hidden[count : count + total], lambda: (
        ahead.state_of(hidden[total : total + count, :features], cells[0]),
        back.state_of(hidden[count : 2 * count, features:], cells[1]),
    )
