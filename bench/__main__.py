"""Run the suites under pytest-benchmark, then write the report: ``python -m bench``."""

import argparse
import subprocess
import sys
from pathlib import Path

from .report import PAGE, TITLES
from .results import STORAGE

ROOT = Path(__file__).parents[1]
QUICK = ("--benchmark-max-time=0.05", "--benchmark-min-rounds=1", "-m", "not slow")


def commands(suites: list[str], quick: bool) -> list[list[str]]:
    """Return the commands: the suites, all of them if none is named, and the report.

    Only a whole run writes ``docs/benchmarks.md``; the others write a page beside what pytest-benchmark saved.
    """
    files = [f"bench/test_{suite}.py" for suite in ("ceilings", *suites)] if suites else ["bench"]
    page = PAGE if not (suites or quick) else STORAGE / "report.md"
    tests = [sys.executable, "-m", "pytest", *files, "--benchmark-only", *(QUICK if quick else ())]
    return [tests, [sys.executable, "-m", "bench.report", "--output", str(page)]]


def main() -> None:
    """Run what was asked for, and stop where something fails."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Time fastlstm beside its peers.")
    parser.add_argument("--quick", action="store_true", help="one round or a few, and without the slowest contender")
    parser.add_argument("suites", nargs="*", help=f"some of {', '.join(TITLES)}; default: all")
    arguments = parser.parse_args()
    if unknown := set(arguments.suites) - set(TITLES):
        parser.error(f"no suite {', '.join(sorted(unknown))}; there are {', '.join(TITLES)}")
    for command in commands(arguments.suites, arguments.quick):
        done = subprocess.run(command, cwd=ROOT, check=False)
        if done.returncode:
            sys.exit(done.returncode)


if __name__ == "__main__":
    main()
