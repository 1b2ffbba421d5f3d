"""Give the decoders random and hostile inputs, and hold them to named errors or right answers.

    python -m tests.decode.hostile --count 100000

is meant for decoders built with AddressSanitizer and all checks (CONTRIBUTING.md says how), but runs with any. A crash
ends it, as does a case that takes longer than ``--limit`` seconds; a wrong answer or an unnamed error is printed with
its number, and makes the exit code 1. A case depends on its number and the seed alone: ``--first 4711 --count 1`` runs
one again, and ``--verbose`` prints each number before its case runs, for crashes that print nothing.
"""

import argparse
import faulthandler
import resource
import sys
import time
import traceback
import warnings
from collections import Counter

import numpy as np

from fastlstm.errors import FastLSTMError
from tests.decode.hostile_cases import SHARES
from tests.decode.hostile_long import long

KINDS = [kind for kind, share in SHARES.items() for _ in range(share)]
LONG_EVERY = 5000


def kind_of(number):
    """The kind of case that this number is, and how many of its kind came before; kinds alternate evenly."""
    if number % LONG_EVERY == LONG_EVERY - 1:
        return long, number // LONG_EVERY
    place = number * 37 % len(KINDS)
    kind = KINDS[place]
    return kind, number // len(KINDS) * SHARES[kind] + place - KINDS.index(kind)


def run_case(number, seed):
    """Run one case; whether it was answered (True), refused by name (False), or what was wrong (str)."""
    kind, turn = kind_of(number)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a warning out of NumPy is a case that was not thought of
            return kind(np.random.default_rng([seed, number]), turn)
    except FastLSTMError:
        return False
    except Exception:
        return traceback.format_exc()


def resident():
    """MiB of memory that the process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(first, count, seed, limit=300.0, verbose=False):
    """Run the cases, print what went wrong and a summary; return how many went wrong."""
    outcomes, wrong, began, early = Counter(), 0, time.perf_counter(), 0.0
    for place, number in enumerate(range(first, first + count)):
        name = kind_of(number)[0].__name__
        if verbose:
            print(f"case {number}: {name}", file=sys.stderr, flush=True)
        if place % 50 == 0 or limit < 60.0:
            faulthandler.dump_traceback_later(limit, exit=True, file=sys.__stderr__)
        outcome = run_case(number, seed)
        if isinstance(outcome, str):
            wrong += 1
            print(f"case {number} ({name}), seed {seed}:\n{outcome}", flush=True)
        outcomes[name, "wrong" if isinstance(outcome, str) else outcome] += 1
        if place == count // 2:
            early = resident()
    faulthandler.cancel_dump_traceback_later()
    for name in dict.fromkeys(name for name, _ in outcomes):
        answered, refused = outcomes[name, True], outcomes[name, False]
        print(f"{name:14} {answered:7} answered {refused:7} refused by name {outcomes[name, 'wrong']:4} wrong")
    seconds, most = time.perf_counter() - began, resident()
    print(f"{count} cases, seed {seed}: {wrong} wrong, {seconds:.0f} s; {most:.0f} MiB, after half {early:.0f} MiB")
    return wrong


def main():
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.decode.hostile", description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds after which a case is taken to hang")
    parser.add_argument("--verbose", action="store_true", help="print each number before its case runs")
    given = parser.parse_args()
    faulthandler.enable()
    sys.exit(run(given.first, given.count, given.seed, given.limit, given.verbose) > 0)


if __name__ == "__main__":
    main()
