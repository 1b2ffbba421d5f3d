"""Which execution plan is the fastest for batches of a shape class: found out by trying, as the first calls come.

An estimate made on one CPU is wrong by a third on another, so it only says which plans are worth trying.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import threads
from ..runtime import config
from ..runtime.coordinator import Coordinator
from .candidates import CoordinatedPlan
from .geometry import BatchShape, Direction, Geometry

__all__ = ["AutoTuner"]


class _Candidate:
    """One plan for batches of a class: its coordinator, what the batch that came last needs, and the time it takes."""

    def __init__(self, plan: type[CoordinatedPlan], geometry: Geometry) -> None:
        self._plan, self._geometry = plan, geometry
        self.coordinator = Coordinator(*plan.kernels(geometry.cell), geometry.dtype)
        self._key: tuple[int, int, int] | None = None
        self._ready: CoordinatedPlan | None = None
        self._cost = 0.0
        self.tried, self.time = 0, np.inf  # in seconds, for each nanosecond of cost

    def run(self, batch: BatchShape, directions: Sequence[Direction], cost: float) -> None:
        """Run all steps."""
        ready, self._cost = self._ready, cost
        key = batch.sequences, batch.steps, len(directions)
        if (
            ready is None
            or key != self._key
            or any(old is not new.weights for old, new in zip(ready.weights, directions, strict=True))
        ):
            ready, self._key = self._plan(self._geometry, batch, directions, cost), key
            self._ready = ready
        ready.run(directions, self._coordinate)

    def _coordinate(self, descriptor: NDArray[np.int64], workers: int) -> None:
        took = self.coordinator.run(descriptor, workers, self._cost)
        if took is not None and self.tried < config.TUNED.trials:
            self.tried += 1
            if self.tried > 1:
                self.time = min(self.time, took / self._cost)

    def forget_weights(self) -> None:
        """Let go of the weights, and of what depends on them."""
        self._ready = None

    def try_again(self) -> None:
        """Let it be tried again."""
        self.tried, self.time = 0, config.TUNED.trial_decay * self.time


class _ShapeClass:
    """Batches of so many sequences, of any length, on so many cores. Each call has a class of its own."""

    def __init__(self) -> None:
        self.calls = 0
        self.candidates: dict[type[CoordinatedPlan], _Candidate] = {}
        self._best: dict[tuple[type[CoordinatedPlan], ...], tuple[_Candidate, float]] = {}  # and what they take alone
        self._holds, self._until = config.TUNED.retune_s[0], np.inf  # for how many seconds that holds, and until when

    def choose(self, plans: tuple[type[CoordinatedPlan], ...], geometry: Geometry, cost: float) -> _Candidate | None:
        """Return the fastest plan; in turn those that were not tried yet. None: it is faster to work alone."""
        now, tuned = time.perf_counter(), config.TUNED
        if now >= self._until:
            least = min(candidate.time for candidate in self.candidates.values())
            for candidate in self.candidates.values():
                if self._holds < tuned.retune_s[1] or candidate.time <= tuned.keep_within * least:
                    candidate.try_again()
            self._best, self._until = {}, np.inf
        known = self._best.get(plans)
        if known is None:
            candidates = [
                self.candidates.get(plan) or self.candidates.setdefault(plan, _Candidate(plan, geometry))
                for plan in plans
            ]
            for candidate in candidates:
                if candidate.tried < tuned.trials:
                    return candidate
            if not self._best:
                self._until, self._holds = now + self._holds, min(2 * self._holds, tuned.retune_s[1])
            best = min(candidates, key=lambda candidate: candidate.time)
            known = self._best[plans] = best, min(candidate.coordinator.alone for candidate in candidates)
        best, alone = known
        return best if (alone - best.time) * cost > 1e-9 * tuned.coordination_ns else None


class AutoTuner:
    """Run batches by coordinated plans; a copy begins without knowledge, for a descriptor holds addresses."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], list[_ShapeClass]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return AutoTuner, ()

    def forget_weights(self) -> None:
        """Let go of the weights; of each class one call's knowledge stays."""
        for kept in list(self.known.values()):
            try:
                shape_class = kept.pop()  # taken out, or a call beside this would use it meanwhile
            except IndexError:
                continue
            kept.clear()
            for candidate in shape_class.candidates.values():
                candidate.forget_weights()
            kept.append(shape_class)

    def run(
        self,
        plans: tuple[type[CoordinatedPlan], ...],
        geometry: Geometry,
        batch: BatchShape,
        directions: Sequence[Direction],
        cost: float,
    ) -> bool:
        """Run all steps by one of these plans and tell whether that was done.

        It is declined the first few times: a kernel more may have to be compiled. Then each plan's coordinator does
        three calls alone, to measure, and four with workers. It is declined where that is slower; and a batch that the
        pool could share as well while the coordinator backs off.
        """
        tuned = config.TUNED
        if len(self.known) > tuned.shape_classes:
            self.known.clear()
        key = batch.sequences, threads.get_num_threads()
        kept = self.known.get(key)
        if kept is None:
            kept = self.known.setdefault(key, [])
        try:
            shape_class = kept.pop()  # atomic: what one call uses, no other thread has
        except IndexError:
            shape_class = _ShapeClass()
        if shape_class.calls < tuned.warmup_calls:
            shape_class.calls += 1
            kept.append(shape_class)
            return False
        candidate = shape_class.choose(plans, geometry, cost)
        if candidate is not None and cost >= tuned.pool_above_ns and candidate.coordinator.backs_off:
            candidate = None
        if candidate is not None:
            candidate.run(batch, directions, cost)
        kept.append(shape_class)
        return candidate is not None
