"""Leaders and those who follow: who leads when, what it learns, and interrupts at any moment."""

import signal
import threading
import time

import numpy as np
import pytest

from fastlstm.kernels import team
from tests.kernels.teamwork import mark, soon

TASK = np.zeros(team.TASK_WORDS, np.int64)
SINGLE = np.dtype(np.float32)


class Noting:
    """A kernel that notes who calls it; followers look for no chunks."""

    def __init__(self, takes=0.0):
        self.takes, self.led, self.followed = takes, [], threading.Event()

    def __call__(self, words, task, next_task, like, row, until, looks):
        if row:
            self.followed.set()
            return team._meet(words[row * team.ROW :], team.DONE, until - 1, team.POSTED, until, looks, 0)
        self.led.append(words is team._team.words)
        time.sleep(self.takes)
        return True


@pytest.fixture
def leading(fresh_team, monkeypatch):
    """Lead from the first time on, whatever that brings."""
    monkeypatch.setattr(team, "_MEASURED", 0)
    monkeypatch.setattr(team, "_LED_CLOSELY", 60.0)
    fresh_team.led = time.perf_counter()
    return fresh_team


def test_small_work_is_led_if_it_comes_again_soon(fresh_team, monkeypatch):
    kernel = Noting()
    leader = team.Leader(kernel, (kernel,), SINGLE)
    for _ in range(8):
        leader.lead(TASK, 1, 1.0)
        time.sleep(0.001)
    assert kernel.led == [False] * 8
    assert fresh_team.workers == []
    monkeypatch.setattr(team, "_LED_CLOSELY", 60.0)
    leader.lead(TASK, 1, 1.0)
    assert kernel.led.pop()
    leader.lead(TASK, 1, 1.0)
    assert kernel.followed.wait(10)
    [worker] = fresh_team.workers
    assert soon(lambda: worker.parked)
    kernel.followed.clear()
    leader.lead(TASK, 1, 1.0)
    assert kernel.followed.wait(10), "a parked worker was not stirred"
    out = np.zeros(2)
    team.share(mark, out, count=2, cost=team.SERIAL_BELOW)
    assert (out == 1).all()


def test_large_work_is_led_however_seldom_it_comes(fresh_team):
    kernel = Noting()
    leader = team.Leader(kernel, (kernel,), SINGLE)
    for turn in range(team._MEASURED + 2):
        took = leader.lead(TASK, 1, team.SERIAL_BELOW)
        assert (took is None) == (turn < team._MEASURED)
        time.sleep(0.001)
    assert kernel.led == [False] * team._MEASURED + [True] * 2
    assert kernel.followed.wait(10)


def test_who_finds_the_team_busy_works_alone(leading):
    kernel = Noting()
    leading.busy = True
    team.Leader(kernel, (kernel,), SINGLE).lead(TASK, 1, 1.0)
    assert kernel.led == [False]


def test_nobody_leads_with_more_threads_than_cores(leading, monkeypatch):
    monkeypatch.setattr(team, "_CORES", 1)
    kernel = Noting()
    team.Leader(kernel, (kernel,), SINGLE).lead(TASK, 1, 1.0)
    assert kernel.led == [False]


def test_leading_that_does_not_pay_stops_for_a_while_and_longer_each_time(leading, monkeypatch):
    monkeypatch.setattr(team, "_REST", (0.2, 0.5))
    monkeypatch.setattr(team, "_STAKE", 0.001)
    kernel = Noting()
    leader = team.Leader(kernel, (kernel,), SINGLE)
    leader.alone = 0.0
    for rest in (0.2, 0.4, 0.5):
        kernel.takes, kernel.led = 0.003, []
        leader.lead(TASK, 1, 1.0)
        assert leading.rest == rest
        kernel.takes = 0.0
        leader.lead(TASK, 1, 1.0)
        assert kernel.led == [True, False], "it went on"
        time.sleep(max(0.0, leading.rests_until - time.perf_counter()) + 0.01)
        leader.alone = 0.0
    leader.alone = 1.0
    leader.lead(TASK, 1, 1.0)
    assert leading.rest == 0.0, "it pays again"


def test_what_work_takes_alone_is_learnt_and_learnt_anew(fresh_team, monkeypatch):
    monkeypatch.setattr(team, "_LED_CLOSELY", 60.0)
    kernel = Noting(takes=0.05)
    leader = team.Leader(kernel, (kernel,), SINGLE)
    leader.lead(TASK, 1, 1.0)
    assert leader.alone == np.inf, "the first time is no measure"
    kernel.takes = 0.002
    leader.lead(TASK, 1, 1.0)
    assert 0.002 <= leader.alone < 0.05
    leader.alone = 0.001
    leader.lead(TASK, 1, 1.0)
    assert leader.alone == pytest.approx(0.0011)
    kernel.takes, kernel.led = 0.0, []
    for _ in range(team._MEASURED_AGAIN - team._MEASURED):
        leader.lead(TASK, 1, 1.0)
    assert kernel.led[-1] is False
    assert leader.alone < 0.0011


class Following(Noting):
    """A kernel whose followers stay until they are given a job, and tell whether they are there."""

    def __init__(self):
        super().__init__()
        self.there = 0

    def __call__(self, words, task, next_task, like, row, until, looks):
        if not row:
            return super().__call__(words, task, next_task, like, row, until, looks)
        self.there += 1
        self.followed.set()
        while words[row * team.ROW + team.POSTED] < until:
            time.sleep(0.0001)
        self.there -= 1
        return True


def test_nobody_follows_by_a_kernel_for_another_type(leading):
    """Not even one that is slow to leave."""
    single, double = Following(), Noting()
    team.Leader(single, (single,), SINGLE).lead(TASK, 1, 1.0)
    leading.workers[0].stir()
    assert single.followed.wait(10)
    stayed = []
    double.__class__ = type(
        "Watching",
        (Noting,),
        {"__call__": lambda self, *given: stayed.append(single.there) or Noting.__call__(self, *given)},
    )
    team.Leader(double, (double,), np.dtype(np.float64)).lead(TASK, 1, 1.0)
    assert stayed[0] == 0


def test_who_follows_by_a_kernel_that_will_do_stays_with_it(leading):
    """One that takes all kinds of work serves leaders of one kind too; for all others the small one is left."""
    small, large = Noting(), Noting()
    narrow = team.Leader(small, (small, large), SINGLE)
    wide = team.Leader(large, (large,), SINGLE)
    followed = []
    for leader in (narrow, narrow, wide, narrow):
        leader.lead(TASK, 1, 1.0)
        followed.append(leading.follow[0])
    assert followed == [small, small, large, large]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers on this platform")
def test_interrupts_at_any_moment_leave_a_team_that_leads_and_shares(leading):
    """Each may come between any two steps of Python's."""

    class Interrupt(Exception):
        pass

    def interrupt(signum, frame):
        raise Interrupt

    kernels = {name: Noting() for name in ("float32", "float64")}
    leaders = [team.Leader(kernel, (kernel,), np.dtype(name)) for name, kernel in kernels.items()]
    leaders[0].lead(TASK, 1, 1.0)  # an interrupt while a thread is started makes CPython complain on standard error
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for place in range(400):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 * (1 + place % 40))
                for _ in range(3):
                    leaders[place % 2].lead(TASK, 1, 1.0)
                team.share(mark, np.zeros(2), count=2, cost=team.SERIAL_BELOW)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupt:
                pass
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert not leading.busy
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    for leader in leaders:
        leader.lead(TASK, 1, 1.0)
    out = np.zeros(2)
    team.share(mark, out, count=2, cost=team.SERIAL_BELOW)
    assert (out == 1).all()
    assert len(leading.workers) == 1
