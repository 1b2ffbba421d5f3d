"""Measure again the tuned numbers that depend on the machine: ``python -m bench.tune``.

It prints what it would change, and whether that matters: how much faster calls become that depend on the number. It
changes nothing: `fastlstm/runtime/config.py` is edited by hand, and the benchmarks decide. ``--list`` prints all
numbers.
"""

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import fastlstm as fl
from fastlstm.engine.plan import step_plan_for
from fastlstm.engine.products import padded_bias, panels_of, times
from fastlstm.runtime import config
from fastlstm.threads import get_num_threads

from .decisions import caption
from .settings import (
    AUTOMATIC,
    BATCH,
    POOL,
    POOL_UNITS,
    SERIAL,
    UNITS,
    Setting,
    Shape,
    crossover,
    infer,
    median_times,
    recurrent,
    training_step,
)

__all__ = ["GROUPS", "Group", "Outcome", "matters", "outcomes"]

MATTERS = 0.03
"""Calls become so much faster or slower, or the number is as good as the other."""
_SAME = 0.1
"""Numbers that differ by less are not compared."""
_ASLEEP_S = 0.002
_BUSY = 0.5
"""Processes that want a core, from which on the machine counts as busy."""


def _seconds(tiny: bool, seconds: float) -> float:
    return 0.01 if tiny else seconds


def _rounded(value: float, digits: int = 2) -> float:
    return float(f"{value:.{digits}g}")


def _gains(
    shapes: Sequence[Shape], before: Setting, after: Setting, tiny: bool, call: Callable[..., Any] = infer
) -> list[float]:
    """Return by what factor each shape is faster with the second setting."""
    gains = []
    for shape in shapes[-2:] if tiny else shapes:
        pair = {"before": (before, call(shape, before)), "after": (after, call(shape, after))}
        found = median_times(pair, _seconds(tiny, 0.3))
        gains.append(found["before"] / found["after"])
    return gains


def _cost(shape: Shape) -> float:
    """Return the engine's estimate of the work, in nanoseconds on one core."""
    return float(recurrent(shape).recurrence.geometry.cost(shape.sequences * shape.steps))


def _step(shape: Shape, setting: Setting) -> Callable[[], Any]:
    """Return the call of a single step of a stream."""
    stream = fl.Stream([recurrent(shape)], batch=shape.sequences)
    x = np.ones((shape.sequences, shape.features), np.float32)
    return lambda: stream.step(x)


def _train(shape: Shape, setting: Setting) -> Callable[[], Any]:
    """Return the call of one forward and backward pass."""
    return training_step(shape)


# --- estimates of one core's work -----------------------------------------------------------------------------------


def arithmetic(tiny: bool) -> dict[str, Any]:
    """Fit the time of a row to its inputs; then of few rows to what that says."""
    units, steps = (16, 4) if tiny else (128, 20)
    features = (8, 64, 256)
    shapes = [Shape(8, steps, count, units) for count in features]
    found = median_times({str(s): (SERIAL, infer(s, SERIAL)) for s in shapes}, _seconds(tiny, 1.0))
    rows = [1e9 * seconds / (8 * steps) for seconds in found.values()]
    slope, rest = np.polyfit(features, rows, 1)
    overhead = max(rest / slope - units, 0.0)
    few = [Shape(count, steps, 1, units) for count in (1, 2, 3, 8)]
    found = median_times({str(s): (SERIAL, infer(s, SERIAL)) for s in few}, _seconds(tiny, 1.0))
    per_row = [1e9 * found[str(s)] / (s.sequences * steps) / (slope * (units + overhead + 1)) for s in few]
    return {
        "ns_per_multiply": _rounded(slope / units),
        "units_overhead": round(overhead),
        "rows_cost": tuple(_rounded(value) for value in per_row),
    }


def products(tiny: bool) -> dict[str, Any]:
    """Measure a large product, and packing its right operand, on one core."""
    size = 32 if tiny else 384
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((size, size)).astype(np.float32) for _ in range(2))
    packed, bias, out = panels_of(b), padded_bias(None, size, b.dtype), np.empty_like(a)
    calls = {
        "product": (SERIAL, lambda: times(a, packed, bias, out)),
        "packing": (SERIAL, lambda: panels_of(b.T, packed)),
    }
    found = median_times(calls, _seconds(tiny, 0.6))
    return {
        "ns_per_flop": _rounded(1e9 * found["product"] / (2 * size**3)),
        "ns_per_copy": _rounded(1e9 * found["packing"] / packed.size),
    }


def reading(tiny: bool) -> dict[str, Any]:
    """Measure a single step whose weights are in the L3 cache, and from which work on two cores take it faster."""
    shape = Shape(1, 1, 16, 16) if tiny else Shape(1, 1, 512, 512)
    seconds = median_times({"step": (SERIAL, _step(shape, SERIAL))}, _seconds(tiny, 0.4))["step"]
    answer: dict[str, Any] = {"ns_per_byte": _rounded(1e9 * seconds / (4 * 4 * shape.units * 2 * shape.units))}
    if get_num_threads() > 1:
        shapes = [Shape(1, 1, units, units) for units in (48, 64, 96, 128, 192, 256)]
        gains = _gains(shapes, SERIAL, AUTOMATIC.but(step_ns_per_core=1.0), tiny, _step)
        costs = [step_plan_for(recurrent(s).recurrence.geometry, 1, s.features, 2).cost for s in shapes[-len(gains) :]]
        least = crossover(costs, gains)
        answer["step_ns_per_core"] = _rounded((costs[-1] * 2 if least is None else least) / 2)
    return answer


# --- sharing --------------------------------------------------------------------------------------------------------


def waking(tiny: bool) -> dict[str, Any]:
    """Find the work from which the pool pays: where threads are parked, and where they are awake."""
    shapes = [Shape(8, steps, 64, 64) for steps in (1, 2, 4, 8, 16, 32, 64, 128)]
    costs = [_cost(shape) for shape in shapes]
    awake = _gains(shapes, SERIAL, POOL, tiny)
    parked = []
    for shape in shapes[-2:] if tiny else shapes:
        medians = [_after_pauses(setting, infer(shape, setting), 4 if tiny else 40) for setting in (SERIAL, POOL)]
        parked.append(medians[0] / medians[1])
    costs = costs[-len(awake) :]
    found = [crossover(costs, gains) or 2 * costs[-1] for gains in (parked, awake)]
    return {
        "pool_from_ns": _rounded(found[0]),
        "pool_awake_from_ns": _rounded(found[1]),
        "serial_below_ns": _rounded(found[1] / 2),  # a question too early costs little
    }


def _after_pauses(setting: Setting, call: Callable[[], Any], count: int) -> float:
    """Return the median time of a call that finds all threads parked."""
    taken = []
    with setting.active():
        for _ in range(count):
            time.sleep(_ASLEEP_S)
            began = time.perf_counter()
            call()
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def coordinating(tiny: bool) -> dict[str, Any]:
    """Measure what coordinated work costs in Python, and a meeting after each step."""
    small, alone = Shape(2, 5, 16, 16), BATCH.but(measured_alone=(1 << 40, 1))
    calls = {"serial": (SERIAL, infer(small, SERIAL)), "alone": (alone, infer(small, alone))}
    found = median_times(calls, _seconds(tiny, 0.4))
    answer = {"coordination_ns": _rounded(1e9 * max(found["alone"] - found["serial"], 0.0))}
    shape = Shape(1, 5, 16, 64) if tiny else Shape(1, 100, 128, 128)
    found = median_times({"serial": (SERIAL, infer(shape, SERIAL)), "units": (UNITS, infer(shape, UNITS))}, 0.4)
    meeting = 1e6 * (found["units"] - found["serial"] / 2) / shape.steps
    return answer | {"meeting_us": _rounded(max(meeting, 0.0))}


def few(tiny: bool) -> dict[str, Any]:
    """Find how many sequences go faster by sequences than by units, and how large weights pay to share units."""
    steps, units = (10, 64) if tiny else (30, 256)
    counts = (2, 3, 4, 5, 6, 8)
    gains = _gains([Shape(count, steps, 64, units) for count in counts], POOL_UNITS, POOL, tiny)
    from_so_many = crossover(counts[-len(gains) :], gains, 1.0)
    now = config.TUNED.few_sequences
    measured = counts[-1] if from_so_many is None else math.ceil(from_so_many)
    shapes = [Shape(1, steps, count, count) for count in (64, 96, 128, 192, 256, 384)]
    gains = _gains(shapes, SERIAL, POOL_UNITS, tiny)
    weights = [4.0 * shape.units**2 for shape in shapes[-len(gains) :]]
    return {
        "few_sequences": (now[0], measured) if get_num_threads() == 2 else (measured, now[1]),
        "unit_parallel_weights": int(_rounded(crossover(weights, gains) or 2 * weights[-1])),
    }


# --- memory ---------------------------------------------------------------------------------------------------------


def chunks(tiny: bool) -> dict[str, Any]:
    """Try how many inputs inference prepares at once."""
    shapes = [Shape(4, 3, 16, 16)] if tiny else [Shape(32, 100, 128, 128), Shape(16, 50, 256, 256)]
    sizes = [1 << power for power in range(14, 21)]
    total = dict.fromkeys(sizes, 0.0)
    for shape in shapes:
        calls = {str(size): (SERIAL.but(chunk_gates=size), infer(shape, SERIAL)) for size in sizes}
        found = median_times(calls, _seconds(tiny, 1.5), rounds=3)
        for size in sizes:
            total[size] += math.log(found[str(size)])
    return {"chunk_gates": min(sizes, key=lambda size: total[size])}


def together(tiny: bool) -> dict[str, Any]:
    """Find the size from which two passes for the weight gradients are faster than one."""
    columns = [128, 256, 512, 1024]
    shapes = [Shape(16, 30, count // 2, count // 2) for count in columns]
    one, two = AUTOMATIC.but(together_bytes=1 << 40), AUTOMATIC.but(together_bytes=0)
    gains = _gains(shapes[:2] if tiny else shapes, one, two, tiny, _train)
    sizes = [4.0 * config.TUNED.row_block * count for count in columns][: len(gains)]
    return {"together_bytes": int(_rounded(crossover(sizes, gains, 1.0) or 2 * sizes[-1]))}


# --- whether it matters ---------------------------------------------------------------------------------------------


class Group(NamedTuple):
    """Numbers that are measured together, and calls that depend on them."""

    names: tuple[str, ...]
    measure: Callable[[bool], dict[str, Any]]
    call: Callable[[Shape, Setting], Callable[[], Any]]
    shapes: tuple[Shape, ...]
    cores: int = 2
    """As many have to be there."""


_SHARED = Shape(1, 100, 128, 128), Shape(3, 100, 128, 80), Shape(4, 57, 45, 77), Shape(8, 100, 64, 64)
GROUPS = (
    Group(("ns_per_multiply", "units_overhead", "rows_cost"), arithmetic, infer, _SHARED, 1),
    Group(("ns_per_flop", "ns_per_copy"), products, _train, (Shape(4, 20, 64, 64), Shape(16, 20, 64, 64)), 1),
    Group(("ns_per_byte", "step_ns_per_core"), reading, _step, (Shape(1, 1, 128, 128), Shape(1, 1, 512, 512)), 1),
    Group(
        ("pool_from_ns", "pool_awake_from_ns", "serial_below_ns"),
        *(waking, _train, (Shape(4, 5, 64, 64), Shape(8, 16, 64, 64), Shape(8, 64, 64, 64))),
    ),
    Group(("coordination_ns", "meeting_us"), coordinating, infer, _SHARED),
    Group(
        ("few_sequences", "unit_parallel_weights"),
        *(few, _train, (Shape(1, 50, 160, 160), Shape(2, 50, 256, 256), Shape(5, 50, 256, 256))),
    ),
    Group(("chunk_gates",), chunks, infer, (Shape(32, 50, 128, 128), Shape(16, 50, 256, 256)), 1),
    Group(("together_bytes",), together, _train, (Shape(16, 50, 128, 128), Shape(8, 50, 256, 256)), 1),
)


class Outcome(NamedTuple):
    """What was found of one number."""

    name: str
    unit: str
    now: Any
    measured: Any
    gain: float | None
    """By what factor calls are faster with what was measured; None: it is the same, or was not measured."""

    def __str__(self) -> str:
        if self.measured is None:
            verdict = "needs two cores"
        elif self.gain is None:
            verdict = "the same"
        else:
            word = "faster" if self.gain > 1 else "slower"
            matters = abs(self.gain - 1) > MATTERS
            verdict = f"{'MATTERS' if matters else 'no'}: {100 * abs(self.gain - 1):.1f} % {word} with it"
        return f"{self.name:22} {self.now!s:>24} {self.measured!s:>24}  {verdict}  [{self.unit}]"


def _alike(now: Any, measured: Any) -> bool:
    """Tell whether two numbers, or tuples of them, are nearly the same."""
    pairs = zip(np.atleast_1d(now), np.atleast_1d(measured), strict=True)
    return all(abs(a - b) <= _SAME * abs(a) for a, b in pairs)


def matters(group: Group, name: str, value: Any, tiny: bool) -> float:
    """Return by what factor the group's calls are faster with this value, their geometric mean."""
    gains = _gains(group.shapes, AUTOMATIC, AUTOMATIC.but(**{name: value}), tiny, group.call)
    return math.exp(statistics.fmean(map(math.log, gains)))


def outcomes(tiny: bool = False, only: Sequence[str] = ()) -> Iterator[Outcome]:
    """Measure the numbers of all groups, or those that are named, and yield what was found of each."""
    units = {name: unit for name, _, unit, _, _ in config.describe()}
    for group in GROUPS:
        wanted = [name for name in group.names if not only or name in only]
        if not wanted:
            continue
        measured = group.measure(tiny) if get_num_threads() >= group.cores else {}
        for name in wanted:
            now, value = getattr(config.TUNED, name), measured.get(name)
            gain = None if value is None or _alike(now, value) else matters(group, name, value, tiny)
            yield Outcome(name, units[name], now, value, gain)


def _list() -> None:
    """Print every number."""
    machine = {name for group in GROUPS for name in group.names}
    for name, value, unit, meaning, benchmark in config.describe():
        how = "measured by this program" if name in machine else f"benchmark: {benchmark}"
        if "compiled in" in unit:
            how = f"edit fastlstm/runtime/config.py, which lets kernels be compiled again; benchmark: {benchmark}"
        print(f"{name} = {value}\n    unit: {unit}\n    {meaning}\n    {how}")


def main() -> None:
    """Measure, or list, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.tune", description="Measure the tuned numbers again.")
    parser.add_argument("--list", action="store_true", help="print every tuned number, with unit and meaning")
    parser.add_argument("--tiny", action="store_true", help="tiny problems: does it run?")
    parser.add_argument("names", nargs="*", help="some numbers; default: all that depend on the machine")
    arguments = parser.parse_args()
    if arguments.list:
        _list()
        return
    known = [name for group in GROUPS for name in group.names]
    if unknown := set(arguments.names) - set(known):
        parser.error(f"{', '.join(sorted(unknown))}: not measured; there are {', '.join(known)}")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    print(caption(load))
    if load > _BUSY:
        print("Other processes want the cores: what is measured of sharing says little now.")
    print(f"{'number':22} {'now':>24} {'measured':>24}  whether it matters, by more than {100 * MATTERS:.0f} %  [unit]")
    for outcome in outcomes(arguments.tiny, arguments.names):
        print(outcome, flush=True)
    compiled = [name for name, _, unit, _, _ in config.describe() if "compiled in" in unit]
    print(f"\nCompiled into kernels, so not tried here (--list says how): {', '.join(compiled)}")


if __name__ == "__main__":
    main()
