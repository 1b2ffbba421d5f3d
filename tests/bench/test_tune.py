"""The program that measures tuned numbers measures every one that it names, and says what matters."""

import sys

import pytest

pytest.importorskip("pytest_benchmark")

import bench.tune
from bench.settings import AUTOMATIC, BATCH, PIPELINE, SERIAL, UNITS, Shape, crossover, infer
from bench.tune import GROUPS, Outcome, outcomes
from fastlstm import threads
from fastlstm.runtime import config, pool
from fastlstm.runtime.coordinator import Coordinator

NAMES = [name for group in GROUPS for name in group.names]


def test_every_number_that_is_measured_exists_and_is_not_compiled_in():
    units = {name: unit for name, _, unit, _, _ in config.describe()}
    assert len(NAMES) == len(set(NAMES))
    assert not [name for name in NAMES if "compiled in" in units[name]]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.measure.__name__)
def test_a_group_measures_what_it_names_in_the_types_of_now(group):
    threads.set_num_threads(2)
    measured = group.measure(True)
    assert set(measured) == set(group.names)
    for name, value in measured.items():
        now = getattr(config.TUNED, name)
        assert isinstance(value, type(now)), name
        assert not isinstance(now, tuple) or len(value) == len(now), name


def test_one_thread_measures_no_sharing():
    threads.set_num_threads(1)
    [found] = outcomes(True, ["meeting_us"])
    assert found.measured is None
    assert "needs two cores" in str(found)


def test_what_is_found_is_compared_with_what_is_there(monkeypatch):
    group = next(group for group in GROUPS if "chunk_gates" in group.names)
    monkeypatch.setattr(bench.tune, "GROUPS", (group._replace(measure=lambda tiny: {"chunk_gates": 1 << 14}),))
    [found] = outcomes(True)
    assert (found.now, found.measured) == (config.TUNED.chunk_gates, 1 << 14)
    assert found.gain > 0
    monkeypatch.setattr(bench.tune, "GROUPS", (group._replace(measure=lambda tiny: {"chunk_gates": found.now}),))
    assert next(outcomes(True)).gain is None


@pytest.mark.parametrize(
    ("gain", "words"), [(1.1, "MATTERS: 10.0 % faster"), (0.98, "no: 2.0 % slower"), (None, "same")]
)
def test_the_verdict(gain, words):
    assert words in str(Outcome("name", "us", 1.0, 2.0, gain))


def test_the_list_holds_every_number(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench.tune", "--list"])
    bench.tune.main()
    printed = capsys.readouterr().out
    for name, value, unit, meaning, _ in config.describe():
        assert f"{name} = {value}\n    unit: {unit}\n    {meaning}" in printed


def test_settings_leave_nothing_behind():
    before, count = config.TUNED, threads.get_num_threads()
    with SERIAL.but(chunk_gates=7).active():
        assert config.TUNED.chunk_gates == 7
        assert threads.get_num_threads() == 1
    assert config.TUNED is before
    assert threads.get_num_threads() == count
    assert "chunk_gates" not in SERIAL.numbers


@pytest.mark.parametrize("setting", [PIPELINE, UNITS, BATCH], ids=lambda setting: setting.plan.__name__)
def test_a_coordinated_setting_coordinates_every_call(setting, monkeypatch):
    threads.set_num_threads(2)
    took, run = [], Coordinator.run
    monkeypatch.setattr(pool, "oversubscribed", lambda: False)
    monkeypatch.setattr(Coordinator, "run", lambda *arguments: took.append(run(*arguments)) or took[-1])
    call = infer(Shape(2, 3, 4, 5), setting)
    with setting.active():
        for _ in range(20):
            call()
    assert len(took) == 20
    assert None not in took[3:]  # three alone, to measure


def test_a_setting_changes_no_bit():
    shape = Shape(2, 3, 4, 5)
    one, other = infer(shape, SERIAL), infer(shape, AUTOMATIC)
    with SERIAL.active():
        expected = one()
    assert (other() == expected).all()


def test_no_crossover_where_nothing_is_gained():
    assert crossover([1.0, 2.0], [0.9, 1.0]) is None
    assert crossover([1.0, 2.0, 4.0], [1.5, 0.5, 1.5], 1.0) == 3.0
