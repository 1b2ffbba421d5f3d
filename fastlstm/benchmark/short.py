"""Half a minute for this machine: inference, training and streaming beside the peers that are installed.

The long version is `bench/`, in the sources of this project.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from .cells import OURS, Cell
from .compare import prepare
from .contenders import TASKS, contenders, missing
from .interleaved import summary, time_interleaved
from .machine import about, machine, on_threads
from .ours import get_num_threads, set_num_threads
from .problems import Problem, Shape

__all__ = ["clock", "show"]

SHAPES = (Shape(1, 100, 128, 128), Shape(1, 100, 512, 512), Shape(8, 100, 128, 128), Shape(32, 100, 256, 256))
STREAMED = (Shape(1, 1, 64, 64), Shape(1, 1, 256, 256), Shape(1, 1, 512, 512))
NOTES = (
    "infer, train, stream: a whole sequence, all gradients of one, one step with the state carried on.",
    "N,T,D,H: sequences, steps, input features, units. Medians.",
    "of sgemm: our operations a second over those of a large product in NumPy's BLAS on as many cores.",
)
RATIO = (
    "ratio: the fastest peer's time over ours, the median of rounds in which each ran; above 1 we are faster. "
    "All outputs were compared before."
)
WORDS = {"inference": "infer", "training": "train", "streaming": "stream"}
MIN_SECONDS = 0.05
"""Of timing, for a cell that has spent its share on making and comparing."""
NARROW = {"onnxruntime": "onnx\nruntime", "GFLOP/s": "GFLOP\n/s", "of sgemm": "of\nsgemm"}
"""Parted names: the table fits into 80 columns."""
MISSING = """Not installed, so not timed: {}. pip install 'fastlstm[bench]' brings what is missing.
(On Linux a plain torch may bring CUDA, gigabytes of it: install its CPU build first, as torch's site says)"""


def cells(counts: Iterable[int]) -> Iterator[Cell]:
    """Yield the lines of the table; each shape on all thread counts, one after the other.

    Of the ways that we have, the fastest takes part; of a peer's, all.
    """
    tasks = (("inference", 1, 1e-4, SHAPES), ("training", 3, 1e-3, SHAPES), ("streaming", 1, 1e-4, STREAMED))
    for task, products, tolerance, shapes in tasks:
        ours, *others = contenders(task, tasks=TASKS)
        taking_part = (ours, *(other for other in others if not other.name.startswith(OURS)))
        for shape in shapes:
            for threads in counts:
                facts = {"task": task, "shape": shape, "flops": products * shape.flops}
                label, problem = f"{task} {shape}", partial(Problem, shape)
                yield Cell(label, threads, problem, taking_part, tolerance=tolerance, facts=facts)


def compile_kernels(todo: Iterable[Cell]) -> None:
    """Call ours once in every way that will be timed: compiling takes seconds, and belongs to no cell."""
    for cell in todo:
        cell.contenders[0].make(cell.problem(), cell.threads).call()


def peers() -> list[str]:
    """Return the peers that take part."""
    rows = [contender for row in TASKS.values() for contender in row if contender.packages and not contender.missing]
    return list(dict.fromkeys(contender.packages[0] for contender in rows))


def time_cell(cell: Cell, seconds: float) -> dict[str, Any]:
    """Compare and time one cell; making and comparing count among its seconds.

    Raises
    ------
    DifferentOutputError
        A peer computes something else than we do.
    """
    end = time.perf_counter() + seconds
    prepared = prepare(cell)
    for error in prepared.errors.values():
        raise error
    times = time_interleaved(prepared, max(MIN_SECONDS, end - time.perf_counter()))
    return {"threads": cell.threads, "facts": cell.facts, "results": summary(times)}


def row(record: dict[str, Any], peers: list[str], sgemm: float) -> list[str]:
    """Return a line's cells as text; of a library with several ways, the fastest."""
    results, facts = record["results"], record["facts"]
    best = {}
    for peer in peers:
        ways = [result for name, result in results.items() if name.split()[0] == peer]
        if ways:
            best[peer] = min(ways, key=lambda result: result["ratio"][1])
    seconds = results[OURS]["seconds"][1]
    speed = facts["flops"] / seconds
    line = [WORDS[facts["task"]], str(facts["shape"]), str(record["threads"]), clock(seconds)]
    line += [clock(best[peer]["seconds"][1]) if peer in best else "-" for peer in peers]
    line += [f"{min(result['ratio'][1] for result in best.values()):.2f}" if best else "-"] * bool(peers)
    return [*line, f"{speed / 1e9:.1f}", f"{speed / sgemm:.0%}"]


def head(peers: list[str]) -> list[str]:
    """Return the names of the columns."""
    return ["task", "N,T,D,H", "cores", "ours", *peers, *["ratio"] * bool(peers), "GFLOP/s", "of sgemm"]


def clock(seconds: float) -> str:
    """Return a time to three digits, in the unit that suits it.

    Examples
    --------
    >>> clock(0.00123456)
    '1.23 ms'
    """
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1.0:
            return f"{seconds * factor:.3g} {unit}" if seconds * factor < 1000 else f"{seconds * factor:.0f} {unit}"
    return f"{seconds * 1e6:.3g} us"


def show(seconds: float) -> None:
    """Measure and print: a table on a terminal, else plain lines, each when it is known.

    Raises
    ------
    DifferentOutputError
        A peer computes something else than we do.
    """
    before = get_num_threads()
    counts = sorted({1, before})
    todo = list(cells(counts))
    taking_part = peers()
    print(about(machine(), ("numpy", "numba", *taking_part)), flush=True)
    try:
        with _lines(head(taking_part)) as print_line, _progress(len(todo)) as advance:
            compile_kernels(todo)
            sgemm = {threads: float(on_threads("fastlstm.benchmark.machine", threads)) for threads in counts}
            end = time.monotonic() + seconds
            for place, cell in enumerate(todo):  # each gets an equal share of the time that is left
                record = time_cell(cell, (end - time.monotonic()) / (len(todo) - place))
                print_line(row(record, taking_part, sgemm[record["threads"]]))
                advance()
    finally:
        set_num_threads(before)
    print("\n".join([*NOTES, *[RATIO] * bool(taking_part)]))
    if absent := missing(TASKS):
        print(MISSING.format(", ".join(absent)))


@contextmanager
def _progress(count: int) -> Iterator[Callable[[], None]]:
    """Show on a terminal how many lines are done; drawn between them only, for a bar that moves would disturb them."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
        task = bar.add_task("timing; kernels are compiled first if they are not yet", total=count)
        bar.refresh()
        yield lambda: bar.update(task, advance=1, refresh=True)


@contextmanager
def _lines(head: list[str]) -> Iterator[Callable[[list[str]], None]]:
    """Yield what prints a line of the table."""
    if not sys.stdout.isatty():
        widths = [-6, -14, *(max(7, len(name)) for name in head[2:])]

        def print_line(line: list[str]) -> None:
            print("  ".join(text.ljust(-w) if w < 0 else text.rjust(w) for text, w in zip(line, widths, strict=True)))
            sys.stdout.flush()

        print_line(head)
        yield print_line
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(*head[:2], box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in head[2:]:
        table.add_column(NARROW.get(name, name), justify="right")
    try:
        yield lambda line: table.add_row(*line)
    finally:  # what is known already is shown though the rest never comes
        Console().print(table)
