"""How one call is shared over cores: parked threads, one level, and serial whenever that is safer or faster.

A call is cut into parts of a range; the caller runs one itself and wakes a parked Python thread for each other. All run
the same ``nogil`` kernel on disjoint parts of the output. ``docs/design.md`` holds the measurements behind the choice.

- From several threads at once: one call gets the team, the others run serially beside it; none waits.
- After ``fork``: the child begins with no team and makes its own.
- A part that raises stops nothing: the team finishes, then the error goes to the caller.
"""

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import OptionError

__all__ = ["get_num_threads", "set_num_threads", "share", "threads_for"]

SERIAL_BELOW = 300_000.0
"""Estimated nanoseconds of work below which waking a thread (20 to 90 microseconds) does not pay: 190 us took 260."""


class _Worker:
    """One parked thread: it waits for a job, runs it, and reports back."""

    def __init__(self) -> None:
        self._wake = threading.Lock()
        self._done = threading.Lock()
        self._wake.acquire()
        self._done.acquire()
        self._job: Callable[[], None] | None = None
        self.error: BaseException | None = None
        threading.Thread(target=self._run, name="fastlstm", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._wake.acquire()
            try:
                assert self._job is not None
                self._job()
            except BaseException as error:
                self.error = error
            self._job = None  # keeps no array alive while parked
            self._done.release()

    def start(self, job: Callable[[], None]) -> None:
        self._job = job
        self._wake.release()

    def wait(self) -> None:
        self._done.acquire()


class _Team:
    """The workers of this process, and the lock that one call at a time holds."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.workers: list[_Worker] = []

    def grow(self, count: int) -> None:
        while len(self.workers) < count:
            self.workers.append(_Worker())


def _usable_cores() -> int:
    """Return how many threads to begin with: Numba's variables first, then the cores this process may use."""
    if any(name in os.environ for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")):
        wanted = os.environ.get("NUMBA_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS", "")
        if wanted.isdigit() and int(wanted) > 0:
            return int(wanted)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this platform
        return os.cpu_count() or 1


_team = _Team()
_threads = _usable_cores()


def _after_fork() -> None:
    """Forget the parent's threads, which do not exist here, and its lock, which may be held."""
    global _team
    _team = _Team()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def set_num_threads(count: int) -> None:
    """Share calls over at most `count` threads from now on, the caller's included.

    Results do not depend on it, bit for bit. The start value is ``NUMBA_NUM_THREADS``, else ``OMP_NUM_THREADS``, else
    the number of cores that the process may use.

    Raises
    ------
    OptionError
        `count` is no whole number from 1 on.

    Examples
    --------
    >>> import fastlstm as fl
    >>> before = fl.get_num_threads()
    >>> fl.set_num_threads(1)
    >>> fl.get_num_threads()
    1
    >>> fl.set_num_threads(before)
    """
    global _threads
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise OptionError(f"set_num_threads: count is {count!r}; expected a whole number from 1 on")
    _threads = count


def get_num_threads() -> int:
    """Return over how many threads a large call is shared."""
    return _threads


def threads_for(cost: float, count: int) -> int:
    """Return the number of parts for work of `cost` nanoseconds that can be cut into `count` pieces."""
    return 1 if cost < SERIAL_BELOW else max(1, min(_threads, count))


def cut(count: int, parts: int, weights: Any = None) -> list[int]:
    """Return ``parts + 1`` bounds that cut range(count) evenly; by the running sum of `weights` where given."""
    if weights is None:
        return [count * part // parts for part in range(parts + 1)]
    running = weights.cumsum() - weights / 2  # at the middle of each element: a cut goes to the nearer side
    total = float(weights.sum())
    return [0, *(int(running.searchsorted(total * part / parts)) for part in range(1, parts)), count]


def share(
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
        One more argument for each part, before ``begin``: scratch of its own. At least `threads_for` long.
    weights : array of float, shape (count,), optional
        Work of each element, to cut evenly; default: all alike.
    """
    parts = threads_for(cost, count)
    team = _team
    if parts == 1 or not team.lock.acquire(blocking=False):
        kernel(*args, *(() if each is None else (each[0],)), 0, count)
        return
    try:
        team.grow(parts - 1)
        bounds = cut(count, parts, weights)

        def job(part: int) -> Callable[[], None]:
            own = () if each is None else (each[part],)
            return lambda: kernel(*args, *own, bounds[part], bounds[part + 1])

        started: list[_Worker] = []
        try:
            for part, worker in enumerate(team.workers[: parts - 1], start=1):
                worker.start(job(part))
                started.append(worker)
            job(0)()
        finally:
            _join(started)
    finally:
        team.lock.release()


def _join(workers: list[_Worker]) -> None:
    """Wait for all, then raise the first error; an interrupt waits too, for the parts write to the caller's arrays."""
    errors: list[BaseException] = []
    for worker in workers:
        waiting = True
        while waiting:
            try:
                worker.wait()
                waiting = False
            except BaseException as error:  # noqa: PERF203 - a signal's handler raised
                errors.append(error)
        if worker.error is not None:
            errors.append(worker.error)
            worker.error = None
    if errors:
        raise errors[0]
