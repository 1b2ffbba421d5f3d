"""Rounds: all contenders in each of them, another order each time, and an end in time."""

import pytest

from fastlstm.benchmark import interleaved
from fastlstm.benchmark.cells import Runner
from fastlstm.benchmark.compare import Prepared
from fastlstm.benchmark.interleaved import repeat, summary, time_interleaved


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(interleaved, "pause", lambda: None)
    monkeypatch.setattr("gc.collect", lambda: None)  # its time grows with what other tests have imported


def prepared(calls, **options):
    return Prepared({name: Runner(call) for name, call in calls.items()}, dict.fromkeys(calls, 1.0), **options)


def test_every_round_has_every_contender_and_another_order():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    times = time_interleaved(prepared(calls), 0.0, min_rounds=4)
    assert "".join(order) == "abc" + "bca" + "cab" + "abc"
    assert [len(rounds) for rounds in times.values()] == [4, 4, 4]


class Clock:
    """Stands in for `time`: what is timed takes exactly as long as it says, however busy the machine is."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now

    process_time = perf_counter

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(interleaved, "time", clock := Clock())
    return clock


def test_a_slowdown_of_the_machine_spoils_no_ratio(clock):
    """Every round is slower than the one before, as when a clock rate falls: the ratio stays."""
    step = iter(range(100))
    calls = {
        name: lambda work=work: clock.sleep(work * (1 + next(step) // 2)) for name, work in (("a", 0.004), ("b", 0.012))
    }
    times = time_interleaved(prepared(calls), 0.0, min_rounds=4)
    assert times["a"][3] == pytest.approx(4 * times["a"][0])
    assert interleaved.ratios(times["b"], times["a"]) == pytest.approx([3.0] * 4)


def test_no_round_is_begun_that_would_end_too_late(clock):
    calls = {name: lambda: clock.sleep(0.03) for name in "ab"}
    start = clock.now
    times = time_interleaved(prepared(calls), 0.2, min_rounds=1)
    assert len(times["a"]) == 3  # 0.06 s each
    assert clock.now - start < 0.2


def test_a_contender_that_runs_once_keeps_its_first_time():
    calls = {"a": lambda: None, "slow": lambda: pytest.fail("called again")}
    made = prepared(calls, once={"slow"})
    made.first["slow"] = 7.0
    assert time_interleaved(made, 0.01)["slow"] == [7.0]


def test_a_contender_elsewhere_times_its_own_calls():
    made = prepared({"a": lambda: None})
    made.runners["b"] = Runner(lambda: None, repeat=lambda seconds, warm: [0.005, 0.003, 0.001])
    made.first["b"] = 1.0
    assert time_interleaved(made, 0.0, min_rounds=2)["b"] == [0.003, 0.003]


def test_a_short_call_is_repeated_and_its_first_call_not_counted(clock):
    calls = []

    def call():
        calls.append(None)
        clock.sleep(0.002 if len(calls) > 1 else 0.05)

    times = repeat(call, 0.03, warm=True)
    assert len(times) == len(calls) - 1 > 3
    assert max(times) < 0.03


def test_the_ratio_is_of_one_round():
    found = summary({"fastlstm": [1.0, 2.0, 4.0], "peer": [3.0, 6.0, 12.0], "once": [4.0]})
    assert found["peer"]["ratio"] == [3.0, 3.0, 3.0]
    assert found["once"]["ratio"] == [1.5, 2.0, 3.0]
    assert found["peer"]["seconds"][1] == 6.0
