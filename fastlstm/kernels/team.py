"""How one call is shared over cores: threads of Python, one level, and serial whenever that is safer or faster.

A call is cut into parts of a range; the caller runs one itself and a worker each other. All run the same ``nogil``
kernel on disjoint parts of the output. ``docs/design.md`` holds the measurements behind the choice.

- A worker that has done its part looks for the next one for about 100 microseconds, then parks on a lock: in a loop of
  calls a second core is there within 10 microseconds instead of 20 to 90, and costs nothing when the loop is over.
- Once there has been a leader, workers look for 400 microseconds and follow meanwhile: they take chunks of work that a
  leader puts up, without the GIL, in a microsecond.
- From several threads at once: one call gets the team, the others run serially beside it; none waits.
- After ``fork``: the child begins with no team and makes its own.
- A part that raises stops nothing: the team finishes, then the error goes to the caller.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from ..simd.atomic import give_way, observe, publish, relax
from ._jit import jit

__all__ = ["Leader", "get_num_threads", "set_num_threads", "share", "threads_for"]

SERIAL_BELOW = 300_000.0
"""Estimated nanoseconds of work below which waking a thread (20 to 90 microseconds) does not pay: 190 us took 260."""

_SERIAL_ALWAYS = 120_000.0
"""The same for a thread that is looking for work already."""

_CLOSE, _SAME_CALL = 150e-6, 20e-6
"""Seconds between calls that are too small to wake a thread for: within the first, it is woken all the same, as it will
still be awake when the next one comes; within the second, it is the same call that asks again."""

_LOOKS = 5000
"""How often a worker looks for its next job, and a caller for a worker's end, before it parks: 20 ns each, or 40."""

LOOKS_A_WAY = 128
"""Looks after which who looks gives way. The system may wake a worker on its caller's own core, and keep the caller
from it while the worker looks, though another core is free."""

_HAND_OVER = 500, 100
"""Looks of a caller for a worker to begin, and looks that this then needs to give back the GIL."""

POSTED, BEGUN, DONE, LEFT, MADE, ROW = 0, 16, 32, 48, 64, 80
"""Places of a core's words, each in cache lines of its own: the numbers of the last jobs in these states; of what a
leader has put up for this core, the chunks that nobody has begun and those that somebody has finished."""

MOST_FOLLOWERS = 15
"""Workers that follow a leader: more would spend their time in telling each other."""

TASK_WORDS = 29
"""Words of what a leader has to say."""

_STAKE, _REST = 0.004, (0.02, 1.0)
"""Seconds that leading may lose, against working alone, before nothing is led for a while: seconds, the first time and
at most. It loses where another has the second core: whoever follows is then put aside for a slice of 3 ms."""

_LOOKS_FOR_CHUNKS, _LED_CLOSELY = 20_000, 300e-6
"""How often a follower looks for its next chunk, some 0.4 ms long, and the seconds from one piece of work to the next
within which it is woken for a small one. For a large one it is in any case: it comes while that lasts. To park sooner
costs more: who wakes needs the GIL, and a leader that meets it there is put to sleep for 140 us."""

_MEASURED, _MEASURED_AGAIN = 3, 256
"""Which pieces of work are done alone to learn what that takes: the first ones, and then each of so many."""


@jit
def _meet(flags, say, value, look, until, looks, more):
    """Write one word, then look at another till it is at least `until`; tell whether it is. Without the GIL."""
    publish(flags, say, value)
    while observe(flags, look) < until and looks > 0:
        relax()
        looks -= 1
        if looks % LOOKS_A_WAY == 0:
            give_way()
    for _ in range(more):
        relax()
    return observe(flags, look) >= until


def _nothing() -> None:
    """Be the job of a worker that has none."""


class _Worker:
    """One thread that waits for jobs, runs them, and says so.

    Words that both sides read without the GIL are in `_flags`; all else is read and written with it.
    """

    def __init__(self, team: "_Team", number: int) -> None:
        self._team, self._number = team, number
        self._wake = threading.Lock()  # a parked worker's
        self._end = threading.Lock()  # a parked caller's
        self._wake.acquire()
        self._end.acquire()
        follows = number <= MOST_FOLLOWERS
        self._flags = team.words[number * ROW : (number + 1) * ROW] if follows else np.zeros(ROW, np.int64)
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
            while not self._look(number):
                self.parked = True
                while self._posted < number and not self._stirred:
                    self._wake.acquire()
                self.parked = self._stirred = False
                if self._posted >= number:
                    break
            self._flags[BEGUN] = number
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

    def _look(self, number: int) -> bool:
        """Look for a job and follow who leads; tell whether the job is there."""
        follow = self._team.follow
        try:
            if follow is None or _threads > _CORES or self._number > MOST_FOLLOWERS:
                return self._meet(DONE, number - 1, POSTED, number, _LOOKS)
            kernel, like = follow
            there: bool = kernel(
                self._team.words, self._team.task, self._team.task, like, self._number, number, _LOOKS_FOR_CHUNKS
            )
        except BaseException:  # it could not be compiled: locks do without
            return False
        return there

    def stir(self) -> None:
        """Let a parked worker look once more."""
        if self.parked:
            self._stirred = True
            _release(self._wake)

    def _meet(self, say: int, value: int, look: int, until: int, looks: int, more: int = 0) -> bool:
        if _threads > _CORES:  # who looks would keep another from its work
            looks = more = 0
        met: bool = _meet(self._flags, say, value, look, until, looks, more)
        return met

    def start(self, job: Callable[[], None]) -> None:
        """Give the worker a job; the last one is over."""
        self._job = self._posted + 1, job
        self._posted += 1
        if self.parked:
            self._flags[POSTED] = self._posted
            _release(self._wake)
        else:  # it needs the GIL to begin: one that takes it while we hold it would go to sleep
            self._meet(POSTED, self._posted, BEGUN, self._posted, *_HAND_OVER)

    @property
    def busy(self) -> bool:
        """Whether the last job is not over."""
        return self._finished < self._posted

    def wait(self) -> None:
        """Return when the last job is over."""
        if self.busy:
            self._meet(POSTED, self._posted, DONE, self._posted, _LOOKS)
        while self.busy:
            self._awaited = True
            _release(self._wake)  # an interrupt may have come before `start` did it
            if self.busy:
                self._end.acquire()
            self._awaited = False


def _release(lock: threading.Lock) -> None:
    """Release a lock that may be free already: who waits for it looks again anyway."""
    with suppress(RuntimeError):
        lock.release()


class _Team:
    """The workers of this process, for one call at a time.

    That one looks at `busy`, sets it, and enters a ``try`` with no call in between: there CPython turns neither to
    another thread nor to a signal. (Numba needs the GIL.) A lock that a signal meets just after it was acquired stays
    locked for good.
    """

    def __init__(self) -> None:
        self.busy = False
        self.workers: list[_Worker] = []
        self.asked, self.answer = 0.0, False
        self.words = np.zeros((1 + MOST_FOLLOWERS) * ROW, np.int64)
        self.task = np.zeros(TASK_WORDS, np.int64)  # of the step that is led, or was last
        self.follow: tuple[Callable[..., bool], NDArray[Any]] | None = None  # kernel, and an array of its type
        self.led = 0.0  # when
        self.lost = self.rest = self.rests_until = 0.0

    def grow(self, count: int) -> None:
        while len(self.workers) < count:
            self.workers.append(_Worker(self, len(self.workers) + 1))
        for worker in self.workers[:count]:
            worker.begin()

    def judge(self, loss: float) -> None:
        """Take into account by how many seconds leading was slower, this time, than working alone."""
        self.lost = max(self.lost + loss, -_STAKE)
        if self.lost > _STAKE:
            self.lost, self.rest = 0.0, min(max(2 * self.rest, _REST[0]), _REST[1])
            self.rests_until = self.led + self.rest
        elif self.lost == -_STAKE:
            self.rest = 0.0

    def wake(self, followers: int) -> None:
        """Let so many workers look for work, soon."""
        with suppress(RuntimeError):  # no thread can be started: the leader does without
            self.grow(followers)
        for worker in self.workers[:followers]:
            worker.stir()

    def follow_with(self, kernels: Sequence[Callable[..., bool]], like: NDArray[Any]) -> None:
        """Let workers follow by the first of these kernels from now on, if they do not by one of them for this type."""
        follow = self.follow
        if follow is not None and follow[0] in kernels and follow[1].dtype == like.dtype:
            return
        self.follow = kernels[0], like
        try:
            workers = [worker for worker in self.workers if worker.running]
            for worker in workers:
                worker.wait()
                worker.start(_nothing)
            for worker in workers:
                worker.wait()
        except BaseException:  # an interrupt: one may still go by the old kernel
            self.follow = None
            raise

    def worth_waking(self, count: int, cost: float) -> bool:
        """Tell whether `count` workers look for jobs now, or would be in time for the calls that follow this one.

        `cost` is what this call would take alone, and the one before it probably took.
        """
        now = time.perf_counter()
        since, self.asked = now - self.asked, now
        if since > _SAME_CALL:
            awake = len(self.workers) >= count and not any(worker.parked for worker in self.workers[:count])
            self.answer = awake or since < _CLOSE + 1.5e-9 * cost
        return self.answer


def _usable_cores() -> int:
    """Return the cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this platform
        return os.cpu_count() or 1


def _first_threads() -> int:
    """Return how many threads to begin with: Numba's variables first, then the cores that this process may use."""
    wanted = os.environ.get("NUMBA_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and int(wanted) > 0 else _CORES


_CORES = _usable_cores()
_team = _Team()
_threads = _first_threads()


def _after_fork() -> None:
    """Forget the parent's threads, which do not exist here, and the call that may have them."""
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
    """Return the number of parts, for now, for work of `cost` nanoseconds that can be cut into `count` pieces."""
    if cost < SERIAL_BELOW and cost < _SERIAL_ALWAYS:
        return 1
    parts = min(_threads, count)
    if parts <= 1:
        return 1
    if cost < parts * SERIAL_BELOW / 4:  # the caller gives out parts one by one: on many cores, few and large ones
        parts = min(parts, max(2, int(4 * cost / SERIAL_BELOW)))
    return parts if cost >= SERIAL_BELOW or _team.worth_waking(parts - 1, cost) else 1


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
        One more argument for each part, before ``begin``: scratch of its own. Its length, which `threads_for` told, is
        the number of parts.
    weights : array of float, shape (count,), optional
        Work of each element, to cut evenly; default: all alike.
    """
    parts = threads_for(cost, count) if each is None else len(each)
    team = _team
    if parts == 1 or team.busy:
        if each is None:
            kernel(*args, 0, count)
        else:
            kernel(*args, each[0], 0, count)
        return
    team.busy = True
    try:
        try:
            for worker in team.workers:  # an interrupt may have left one at work
                worker.wait()
                worker.error = None
            team.grow(parts - 1)
        except RuntimeError:  # no thread can be started
            kernel(*args, *(() if each is None else (each[0],)), 0, count)
            return
        bounds = cut(count, parts, weights)

        def job(part: int) -> Callable[[], None]:
            own = () if each is None else (each[part],)
            return lambda: kernel(*args, *own, bounds[part], bounds[part + 1])

        started: list[_Worker] = []
        try:
            for part, worker in enumerate(team.workers[: parts - 1], start=1):
                started.append(worker)
                worker.start(job(part))
            job(0)()
        finally:
            _join(started)
    finally:
        team.busy = False


class Leader:
    """Short work that comes again and again, done together with those who look for some, if that is faster.

    Followers begin without the GIL, in a microsecond: it pays from 20 microseconds on.

    Parameters
    ----------
    kernel : callable
        ``kernel(words, task, next_task, like, row, until, looks)``, as `kernels.lstm_step.take_steps`.
    follow : sequence of callables
        Those who follow do it by any of these: the one they go by, else the first.
    dtype : dtype
        Of the kernel's arrays.
    """

    def __init__(
        self, kernel: Callable[..., bool], follow: Sequence[Callable[..., bool]], dtype: np.dtype[Any]
    ) -> None:
        self._kernel, self._follow, self._like = kernel, follow, np.empty(1, dtype)
        self._words = np.zeros(2 * ROW, np.int64)  # to work alone with
        self._task = np.zeros(TASK_WORDS, np.int64)
        self._times = 0  # so often done
        self.alone = np.inf
        """Seconds that it takes alone, for each nanosecond of its estimated cost."""

    @property
    def rests(self) -> bool:
        """Whether, for now, it would work alone: the other cores are busy with something else."""
        return time.perf_counter() < _team.rests_until or _threads > _CORES

    def lead(self, task: NDArray[np.int64], followers: int, cost: float) -> float | None:
        """Do what a task says; return the seconds that it took with followers, None if it was done alone.

        Arrays whose addresses the task holds must live until this returns. At most so many `followers` take part;
        `cost` is an estimate of the work, in nanoseconds on one core.
        """
        team, now = _team, time.perf_counter()
        self._times += 1
        measures = self._times <= _MEASURED or self._times % _MEASURED_AGAIN == 0
        comes_again = cost >= SERIAL_BELOW or now - team.led < _LED_CLOSELY
        if measures or not comes_again or self.rests or team.busy:
            began = time.perf_counter()
            self._kernel(self._words, self._task, task, self._like, 0, 1, 0)
            team.led = time.perf_counter()
            if self._times > 1:  # the first one compiles, or reads the weights from far away
                self.alone = min((team.led - began) / cost, 1.1 * self.alone)  # not the fastest ever: machines heat up
            return None
        team.busy = True
        try:
            team.wake(followers)
            team.follow_with(self._follow, self._like)
            began = time.perf_counter()
            self._kernel(team.words, team.task, task, self._like, 0, 0, 0)
            team.led = time.perf_counter()
            took = team.led - began
            team.judge(took - cost * self.alone)
            return took
        finally:
            team.busy = False


def _join(workers: list[_Worker]) -> None:
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
