"""Time contenders beside each other: compared first, then in turn, round after round.

Why in one process: the clock rate, the neighbours and the place in memory drift from minute to minute, more than the
contenders differ. Taken in turn within milliseconds they meet the same machine, and the ratio of one round is worth
more than any single time. It costs care: thread counts are pinned by each library's own call, and each turn begins with
a pause, so that the last one's threads have stopped spinning, and with a call that is not counted.
(pytest-benchmark runs all rounds of one test before those of the next, which leaves no rounds to compare.)
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DifferentOutputError

__all__ = ["LEAST_ROUNDS", "OURS", "Cell", "Contender", "time_cell", "time_cells", "turn"]

OURS = "fastlstm"
PAUSE, LONGEST_PAUSE = 0.012, 0.2
"""Seconds before a turn, again and again until the last one's threads have stopped spinning: GNU OpenMP's do after one
millisecond, ONNX Runtime's after forty. On two cores they would take half of the next one's. (A thread's work is
counted every 4 ms or 10.)"""
LEAST_ROUNDS, MOST_ROUNDS = 3, 15
LONGEST_TURN = 0.03
"""Seconds that a turn repeats a short call."""
LEAST_RACE = 0.05
"""Seconds of a race whose cell has spent its share on making and comparing."""


@dataclass(frozen=True)
class Contender:
    """One way to do the work of a cell."""

    name: str  # the library, and the way where it has several
    call: Callable[[], Any]  # what is timed
    read: Callable[[Any], Mapping[str, Any]] | None = None
    """From what `call` returned to named arrays, outside the timing. None: a yardstick, other work, not compared."""
    once: bool = False  # too slow for rounds: timed at its first call only
    turn: Callable[[float, bool], list[float]] | None = None
    """`turn` below, done where `call` runs, if that is another process: the way there is not its work."""


@dataclass(frozen=True)
class Cell:
    """One line of a table: the same work for all contenders, on so many threads."""

    label: str
    threads: int
    make: Callable[[], list[Contender]]  # ours first; called when the cell's turn has come
    tolerance: float = 1e-4  # largest difference from ours, relative to the largest value of an array
    checks: int = 2  # calls that are compared; a state that is carried on shows in the later ones
    facts: dict[str, Any] = field(default_factory=dict)  # operations, bytes, tokens: for the report


def check(cell: Cell, contenders: list[Contender]) -> dict[str, float]:
    """Compare all outputs with ours; return how long each contender's last call took.

    Raises
    ------
    DifferentOutputError
        An array differs by more than the cell's tolerance, or is missing.
    """
    seconds: dict[str, float] = {}
    expected: list[dict[str, NDArray[Any]]] = []
    for contender in contenders:
        for place in range(1 if contender.once else cell.checks):
            start = time.perf_counter()
            raw = contender.call()
            seconds[contender.name] = time.perf_counter() - start
            if contender.read is None:
                continue
            # copies, in float64: a contender may write its next result over this one
            result = {name: np.array(value, np.float64) for name, value in contender.read(raw).items()}
            if contender is contenders[0]:
                expected.append(result)
                continue
            for name, value in expected[place].items():
                apart = difference(value, result.get(name))
                if not apart <= cell.tolerance:
                    raise DifferentOutputError(
                        f"{cell.label}: {contender.name} differs from {contenders[0].name} in {name!r} by {apart:.1e} "
                        f"of its largest value; at most {cell.tolerance:g} is allowed"
                    )
    return seconds


def difference(expected: NDArray[Any], given: NDArray[Any] | None) -> float:
    """Return the largest difference relative to the largest value; infinite where there is nothing to compare."""
    if given is None or given.shape != expected.shape:
        return float("inf")
    return float(np.abs(given - expected).max() / (np.abs(expected).max() or 1.0))


def race(
    contenders: list[Contender], first: Mapping[str, float], seconds: float, least: int = LEAST_ROUNDS
) -> dict[str, list[float]]:
    """Return the median time of each contender's calls in each round; `first` says about how long a call takes.

    After the least rounds, one that would end too late is not begun.
    """
    racers = [contender for contender in contenders if not contender.once]
    length = min(LONGEST_TURN, seconds / (MOST_ROUNDS * len(racers)))
    times: dict[str, list[float]] = {racer.name: [] for racer in racers}
    now = time.perf_counter()
    end, longest = now + seconds, 0.0
    gc.collect()
    gc.disable()
    try:
        for place in range(MOST_ROUNDS):
            if place >= least and now + longest > end:
                break
            start = place % len(racers)  # nobody always follows the same one
            for racer in racers[start:] + racers[:start]:
                pause()
                take = racer.turn or partial(turn, racer.call)
                times[racer.name].append(statistics.median(take(length, first[racer.name] < length)))
            began, now = now, time.perf_counter()
            longest = max(longest, now - began)
    finally:
        gc.enable()
    return times | {c.name: [first[c.name]] * len(times[racers[0].name]) for c in contenders if c.once}


def pause() -> None:
    """Sleep until this process rests too."""
    end = time.perf_counter() + LONGEST_PAUSE
    busy = 1.0
    while busy > 0.2 and time.perf_counter() < end:
        began, worked = time.perf_counter(), time.process_time()
        time.sleep(PAUSE)
        busy = (time.process_time() - worked) / (time.perf_counter() - began)


def turn(call: Callable[[], Any], seconds: float, warm: bool) -> list[float]:
    """Return the times of a call, repeated for so many seconds; `warm`: after one that is not counted."""
    if warm:
        call()
    over, times = time.perf_counter() + seconds, [timed(call)]
    while time.perf_counter() < over - times[-1]:
        times.append(timed(call))
    return times


def timed(call: Callable[[], Any]) -> float:
    """Return the seconds that one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def time_cell(cell: Cell, seconds: float, least: int = LEAST_ROUNDS) -> dict[str, Any]:
    """Compare, time and describe one cell, as JSON can hold it; making and comparing count among its seconds."""
    end = time.perf_counter() + seconds
    contenders = cell.make()
    first = check(cell, contenders)
    times = race(contenders, first, max(LEAST_RACE, end - time.perf_counter()), least)
    ours = times[contenders[0].name]
    results = {}
    for contender in contenders:
        mine = times[contender.name]
        results[contender.name] = {
            "seconds": spread(mine),
            "ratio": spread([other / own for other, own in zip(mine, ours, strict=True)]),
            "rounds": 1 if contender.once else len(mine),
            "compared": contender.read is not None,
        }
    return {"label": cell.label, "threads": cell.threads, "facts": cell.facts, "results": results}


def time_cells(cells: Sequence[Cell], seconds: float, least: int = LEAST_ROUNDS) -> Iterator[dict[str, Any]]:
    """Yield each cell's record; each gets an equal share of the time that is left."""
    end = time.monotonic() + seconds
    for place, cell in enumerate(cells):
        yield time_cell(cell, (end - time.monotonic()) / (len(cells) - place), least)


def spread(values: list[float]) -> list[float]:
    """Return the lower quartile, the median and the upper quartile."""
    return [float(value) for value in np.quantile(values, (0.25, 0.5, 0.75))]
