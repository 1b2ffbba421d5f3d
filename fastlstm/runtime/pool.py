"""The thread pool: how one call is shared over cores. Threads of Python, one level, and serial where that is faster.

A call is cut into parts of a range; the caller runs one itself and a worker each other. All run the same ``nogil``
kernel on disjoint parts of the output. ``docs/decisions/threads.md`` has the measurements behind the choice.

- A worker that has done its part spins for about 100 microseconds, then parks on a lock: in a loop of calls a second
  core is there within 10 microseconds instead of 20 to 90, and costs nothing when the loop is over.
- Once there has been a coordinator, workers spin for 400 microseconds and take the chunks of work that it publishes,
  without the GIL, in a microsecond.
- From several threads at once: one call gets the pool, the others run serially beside it; none waits.
- After ``fork``: the child begins with no pool and makes its own.
- A part that raises stops nothing: the pool finishes, then the error goes to the caller.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import threads
from ..simd.atomic import load_acquire, pause, store_release, yield_core
from ..simd.jit import jit
from . import config

__all__ = ["current", "cut", "num_chunks", "oversubscribed", "parallel_for"]

POSTED, BEGUN, DONE, LEFT, MADE, WORDS = 0, 16, 32, 48, 64, 80
"""Places of a core's words, each in cache lines of its own: the numbers of the last jobs in these states; of what a
coordinator has published for this core, the chunks that are not begun and those that are finished."""

DESCRIPTOR_WORDS = 40
"""Words of a work descriptor."""

_YIELD_EVERY = config.TUNED.yield_every


@jit
def _meet(words, say, value, look, until, spins, more):
    """Write one word, then look at another till it is at least `until`; tell whether it is. Without the GIL."""
    store_release(words, say, value)
    while load_acquire(words, look) < until and spins > 0:
        pause()
        spins -= 1
        if spins % _YIELD_EVERY == 0:
            yield_core()
    for _ in range(more):
        pause()
    return load_acquire(words, look) >= until


def _nothing() -> None:
    """Be the job of a worker that has none."""


class Worker:
    """One thread that waits for jobs, runs them, and says so.

    Words that both sides read without the GIL are in `_words`; all else is read and written with it.
    """

    def __init__(self, pool: "Pool", number: int) -> None:
        self._pool, self._number = pool, number
        self._wake = threading.Lock()  # a parked worker's
        self._end = threading.Lock()  # a parked caller's
        self._wake.acquire()
        self._end.acquire()
        self._takes_chunks = number <= config.TUNED.most_workers
        self._words = (
            pool.words[number * WORDS : (number + 1) * WORDS] if self._takes_chunks else np.zeros(WORDS, np.int64)
        )
        self._job: tuple[int, Callable[[], None]] = 0, _nothing
        self._posted = self._finished = 0
        self.parked = self._awaited = self._stirred = False
        self.error: BaseException | None = None
        self._claim = threading.Lock()
        self.running = False

    def begin(self) -> None:
        """See to it that the thread runs; an interrupt may have come before, or just after it was started."""
        if not self.running:
            threading.Thread(target=self._run, name="fastlstm", daemon=True).start()

    def _run(self) -> None:
        if not self._claim.acquire(blocking=False):
            return
        self.running = True
        number = 0
        while True:
            number += 1
            while not self._spin(number):
                self.parked = True
                while self._posted < number and not self._stirred:
                    self._wake.acquire()
                self.parked = self._stirred = False
                if self._posted >= number:
                    break
            self._words[BEGUN] = number
            try:
                which, job = self._job
                if which == number:
                    job()
            except BaseException as error:
                self.error = error
            job = _nothing  # keeps no array alive while parked
            self._job = number, job
            self._finished = number
            if self._awaited:
                _release(self._end)

    def _spin(self, number: int) -> bool:
        """Look for a job, and take a coordinator's chunks meanwhile; tell whether the job is there."""
        region = self._pool.region
        try:
            if region is None or oversubscribed() or not self._takes_chunks:
                return self._meet(DONE, number - 1, POSTED, number, config.TUNED.pool_spins)
            kernel, like = region
            words, descriptor = self._pool.words, self._pool.descriptor
            there: bool = kernel(words, descriptor, descriptor, like, self._number, number, config.TUNED.worker_spins)
        except BaseException:  # it could not be compiled: locks do without
            return False
        return there

    def stir(self) -> None:
        """Let a parked worker look once more."""
        if self.parked:
            self._stirred = True
            _release(self._wake)

    def _meet(self, say: int, value: int, look: int, until: int, spins: int, more: int = 0) -> bool:
        if oversubscribed():  # a spinning thread would keep another from its work
            spins = more = 0
        met: bool = _meet(self._words, say, value, look, until, spins, more)
        return met

    def start(self, job: Callable[[], None]) -> None:
        """Give the worker a job; the last one is over."""
        self._job = self._posted + 1, job
        self._posted += 1
        if self.parked:
            self._words[POSTED] = self._posted
            _release(self._wake)
        else:  # it needs the GIL to begin: one that takes it while we hold it would go to sleep
            tuned = config.TUNED
            self._meet(POSTED, self._posted, BEGUN, self._posted, tuned.hand_over_spins, tuned.hand_over_settle)

    @property
    def busy(self) -> bool:
        """Whether the last job is not over."""
        return self._finished < self._posted

    def wait(self) -> None:
        """Return when the last job is over."""
        if self.busy:
            self._meet(POSTED, self._posted, DONE, self._posted, config.TUNED.pool_spins)
        while self.busy:
            self._awaited = True
            _release(self._wake)  # an interrupt may have come before `start` did it
            if self.busy:
                self._end.acquire()
            self._awaited = False


def _release(lock: threading.Lock) -> None:
    """Release a lock that may be free already: the thread that waits for it looks again in any case."""
    with suppress(RuntimeError):
        lock.release()


class Pool:
    """The workers of this process, for one call at a time.

    A call looks at `busy`, sets it, and enters a ``try`` with no call in between: there CPython turns neither to
    another thread nor to a signal. (Numba needs the GIL.) A lock that a signal meets just after it was acquired stays
    locked for good.
    """

    def __init__(self) -> None:
        self.busy = False
        self.workers: list[Worker] = []
        self._asked, self._answer = 0.0, False
        self.words = np.zeros((1 + config.TUNED.most_workers) * WORDS, np.int64)
        self.descriptor = np.zeros(DESCRIPTOR_WORDS, np.int64)  # of the work that is coordinated, or was last
        self.region: tuple[Callable[..., bool], NDArray[Any]] | None = None  # kernel, and an array of its type
        self.coordinated = 0.0  # when, last
        self._lost = self._back_off = self.backs_off_until = 0.0

    def grow(self, count: int) -> None:
        """See to it that there are so many workers."""
        while len(self.workers) < count:
            self.workers.append(Worker(self, len(self.workers) + 1))
        for worker in self.workers[:count]:
            worker.begin()

    def account(self, loss: float) -> None:
        """Take into account by how many seconds coordination was slower, this time, than working alone."""
        budget, (first, longest) = config.TUNED.loss_budget_s, config.TUNED.back_off_s
        self._lost = max(self._lost + loss, -budget)
        if self._lost > budget:
            self._lost, self._back_off = 0.0, min(max(2 * self._back_off, first), longest)
            self.backs_off_until = self.coordinated + self._back_off
        elif self._lost == -budget:
            self._back_off = 0.0

    def wake(self, workers: int) -> None:
        """Let so many workers look for work, soon."""
        with suppress(RuntimeError):  # no thread can be started: the coordinator does without
            self.grow(workers)
        for worker in self.workers[:workers]:
            worker.stir()

    def enter_region(self, kernels: Sequence[Callable[..., bool]], like: NDArray[Any]) -> None:
        """Let workers take chunks by the first of these kernels, unless they do by one of them already."""
        region = self.region
        if region is not None and region[0] in kernels and region[1].dtype == like.dtype:
            return
        self.region = kernels[0], like
        try:
            workers = [worker for worker in self.workers if worker.running]
            for worker in workers:
                worker.wait()
                worker.start(_nothing)
            for worker in workers:
                worker.wait()
        except BaseException:  # an interrupt: one may still go by the old kernel
            self.region = None
            raise

    def worth_waking(self, count: int, cost: float) -> bool:
        """Tell whether `count` workers look for jobs now, or would be in time for the calls that follow this one.

        `cost` is what this call would take alone, and the one before it probably took.
        """
        now = time.perf_counter()
        since, self._asked = now - self._asked, now
        if since > config.TUNED.same_call_s:
            awake = len(self.workers) >= count and not any(worker.parked for worker in self.workers[:count])
            self._answer = awake or since < config.TUNED.calls_close_s + 1.5e-9 * cost
        return self._answer


_cores = threads.usable_cores()
_pool = Pool()


def current() -> Pool:
    """Return this process's pool."""
    return _pool


def oversubscribed() -> bool:
    """Tell whether there are more threads than cores: then none spins."""
    return threads.get_num_threads() > _cores


def _after_fork() -> None:
    """Forget the parent's threads, which do not exist here, and the call that may have them."""
    global _pool
    _pool = Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def num_chunks(cost: float, count: int) -> int:
    """Return the number of parts, for now, for work of `cost` nanoseconds that can be cut into `count` pieces."""
    tuned = config.TUNED
    if cost < tuned.pool_from_ns and cost < tuned.pool_awake_from_ns:
        return 1
    parts = min(threads.get_num_threads(), count)
    if parts <= 1:
        return 1
    if (
        cost < parts * tuned.pool_from_ns / 4
    ):  # the caller gives out parts one by one: on many cores, few and large ones
        parts = min(parts, max(2, int(4 * cost / tuned.pool_from_ns)))
    return parts if cost >= tuned.pool_from_ns or _pool.worth_waking(parts - 1, cost) else 1


def cut(count: int, parts: int, weights: Any = None) -> list[int]:
    """Return ``parts + 1`` bounds that cut range(count) evenly; by the running sum of `weights` where given."""
    if weights is None:
        return [count * part // parts for part in range(parts + 1)]
    running = weights.cumsum() - weights / 2  # at the middle of each element: a cut goes to the nearer side
    total = float(weights.sum())
    return [0, *(int(running.searchsorted(total * part / parts)) for part in range(1, parts)), count]


def parallel_for(
    kernel: Callable[..., Any],
    *args: Any,
    count: int,
    cost: float,
    each: Sequence[Any] | None = None,
    weights: Any = None,
) -> None:
    """Call ``kernel(*args, begin, end)`` for parts that make up range(count), on several cores where that pays.

    Parameters
    ----------
    kernel : callable
        Compiled with ``nogil``; calls for disjoint parts do not touch the same output.
    *args
        Passed to every call.
    count : int
        Length of the range that is cut.
    cost : float
        Estimate of the whole work, in nanoseconds on one core.
    each : sequence, optional
        One more argument for each part, before ``begin``: scratch of its own. Its length, which `num_chunks` told, is
        the number of parts.
    weights : array of float, shape (count,), optional
        Work of each element, to cut evenly; default: all alike.
    """
    parts = num_chunks(cost, count) if each is None else len(each)
    pool = _pool
    if parts == 1 or pool.busy:
        if each is None:
            kernel(*args, 0, count)
        else:
            kernel(*args, each[0], 0, count)
        return
    pool.busy = True
    try:
        try:
            for worker in pool.workers:  # an interrupt may have left one at work
                worker.wait()
                worker.error = None
            pool.grow(parts - 1)
        except RuntimeError:  # no thread can be started
            kernel(*args, *(() if each is None else (each[0],)), 0, count)
            return
        bounds = cut(count, parts, weights)

        def job(part: int) -> Callable[[], None]:
            own = () if each is None else (each[part],)
            return lambda: kernel(*args, *own, bounds[part], bounds[part + 1])

        started: list[Worker] = []
        try:
            for part, worker in enumerate(pool.workers[: parts - 1], start=1):
                started.append(worker)
                worker.start(job(part))
            job(0)()
        finally:
            _join(started)
    finally:
        pool.busy = False


def _join(workers: list[Worker]) -> None:
    """Wait for all, then raise the first error; an interrupt waits too, for the parts write to the caller's arrays."""
    errors: list[BaseException] = []
    while any(worker.busy for worker in workers):
        try:
            for worker in workers:
                worker.wait()
        except BaseException as error:  # noqa: PERF203 - a signal's handler raised
            errors.append(error)
    for worker in workers:
        if worker.error is not None:
            errors.append(worker.error)
            worker.error = None
    if errors:
        raise errors[0]
