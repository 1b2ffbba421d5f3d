"""Compare the outputs of a cell's contenders with ours, before anything is timed."""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import DifferentOutputError
from .cells import Cell, Contender, Runner

__all__ = ["Prepared", "prepare"]

Outputs: TypeAlias = list[dict[str, NDArray[np.float64]]]
"""Named arrays of each call that is compared."""


@dataclass
class Prepared:
    """The contenders of a cell that may be timed, by name, and why the others may not."""

    runners: dict[str, Runner] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)  # seconds of the last call that was compared
    once: set[str] = field(default_factory=set)
    errors: dict[str, Exception] = field(default_factory=dict)


def prepare(cell: Cell, names: Collection[str] | None = None) -> Prepared:
    """Make and compare ours and the other contenders that are installed: all of them, or those of these names.

    An error of ours is raised: nothing can be compared without it. The errors of others are returned; one whose
    output differs has a `DifferentOutputError`.
    """
    prepared, problem = Prepared(), cell.problem()
    ours, *others = cell.contenders
    expected = _add(prepared, cell, ours, problem)
    for contender in others:
        if contender.missing or not (names is None or contender.name in names):
            continue
        try:
            _add(prepared, cell, contender, problem, expected)
        except Exception as error:
            prepared.errors[contender.name] = error
    return prepared


def _add(
    prepared: Prepared, cell: Cell, contender: Contender, problem: Any, expected: Outputs | None = None
) -> Outputs:
    """Make one contender, compare it with what is expected, and add it; return its outputs."""
    runner = contender.make(problem, cell.threads)
    outputs: Outputs = []
    seconds = 0.0
    for place in range(1 if contender.once else cell.checks):
        start = time.perf_counter()
        raw = runner.call()
        seconds = time.perf_counter() - start
        if runner.read is None:
            continue
        # copies, in float64: a contender may write its next result over this one
        outputs.append({name: np.array(value, np.float64) for name, value in runner.read(raw).items()})
        if expected is not None:
            _check(cell, contender.name, expected[place], outputs[-1])
    prepared.runners[contender.name] = runner
    prepared.first[contender.name] = seconds
    if contender.once:
        prepared.once.add(contender.name)
    return outputs


def _check(cell: Cell, name: str, expected: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    for key, value in expected.items():
        apart = difference(value, given.get(key))
        if not apart <= cell.tolerance:
            raise DifferentOutputError(
                f"{cell.label}: {name} differs from {cell.contenders[0].name} in {key!r} by {apart:.1e} "
                f"of its largest value; at most {cell.tolerance:g} is allowed"
            )


def difference(expected: NDArray[Any], given: NDArray[Any] | None) -> float:
    """Return the largest difference relative to the largest value; infinite where there is nothing to compare."""
    if given is None or given.shape != expected.shape:
        return float("inf")
    return float(np.abs(given - expected).max() / (np.abs(expected).max() or 1.0))
