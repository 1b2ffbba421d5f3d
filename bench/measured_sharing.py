"""The figures of decisions about sharing a call over cores; `bench.decisions` writes them to their pages."""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numba
import numpy as np

import fastlstm as fl
from fastlstm.benchmark.short import clock
from fastlstm.runtime import pool
from fastlstm.runtime.coordinator import (
    CHUNKS,
    PARTS,
    Coordinator,
    claim,
    finish,
    has_chunk,
    is_over,
    publish,
    wait_for_all,
    worker_begins,
)
from fastlstm.runtime.pool import DESCRIPTOR_WORDS, parallel_for

from .settings import (
    AUTOMATIC,
    BATCH,
    PIPELINE,
    POOL,
    POOL_UNITS,
    SERIAL,
    SETTLED,
    UNITS,
    Setting,
    Shape,
    infer,
    median_times,
    recurrent,
)

__all__ = ["MEASURES", "Table", "prange_launch"]


class Table(NamedTuple):
    """Figures as a page shows them."""

    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


Measure = Callable[[bool], Table]
"""Measure, on tiny problems if that is asked for."""

_ASLEEP_S = 0.005
"""A pause after which no thread spins."""


def _row(name: str, times: Mapping[str, float], columns: tuple[str, ...]) -> tuple[str, ...]:
    """Return a row of times: the fastest is bold, a plan that there is not for this shape is empty."""
    fastest = min(times.values())
    shown = {key: f"**{clock(value)}**" if value == fastest else clock(value) for key, value in times.items()}
    return (name, *(shown.get(column, "") for column in columns))


def _by_plans(shapes: list[Shape], settings: Mapping[str, Setting], seconds: float) -> Table:
    """Return a row of times for each shape, a column for each setting that it can have."""
    rows = []
    for shape in shapes:
        possible = {
            name: (setting, infer(shape, setting))
            for name, setting in settings.items()
            if shape.sequences > 1 or setting not in (BATCH, POOL)
        }
        rows.append(_row(str(shape), median_times(possible, seconds), tuple(settings)))
    return Table(("N,T,D,H", *settings), rows)


# --- launching ------------------------------------------------------------------------------------------------------


@numba.njit(nogil=True)
def _touch(out: Any, begin: int, end: int) -> None:
    for i in range(begin, end):
        out[16 * i] += 1.0


def _launches(call: Callable[[], Any], count: int) -> tuple[list[float], list[float]]:
    """Return the times of launches after a pause, and of launches that follow each other."""
    times: tuple[list[float], list[float]] = [], []
    call()
    for kind, values in enumerate(times):
        for _ in range(count if kind else count // 4):
            if not kind:
                time.sleep(_ASLEEP_S)
            began = time.perf_counter()
            call()
            values.append(time.perf_counter() - began)
    return times


def _launch_row(name: str, asleep: list[float], again: list[float]) -> tuple[str, ...]:
    values = *np.quantile(asleep, (0.5, 0.99)), *np.quantile(again, (0.5, 0.99))
    return (name, *(clock(float(value)) for value in values))


def prange_launch(count: int) -> None:
    """Print the launches of an empty ``prange`` on two threads as JSON; the environment chooses Numba's layer."""

    @numba.njit(parallel=True)
    def touch(out: Any) -> None:
        for i in numba.prange(2):
            out[16 * i] += 1.0

    numba.set_num_threads(2)
    out = np.zeros(32)
    print(json.dumps(_launches(lambda: touch(out), count)))


def _prange(layer: str, count: int) -> tuple[str, ...]:
    """Measure ``prange`` in a process of its own; of a layer that is not installed nothing."""
    env = os.environ | {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"}
    env |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", f"from bench.measured_sharing import prange_launch; prange_launch({count})"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        return (f"`prange`, {layer} layer", "not here", "", "", "")
    return _launch_row(f"`prange`, {layer} layer", *json.loads(done.stdout.splitlines()[-1]))


@numba.njit(nogil=True)
def _empty_region(words, descriptor, next_descriptor, like, mine, until, spins):  # type: ignore[no-untyped-def]
    """Be a region whose chunks hold no work."""
    if mine == 0:
        publish(words, descriptor, next_descriptor, until)
        part, left = claim(words, descriptor, mine)
        while left > 0:
            finish(words, part)
            part, left = claim(words, descriptor, mine)
        wait_for_all(words, descriptor)
        return True
    worker_begins(words, mine, until)
    while has_chunk(words, mine, until, spins):
        part, left = claim(words, descriptor, mine)
        while left > 0:
            finish(words, part)
            part, left = claim(words, descriptor, mine)
    return is_over(words, mine, until)


def threads(tiny: bool) -> Table:
    """Measure how long it takes until two threads have done nothing: after a pause, and again at once."""
    count = 20 if tiny else 400
    head = "region", "after a pause", "99 of 100", "again at once", "99 of 100"
    rows = [] if tiny else [_prange(layer, count) for layer in ("omp", "workqueue")]
    out = np.zeros(32)
    with ThreadPoolExecutor(1) as executor:

        def by_executor() -> None:
            other = executor.submit(_touch, out, 1, 2)
            _touch(out, 0, 1)
            other.result()

        rows.append(_launch_row("`ThreadPoolExecutor`", *_launches(by_executor, count)))
    with Setting(threads=2).active():
        asleep, again = _launches(lambda: parallel_for(_touch, out, count=2, cost=1e12), count)
        rows.append(_launch_row("our pool: parked threads that spin for a while", asleep, again))
        coordinator = Coordinator(_empty_region, (_empty_region,), np.dtype(np.float32))
        words = np.zeros(DESCRIPTOR_WORDS, np.int64)
        words[PARTS], words[CHUNKS] = 2, 1
        with Setting(2, {"measured_alone": (0, 1 << 40), "loss_budget_s": float("inf")}).active():
            asleep, again = _launches(lambda: coordinator.run(words, 1, 1e12), count)
        rows.append(_launch_row("coordination: a region without the GIL", asleep, again))
    pool.current().region = None
    return Table(head, rows)


# --- single steps ---------------------------------------------------------------------------------------------------


@contextmanager
def _busy_neighbour() -> Iterator[None]:
    """Let another process compute for half of the time, 10 ms of each 20."""
    process = multiprocessing.get_context("spawn").Process(target=_half_busy, daemon=True)
    process.start()
    time.sleep(0.5)  # it has to start
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _half_busy() -> None:
    while True:
        end = time.perf_counter() + 0.01
        while time.perf_counter() < end:
            pass
        time.sleep(0.01)


def _steps(units: int) -> Callable[[], Any]:
    """Return the call of one step of a stream with as many features as units."""
    stream = fl.Stream([recurrent(Shape(1, 1, units, units))])
    x = np.ones((1, units), np.float32)
    return lambda: stream.step(x)


def _mean(setting: Setting, call: Callable[[], Any], seconds: float) -> float:
    """Return the mean time of a call in a loop."""
    with setting.active():
        for _ in range(20):
            call()
        count, began = 0, time.perf_counter()
        while (now := time.perf_counter()) < began + seconds:
            call()
            count += 1
    return (now - began) / count


def coordination(tiny: bool) -> Table:
    """Measure single steps of a stream: alone, coordinated, and beside a process that takes a core half of the time."""
    never = Setting(numbers={"loss_budget_s": float("inf")})
    rows = []
    for units in (32,) if tiny else (256, 512, 1024):
        times = median_times(
            {"one core": (SERIAL, _steps(units)), "all cores": (AUTOMATIC, _steps(units))}, 0.02 if tiny else 0.6
        )
        rows.append((f"1,1,{units},{units}", *(clock(value) for value in times.values()), "", "", ""))
    if not tiny:
        with _busy_neighbour():
            for place, units in enumerate((256, 512, 1024)):
                means = [
                    statistics.median(_mean(setting, call, 0.25) for _ in range(3))
                    for setting, call in (
                        (SERIAL, _steps(units)),
                        (never, _steps(units)),
                        (AUTOMATIC, _steps(units)),
                    )
                ]
                rows[place] = (*rows[place][:3], *(clock(value) for value in means))
    head = "step", "one core", "all cores", "one core, busy", "all cores, busy, no back off", "all cores, busy"
    return Table(head, rows)


# --- whole sequences ------------------------------------------------------------------------------------------------


def autotuning(tiny: bool) -> Table:
    """Measure every execution plan for shapes of many kinds, and what the autotuner makes of them."""
    shapes = [(1, 100, 128, 128), (1, 200, 8, 128), (2, 50, 50, 50), (3, 100, 128, 80), (3, 50, 256, 256)]
    shapes += [(4, 57, 45, 77), (5, 50, 128, 128), (8, 100, 128, 128), (16, 100, 400, 32), (7, 100, 300, 128)]
    settings = {
        "one core": SERIAL,
        "input pipelining": PIPELINE,
        "unit parallel": UNITS,
        "batch parallel": BATCH,
        "pool": POOL,
        "autotuner": SETTLED,
    }
    chosen = [Shape(2, 3, 4, 5)] if tiny else [Shape(*shape) for shape in shapes]
    return _by_plans(chosen, settings, 0.05 if tiny else 0.6)


def input_pipelining(tiny: bool) -> Table:
    """Measure batches whose inputs are prepared beside the steps, by the part that the inputs have in the work."""
    shapes = [(1, 100, 16, 128), (1, 100, 128, 128), (1, 100, 512, 128), (3, 100, 128, 80), (3, 200, 512, 80)]
    chosen = [Shape(1, 3, 4, 5)] if tiny else [Shape(*shape) for shape in shapes]
    return _by_plans(chosen, {"one core": SERIAL, "input pipelining": PIPELINE}, 0.05 if tiny else 0.4)


def unit_parallel(tiny: bool) -> Table:
    """Measure single sequences whose units are shared, by the pool and by coordination."""
    chosen = [Shape(1, 3, 4, 5)] if tiny else [Shape(1, 50, units, units) for units in (64, 128, 256, 512, 1024)]
    settings = {"one core": SERIAL, "pool": POOL_UNITS, "coordination": UNITS}
    return _by_plans(chosen, settings, 0.05 if tiny else 0.4)


MEASURES: dict[str, Measure] = {
    "threads": threads,
    "coordination": coordination,
    "autotuning": autotuning,
    "input-pipelining": input_pipelining,
    "unit-parallel": unit_parallel,
}
