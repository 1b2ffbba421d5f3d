"""Measure the figures of ``docs/decisions/`` and write them to their pages: ``python -m bench.decisions [NAME ...]``.

A page holds its figures between ``<!-- measured: NAME -->`` and ``<!-- end -->``; nothing else writes there.
"""

import argparse
import os
import re
import sys
import time
from pathlib import Path

from fastlstm.benchmark.machine import about, machine
from fastlstm.threads import get_num_threads

from .measured_kernels import MEASURES as OF_KERNELS
from .measured_sharing import MEASURES as OF_SHARING
from .measured_sharing import Table

__all__ = ["MEASURES", "PAGES", "caption", "filled", "markdown", "names_in"]

PAGES = Path(__file__).parents[1] / "docs" / "decisions"
MEASURES = OF_SHARING | OF_KERNELS
_BLOCK = re.compile(r"(?<=<!-- measured: )([\w-]+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def names_in(page: str) -> list[str]:
    """Return the names of the figures that a page shows.

    Examples
    --------
    >>> names_in("<!-- measured: threads -->" + chr(10) + "<!-- end -->")
    ['threads']
    """
    return [match[1] for match in _BLOCK.finditer(page)]


def markdown(table: Table) -> str:
    """Return the lines of a table."""
    lines = [table.head, ("---",) * len(table.head), *table.rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def caption(load: float) -> str:
    """Say where, when and on how many threads figures were measured; `load` is how many processes wanted a core."""
    words = about(machine(), ("numpy", "numba", "llvmlite")).removesuffix(".")
    return f"{words}; {get_num_threads()} threads; load {load:.1f} at the start."


def filled(page: str, figures: dict[str, str]) -> str:
    """Return a page with new figures; those that were not measured stay."""

    def block(match: re.Match[str]) -> str:
        name = match[1]
        return f"{name}{match[2]}{figures[name]}" if name in figures else match[0]

    return _BLOCK.sub(block, page)


def main() -> None:
    """Measure what was asked for, and write each page as soon as its figures are known."""
    parser = argparse.ArgumentParser(prog="python -m bench.decisions", description="Measure docs/decisions/ again.")
    parser.add_argument("--tiny", action="store_true", help="print figures of tiny problems and write nothing")
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(MEASURES)}; default: all")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(MEASURES):
        parser.error(f"no figures {', '.join(sorted(unknown))}; there are {', '.join(MEASURES)}")
    for name in arguments.names or MEASURES:
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        began = time.perf_counter()
        figures = f"{markdown(MEASURES[name](arguments.tiny))}\n{caption(load)}\n"
        print(f"{name}, {time.perf_counter() - began:.0f} s\n\n{figures}", flush=True)
        if arguments.tiny:
            continue
        pages = [page for page in sorted(PAGES.glob("*.md")) if name in names_in(page.read_text(encoding="utf-8"))]
        for page in pages:
            page.write_text(filled(page.read_text(encoding="utf-8"), {name: figures}), encoding="utf-8")
        if not pages:
            print(f"no page shows {name}", file=sys.stderr)


if __name__ == "__main__":
    main()
