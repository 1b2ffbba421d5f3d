"""Few sequences that cores share without the GIL: what a layer keeps of one batch for the next of its shape."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.packed import same_length
from ..kernels import team
from ..kernels.lstm_ahead import chunks_of, infer_ahead, point_to, rows_of, task_ahead
from ..kernels.lstm_split import PROGRESS_STRIDE
from ..kernels.lstm_step import point_to_sequences, take_steps, task_of_sequences
from ..kernels.scratch import aligned, borrowed
from ..simd.host import REGISTERS
from . import shared_units
from .gate_layout import span_of

__all__ = ["Led"]

_NS_OF_A_CORE = 30_000.0
"""Of work that each core shall have to do at least where units are shared."""

_Weights = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


class _Known(NamedTuple):
    """Batches of a kind that came before, and from the second on who leads them, and the task."""

    kind: tuple[Any, ...]
    leader: team.Leader | None = None
    weights: _Weights | None = None
    task: Any = None
    arrays: Any = None  # the task holds their addresses


class Led:
    """Run batches with those who follow a leader; a copy begins anew, for a task holds addresses."""

    def __init__(self) -> None:
        self.known: list[_Known] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return Led, ()

    def forget_weights(self) -> None:
        """Let go of the weights, and of what depends on them."""
        self.known = [_Known(known.kind, known.leader) for known in self.known]

    def run(
        self, x: NDArray[Any], hidden: NDArray[Any], cells: NDArray[Any], weights: _Weights, cost: float, share: bool
    ) -> bool:
        """Run all steps and tell whether that was done.

        It is not for the first batch of a shape, but for those that follow it: a kernel more may have to be compiled.
        Three of these the leader does alone, to measure.

        x       (N, T, D)         float, in
        hidden  ((1 + T) * N, H)  float, the first N rows: h0; the others out
        cells   (N, B * L)        float, in: c0; out: the final c
        share   whether cores share the units, or one prepares the inputs while the other takes the steps
        """
        kind = x.shape, team.get_num_threads(), share
        try:
            known = self.known.pop()  # atomic: what one call uses, no other thread has
        except IndexError:
            known = None
        if known is None or known.kind != kind:
            self.known.append(_Known(kind))
            return False
        if known.weights is not weights:
            known = (_shared if share else _prepared)(known, x, hidden, weights, cost)
        assert known.leader is not None
        (_run_shared if share else _run_prepared)(known.leader, known.task, known.arrays, x, hidden, cells)
        self.known.append(known)
        return True


def _prepared(known: _Known, x: NDArray[Any], hidden: NDArray[Any], weights: _Weights, cost: float) -> _Known:
    ready = np.empty(chunks_of(x.shape[1]), np.int64)
    leader = known.leader or team.Leader(infer_ahead, take_steps, x.dtype, 2, cost)
    return _Known(known.kind, leader, weights, task_ahead(hidden.shape[1], weights, ready, x.shape), ready)


def _run_prepared(
    leader: team.Leader, task: Any, ready: Any, x: NDArray[Any], hidden: NDArray[Any], cells: NDArray[Any]
) -> None:
    with borrowed(rows_of(*x.shape[:2]) * 4 * span_of(hidden.shape[1], x.dtype), x.dtype) as gates:
        point_to(task, x, hidden, cells, gates)
        leader.lead(task)


def _shared(known: _Known, x: NDArray[Any], hidden: NDArray[Any], weights: _Weights, cost: float) -> _Known:
    count, steps, features = x.shape
    stride = len(weights[2]) // 4
    parts = min(team.get_num_threads(), 1 + team.MOST_FOLLOWERS, max(2, int(cost / _NS_OF_A_CORE)))
    cut = shared_units.cut_of_sequences(
        count, count * steps, stride, x.dtype, min(parts, stride // REGISTERS.lanes(x.itemsize))
    )
    progress, batch_sizes = np.zeros(cut.parts * PROGRESS_STRIDE, np.int64), same_length(steps, count)
    task = task_of_sequences(
        *(weights, batch_sizes, cut.bounds, progress, (steps, features, hidden.shape[1]), cut.height, cut.each)
    )
    leader = known.leader or team.Leader(take_steps, take_steps, x.dtype, cut.parts, cost)
    return _Known(known.kind, leader, weights, task, (progress, batch_sizes, cut))


def _run_shared(
    leader: team.Leader, task: Any, arrays: Any, x: NDArray[Any], hidden: NDArray[Any], cells: NDArray[Any]
) -> None:
    progress, _, cut = arrays
    count, stride = cells.shape
    rows = x if count == 1 else np.ascontiguousarray(x.swapaxes(0, 1))
    every_c = aligned((len(hidden), stride), x.dtype)
    every_c[:count] = cells
    progress[...] = 0
    with borrowed(cut.parts * cut.each, x.dtype) as memory:
        point_to_sequences(task, rows, hidden, every_c, memory)
        leader.lead(task)
    cells[...] = every_c[-count:]
