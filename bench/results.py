"""Read what pytest-benchmark saved: cells with the rounds of their contenders, the machine, and its speeds."""

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fastlstm.benchmark.cells import OURS
from fastlstm.benchmark.interleaved import summary

from .ceilings import LEVELS
from .suite import Key

__all__ = ["STORAGE", "CellResult", "Results", "latest", "load"]

STORAGE = Path(__file__).parents[1] / ".benchmarks"
"""Where pytest-benchmark saves, if it is started in the folder above this one."""


@dataclass
class CellResult:
    """One cell: the times of each contender, round by round, ours among them."""

    suite: str
    kind: str
    label: str
    threads: int
    facts: dict[str, Any]
    times: dict[str, list[float]] = field(default_factory=dict)
    compared: set[str] = field(default_factory=set)

    @property
    def summary(self) -> dict[str, dict[str, list[float]]]:
        """Return the spread of each contender's times, and of their ratios to ours."""
        return summary(self.times)

    @property
    def seconds(self) -> float:
        """Return our median."""
        return statistics.median(self.times[OURS])

    @property
    def peers(self) -> list[str]:
        """Return those that did the same work, without ours."""
        return [name for name in self.times if name in self.compared and not name.startswith(OURS)]

    @property
    def best_ratio(self) -> tuple[float, float, float] | None:
        """Return the quartiles and the median, in order, of the fastest peer's time over ours; None without peers."""
        ratios = [self.summary[name]["ratio"] for name in self.peers]
        if not ratios:
            return None
        low, median, high = min(ratios, key=lambda ratio: ratio[1])
        return low, median, high


@dataclass
class Results:
    """Everything that was saved in one or several runs; where they have the same cell, the later one counts."""

    runs: list[dict[str, Any]] = field(default_factory=list)  # what `machine.about` says of each, and its commit
    cells: dict[Key, CellResult] = field(default_factory=dict)
    speeds: dict[int, dict[str, float]] = field(default_factory=dict)
    """By threads and name, operations or bytes a second: the best round, since nothing makes a machine faster."""

    def peak(self, threads: int) -> float:
        """Return the most operations a second that anything reached on so many threads or fewer.

        Multiply-adds on registers, large products, and every contender: so nothing here can be above it.
        """
        rates = [
            rate
            for count, speeds in self.speeds.items()
            for name, rate in speeds.items()
            if count <= threads and name not in LEVELS
        ]
        return max([*rates, *(self.fastest(count) for count in range(1, threads + 1))])

    def fastest(self, threads: int) -> float:
        """Return the most operations a second of the contenders on so many threads, by their medians."""
        cells = [cell for cell in self.cells.values() if cell.threads == threads and "flops" in cell.facts]
        rates = [
            cell.facts["flops"] / statistics.median(times)
            for cell in cells
            for name, times in cell.times.items()
            if name == OURS or name in cell.compared
        ]
        return max(rates, default=0.0)


def latest(storage: Path = STORAGE) -> Path:
    """Return the file that was saved last.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    files = sorted(storage.glob("*/[0-9][0-9][0-9][0-9]_*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    if not files:
        raise FileNotFoundError(f"no results in {storage}: run `pytest bench --benchmark-only` first")
    return files[-1]


def load(paths: Iterable[Path]) -> Results:
    """Read files that pytest-benchmark saved with all rounds, in this order."""
    results = Results()
    for path in paths:
        saved = json.loads(path.read_text(encoding="utf-8"))
        date = datetime.fromisoformat(saved["datetime"]).strftime("%Y-%m-%d %H:%M UTC")
        commit = saved["commit_info"].get("id", "unknown")[:10]
        commit += " and changes" * bool(saved["commit_info"].get("dirty"))
        results.runs.append(saved["machine_info"]["fastlstm"] | {"date": date, "commit": commit})
        cells: dict[Key, CellResult] = {}
        for benchmark in saved["benchmarks"]:
            _add(results, cells, benchmark["extra_info"], benchmark["stats"]["data"])
        # without ours there is nothing to compare with: a run of some contenders only
        results.cells |= {key: cell for key, cell in cells.items() if OURS in cell.times}
    return results


def _add(results: Results, cells: dict[Key, CellResult], info: dict[str, Any], times: list[float]) -> None:
    """Add one benchmark, by what `conftest.py` or `test_ceilings.py` noted of it."""
    name, facts = info["contender"], info["facts"]
    if info["suite"] == "ceilings":
        [work] = facts.values()
        results.speeds.setdefault(info["threads"], {})[name] = work / min(times)
        return
    key = (info["suite"], info["kind"], info["label"], info["threads"])
    cell = cells.setdefault(key, CellResult(*key, facts))
    cell.times[name] = times
    if info["compared"]:
        cell.compared.add(name)
