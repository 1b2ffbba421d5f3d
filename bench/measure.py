"""Time a suite cell by cell, and save what came out for the report. How a cell is timed: `fastlstm.benchmark.turns`."""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from fastlstm.benchmark.machine import machine
from fastlstm.benchmark.turns import LEAST_ROUNDS, Cell, time_cells

__all__ = ["RESULTS", "main", "run_suite", "save", "thread_counts"]

RESULTS = Path(__file__).parents[1] / ".benchmarks"
QUICK = 12.0
"""Seconds of a suite's quick run."""


def save(name: str, value: Mapping[str, Any]) -> None:
    """Write one suite's results where the report finds them."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(value, indent=1))


def run_suite(name: str, cells: Iterable[Cell], seconds: float = QUICK) -> list[dict[str, Any]]:
    """Time all cells in about so many seconds, print them, and save them for the report.

    Each cell gets an equal share of the time that is left; one that cannot do with it still runs `LEAST_ROUNDS`, or a
    single one in a quick run.
    """
    least = LEAST_ROUNDS if seconds > QUICK else 1
    done = []
    for record in time_cells(list(cells), seconds, least):
        done.append(record)
        figures = "".join(f"  {who} {r['seconds'][1] * 1e3:.3f} ms" for who, r in record["results"].items())
        print(f"{name} {record['label']}, {record['threads']} threads:{figures}", flush=True)
    save(name, {"machine": machine(), "cells": done})
    return done


def main(name: str, cells: Callable[[], Iterable[Cell]]) -> None:
    """Run one suite from the command line."""
    parser = argparse.ArgumentParser(description=f"Time the suite {name!r} and save what came out for bench.report.")
    parser.add_argument("--seconds", type=float, default=60.0, help="about how long it may take")
    parser.add_argument("--quick", action="store_true", help=f"take {QUICK:g} seconds")
    arguments = parser.parse_args()
    run_suite(name, cells(), QUICK if arguments.quick else arguments.seconds)


def thread_counts() -> list[int]:
    """Return one core and, where there are more, two."""
    return [1, 2][: machine()["cores"]]
