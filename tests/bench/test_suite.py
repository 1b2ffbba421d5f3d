"""The suites under pytest-benchmark, as users run them: saved, grouped, compared; a wrong output fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pytest_benchmark")

from bench.ceilings import LEVELS, NAMES, cache_sizes, speeds
from bench.report import report
from bench.results import latest, load

ROOT = Path(__file__).parents[2]
SUITE = """
import time

from fastlstm.benchmark.cells import Cell, Contender, Runner


def contender(name, seconds, value=1.0, **options):
    return Contender(
        name, lambda problem, threads: Runner(lambda: time.sleep(seconds), lambda _: {"y": value}), **options
    )


CONTENDERS = (
    contender("fastlstm", 0.002),
    contender("slow", 0.006),
    contender("wrong", 0.001, 2.0),
    contender("absent", 0.001, packages=("no_such_library",)),
)


def cells(tiny):
    for threads in (1, 2):
        yield Cell("tiny" if tiny else "1,2,3,4", threads, dict, CONTENDERS, kind="GRU", facts={"flops": 1e6})


def test_naps(time_contender):
    time_contender()
"""


def run(folder, *arguments, cwd=None):
    """Run pytest in a process of its own, its files in `folder`; return its exit code and what it printed."""
    path = os.pathsep.join([*filter(None, sys.path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--benchmark-storage={folder}/saved", *arguments],
        cwd=cwd or folder,
        env={name: value for name, value in os.environ.items() if name != "CI"} | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def naps(tmp_path):
    """Return a folder with a suite whose contenders sleep."""
    (tmp_path / "conftest.py").write_text("from bench.conftest import *\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (tmp_path / "test_naps.py").write_text(SUITE)
    return tmp_path


def saved(folder):
    return json.loads(latest(folder / "saved").read_text())


def test_each_contender_is_a_benchmark_of_its_cell(naps):
    code, printed = run(naps, "--benchmark-only", "--benchmark-max-time=0.2", "--benchmark-min-rounds=2", "-rs")
    assert code == 1, printed
    assert "4 passed" in printed
    assert "2 skipped" in printed
    assert "2 failed" in printed
    assert "DifferentOutputError: 1,2,3,4: wrong differs from fastlstm in 'y' by 1.0e+00" in printed
    assert "not installed: no_such_library" in printed
    benchmarks = {entry["name"]: entry for entry in saved(naps)["benchmarks"]}
    assert list(benchmarks) == [
        f"test_naps[GRU-1_2_3_4-{threads}t-{name}]" for threads in (1, 2) for name in ("fastlstm", "slow")
    ]
    slow = benchmarks["test_naps[GRU-1_2_3_4-2t-slow]"]
    assert slow["group"] == "naps, GRU 1,2,3,4, 2 threads"
    assert slow["params"] == {"kind": "GRU", "label": "1,2,3,4", "threads": 2, "contender": "slow"}
    assert len(slow["stats"]["data"]) == slow["stats"]["rounds"] >= 2
    assert 0.006 <= slow["stats"]["median"] < 0.02


def test_a_second_run_compares_with_the_first(naps):
    arguments = ("--benchmark-only", "--benchmark-max-time=0.05", "-k", "slow and 1t")
    assert run(naps, *arguments)[0] == 0
    arguments += ("--benchmark-compare", "--benchmark-compare-fail=median:200%")
    code, printed = run(naps, *arguments)
    assert code == 0, printed
    assert "Comparing against benchmarks from" in printed
    assert "test_naps[GRU-1_2_3_4-1t-slow] (NOW)" in printed
    assert "machine_info is different" not in printed
    (naps / "test_naps.py").write_text(SUITE.replace("0.006", "0.06"))
    code, printed = run(naps, *arguments)
    assert code != 0
    assert "Performance has regressed" in printed


def test_disabled_benchmarks_compare_tiny_cells_and_time_nothing(naps):
    code, printed = run(naps, "--benchmark-disable", "-v")
    assert code == 1
    assert "test_naps[GRU-tiny-1t-slow] PASSED" in printed
    assert "test_naps[GRU-tiny-1t-wrong] FAILED" in printed
    assert not list((naps / "saved").glob("*/*.json"))


def test_the_report_reads_what_was_saved(naps):
    run(naps, "--benchmark-only", "--benchmark-max-time=0.2", "--benchmark-min-rounds=3")
    [cell, _] = load([latest(naps / "saved")]).cells.values()
    assert (cell.suite, cell.kind, cell.label, cell.threads) == ("naps", "GRU", "1,2,3,4", 1)
    assert cell.peers == ["slow"]
    assert 1.5 < cell.best_ratio[1] < 4.0


def test_a_real_suite_runs_and_is_reported(tmp_path):
    """One cell; the peers that are installed take part."""
    options = ("--benchmark-only", "--benchmark-max-time=0.05", "--benchmark-min-rounds=1", "-k", "D_H_64 and 1t")
    code, printed = run(tmp_path, "bench/test_streaming.py", *options, cwd=ROOT)
    assert code == 0, printed
    page = report(load([latest(tmp_path / "saved")]))
    assert "| D = H = 64 | 1 |" in page
    assert "of the peak" in page


def test_the_speeds_of_the_machine_are_plausible():
    measured = speeds(1, rounds=2, scale=1e-3)
    assert set(measured) <= set(NAMES)
    assert {"multiply-add", "sgemm, NumPy", *LEVELS} <= set(measured)
    for speed in measured.values():
        [work] = (value for key, value in speed.items() if key != "seconds")
        assert 1e7 < work / min(speed["seconds"]) < 1e15
        assert len(speed["seconds"]) == 2


def test_a_level_is_the_one_that_linux_tells():
    sizes = cache_sizes()
    assert sizes["L1"] < sizes["L2"] <= sizes["L3"]
