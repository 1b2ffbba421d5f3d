"""How cores that share units meet after each step, though a system may take one of them away at any time.

Each core says how many steps it has finished. A core that has waited too long for another's share computes it as well.
"""

import numpy as np

from ...runtime import config
from ...simd.atomic import load_acquire, pause
from ...simd.jit import jit_inner

__all__ = ["PROGRESS_WORDS", "furthest", "is_late", "number_of"]

PROGRESS_WORDS = 16
"""Elements between the progress of two cores: 128 bytes, what CPUs fetch at once."""

_PATIENCE = np.int64(config.TUNED.patience_meeting)
_WEIGHTS_PER_LOOK = np.int64(config.TUNED.weights_per_look)


@jit_inner
def furthest(progress, parts):
    """Return the first step that may not be done yet: all before the last one of any core are."""
    step = np.int64(0)
    for part in range(parts):
        step = max(step, load_acquire(progress, part * PROGRESS_WORDS) - 1)
    return step


@jit_inner
def is_late(progress, part, step, weights):
    """Wait until another core has finished `step`, if it is no further behind than that, and not for long."""
    slot = part * PROGRESS_WORDS
    done = load_acquire(progress, slot)
    patience = _PATIENCE + weights // _WEIGHTS_PER_LOOK if done >= step else 0
    while done <= step and patience > 0:
        pause()
        done = load_acquire(progress, slot)
        patience -= 1
    return done <= step


@jit_inner
def number_of(bounds, begin):
    """Return which core owns what begins at `begin`."""
    mine = 0
    while bounds[mine] != begin:
        mine += 1
    return mine
