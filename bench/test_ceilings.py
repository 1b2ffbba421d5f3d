"""How fast the machine itself multiplies, adds and reads, on as many threads as the cells have: `bench.ceilings`."""

import json
from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest

from fastlstm.benchmark.machine import on_threads

from .ceilings import NAMES, speeds
from .cells import thread_counts
from .recorded import record, recorded_clock


@cache
def measured(threads: int, tiny: bool) -> dict[str, Any]:
    """Measure all speeds of a thread count: in a process of its own, or tiny ones in this one."""
    return speeds(threads, rounds=1, scale=1e-3) if tiny else json.loads(on_threads("bench.ceilings", threads))


@pytest.mark.parametrize("threads", thread_counts(), ids="{}t".format)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.benchmark(timer=recorded_clock)
def test_ceilings(benchmark, threads, name):
    if name == "sgemm, torch" and find_spec("torch") is None:
        pytest.skip("torch not installed")
    speed = measured(threads, benchmark.disabled)[name]
    benchmark.group = f"ceilings, {threads} thread{'s' * (threads > 1)}"
    work = {key: value for key, value in speed.items() if key != "seconds"}
    benchmark.extra_info |= {"suite": "ceilings", "threads": threads, "contender": name, "facts": work}
    record(benchmark, speed["seconds"])
