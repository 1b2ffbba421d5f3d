"""Time the contenders of a cell interleaved: in every round each of them runs for a moment, one after the other.

The clock rate, other processes and the place in memory drift from minute to minute, more than the contenders differ.
Within one round, some milliseconds, all contenders meet the same machine, and the ratio of two times of one round is
worth more than any single time. All run in one process, which costs care: thread counts are pinned by each library's
own call, and each contender begins with a pause, so that the threads of the previous one have stopped spinning, and
with a call that is not counted.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .cells import OURS
from .compare import Prepared

__all__ = ["MIN_ROUNDS", "ratios", "repeat", "spread", "summary", "time_interleaved"]

PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.012, 0.2
"""One pause, and all pauses before a contender: it waits until the threads of the previous one have stopped spinning.
GNU OpenMP's do so after one millisecond, ONNX Runtime's after forty. On two cores they would take half of its time.
(The kernel counts a thread's work every 4 ms or 10.)"""
BUSY_SHARE = 0.2
"""Cores that this process may still use in a pause that ends the waiting."""
MIN_ROUNDS, MAX_ROUNDS = 3, 15
MAX_REPEAT_SECONDS = 0.03
"""How long a contender repeats a short call within one round."""


def time_interleaved(prepared: Prepared, seconds: float, min_rounds: int = MIN_ROUNDS) -> dict[str, list[float]]:
    """Return for each contender the median time of its calls in each round, all rounds within about so many seconds.

    After `min_rounds`, a round that would end too late is not begun. A contender that runs once has one time.
    """
    names = [name for name in prepared.runners if name not in prepared.once]
    length = min(MAX_REPEAT_SECONDS, seconds / (MAX_ROUNDS * len(names)))
    times: dict[str, list[float]] = {name: [] for name in prepared.runners}
    now = time.perf_counter()
    end, longest = now + seconds, 0.0
    gc.collect()
    gc.disable()
    try:
        for place in range(MAX_ROUNDS):
            if place >= min_rounds and now + longest > end:
                break
            start = place % len(names)  # another order each round: none always follows the same one
            for name in names[start:] + names[:start]:
                pause()
                runner = prepared.runners[name]
                measure = runner.repeat or partial(repeat, runner.call)
                times[name].append(statistics.median(measure(length, prepared.first[name] < length)))
            began, now = now, time.perf_counter()
            longest = max(longest, now - began)
    finally:
        gc.enable()
    return times | {name: [prepared.first[name]] for name in prepared.once}


def pause() -> None:
    """Sleep until this process rests too."""
    end = time.perf_counter() + MAX_PAUSE_SECONDS
    busy = 1.0
    while busy > BUSY_SHARE and time.perf_counter() < end:
        began, worked = time.perf_counter(), time.process_time()
        time.sleep(PAUSE_SECONDS)
        busy = (time.process_time() - worked) / (time.perf_counter() - began)


def repeat(call: Callable[[], Any], seconds: float, warm: bool) -> list[float]:
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


def ratios(theirs: Sequence[float], ours: Sequence[float]) -> list[float]:
    """Return their time over ours in each round; a contender that ran once has the same time in all rounds.

    Examples
    --------
    >>> ratios([4.0, 6.0], [2.0, 2.0])
    [2.0, 3.0]
    >>> ratios([4.0], [2.0, 1.0])
    [2.0, 4.0]
    """
    if len(theirs) == 1:
        theirs = [theirs[0]] * len(ours)
    return [other / own for other, own in zip(theirs, ours, strict=True)]


def spread(values: Sequence[float]) -> list[float]:
    """Return the lower quartile, the median and the upper quartile."""
    return [float(value) for value in np.quantile(values, (0.25, 0.5, 0.75))]


def summary(times: Mapping[str, Sequence[float]]) -> dict[str, dict[str, list[float]]]:
    """Return the spread of each contender's times, and of their ratios to ours."""
    return {
        name: {"seconds": spread(values), "ratio": spread(ratios(values, times[OURS]))}
        for name, values in times.items()
    }
