"""The suites under pytest-benchmark: one benchmark for each contender, grouped by cell, saved with all its rounds.

A suite is a module with `cells(tiny)` and one test that calls the fixture `time_contender`. With
``--benchmark-disable`` the cells are tiny, and outputs are compared but not timed. The seconds of a contender are
``--benchmark-max-time``, its least rounds ``--benchmark-min-rounds``.
"""

from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.utils import get_tag

from fastlstm.benchmark.machine import machine

from .recorded import record
from .suite import Measurements, key_of, parameters, suite_of

MEASUREMENTS = pytest.StashKey[Measurements]()
VOLATILE = ("hz_actual", "hz_actual_friendly")
"""What pytest-benchmark tells of a CPU that differs from second to second, as if it were another machine."""


def pytest_configure(config: pytest.Config) -> None:
    option = config.option
    disabled = option.benchmark_disable and not option.benchmark_enable
    if not (option.benchmark_save or option.benchmark_autosave):
        option.benchmark_autosave = get_tag()
    option.benchmark_save_data = True  # ratios are of one round: the report needs each
    option.benchmark_columns = option.benchmark_columns or ["min", "median", "iqr", "rounds"]
    config.addinivalue_line("markers", "slow: takes seconds a call, left out of quick runs")
    config.addinivalue_line("filterwarnings", "default")  # a peer may warn, and another version is no error
    config.stash[MEASUREMENTS] = Measurements(
        float(option.benchmark_max_time), int(option.benchmark_min_rounds), compare_only=disabled
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "contender" in metafunc.fixturenames:
        measurements, suite = metafunc.config.stash[MEASUREMENTS], suite_of(metafunc.module)
        cells = list(metafunc.module.cells(measurements.compare_only))
        measurements.cells |= {key_of(suite, cell): cell for cell in cells}
        metafunc.parametrize(("kind", "label", "threads", "contender"), parameters(suite, cells))


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Add what the report says of the machine, and take out what changes from second to second."""
    for name in VOLATILE:
        machine_info["cpu"].pop(name, None)
    machine_info["fastlstm"] = {name: value for name, value in machine().items() if name != "date"}


@pytest.fixture
def time_contender(
    benchmark: Any, request: pytest.FixtureRequest, kind: str, label: str, threads: int, contender: str
) -> Callable[[], None]:
    """Return what compares and times one contender of one cell; all that were selected are timed with the first."""

    def time() -> None:
        key = (suite_of(request.module), kind, label, threads)
        measurements = request.config.stash[MEASUREMENTS]
        wanted = [
            item.callspec.params
            for item in request.session.items
            if getattr(item, "function", None) is request.function
        ]
        place = {"kind": kind, "label": label, "threads": threads}
        names = {params["contender"] for params in wanted if place.items() <= params.items()}
        measured = measurements.of(key, names)
        if contender in measured.errors:
            raise measured.errors[contender]
        benchmark.extra_info |= place | {
            "suite": key[0],
            "contender": contender,
            "compared": contender in measured.compared,
            "facts": measurements.cells[key].facts,
        }
        record(benchmark, measured.times[contender])

    return time
