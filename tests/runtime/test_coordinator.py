"""Coordinators and the workers that take their chunks: when they work together, what they learn, interrupts."""

import gc
import signal
import threading
import time

import numba
import numpy as np
import pytest

from fastlstm.runtime import config, coordinator, pool
from fastlstm.runtime.config import tuned
from fastlstm.runtime.coordinator import CHUNKS, PARTS, Coordinator
from fastlstm.runtime.pool import DESCRIPTOR_WORDS, DONE, LEFT, MADE, POSTED, WORDS
from tests.runtime.work import mark, soon

DESCRIPTOR = np.zeros(DESCRIPTOR_WORDS, np.int64)
SINGLE = np.dtype(np.float32)
LARGE = config.TUNED.pool_from_ns
MEASURED, EVERY = config.TUNED.measured_alone


# --- what kernels are made of: publish, claim, finish, wait ---------------------------------------------------------


@numba.njit(nogil=True)
def publish(words, descriptor, next_descriptor, alone):
    coordinator.publish(words, descriptor, next_descriptor, alone)


@numba.njit(nogil=True)
def claim(words, descriptor, mine):
    return coordinator.claim(words, descriptor, mine)


@numba.njit(nogil=True)
def claim_and_finish_all(words, descriptor, mine, counts):
    """Claim chunks until none is left; count how often each was claimed."""
    part, left = coordinator.claim(words, descriptor, mine)
    while left > 0:
        counts[part * descriptor[CHUNKS] + left - 1] += 1
        coordinator.finish(words, part)
        part, left = coordinator.claim(words, descriptor, mine)


@numba.njit(nogil=True)
def finish(words, part):
    coordinator.finish(words, part)


@numba.njit(nogil=True)
def wait_for_all(words, descriptor):
    coordinator.wait_for_all(words, descriptor)


@numba.njit(nogil=True)
def has_chunk(words, mine, until, spins):
    return coordinator.has_chunk(words, mine, until, spins)


def described(parts, chunks):
    """Return words, an empty descriptor, and a descriptor of so many chunks for each of so many cores."""
    descriptor = np.arange(100, 100 + DESCRIPTOR_WORDS)
    descriptor[PARTS], descriptor[CHUNKS] = parts, chunks
    return np.zeros(parts * WORDS, np.int64), np.zeros(DESCRIPTOR_WORDS, np.int64), descriptor


def test_publishing_copies_the_descriptor_and_gives_each_core_its_chunks():
    words, descriptor, new = described(3, 5)
    words[MADE::WORDS] = 7  # of the work before
    publish(words, descriptor, new, 0)
    assert (descriptor == new).all()
    assert words[LEFT::WORDS].tolist() == [5, 5, 5]
    assert words[MADE::WORDS].tolist() == [0, 0, 0]


def test_a_coordinator_that_is_alone_gives_chunks_to_itself_only():
    words, descriptor, new = described(3, 5)
    publish(words, descriptor, new, 1)
    assert descriptor[PARTS] == 1
    assert new[PARTS] == 3, "what the caller keeps was changed"
    assert words[LEFT::WORDS].tolist() == [5, 0, 0]


@pytest.mark.parametrize("mine", [0, 1, 2])
def test_a_core_claims_its_own_chunks_first_then_those_of_the_next(mine):
    words, descriptor, new = described(3, 2)
    publish(words, descriptor, new, 0)
    order = [(mine + place) % 3 for place in range(3) for _ in range(2)]
    assert [claim(words, descriptor, mine) for _ in range(7)] == [
        *zip(order, [2, 1] * 3, strict=True),
        (mine, 0),
    ]


def test_a_claim_that_finds_nothing_takes_nothing_away():
    """The next work is published by writing how many there are: what is below 0 now would be missing then."""
    words, descriptor, new = described(2, 1)
    for _ in range(3):
        publish(words, descriptor, new, 0)
        assert sorted(claim(words, descriptor, 1)[0] for _ in range(2)) == [0, 1]
        assert claim(words, descriptor, 0) == (0, 0)
        assert words[LEFT::WORDS].tolist() == [0, 0]


def test_each_chunk_is_claimed_once_by_whichever_thread():
    words, descriptor, new = described(4, 20_000)
    counts = np.zeros(4 * 20_000, np.int64)
    claim_and_finish_all(words, descriptor, 0, counts)  # compiled; there is no chunk yet
    publish(words, descriptor, new, 0)
    others = [
        threading.Thread(target=claim_and_finish_all, args=(words, descriptor, mine, counts)) for mine in range(4)
    ]
    for other in others:
        other.start()
    wait_for_all(words, descriptor)
    assert words[MADE::WORDS].tolist() == [20_000] * 4
    assert (counts == 1).all()
    for other in others:
        other.join(10)


def test_waiting_ends_only_when_the_last_chunk_is_finished():
    words, descriptor, new = described(2, 2)
    publish(words, descriptor, new, 0)
    for part in (0, 0, 1):
        finish(words, part)
    over = threading.Event()

    def wait():
        wait_for_all(words, descriptor)
        over.set()

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    assert not over.wait(0.2), "one chunk is not finished"
    finish(words, 1)
    assert over.wait(10)


def test_a_worker_looks_for_its_own_chunks_and_not_after_it_has_a_job():
    words, descriptor, new = described(2, 1)
    assert not has_chunk(words, 1, 1, 100)
    publish(words, descriptor, new, 0)
    assert has_chunk(words, 1, 1, 100)
    words[WORDS + LEFT] = 0
    assert not has_chunk(words, 1, 1, 100), "the other core's chunk is no reason to wake"
    words[WORDS + LEFT] = 1
    words[WORDS + POSTED] = 1
    assert not has_chunk(words, 1, 1, 1 << 40), "it has to leave"


# --- who works when ---------------------------------------------------------------------------------------------------


class Noting:
    """A kernel that notes its calls: whether as coordinator of workers; workers look for no chunks."""

    def __init__(self, takes=0.0):
        self.takes, self.coordinated, self.worked = takes, [], threading.Event()

    def __call__(self, words, descriptor, next_descriptor, like, row, until, spins):
        if row:
            self.worked.set()
            return pool._meet(words[row * WORDS :], DONE, until - 1, POSTED, until, spins, 0)
        self.coordinated.append(words is pool.current().words)
        time.sleep(self.takes)
        return True


@pytest.fixture
def coordinating(fresh_pool):
    """Coordinate from the first call on, whatever that brings."""
    with tuned(measured_alone=(0, EVERY), close_work_s=60.0, loss_budget_s=60.0):
        fresh_pool.coordinated = time.perf_counter()
        yield fresh_pool


def test_small_work_is_coordinated_if_it_comes_again_soon(fresh_pool):
    kernel = Noting()
    small = Coordinator(kernel, (kernel,), SINGLE)
    for _ in range(8):
        small.run(DESCRIPTOR, 1, 1.0)
        time.sleep(0.001)
    assert kernel.coordinated == [False] * 8
    assert fresh_pool.workers == []
    with tuned(close_work_s=60.0, loss_budget_s=60.0):
        small.run(DESCRIPTOR, 1, 1.0)
        assert kernel.coordinated.pop()
        small.run(DESCRIPTOR, 1, 1.0)
        assert kernel.worked.wait(10)
        [worker] = fresh_pool.workers
        assert soon(lambda: worker.parked)
        kernel.worked.clear()
        small.run(DESCRIPTOR, 1, 1.0)
        assert kernel.worked.wait(10), "a parked worker was not stirred"
        out = np.zeros(2)
        pool.parallel_for(mark, out, count=2, cost=LARGE)
        assert (out == 1).all()


def test_large_work_is_coordinated_however_seldom_it_comes(fresh_pool):
    kernel = Noting()
    large = Coordinator(kernel, (kernel,), SINGLE)
    with tuned(loss_budget_s=60.0):
        for call in range(MEASURED + 2):
            took = large.run(DESCRIPTOR, 1, LARGE)
            assert (took is None) == (call < MEASURED)
            time.sleep(0.001)
    assert kernel.coordinated == [False] * MEASURED + [True] * 2
    assert kernel.worked.wait(10)


def test_a_call_that_finds_the_pool_busy_works_alone(coordinating):
    kernel = Noting()
    coordinating.busy = True
    Coordinator(kernel, (kernel,), SINGLE).run(DESCRIPTOR, 1, 1.0)
    assert kernel.coordinated == [False]


def test_no_worker_spins_with_more_threads_than_cores(coordinating, monkeypatch):
    monkeypatch.setattr(pool, "_cores", 1)
    kernel = Noting()
    Coordinator(kernel, (kernel,), SINGLE).run(DESCRIPTOR, 1, 1.0)
    assert kernel.coordinated == [False]


def test_coordination_that_does_not_pay_backs_off_and_longer_each_time(coordinating):
    kernel = Noting()
    one = Coordinator(kernel, (kernel,), SINGLE)
    one.alone = 0.0
    with tuned(measured_alone=(0, EVERY), close_work_s=60.0, back_off_s=(0.2, 0.5), loss_budget_s=0.001):
        for seconds in (0.2, 0.4, 0.5):
            kernel.takes, kernel.coordinated = 0.003, []
            one.run(DESCRIPTOR, 1, 1.0)
            assert coordinating.backs_off_until == coordinating.coordinated + seconds
            assert one.backs_off
            kernel.takes = 0.0
            one.run(DESCRIPTOR, 1, 1.0)
            assert kernel.coordinated == [True, False], "it went on"
            time.sleep(max(0.0, coordinating.backs_off_until - time.perf_counter()) + 0.01)
            one.alone = 0.0
        one.alone = 1.0
        one.run(DESCRIPTOR, 1, 1.0)  # it pays again
        one.alone, kernel.takes = 0.0, 0.003
        one.run(DESCRIPTOR, 1, 1.0)
        assert coordinating.backs_off_until == coordinating.coordinated + 0.2, "it begins with the shortest time again"


def test_what_work_takes_alone_is_learnt_and_learnt_again(fresh_pool):
    kernel = Noting(takes=0.05)
    one = Coordinator(kernel, (kernel,), SINGLE)
    with tuned(close_work_s=60.0, loss_budget_s=60.0):
        one.run(DESCRIPTOR, 1, 1.0)
        assert one.alone == np.inf, "the first time is no measure"
        kernel.takes = 0.002
        one.run(DESCRIPTOR, 1, 1.0)
        assert 0.002 <= one.alone < 0.05
        one.alone = 0.001
        one.run(DESCRIPTOR, 1, 1.0)
        assert one.alone == pytest.approx(0.0011)
        kernel.takes, kernel.coordinated = 0.0, []
        for _ in range(EVERY - MEASURED):
            one.run(DESCRIPTOR, 1, 1.0)
        assert kernel.coordinated[-1] is False
        assert one.alone < 0.0011


class Staying(Noting):
    """A kernel whose workers stay until they are given a job, and tell whether they are there."""

    def __init__(self):
        super().__init__()
        self.there = 0

    def __call__(self, words, descriptor, next_descriptor, like, row, until, spins):
        if not row:
            return super().__call__(words, descriptor, next_descriptor, like, row, until, spins)
        self.there += 1
        self.worked.set()
        while words[row * WORDS + POSTED] < until:
            time.sleep(0.0001)
        self.there -= 1
        return True


def test_no_worker_goes_by_a_kernel_for_another_type(coordinating):
    """Not even one that is slow to leave."""
    single, stayed = Staying(), []

    class Watching(Noting):
        def __call__(self, *given):
            stayed.append(single.there)
            return super().__call__(*given)

    double = Watching()
    Coordinator(single, (single,), SINGLE).run(DESCRIPTOR, 1, 1.0)
    coordinating.workers[0].stir()
    assert single.worked.wait(10)
    Coordinator(double, (double,), np.dtype(np.float64)).run(DESCRIPTOR, 1, 1.0)
    assert stayed[0] == 0


def test_a_worker_whose_kernel_will_do_stays_with_it(coordinating):
    """One that takes all kinds of work serves coordinators of one kind too; for all others the small one is left."""
    small, large = Noting(), Noting()
    narrow = Coordinator(small, (small, large), SINGLE)
    wide = Coordinator(large, (large,), SINGLE)
    regions = []
    for one in (narrow, narrow, wide, narrow):
        one.run(DESCRIPTOR, 1, 1.0)
        regions.append(coordinating.region[0])
    assert regions == [small, small, large, large]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers on this platform")
def test_interrupts_at_any_moment_leave_a_pool_that_works(coordinating):
    """Each may come between any two steps of Python's."""

    class Interrupt(Exception):
        pass

    def interrupt(signum, frame):
        raise Interrupt

    kernels = {name: Noting() for name in ("float32", "float64")}
    both = [Coordinator(kernel, (kernel,), np.dtype(name)) for name, kernel in kernels.items()]
    both[0].run(DESCRIPTOR, 1, 1.0)  # an interrupt while a thread is started makes CPython complain on standard error
    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # Hypothesis listens to the collector, and what is raised there comes out as a warning
    try:
        for place in range(400):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 * (1 + place % 40))
                for _ in range(3):
                    both[place % 2].run(DESCRIPTOR, 1, 1.0)
                pool.parallel_for(mark, np.zeros(2), count=2, cost=LARGE)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupt:
                pass
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert not coordinating.busy
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
    for one in both:
        one.run(DESCRIPTOR, 1, 1.0)
    out = np.zeros(2)
    pool.parallel_for(mark, out, count=2, cost=LARGE)
    assert (out == 1).all()
    assert len(coordinating.workers) == 1
