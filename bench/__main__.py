"""Run the suites one after the other, each in a fresh process, and write the report: ``python -m bench --seconds 300``.

A fresh process for each suite, so that no suite inherits another's memory or thread pools.
"""

import argparse
import subprocess
import sys

SHARES = {"inference": 0.3, "training": 0.35, "streaming": 0.1, "ragged": 0.05, "language_model": 0.15, "startup": 0.05}
"""Part of the time that each suite gets; those with slow peers take a little more."""


def main() -> None:
    """Run what was asked for, then write the report."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Time the layers beside their peers.")
    parser.add_argument("--seconds", type=float, default=240.0, help="for all suites together, roughly")
    parser.add_argument("--quick", action="store_true", help="short runs, and without the slowest peer")
    parser.add_argument("suites", nargs="*", help=f"some of {', '.join(SHARES)}; default: all")
    arguments = parser.parse_args()
    if unknown := set(arguments.suites) - set(SHARES):
        parser.error(f"no suite {', '.join(sorted(unknown))}; there are {', '.join(SHARES)}")
    subprocess.run([sys.executable, "-m", "bench.ceilings"], check=True)
    for suite in arguments.suites or SHARES:
        budget = ["--quick"] if arguments.quick else ["--seconds", str(arguments.seconds * SHARES[suite])]
        subprocess.run([sys.executable, "-m", f"bench.test_{suite}", *budget], check=True)
    subprocess.run([sys.executable, "-m", "bench.report"], check=True)


if __name__ == "__main__":
    main()
