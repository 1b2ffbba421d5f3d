"""Write ``docs/benchmarks.md`` and its picture from what the suites saved: ``python -m bench.report``.

Every cell is there, those that we lose included. No figure is ever written by hand.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

from fastlstm.benchmark.machine import about
from fastlstm.benchmark.short import clock
from fastlstm.benchmark.turns import OURS

from .ceilings import level_of
from .measure import RESULTS
from .plot import Ratios, draw

__all__ = ["report"]

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
PICTURE = PAGE.with_suffix(".svg")
PICTURE_TEXT = "The best peer's time over ours, cell by cell; the figures are in the tables below"
TITLES = {
    "inference": "Inference, whole sequences",
    "training": "Training: forward, backward, all gradients",
    "streaming": "Streaming: one step, N = 1, state carried",
    "ragged": "Ragged batches, training",
    "language_model": "Training a language model: one step, Adam and clipping included",
    "generation": "Generating text: one sequence, drawn by top-k",
    "startup": "Start-up: a fresh process to its first result",
}
HEAD = """# Benchmarks

Written by `python -m bench.report`; do not edit. Run `python -m bench` to make the figures of your own machine.

{machine}

- All contenders have the same weights and inputs, float32, NumPy arrays in and out. Their outputs were compared before
  they were timed. They took turns in one process (JAX in one of its own), on the same number of threads;
  `fastlstm/benchmark/turns.py` and `bench/jax_lstm.py` say why and how.
- A shape is N,T,D,H: sequences, steps, input features, units. Times are medians over rounds. A ratio is a peer's time
  over ours in the same round, its median and quartiles: above 1 we are faster, below 1 it is bold.
- "Of the limit": the shortest time that this machine's arithmetic (multiply-adds on registers) or its reading speed
  (the recurrent weights, once a step, from the smallest cache that holds them) allows, over our time. "Of sgemm": the
  time that a large product in NumPy's BLAS takes for as much arithmetic, over our time: beyond 100 % where that BLAS
  does not know this CPU.
"""


def limit(cell: dict[str, Any], ceilings: dict[str, Any]) -> tuple[float, str]:
    """Return the least seconds that the machine allows, and what binds."""
    facts, speeds = cell["facts"], ceilings["threads"].get(str(cell["threads"]))
    if "flops" not in facts or speeds is None:
        return 0.0, ""
    arithmetic, reading = facts["flops"] / speeds["multiply-add"], 0.0
    level = ""
    if "recurrent_bytes" in facts:
        # threads that split one sequence's units each read their share; else each reads all, from its own cache
        level = level_of(facts["recurrent_bytes"], ceilings["caches"])
        reading = facts["passes"] * facts["recurrent_bytes"] / speeds[level]
    return (arithmetic, "arithmetic") if arithmetic >= reading else (reading, level)


def of_sgemm(cell: dict[str, Any], ceilings: dict[str, Any]) -> float:
    """Return the seconds that NumPy's BLAS needs for as much arithmetic."""
    seconds: float = cell["facts"]["flops"] / ceilings["threads"][str(cell["threads"])]["sgemm"]
    return seconds


def mean(values: list[float]) -> float:
    """Return the geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values))


def best_ratio(cell: dict[str, Any]) -> tuple[float, float, float] | None:
    """Return the quartiles and the median, in order, of the fastest peer's time over ours; None without peers."""
    ratios = [peer["ratio"] for peer in peers_of(cell).values()]
    return tuple(min(ratios, key=lambda ratio: ratio[1])) if ratios else None


def peers_of(cell: dict[str, Any]) -> dict[str, Any]:
    """Return the results of those that did the same work, but ourselves."""
    return {name: r for name, r in cell["results"].items() if r["compared"] and not name.startswith(OURS)}


def table(cells: list[dict[str, Any]], ceilings: dict[str, Any] | None) -> list[str]:
    """Return one table of cells that have the same contenders, a line each, and the geometric mean below."""
    names = list(dict.fromkeys(name for cell in cells for name in cell["results"]))
    tokens = "tokens" in cells[0]["facts"]
    head = ["", "threads", *names, *(["our tokens/s"] if tokens else [])]
    head += ["best peer / ours", "quartiles"] if any(map(peers_of, cells)) else []
    head += ["of the limit", "which is", "of sgemm"] if ceilings else []
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for cell in cells:
        results = cell["results"]
        row = [cell["label"], str(cell["threads"])]
        row += [clock(results[name]["seconds"][1]) if name in results else "" for name in names]
        row += [f"{cell['facts']['tokens'] / results[OURS]['seconds'][1]:,.0f}"] if tokens else []
        best = best_ratio(cell)
        if best:
            low, ratio, high = best
            row += [f"{ratio:.2f}" if ratio >= 1 else f"**{ratio:.2f}**", f"{low:.2f} to {high:.2f}"]
        if ceilings:
            least, what = limit(cell, ceilings)
            ours = results[OURS]["seconds"][1]
            row += [f"{least / ours:.0%}", what, f"{of_sgemm(cell, ceilings) / ours:.0%}"] if least else [""] * 3
        lines.append("| " + " | ".join(row) + " |")
    return lines + summary(cells)


def summary(cells: list[dict[str, Any]]) -> list[str]:
    """Return the geometric mean and the worst cell for each thread count, and what a second core brings."""
    lines = [""]
    for threads in sorted({cell["threads"] for cell in cells}):
        ratios = {cell["label"]: best[1] for cell in cells if cell["threads"] == threads and (best := best_ratio(cell))}
        if ratios:
            worst = min(ratios, key=ratios.__getitem__)
            lines.append(
                f"- {threads} thread{'s' * (threads > 1)}: geometric mean {mean(list(ratios.values())):.2f}; behind in "
                f"{sum(ratio < 1 for ratio in ratios.values())} of {len(ratios)}; worst {ratios[worst]:.2f} ({worst})"
            )
    times = {(cell["label"], cell["threads"]): cell["results"][OURS]["seconds"][1] for cell in cells}
    gains = [
        f"{label}: {times[label, 1] / time:.2f}" for (label, n), time in times.items() if n == 2 and (label, 1) in times
    ]
    if gains:
        lines.append("- two cores over one, ours: " + "; ".join(gains))
    return lines


def ratios_of(cells: list[dict[str, Any]]) -> Ratios:
    """Return what the picture shows of a suite."""
    ratios: dict[str, dict[int, tuple[float, float, float]]] = {}
    for cell in cells:
        if best := best_ratio(cell):
            ratios.setdefault(cell["label"], {})[cell["threads"]] = best
    return ratios


def report(results: dict[str, Any], picture: bool = False) -> str:
    """Return the page for what the suites saved, by suite name; a suite that has not run is named."""
    ceilings = results.get("ceilings")
    newest = max((saved["machine"] for saved in results.values()), key=lambda machine: machine["date"])
    lines = [HEAD.format(machine=about(newest))]
    if picture:
        lines += [f"![{PICTURE_TEXT}]({PICTURE.name})", ""]
    if ceilings:
        lines += [
            "## The machine's limits",
            "",
            "| threads | multiply-add, GFLOP/s | sgemm | L1, GB/s | L2 | L3 | memory |",
            "|---" * 7 + "|",
        ]
        for threads, speeds in ceilings["threads"].items():
            figures = (f"{speeds[name] / 1e9:.0f}" for name in ("multiply-add", "sgemm", "L1", "L2", "L3", "memory"))
            lines.append(f"| {threads} | " + " | ".join(figures) + " |")
        lines.append("")
    for suite, title in TITLES.items():
        lines += [f"## {title}", ""]
        if suite not in results:
            lines += ["Not run.", ""]
            continue
        saved = results[suite]
        if saved["machine"]["date"][:10] != newest["date"][:10]:
            lines += [f"Of another day: {about(saved['machine'])}", ""]
        groups: dict[bool, list[dict[str, Any]]] = {}
        for cell in saved["cells"]:  # those without peers have columns of their own
            groups.setdefault(len(cell["results"]) == 1 or bool(peers_of(cell)), []).append(cell)
        for cells in groups.values():
            lines += [*table(cells, ceilings if any("flops" in cell["facts"] for cell in cells) else None), ""]
    return "\n".join(lines)


def main() -> None:
    """Write the page, and the picture where it can be drawn."""
    results = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    suites = {title: ratios_of(results[suite]["cells"]) for suite, title in TITLES.items() if suite in results}
    picture = True
    try:
        draw(suites, PICTURE)
    except ImportError:
        picture = False
        print(f"matplotlib is not installed: {PAGE.name} is written without {PICTURE.name}", file=sys.stderr)
    PAGE.write_text(report(results, picture))
    print(f"wrote {PAGE.name}" + f" and {PICTURE.name}" * picture)


if __name__ == "__main__":
    main()
