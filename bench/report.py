"""Write ``docs/benchmarks.md`` and its picture from what pytest-benchmark saved: ``python -m bench.report [FILE ...]``.

Every cell is there, those that we lose included. No figure is ever written by hand.
"""

import argparse
import math
import sys
from collections.abc import Iterable
from pathlib import Path

from fastlstm.benchmark.machine import about
from fastlstm.benchmark.short import clock

from .ceilings import NAMES
from .plot import Ratios, draw
from .results import STORAGE, CellResult, Results, latest, load

__all__ = ["TITLES", "report", "write"]

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
PICTURE_TEXT = "The best peer's time over ours, cell by cell; the figures are in the tables below"
TITLES = {
    "inference": "Inference, whole sequences",
    "training": "Training: forward, backward, all gradients",
    "streaming": "Streaming: one step, N = 1, state carried",
    "ragged": "Ragged batches, training",
    "language_model": "Training a language model: one step, Adam and clipping included",
    "generation": "Generating text: one sequence, drawn by top-k",
    "ctc_loss": "CTC loss and its gradient, from logits",
    "startup": "Start-up: a fresh process to its first result",
    "sampling": "Drawing one id a row",
    "beam": "Beam search, logits at hand",
    "ctc": "CTC prefix beam search, beam 25",
    "crf": "CRF: loss and all gradients",
    "models": "Whole models: a training step",
}
HEAD = """# Benchmarks

Written by `python -m bench.report`; do not edit. `python -m bench` makes the figures of your own machine.

{runs}

- All contenders have the same weights and inputs, float32, NumPy arrays in and out. Their outputs were compared before
  they were timed. They were timed interleaved, in one process (JAX in one of its own), on the same number of threads;
  `fastlstm/benchmark/interleaved.py` and `bench/jax_lstm.py` say why and how.
- A shape is N,T,D,H: sequences, steps, input features, units. Times are medians over rounds. A ratio is a peer's time
  over ours in the same round, its median and quartiles: above 1 we are faster, below 1 it is bold. "layer" and "cell":
  the layer called on sequences of one step, and torch's `nn.LSTMCell` and its like.
- "Of the peak": our operations a second over the most that anything on this page reached on as many threads, be it
  multiply-adds on registers, a large product in a BLAS, or a contender.
- "Weights read": how fast our steps read the recurrent weights of one sequence, which they need once a step. It is no
  share of a limit: two cores read half of them each, and what stays in a lower cache is not read from the next one.
"""


def mean(values: Iterable[float]) -> float:
    """Return the geometric mean."""
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))


def machine_table(results: Results) -> list[str]:
    """Return the table of the machine's own speeds."""
    lines = [
        "## The machine",
        "",
        "Operations (GFLOP/s) of multiply-adds on registers and of large products; reading (GB/s) of arrays that fill",
        "half of a core's cache, a part of the shared one, or far more. The best rounds of plain loops.",
        "",
        "| threads | " + " | ".join(NAMES) + " | fastest contender |",
        "|---" * (len(NAMES) + 2) + "|",
    ]
    for threads, speeds in sorted(results.speeds.items()):
        figures = [f"{speeds[name] / 1e9:.0f}" if name in speeds else "" for name in NAMES]
        lines.append(f"| {threads} | " + " | ".join([*figures, f"{results.fastest(threads) / 1e9:.0f}"]) + " |")
    return [*lines, ""]


def table(cells: list[CellResult], results: Results) -> list[str]:
    """Return one table of cells that have the same contenders, a line each, and the geometric mean below."""
    names = list(dict.fromkeys(name for cell in cells for name in cell.times))
    tokens, flops, weights = (any(fact in cell.facts for cell in cells) for fact in ("tokens", "flops", "weight_bytes"))
    peers = any(cell.peers for cell in cells)
    head = ["", "threads", *names, *["our tokens/s"] * tokens, *["best peer / ours", "quartiles"] * peers]
    head += ["of the peak"] * flops + ["weights read, GB/s"] * weights
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for cell in cells:
        row = [cell.label, str(cell.threads)]
        row += [clock(cell.summary[name]["seconds"][1]) if name in cell.times else "" for name in names]
        row += [f"{cell.facts['tokens'] / cell.seconds:,.0f}"] if tokens else []
        best = cell.best_ratio
        if best:
            low, ratio, high = best
            row += [f"{ratio:.2f}" if ratio >= 1 else f"**{ratio:.2f}**", f"{low:.2f} to {high:.2f}"]
        else:
            row += ["", ""] * peers
        if flops:
            known = "flops" in cell.facts
            row.append(f"{cell.facts['flops'] / cell.seconds / results.peak(cell.threads):.0%}" if known else "")
        if weights:
            known = "weight_bytes" in cell.facts
            row.append(f"{cell.facts['weight_bytes'] / cell.seconds / 1e9:.0f}" if known else "")
        lines.append("| " + " | ".join(row) + " |")
    return lines + totals(cells)


def totals(cells: list[CellResult]) -> list[str]:
    """Return the geometric mean and the worst cell for each thread count, and what a second core brings."""
    lines = [""]
    for threads in sorted({cell.threads for cell in cells}):
        ratios = {cell.label: best[1] for cell in cells if cell.threads == threads and (best := cell.best_ratio)}
        if ratios:
            worst = min(ratios, key=ratios.__getitem__)
            lines.append(
                f"- {threads} thread{'s' * (threads > 1)}: geometric mean {mean(ratios.values()):.2f}; behind in "
                f"{sum(ratio < 1 for ratio in ratios.values())} of {len(ratios)}; worst {ratios[worst]:.2f} ({worst})"
            )
    times = {(cell.label, cell.threads): cell.seconds for cell in cells}
    gains = [
        f"{label}: {times[label, 1] / time:.2f}" for (label, n), time in times.items() if n == 2 and (label, 1) in times
    ]
    if gains:
        lines.append("- two cores over one, ours: " + "; ".join(gains))
    return lines


def sections(results: Results) -> dict[str, list[CellResult]]:
    """Return the cells by title: a part for each suite, and for each kind of cell where a suite has several."""
    parts: dict[str, list[CellResult]] = {}
    for suite, title in TITLES.items():
        cells = [cell for cell in results.cells.values() if cell.suite == suite]
        kinds = list(dict.fromkeys(cell.kind for cell in cells))
        for kind in kinds or [""]:
            of_kind = [cell for cell in cells if cell.kind == kind]
            parts[f"{title}: {kind}" if kind and len(kinds) > 1 else title] = of_kind
    return parts


def ratios_of(cells: list[CellResult]) -> Ratios:
    """Return what the picture shows of a suite."""
    ratios: dict[str, dict[int, tuple[float, float, float]]] = {}
    for cell in cells:
        if best := cell.best_ratio:
            ratios.setdefault(cell.label, {})[cell.threads] = best
    return ratios


def report(results: Results, picture: str | None = None) -> str:
    """Return the page; `picture` is its file beside the page. A suite that has not run is named."""
    runs = "\n\n".join(f"Commit {run['commit']}, {about(run)}" for run in results.runs)
    lines = [HEAD.format(runs=runs)]
    if picture:
        lines += [f"![{PICTURE_TEXT}]({picture})", ""]
    if results.speeds:
        lines += machine_table(results)
    for title, cells in sections(results).items():
        lines += [f"## {title}", ""]
        if not cells:
            lines += ["Not run.", ""]
        groups: dict[bool, list[CellResult]] = {}
        for cell in cells:  # those without peers have columns of their own
            groups.setdefault(len(cell.times) == 1 or bool(cell.peers), []).append(cell)
        for group in groups.values():
            lines += [*table(group, results), ""]
    return "\n".join(lines)


def write(results: Results, page: Path = PAGE) -> None:
    """Write the page, and the picture beside it where it can be drawn."""
    picture: Path | None = page.with_suffix(".svg")
    try:
        draw({title: ratios_of(cells) for title, cells in sections(results).items()}, page.with_suffix(".svg"))
    except ImportError:
        print(f"matplotlib is not installed: {page.name} is written without {page.stem}.svg", file=sys.stderr)
        picture = None
    page.write_text(report(results, picture.name if picture else None), encoding="utf-8")
    print(f"wrote {page.name}" + (f" and {picture.name}" if picture else ""))


def main() -> None:
    """Write the page from the files that are named, or from the latest."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=write.__doc__)
    parser.add_argument(
        "files", type=Path, nargs="*", help=f"what pytest-benchmark saved; default: the latest in {STORAGE.name}/"
    )
    parser.add_argument("--output", type=Path, default=PAGE, help="the page; default: docs/benchmarks.md")
    arguments = parser.parse_args()
    try:
        write(load(arguments.files or [latest()]), arguments.output)
    except FileNotFoundError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
