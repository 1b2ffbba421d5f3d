"""The page holds every cell, marks the misses, shows no share above one, and is the same for the same results."""

import json
import re
import sys

import pytest

pytest.importorskip("pytest_benchmark")

import bench.report
from bench.__main__ import commands
from bench.report import TITLES, report, write
from bench.results import Results, latest, load
from fastlstm.benchmark.machine import machine


def benchmark(suite, label, threads, name, times, facts=None, kind="LSTM", compared=True):
    info = {"suite": suite, "kind": kind, "label": label, "threads": threads, "contender": name, "compared": compared}
    return {"extra_info": info | {"facts": facts or {}}, "stats": {"data": times}}


def ceiling(threads, name, seconds, **work):
    return {
        "extra_info": {"suite": "ceilings", "threads": threads, "contender": name, "facts": work},
        "stats": {"data": seconds},
    }


def pair(label, threads, ratio, suite="inference", **options):
    """Return ours, which takes 1 ms a round, and a peer."""
    ours = benchmark(suite, label, threads, "fastlstm", [1e-3, 1e-3, 1e-3], **options)
    peer = benchmark(suite, label, threads, "torch", [ratio * 1e-3 * x for x in (0.9, 1.0, 1.1)], **options)
    return [ours, peer]


@pytest.fixture
def save(tmp_path):
    """Write a file as pytest-benchmark does; return what is read from it."""
    count = 0

    def call(benchmarks, commit="0123456789abcdef", dirty=False):
        nonlocal count
        count += 1
        path = tmp_path / "Linux-CPython" / f"{count:04}_run.json"
        path.parent.mkdir(exist_ok=True)
        about = {"fastlstm": {key: value for key, value in machine().items() if key != "date"}}
        content = {
            "machine_info": about,
            "commit_info": {"id": commit, "dirty": dirty},
            "datetime": f"2026-01-0{count}T12:00:00+00:00",
            "benchmarks": benchmarks,
        }
        path.write_text(json.dumps(content))
        return path

    return call


def test_every_cell_is_there_and_the_misses_are_marked(save):
    cells = pair("won", 1, 4.0) + pair("lost", 1, 0.25) + pair("won", 2, 2.0)
    page = report(load([save(cells, dirty=True)]))
    assert "Commit 0123456789 and changes, 2026-01-01 12:00 UTC; " in page
    assert "| won | 1 | 1 ms | 4 ms | 4.00 | 3.80 to 4.20 |" in page
    assert "| lost | 1 | 1 ms | 250 us | **0.25** | 0.24 to 0.26 |" in page
    assert "- 1 thread: geometric mean 1.00; behind in 1 of 2; worst 0.25 (lost)" in page
    assert "- two cores over one, ours: won: 1.00" in page
    assert page.count("Not run.") == len(TITLES) - 1


def test_nothing_is_above_the_peak(save):
    """A contender that is faster than the machine's own loops is the peak itself."""
    facts = {"flops": 1e8}  # ours: 100 GFLOP/s; the peer of the other cell: 200
    loops = [ceiling(1, "multiply-add", [2.0, 1.0], flops=5e10), ceiling(1, "sgemm, NumPy", [1.0], flops=8e10)]
    loops += [ceiling(1, "L1", [1.0], bytes=9e12)]
    slower = report(load([save(loops + pair("a", 1, 2.0, facts=facts))]))
    assert "| a | 1 | 1 ms | 2 ms | 2.00 | 1.90 to 2.10 | 100% |" in slower
    assert "| 1 | 50 | 80 |  | 9000 |  |  |  | 100 |" in slower
    faster = report(load([save(loops + pair("a", 1, 2.0, facts=facts) + pair("b", 1, 0.5, facts=facts))]))
    assert faster.count("| 50% |") == 2
    assert max(map(int, re.findall(r"(\d+)%", slower + faster))) == 100


def test_two_threads_reach_what_one_does(save):
    facts = {"flops": 1e8}
    results = load([save(pair("a", 1, 0.5, facts=facts) + pair("a", 2, 4.0, facts=facts))])
    assert results.peak(2) == results.peak(1) == pytest.approx(2e11)


def test_a_yardstick_is_shown_and_is_no_peer(save):
    cells = [*pair("a", 1, 4.0), benchmark("inference", "a", 1, "fastlstm, dense", [1e-9] * 3, compared=False)]
    page = report(load([save(cells)]))
    assert "| 4.00 |" in page
    assert "fastlstm, dense" in page


def test_what_was_timed_once_has_a_ratio(save):
    cells = [*pair("a", 1, 4.0), benchmark("inference", "a", 1, "once", [2e-3])]
    assert "| 2.00 | 2.00 to 2.00 |" in report(load([save(cells)]))


def test_each_kind_of_cell_has_a_part(save):
    page = report(load([save(pair("a", 1, 4.0) + pair("a", 1, 3.0, kind="GRU"))]))
    assert page.index(f"## {TITLES['inference']}: LSTM") < page.index("| 4.00 |")
    assert page.index("| 4.00 |") < page.index(f"## {TITLES['inference']}: GRU") < page.index("| 3.00 |")


def test_a_run_without_ours_gives_no_cell(save):
    assert not load([save(pair("a", 1, 4.0)[1:])]).cells


def test_a_later_file_replaces_its_cells_and_both_runs_are_named(save):
    first = save(pair("a", 1, 4.0) + pair("b", 1, 3.0))
    second = save(pair("a", 1, 5.0), commit="fedcba98765")
    page = report(load([first, second]))
    assert "| 4.00 |" not in page
    assert "| 5.00 |" in page
    assert "| 3.00 |" in page
    assert page.index("2026-01-01") < page.index("Commit fedcba9876, 2026-01-02")


def test_the_latest_is_found_and_its_absence_is_an_error(save, tmp_path):
    with pytest.raises(FileNotFoundError, match="run `pytest bench --benchmark-only` first"):
        latest(tmp_path)
    save([])
    second = save([])
    assert latest(tmp_path) == second


def test_the_page_without_matplotlib_says_so(save, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    write(load([save(pair("won", 1, 4.0))]), tmp_path / "b.md")
    assert "b.svg" not in (tmp_path / "b.md").read_text()
    assert not (tmp_path / "b.svg").exists()
    assert capsys.readouterr().err == "matplotlib is not installed: b.md is written without b.svg\n"


def test_the_picture_shows_every_cell_and_is_the_same_every_time(save, tmp_path):
    pytest.importorskip("matplotlib")
    path = save(pair("won", 1, 4.0) + pair("won", 2, 2.0) + pair("lost", 1, 0.25) + pair("more", 2, 1.5, "training"))
    write(load([path]), tmp_path / "b.md")
    picture = (tmp_path / "b.svg").read_text()
    assert "](b.svg)" in (tmp_path / "b.md").read_text()
    for text in ("won", "lost", "more", "1 core", "2 cores", TITLES["inference"], TITLES["training"]):
        assert f">{text}</text>" in picture
    assert TITLES["streaming"] not in picture
    assert "Date" not in picture
    write(load([path]), tmp_path / "b.md")
    assert (tmp_path / "b.svg").read_text() == picture


def test_the_program_reads_the_files_that_are_named(save, tmp_path, monkeypatch):
    path, page = save(pair("named", 1, 4.0)), tmp_path / "page.md"
    save(pair("later", 1, 4.0))
    monkeypatch.setattr(sys, "argv", ["bench.report", str(path), "--output", str(page)])
    bench.report.main()
    assert "| named | 1 |" in page.read_text()
    assert "later" not in page.read_text()


def test_every_suite_has_a_title():
    files = {
        path.stem.removeprefix("test_") for path in bench.report.PAGE.parents[1].joinpath("bench").glob("test_*.py")
    }
    assert files == {*TITLES, "ceilings"}


def test_only_a_whole_run_writes_the_page_of_the_docs():
    tests, page = commands([], quick=False)
    assert "bench" in tests
    assert page[-1] == str(bench.report.PAGE)
    for part in (commands(["inference"], quick=False), commands([], quick=True)):
        assert ".benchmarks" in part[1][-1]
    assert {"bench/test_inference.py", "bench/test_ceilings.py"} <= set(commands(["inference"], quick=False)[0])
    assert "--benchmark-min-rounds=1" in commands([], quick=True)[0]


def test_nothing_is_known_of_a_machine_that_ran_nothing():
    assert Results().fastest(1) == 0.0
