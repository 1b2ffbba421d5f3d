"""Learning-rate schedules: what share of the training is done in, a factor for the learning rate out."""

import math
from collections.abc import Callable
from typing import TypeAlias

from ..errors import OptionError

__all__ = ["Schedule", "constant", "cosine", "exponential", "linear", "steps", "warm_up"]

Schedule: TypeAlias = Callable[[float], float]
"""Takes the share of the training that is done, 0 to 1; returns what the learning rate is multiplied by."""


def constant() -> Schedule:
    """Return the schedule that leaves the learning rate alone."""
    return lambda done: 1.0


def cosine(final: float = 0.0) -> Schedule:
    """Return half a cosine wave from 1 down to `final` (Loshchilov and Hutter 2017, without restarts).

    Examples
    --------
    >>> [round(cosine()(done), 3) for done in (0.0, 0.5, 1.0)]
    [1.0, 0.5, 0.0]
    """
    return lambda done: final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))


def linear(final: float = 0.0) -> Schedule:
    """Return a straight line from 1 down to `final`."""
    return lambda done: 1.0 + (final - 1.0) * min(done, 1.0)


def exponential(final: float = 0.01) -> Schedule:
    """Return the same relative decay at every moment, down to `final`."""
    if not final > 0:
        raise OptionError(f"exponential: final={final}; expected a number > 0")
    return lambda done: final ** min(done, 1.0)


def steps(at: tuple[float, ...], factor: float = 0.1) -> Schedule:
    """Return the schedule that multiplies by `factor` when each of the shares `at` is done."""
    return lambda done: factor ** sum(done >= share for share in at)


def warm_up(share: float, then: Schedule) -> Schedule:
    """Return a straight line from 0 to 1 over the first `share` of the training, and `then` over the rest."""
    if not 0.0 < share < 1.0:
        raise OptionError(f"warm_up: share={share}; expected 0 < share < 1")
    return lambda done: done / share if done < share else then((done - share) / (1.0 - share))
