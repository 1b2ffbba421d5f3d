"""Hand times that were measured elsewhere to pytest-benchmark, which takes them as rounds of its own.

pytest-benchmark runs all rounds of one test before those of the next. The contenders of a cell are timed interleaved,
and some time their own calls in another process. So they are timed first, and then each contender's test "runs" its
rounds by a clock that shows the recorded times: this is pytest-benchmark's ``timer``, an option of its mark. Its
statistics, tables, files and comparisons are then those of the interleaved rounds.
"""

from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["record", "recorded_clock"]

_readings: Iterator[float] = iter(())


def recorded_clock() -> float:
    """Return the next reading: two for each round, its start at zero and its end at the time that it took."""
    return next(_readings)


def record(benchmark: Any, times: Sequence[float]) -> None:
    """Make each of these times, in seconds, one round of a benchmark whose timer is `recorded_clock`."""
    global _readings
    _readings = iter([reading for seconds in times for reading in (0.0, seconds)])
    benchmark.pedantic(lambda: None, rounds=len(times))
