"""Batches that cores share without the GIL: what a layer keeps of them, and which way has turned out the fastest."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import team
from .ways import NEVER_ALONE, Direction, Shape, Way

__all__ = ["Led"]

_DECLINED = 2
"""How often a batch of a new kind is declined."""

_TRIES, _HOLDS, _NEAR = 4, (0.05, 3.0), 1.5
"""How often a way is tried, the first time not counting; seconds after which it is tried again, the first time and at
most: at the start another library may have a core for itself, as NumPy's BLAS has for 50 ms after it made weights; and
the part of the fastest one's time up to which it is at last."""

_CALL = 12e-6
"""Seconds that a batch shall save: to lead takes as long in Python."""

_DECAY = 1.1
"""What a way took when it was tried before counts for so much more: one bad moment decides nothing."""

_KINDS = 64
"""Kinds of batches that are kept at most."""


class _Entrant:
    """One way to run batches of a kind: who leads it, its task for the batch that came last, and what it takes."""

    def __init__(self, way: type[Way], dtype: np.dtype[Any]) -> None:
        self._way, self.leader = way, team.Leader(*way.kernels, dtype)
        self._shape: Shape | None = None
        self._ready: Way | None = None
        self._cost = 0.0
        self.tried, self.time = 0, np.inf  # in seconds, for each nanosecond of cost

    def run(self, shape: Shape, directions: Sequence[Direction], cost: float) -> None:
        """Run all steps."""
        ready, self._cost = self._ready, cost
        if (
            ready is None
            or shape != self._shape
            or any(old is not new.weights for old, new in zip(ready.weights, directions, strict=True))
        ):
            ready, self._shape = self._way(shape, directions, cost), shape
            self._ready = ready
        ready.run(directions, self._lead)

    def _lead(self, task: NDArray[np.int64], followers: int) -> None:
        took = self.leader.lead(task, followers, self._cost)
        if took is not None and self.tried < _TRIES:
            self.tried += 1
            if self.tried > 1:
                self.time = min(self.time, took / self._cost)

    def forget_weights(self) -> None:
        """Let go of the weights, and of what depends on them."""
        self._ready = None

    def enter_again(self) -> None:
        """Let it be tried again."""
        self.tried, self.time = 0, _DECAY * self.time


class _Kind:
    """Batches of a kind: so many sequences, of any length, on so many cores. Each call has its own."""

    def __init__(self) -> None:
        self.declined = 0
        self.entrants: dict[type[Way], _Entrant] = {}
        self._best: dict[tuple[type[Way], ...], tuple[_Entrant, float]] = {}  # of these ways; what they take alone
        self._holds, self._until = _HOLDS[0], np.inf  # for how many seconds that is settled, and until when

    def choose(self, ways: tuple[type[Way], ...], dtype: np.dtype[Any], cost: float) -> _Entrant | None:
        """Return the fastest way; in turn those that were not tried yet. None: it is faster to work alone."""
        now = time.perf_counter()
        if now >= self._until:
            least = min(entrant.time for entrant in self.entrants.values())
            for entrant in self.entrants.values():
                if self._holds < _HOLDS[1] or entrant.time <= _NEAR * least:
                    entrant.enter_again()
            self._best, self._until = {}, np.inf
        known = self._best.get(ways)
        if known is None:
            entrants = [self.entrants.get(way) or self.entrants.setdefault(way, _Entrant(way, dtype)) for way in ways]
            for entrant in entrants:
                if entrant.tried < _TRIES:
                    return entrant
            if not self._best:
                self._until, self._holds = now + self._holds, min(2 * self._holds, _HOLDS[1])
            best = min(entrants, key=lambda entrant: entrant.time)
            known = self._best[ways] = best, min(entrant.leader.alone for entrant in entrants)
        best, alone = known
        return best if (alone - best.time) * cost > _CALL else None


class Led:
    """Run batches with those who follow a leader; a copy begins anew, for a task holds addresses."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], list[_Kind]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Led, ()

    def forget_weights(self) -> None:
        """Let go of the weights; of each kind one call's knowledge stays."""
        for kept in list(self.known.values()):
            try:
                kind = kept.pop()  # taken out, or a call beside this would use it meanwhile
            except IndexError:
                continue
            kept.clear()
            for entrant in kind.entrants.values():
                entrant.forget_weights()
            kept.append(kind)

    def run(self, ways: tuple[type[Way], ...], shape: Shape, directions: Sequence[Direction], cost: float) -> bool:
        """Run all steps by one of these ways and tell whether that was done.

        It is declined the first two times (one call may ask twice): a kernel more may have to be compiled. Then each
        way's leader does three alone, to measure, and four with followers. It is declined where that is slower; and a
        batch of `NEVER_ALONE` nanoseconds or more while the leader rests.
        """
        if len(self.known) > _KINDS:
            self.known.clear()
        what = shape[0], team.get_num_threads()
        kept = self.known.get(what)
        if kept is None:
            kept = self.known.setdefault(what, [])
        try:
            kind = kept.pop()  # atomic: what one call uses, no other thread has
        except IndexError:
            kind = _Kind()
        if kind.declined < _DECLINED:
            kind.declined += 1
            kept.append(kind)
            return False
        entrant = kind.choose(ways, directions[0].hidden.dtype, cost)
        if entrant is not None and cost >= NEVER_ALONE and entrant.leader.rests:
            entrant = None
        if entrant is not None:
            entrant.run(shape, directions, cost)
        kept.append(kind)
        return entrant is not None
