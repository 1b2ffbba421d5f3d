"""Regions without the GIL: work of microseconds that comes again and again, shared by cores that spin.

A coordinator writes a work descriptor and publishes chunks, some for each core. All cores claim chunks until none is
left, their own first, for their data are in that core's cache. So the work ends when it can, however late the others
come; only a chunk that was begun elsewhere is waited for. It pays from 20 microseconds on.

Where another process has the second core, a worker loses it for 3 ms at a time, and the work with it. So each call's
time is held against what it takes alone; coordination that has lost too much backs off for a while.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..simd.atomic import fetch_add, load_acquire, pause, store_release, yield_core
from ..simd.jit import jit_inner
from . import config, pool
from .pool import DESCRIPTOR_WORDS, DONE, LEFT, MADE, POSTED, WORDS

__all__ = [
    "CHUNKS",
    "KIND",
    "PARTS",
    "Coordinator",
    "claim",
    "finish",
    "has_chunk",
    "is_over",
    "publish",
    "wait_for_all",
    "worker_begins",
]

KIND, PARTS, CHUNKS = range(3)
"""Places in every descriptor: what kind of work it is; cores, and chunks of each."""

_YIELD_EVERY = config.TUNED.yield_every


@jit_inner
def publish(words, descriptor, next_descriptor, alone):
    """Write the descriptor and publish each core's chunks; of a coordinator that is alone, one core's."""
    for word in range(len(next_descriptor)):
        descriptor[word] = next_descriptor[word]
    if alone:
        descriptor[PARTS] = 1
    for part in range(descriptor[PARTS]):
        store_release(words, part * WORDS + MADE, 0)
    for part in range(descriptor[PARTS]):
        store_release(words, part * WORDS + LEFT, descriptor[CHUNKS])


@jit_inner
def claim(words, descriptor, mine):
    """Claim a chunk, the core's own first: return whose it is and how many that one had left, or 0 if none is left."""
    parts = descriptor[PARTS]
    for place in range(parts):
        part = (mine + place) % parts
        if load_acquire(words, part * WORDS + LEFT) > 0:
            left = fetch_add(words, part * WORDS + LEFT, -1)
            if left > 0:  # else another was faster
                return part, left
    return mine, 0


@jit_inner
def finish(words, part):
    """Say that one of a core's chunks is finished."""
    fetch_add(words, part * WORDS + MADE, 1)


@jit_inner
def wait_for_all(words, descriptor):
    """Wait until all chunks are finished: some may have been begun elsewhere."""
    waited = 0
    for part in range(descriptor[PARTS]):
        while load_acquire(words, part * WORDS + MADE) < descriptor[CHUNKS]:
            pause()
            waited += 1
            if waited % _YIELD_EVERY == 0:
                yield_core()


@jit_inner
def worker_begins(words, mine, until):
    """Say that a worker has finished the job before number `until`."""
    store_release(words, mine * WORDS + DONE, until - 1)


@jit_inner
def is_over(words, mine, until):
    """Tell whether a worker's job `until` has been posted."""
    return load_acquire(words, mine * WORDS + POSTED) >= until


@jit_inner
def has_chunk(words, mine, until, spins):
    """Look for a chunk of one's own; tell whether there is one, before the worker has to leave."""
    while spins > 0 and load_acquire(words, mine * WORDS + POSTED) < until:
        if load_acquire(words, mine * WORDS + LEFT) > 0:
            return True
        pause()
        spins -= 1
        if spins % _YIELD_EVERY == 0:
            yield_core()
    return False


class Coordinator:
    """Short work that comes again and again, done together with cores that spin, if that is faster.

    Parameters
    ----------
    kernel : callable
        ``kernel(words, descriptor, next_descriptor, like, row, until, spins)``: with row 0 it publishes
        `next_descriptor` and takes part, alone if `until` is 1; with another row it is a worker's loop, which leaves
        when the worker's job `until` is posted or after so many looks without a chunk.
    workers_by : sequence of callables
        Workers take chunks by any of these: the one that they run, else the first.
    dtype : dtype
        Of the kernel's arrays.
    """

    def __init__(
        self, kernel: Callable[..., bool], workers_by: Sequence[Callable[..., bool]], dtype: np.dtype[Any]
    ) -> None:
        self._kernel, self._workers_by, self._like = kernel, workers_by, np.empty(1, dtype)
        self._words = np.zeros(2 * WORDS, np.int64)  # to work alone with
        self._descriptor = np.zeros(DESCRIPTOR_WORDS, np.int64)
        self._calls = 0
        self.alone = np.inf
        """Seconds that it takes alone, for each nanosecond of its estimated cost."""

    @property
    def backs_off(self) -> bool:
        """Whether, for now, it would work alone: the other cores are busy with something else."""
        return time.perf_counter() < pool.current().backs_off_until or pool.oversubscribed()

    def run(self, descriptor: NDArray[np.int64], workers: int, cost: float) -> float | None:
        """Do what a descriptor says; return the seconds that it took with workers, None if it was done alone.

        Arrays whose addresses the descriptor holds must live until this returns. At most so many `workers` take part;
        `cost` is an estimate of the work, in nanoseconds on one core.
        """
        tuned, cores, now = config.TUNED, pool.current(), time.perf_counter()
        self._calls += 1
        first, every = tuned.measured_alone
        measures = self._calls <= first or self._calls % every == 0
        comes_again = cost >= tuned.pool_from_ns or now - cores.coordinated < tuned.close_work_s
        if measures or not comes_again or self.backs_off or cores.busy:
            began = time.perf_counter()
            self._kernel(self._words, self._descriptor, descriptor, self._like, 0, 1, 0)
            cores.coordinated = time.perf_counter()
            if self._calls > 1:  # the first one compiles, or reads the weights from far away
                took = (cores.coordinated - began) / cost
                self.alone = min(took, 1.1 * self.alone)  # not the fastest ever: machines heat up
            return None
        cores.busy = True
        try:
            cores.wake(workers)
            cores.enter_region(self._workers_by, self._like)
            began = time.perf_counter()
            self._kernel(cores.words, cores.descriptor, descriptor, self._like, 0, 0, 0)
            cores.coordinated = time.perf_counter()
            seconds = cores.coordinated - began
            cores.account(seconds - cost * self.alone)
            return seconds
        finally:
            cores.busy = False
