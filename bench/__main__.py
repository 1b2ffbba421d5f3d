"""Run the suites one after the other, each in a fresh process, and write the report: ``python -m bench --seconds 600``.

A fresh process for each suite, so that no suite inherits another's memory or thread pools.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterable

SHARES = {
    "inference": 0.28,
    "training": 0.35,
    "streaming": 0.06,
    "ragged": 0.07,
    "language_model": 0.13,
    "generation": 0.04,
    "startup": 0.07,
}
"""Part of the time that each suite gets; those with slow peers take a little more."""
SECONDS = 480.0
"""For all suites: less, and the slowest cells would still run their least rounds, and so take longer than asked for."""


def budget(suites: Iterable[str], left: float) -> float:
    """Return the seconds of the first of the suites to come: a share of what the others left."""
    shares = [SHARES[suite] for suite in suites]
    return max(0.0, left) * shares[0] / sum(shares)


def run(module: str, *arguments: str) -> float:
    """Run a module of this package in a fresh process; return the seconds it took."""
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", f"bench.{module}", *arguments], check=True)
    return time.monotonic() - start


def main() -> None:
    """Run what was asked for, then write the report."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Time the layers beside their peers.")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"for all suites together, roughly; default {SECONDS:g}"
    )
    parser.add_argument("--quick", action="store_true", help="short runs, and without the slowest peer")
    parser.add_argument("suites", nargs="*", help=f"some of {', '.join(SHARES)}; default: all")
    arguments = parser.parse_args()
    if unknown := set(arguments.suites) - set(SHARES):
        parser.error(f"no suite {', '.join(sorted(unknown))}; there are {', '.join(SHARES)}")
    suites = arguments.suites or list(SHARES)
    start = time.monotonic()
    run("ceilings")
    for place, suite in enumerate(suites):
        seconds = budget(suites[place:], arguments.seconds - (time.monotonic() - start))
        took = run(f"test_{suite}", *(["--quick"] if arguments.quick else ["--seconds", f"{seconds:.1f}"]))
        print(f"{suite} took {took:.0f} s" + ("" if arguments.quick else f" of {seconds:.0f} s"), flush=True)
    print(f"all took {time.monotonic() - start:.0f} s" + ("" if arguments.quick else f" of {arguments.seconds:g} s"))
    run("report")


if __name__ == "__main__":
    main()
