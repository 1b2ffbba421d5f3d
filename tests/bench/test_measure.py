"""What the benchmarks rest on: different outputs are an error, ratios are of one round, the page holds every cell."""

import json
import sys
import time

import numpy as np
import pytest

import bench.report
from bench import measure
from bench.__main__ import SHARES, budget
from bench.measure import run_suite
from bench.report import TITLES, report
from fastlstm.benchmark.machine import machine
from fastlstm.benchmark.turns import Cell, Contender, time_cell
from fastlstm.errors import DifferentOutputError


def contender(name, value, seconds=0.0, **options):
    def call():
        time.sleep(seconds)
        return value

    return Contender(name, call, options.pop("read", lambda y: {"y": np.array(y)}), **options)


def cell(*contenders, **options):
    return Cell("shape", 1, lambda: list(contenders), **options)


@pytest.mark.parametrize("value", [[1.0, 2.1], [1.0, np.nan], [1.0]])
def test_a_contender_that_computes_something_else_is_an_error(value):
    with pytest.raises(DifferentOutputError, match="peer differs from fastlstm in 'y'"):
        time_cell(cell(contender("fastlstm", [1.0, 2.0]), contender("peer", value)), 0.01)


def test_a_yardstick_is_timed_but_not_compared():
    record = time_cell(cell(contender("fastlstm", [1.0]), contender("other", [9.0], read=None)), 0.01)
    assert not record["results"]["other"]["compared"]


def test_the_ratio_is_the_peers_time_over_ours():
    record = time_cell(cell(contender("fastlstm", [1.0], 0.01), contender("slow", [1.0], 0.03, once=True)), 0.01)
    assert record["results"]["slow"]["ratio"][1] == pytest.approx(3.0, rel=0.4)


def test_a_contender_elsewhere_times_its_own_turns():
    elsewhere = contender("peer", [1.0], 0.02, turn=lambda seconds, warm: [0.005, 0.003, 0.001])
    record = time_cell(cell(contender("fastlstm", [1.0], 0.01), elsewhere), 0.01)
    assert record["results"]["peer"]["seconds"] == [0.003] * 3


def elapsed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def test_a_cells_share_pays_for_its_making_and_comparing():
    slow = cell(contender("fastlstm", [1.0], 0.1), contender("peer", [1.0], 0.1))  # 0.4 s to compare, 0.2 s a round
    assert 0.55 < elapsed(lambda: time_cell(slow, 1.0, least=1)) < 1.25
    record = time_cell(slow, 0.3, least=1)  # spent before the race: the least rounds
    assert record["results"]["peer"]["rounds"] == 1


def test_a_suite_ends_in_time(monkeypatch):
    monkeypatch.setattr(measure, "save", lambda name, value: None)
    monkeypatch.setattr(measure, "QUICK", 0.0)
    monkeypatch.setattr("gc.collect", lambda: None)  # its time grows with what other tests have imported
    slow = cell(contender("fastlstm", [1.0], 0.1), contender("peer", [1.0], 0.1))  # 1.0 s at least
    fast = cell(contender("fastlstm", [1.0], 0.001), contender("peer", [1.0], 0.001))
    assert 1.0 < elapsed(lambda: run_suite("suite", [fast, slow], 2.0)) < 2.3


def test_what_a_suite_leaves_goes_to_the_others():
    assert sum(SHARES.values()) == pytest.approx(1.0)
    assert SHARES.keys() == TITLES.keys()  # what is run is reported
    suites = list(SHARES)
    left = 300.0
    for place, suite in enumerate(suites):
        assert budget(suites[place:], left) == pytest.approx(300.0 * SHARES[suite])
        left -= budget(suites[place:], left)
    assert budget(suites[-1:], 90.0) == 90.0
    assert budget(suites, -1.0) == 0.0


def test_the_page_holds_every_cell_and_marks_the_misses():
    def record(label, threads, ratio):
        ours = {"seconds": [1e-3] * 3, "ratio": [1.0] * 3, "rounds": 3, "compared": True}
        peer = {"seconds": [ratio * 1e-3] * 3, "ratio": [ratio] * 3, "rounds": 3, "compared": True}
        facts = {"flops": 5e7, "recurrent_bytes": 1 << 16, "passes": 1}
        return {"label": label, "threads": threads, "facts": facts, "results": {"fastlstm": ours, "torch": peer}}

    cells = [record("won", 1, 4.0), record("lost", 1, 0.25), record("won", 2, 2.0)]
    speeds = {"multiply-add": 2e11, "sgemm": 1e11, "L1": 2e11, "L2": 1e11, "L3": 8e10, "memory": 2e10}
    ceilings = {"machine": machine(), "caches": {"L1": 1 << 15, "L2": 1 << 20, "L3": 1 << 25}, "threads": {"1": speeds}}
    page = report({"inference": {"machine": machine(), "cells": cells}, "ceilings": ceilings})
    assert "| won | 1 | 1 ms | 4 ms | 4.00 |" in page
    assert "| **0.25** |" in page
    assert "| 25% | arithmetic | 50% |" in page
    assert "geometric mean 1.00; behind in 1 of 2; worst 0.25 (lost)" in page
    assert "Not run." in page


def saved(ratios):
    """Return what a suite saves: by label and threads the peer's time over ours."""

    def record(label, threads, ratio):
        ours, peer = (
            {"seconds": [t, t, t], "ratio": [t - 0.1 * (t != 1), t, t + 0.1], "rounds": 3, "compared": True}
            for t in (1.0, ratio)
        )
        return {"label": label, "threads": threads, "facts": {}, "results": {"fastlstm": ours, "torch": peer}}

    return {"machine": machine(), "cells": [record(*where, ratio) for where, ratio in ratios.items()]}


@pytest.fixture
def report_of(tmp_path, monkeypatch):
    """Write a page from what two suites saved; return the page and its picture, if there is one."""

    def write():
        (tmp_path / "inference.json").write_text(
            json.dumps(saved({("won", 1): 4.0, ("won", 2): 2.0, ("lost", 1): 0.25}))
        )
        (tmp_path / "training.json").write_text(json.dumps(saved({("another", 2): 1.5})))
        for name, value in {"RESULTS": tmp_path, "PAGE": tmp_path / "b.md", "PICTURE": tmp_path / "b.svg"}.items():
            monkeypatch.setattr(bench.report, name, value)
        bench.report.main()
        picture = tmp_path / "b.svg"
        return (tmp_path / "b.md").read_text(), picture.read_text() if picture.exists() else None

    return write


def test_the_page_without_matplotlib_says_so(report_of, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page, picture = report_of()
    assert "| won | 1 |" in page
    assert "b.svg" not in page
    assert picture is None
    assert capsys.readouterr().err == "matplotlib is not installed: b.md is written without b.svg\n"


def test_the_picture_shows_every_cell_and_is_the_same_every_time(report_of):
    pytest.importorskip("matplotlib")
    page, picture = report_of()
    assert "](b.svg)" in page
    for text in ("won", "lost", "another", "1 core", "2 cores", *list(TITLES.values())[:2]):
        assert f">{text}</text>" in picture
    assert list(TITLES.values())[2] not in picture
    assert "Date" not in picture
    assert report_of()[1] == picture
