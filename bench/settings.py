"""Calls under a chosen number of threads, execution plan or tuned numbers, timed interleaved.

What `bench.decisions` and `bench.tune` share. A setting is entered each time before its call is timed, so that all
calls of a table meet the same machine.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

import fastlstm as fl
from fastlstm import threads
from fastlstm.benchmark.interleaved import pause, repeat
from fastlstm.engine.autotuner import AutoTuner
from fastlstm.engine.candidates import BatchParallel, InputPipeline, UnitParallel
from fastlstm.runtime import config, pool

__all__ = [
    "AUTOMATIC",
    "BATCH",
    "PIPELINE",
    "POOL",
    "POOL_UNITS",
    "SERIAL",
    "SETTLED",
    "UNITS",
    "Setting",
    "Shape",
    "crossover",
    "infer",
    "inputs",
    "median_times",
    "recurrent",
    "training_step",
]

_FIRST_CALLS, _FIRST_SECONDS = 30, 0.3
"""Calls before the first that is timed, and their time at most, but for three: a coordinator measures three alone, an
autotuner tries each plan four times."""
_MAX_REPEAT_SECONDS = 0.03

_ALWAYS_POOL = {
    "serial_below_ns": 0.0,
    "pool_from_ns": 0.0,
    "pool_awake_from_ns": 0.0,
    "coordinate_from_ns": float("inf"),
}
_ALWAYS_COORDINATED = {
    "coordinate_from_ns": 0.0,
    "coordinate_to_ns": float("inf"),
    "measure_to_ns": float("inf"),
    "coordination_ns": -1e12,  # it pays, whatever it costs
    "try_within": 0.0,  # of an estimate that is below zero: all plans
    "pipeline_gates": 1 << 40,
    "unit_parallel_steps": (0, 0),
    "measured_alone": (3, 1 << 40),
    "loss_budget_s": float("inf"),  # it never backs off
    "close_work_s": float("inf"),
    "warmup_calls": 0,
    "trials": 2,  # the first does not count
    "retune_s": (1e9, 1e9),
}


class Setting(NamedTuple):
    """What is in force while a call is timed."""

    threads: int | None = None
    """None: as many as there are."""
    numbers: Mapping[str, Any] = {}
    """Tuned numbers, by name."""
    plan: Any = None
    """The only coordinated plan; None: the autotuner chooses."""

    @contextmanager
    def active(self) -> Iterator[None]:
        """Be in force."""
        before = threads.get_num_threads()
        if self.threads is not None:
            threads.set_num_threads(self.threads)
        cores = pool.current()
        cores.backs_off_until = cores._lost = cores._back_off = 0.0  # of another setting
        try:
            with config.tuned(**self.numbers):
                yield
        finally:
            threads.set_num_threads(before)

    def but(self, **numbers: Any) -> "Setting":
        """Return this setting with other numbers."""
        return self._replace(numbers={**self.numbers, **numbers})


SERIAL = Setting(threads=1)
AUTOMATIC = Setting()
POOL = Setting(numbers=_ALWAYS_POOL | {"few_sequences": (0, 0)})
POOL_UNITS = Setting(
    numbers=_ALWAYS_POOL | {"few_sequences": (1 << 30,) * 2, "unit_parallel_weights": 0, "unit_parallel_steps": (0, 0)}
)
PIPELINE = Setting(numbers=_ALWAYS_COORDINATED, plan=InputPipeline)
UNITS = Setting(numbers=_ALWAYS_COORDINATED, plan=UnitParallel)
BATCH = Setting(numbers=_ALWAYS_COORDINATED, plan=BatchParallel)
SETTLED = Setting(numbers={"retune_s": (1e9, 1e9)})
"""The autotuner chooses once."""


class Shape(NamedTuple):
    """Sequences, steps, input features, hidden units."""

    sequences: int
    steps: int
    features: int
    units: int

    def __str__(self) -> str:
        return ",".join(map(str, self))


class _Only(AutoTuner):
    """An autotuner that has one plan to choose from."""

    def __init__(self, plan: Any) -> None:
        super().__init__()
        self._plan = plan

    def run(self, plans: Any, *arguments: Any) -> bool:
        return super().run((self._plan,), *arguments)


def recurrent(shape: Shape, setting: Setting = AUTOMATIC, kind: Any = fl.LSTM, **options: Any) -> Any:
    """Return a layer of this shape with the same weights each time, which runs by the setting's plan."""
    layer = kind(shape.units, **({"return_sequences": True} | options))
    layer.build(shape.features, rng=0)
    if setting.plan is not None:
        layer.recurrence.tuner = _Only(setting.plan)
    return layer


def inputs(shape: Shape) -> np.ndarray:
    """Return a batch (N, T, D)."""
    return np.random.default_rng(0).standard_normal(shape[:3]).astype(np.float32)


def infer(shape: Shape, setting: Setting, kind: Any = fl.LSTM, **options: Any) -> Callable[[], Any]:
    """Return the call of inference on a batch of this shape."""
    layer, x = recurrent(shape, setting, kind, **options), inputs(shape)
    return lambda: layer(x)


def training_step(shape: Shape, kind: Any = fl.LSTM, fresh: bool = False, **options: Any) -> Callable[[], Any]:
    """Return the call of one forward and backward pass; with `fresh`, each call has memory of its own."""
    from fastlstm.data.packed import pack
    from fastlstm.layers.base import PassContext
    from fastlstm.runtime.workspace import Workspace

    layer = recurrent(shape, kind=kind, **options)
    packed, _ = pack(inputs(shape), None, features=True, dtype=np.dtype(np.float32), who="bench")
    dy = np.random.default_rng(1).standard_normal((packed.total, layer.features_out)).astype(np.float32)
    workspace = Workspace()

    def step() -> Any:
        context = PassContext(training=True, workspace=Workspace() if fresh else workspace)
        _, cache = layer.forward(packed, context)
        return layer.backward(dy.copy(), cache, context)

    return step


def median_times(
    contenders: Mapping[str, tuple[Setting, Callable[[], Any]]],
    seconds: float,
    rounds: int = 5,
    first_calls: int = _FIRST_CALLS,
) -> dict[str, float]:
    """Return each contender's median time, in seconds; all together take about so many `seconds`.

    In every round each contender runs for a moment under its setting, after a pause and a call that is not counted.
    """
    length = min(_MAX_REPEAT_SECONDS, seconds / (rounds * len(contenders)))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(1 + rounds):
        for name, (setting, call) in contenders.items():
            pause()
            with setting.active():
                if turn == 0:
                    _warm(call, first_calls, _FIRST_SECONDS)
                else:
                    times[name].append(statistics.median(repeat(call, length, True)))
    return {name: statistics.median(values) for name, values in times.items()}


def _warm(call: Callable[[], Any], calls: int, seconds: float) -> None:
    """Call so often, but not for longer than so many seconds; three times at least."""
    call()  # it may compile
    end = time.perf_counter() + seconds
    for count in range(1, calls):
        if count >= 3 and time.perf_counter() > end:
            return
        call()


def crossover(costs: Sequence[float], gains: Sequence[float], least: float = 1.03) -> float | None:
    """Return the cost from which each gain is at least `least`; None if even the last one is not.

    Between two costs it is where a line through both gains is at `least`.

    Examples
    --------
    >>> crossover([10.0, 20.0, 40.0], [0.5, 1.0, 1.5], 1.25)
    30.0
    >>> crossover([10.0, 20.0], [1.1, 1.2])
    10.0
    """
    if gains[-1] < least:
        return None
    place = len(gains) - 1
    while place > 0 and gains[place - 1] >= least:
        place -= 1
    if place == 0:
        return costs[0]
    low, high = gains[place - 1], gains[place]
    return costs[place - 1] + (costs[place] - costs[place - 1]) * (least - low) / (high - low)
