"""Few small sequences whose inputs another core prepares: what a layer keeps of one batch for the next of its shape."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernels.lstm_ahead import chunks_of, infer_ahead, point_to, rows_of, task_ahead
from ..kernels.lstm_step import take_steps
from ..kernels.scratch import borrowed
from ..kernels.team import Leader
from .gate_layout import span_of

__all__ = ["Ahead"]


class _Prepared(NamedTuple):
    """Batches of a shape that came before, and from the second on what prepares their inputs."""

    shape: tuple[int, ...]
    leader: Leader | None = None
    weights: tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None = None
    task: Any = None
    ready: Any = None  # the task holds its address


class Ahead:
    """Run batches while another core prepares their inputs; a copy begins anew, for a task holds addresses."""

    def __init__(self) -> None:
        self.known: list[_Prepared] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return Ahead, ()

    def run(
        self,
        x: NDArray[Any],
        hidden: NDArray[Any],
        cells: NDArray[Any],
        weights: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
        cost: float,
    ) -> bool:
        """Run all steps and tell whether that was done; `kernels.lstm_ahead.point_to` says what the arrays are.

        It is not for the first batch of a shape, but for those that follow it: a kernel more may have to be compiled.
        """
        try:
            known = self.known.pop()  # atomic: what one call uses, no other thread has
        except IndexError:
            known = None
        if known is None or known.shape != x.shape:
            self.known.append(_Prepared(x.shape))
            return False
        units = hidden.shape[1]
        leader = known.leader or Leader(infer_ahead, take_steps, x.dtype, 2, cost)
        if known.weights is not weights:
            ready = np.empty(chunks_of(x.shape[1]), np.int64)
            known = _Prepared(x.shape, leader, weights, task_ahead(units, weights, ready, x.shape), ready)
        with borrowed(rows_of(*x.shape[:2]) * 4 * span_of(units, x.dtype), x.dtype) as gates:
            point_to(known.task, x, hidden, cells, gates)
            leader.lead(known.task)
        self.known.append(known)
        return True
