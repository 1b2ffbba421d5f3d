"""The thread pool: every part once, errors and interrupts leave a pool that works, fork and many threads."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlstm.runtime import config, pool
from fastlstm.threads import set_num_threads
from tests.runtime.work import mark, soon


@pytest.fixture
def threads(share_everything):
    """Return `set_num_threads`; calls of any size are shared."""
    return set_num_threads


@given(
    st.integers(1, 200), st.integers(1, 9), st.one_of(st.none(), st.lists(st.integers(1, 50), min_size=1, max_size=40))
)
def test_a_cut_covers_the_range_in_order(count, parts, weights):
    weights = None if weights is None else np.array(weights, float)
    count = count if weights is None else len(weights)
    bounds = pool.cut(count, parts, weights)
    assert len(bounds) == parts + 1
    assert bounds[0] == 0
    assert bounds[-1] == count
    assert bounds == sorted(bounds)


@given(st.lists(st.integers(1, 50), min_size=2, max_size=60), st.integers(2, 4))
def test_no_part_of_a_weighted_cut_holds_more_than_its_share_and_one_element(weights, parts):
    weights = np.array(weights, float)
    loads = [weights[begin:end].sum() for begin, end in pairwise(pool.cut(len(weights), parts, weights))]
    assert max(loads) <= weights.sum() / parts + weights.max()


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("wanted", [1, 2, 3, 5])
def test_every_element_is_done_once(threads, count, wanted):
    threads(wanted)
    out = np.zeros(count)
    pool.parallel_for(mark, out, count=count, cost=1.0)
    assert (out == 1).all()


def test_each_part_gets_its_own_argument(threads):
    threads(3)
    used = []
    pool.parallel_for(lambda own, begin, end: used.append((own, begin, end)), count=9, cost=1.0, each=["a", "b", "c"])
    assert sorted(used) == [("a", 0, 3), ("b", 3, 6), ("c", 6, 9)]


def test_small_work_stays_on_the_callers_thread():
    seen = []
    pool.parallel_for(lambda begin, end: seen.append(threading.get_ident()), count=1000, cost=1.0)
    assert seen == [threading.get_ident()]


def test_large_work_is_shared_over_as_many_threads_as_are_set(threads):
    threads(3)
    seen = []
    pool.parallel_for(lambda begin, end: seen.append(threading.get_ident()), count=3, cost=1e9)
    assert len(set(seen)) == 3


def test_many_threads_get_few_large_parts():
    set_num_threads(64)
    from_ns = config.TUNED.pool_from_ns
    assert [pool.num_chunks(from_ns * times, 1000) for times in (1, 2, 8, 16, 100)] == [4, 8, 32, 64, 64]
    assert pool.num_chunks(from_ns * 100, 5) == 5


@pytest.mark.parametrize("where", [0, 1, 2])
def test_an_error_in_any_part_comes_out_and_the_pool_goes_on(threads, where):
    threads(3)

    def fail(begin, end):
        if begin == where:
            raise RuntimeError("part")

    for _ in range(3):
        with pytest.raises(RuntimeError, match="part"):
            pool.parallel_for(fail, count=3, cost=1.0)
    out = np.zeros(3)
    pool.parallel_for(mark, out, count=3, cost=1.0)
    assert out.tolist() == [1, 1, 1]


def test_a_call_within_a_call_runs_serially(threads):
    threads(2)
    out = np.zeros((2, 10))

    def outer(begin, end):
        for row in range(begin, end):
            pool.parallel_for(mark, out[row], count=10, cost=1.0)

    pool.parallel_for(outer, count=2, cost=1.0)
    assert (out == 1).all()


def test_a_second_caller_does_not_wait_for_the_pool(threads):
    threads(2)
    begun, go_on = threading.Event(), threading.Event()

    def hold(begin, end):
        begun.set()
        assert go_on.wait(30)

    holder = threading.Thread(target=pool.parallel_for, args=(hold,), kwargs={"count": 2, "cost": 1.0})
    holder.start()
    assert begun.wait(30)
    out = np.zeros(2)
    pool.parallel_for(mark, out, count=2, cost=1.0)  # would hang here
    go_on.set()
    holder.join(30)
    assert out.tolist() == [1, 1]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers on this platform")
def test_an_interrupt_while_waiting_leaves_no_part_running(threads):
    """Ctrl-C arrives while the caller has done its part and waits: the next call must not meet the old job."""
    threads(2)

    class Interrupt(Exception):
        pass

    def interrupt(signum, frame):
        raise Interrupt

    running = threading.Event()

    def slow_second_part(begin, end):
        if begin:
            running.set()
            time.sleep(0.5)
            running.clear()

    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # Hypothesis listens to the collector, and what is raised there comes out as a warning
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Interrupt):
            pool.parallel_for(slow_second_part, count=2, cost=1.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
    assert not running.is_set(), "parallel_for returned while a worker was still writing to the caller's arrays"
    for _ in range(3):
        done = np.zeros(2)

        def late_second_part(begin, end, done=done):
            if begin:
                time.sleep(0.05)
            done[begin:end] += 1

        pool.parallel_for(late_second_part, count=2, cost=1.0)
        assert done.tolist() == [1, 1], "parallel_for returned before its workers had finished"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_fork_after_use():
    """Parent and child both go on sharing work; in a process of its own, for the sake of this one's threads."""
    program = """
        import os, warnings
        import numpy as np
        from fastlstm.runtime import config, pool
        from fastlstm.threads import set_num_threads

        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of fork beside threads: our case
        config.TUNED = config.Config(pool_from_ns=0.0)
        set_num_threads(2)

        def mark(out, begin, end):
            out[begin:end] += 1

        def works():
            out = np.zeros(4)
            pool.parallel_for(mark, out, count=4, cost=1.0)
            return (out == 1).all()

        assert works()
        child = os.fork()
        if child == 0:
            os._exit(0 if works() and works() else 1)
        assert works()
        assert os.waitpid(child, 0)[1] == 0, "the child failed"
        print("both work")
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout.strip() == "both work", result.stderr


# --- a pool that is awake --------------------------------------------------------------------------------------------

LARGE = config.TUNED.pool_from_ns
BETWEEN = (config.TUNED.pool_awake_from_ns + LARGE) / 2


class Clock:
    """Stands in for `time` in the pool: a busy machine must not decide how long ago a call was."""

    def __init__(self):
        self.now = 1000.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(pool, "time", clock := Clock())
    return clock


def test_a_single_call_of_middling_size_wakes_no_worker(fresh_pool, clock):
    assert pool.num_chunks(BETWEEN, 2) == 1
    clock.now += config.TUNED.same_call_s / 2
    assert pool.num_chunks(BETWEEN, 2) == 1  # the same call asks again
    assert pool.num_chunks(config.TUNED.pool_awake_from_ns / 2, 2) == 1


def test_calls_of_middling_size_that_follow_closely_are_shared(fresh_pool, clock):
    pool.num_chunks(BETWEEN, 2)
    clock.now += 0.01
    assert pool.num_chunks(BETWEEN, 2) == 1, "the first one is long over"
    clock.now += config.TUNED.calls_close_s
    assert pool.num_chunks(BETWEEN, 2) == 2
    clock.now += config.TUNED.same_call_s / 2
    assert pool.num_chunks(BETWEEN, 2) == 2  # the same call asks again


def test_a_worker_without_work_parks_and_is_there_again(fresh_pool):
    for _ in range(3):
        out = np.zeros(2)
        pool.parallel_for(mark, out, count=2, cost=LARGE)
        assert (out == 1).all()
        assert soon(lambda: fresh_pool.workers[0].parked)


def test_scratch_says_how_many_parts(fresh_pool):
    seen = []
    pool.parallel_for(lambda own, begin, end: seen.append((own, begin, end)), count=4, cost=1.0, each=["a", "b"])
    assert sorted(seen) == [("a", 0, 2), ("b", 2, 4)]


def test_many_short_jobs_one_after_the_other_are_each_done_once(threads):
    """The worker is met in every state: looking, about to park, parked, about to begin."""
    threads(2)
    out = np.zeros(2)
    for call in range(3000):
        pool.parallel_for(mark, out, count=2, cost=1.0)
        if call % 50 == 0:
            time.sleep(0.0001 * (call % 7))
    assert (out == 3000).all()


def test_a_worker_holds_no_array_of_the_last_call(fresh_pool):
    """Memory of a large batch would else stay taken for as long as the worker has no other job."""
    out = np.zeros(2)
    kept = weakref.ref(out)
    pool.parallel_for(mark, out, count=2, cost=LARGE)
    assert soon(lambda: fresh_pool.workers[0].parked)
    del out
    assert kept() is None


@pytest.mark.skipif(not hasattr(signal, "raise_signal"), reason="no signals to raise")
@pytest.mark.parametrize("where", ["_release", "start", "_join"])
def test_an_interrupt_anywhere_leaves_a_pool_that_works(threads, where, monkeypatch):
    """The worst places: a job is posted but its worker not woken, or all are given out but not waited for."""
    threads(2)
    pool.parallel_for(mark, np.zeros(2), count=2, cost=1.0)
    worker = pool.current().workers[0]
    assert soon(lambda: worker.parked)
    owner = worker if where == "start" else pool
    original, done = getattr(owner, where), []

    def interrupted(*args):
        if not done:
            done.append(True)
            signal.raise_signal(signal.SIGINT)
        return original(*args)

    monkeypatch.setattr(owner, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        pool.parallel_for(mark, np.zeros(2), count=2, cost=1.0)
    for _ in range(3):
        out = np.zeros(2)
        pool.parallel_for(mark, out, count=2, cost=1.0)
        assert (out == 1).all()
