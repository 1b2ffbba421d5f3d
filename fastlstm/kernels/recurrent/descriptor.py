"""Work descriptors of recurrences: words of int64, many of them the addresses of arrays.

A coordinator writes one (`runtime.coordinator`); it changes while no chunk is left or begun. Letters and arrays as in
`sequence`.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.coordinator import CHUNKS, KIND, PARTS
from ...runtime.pool import DESCRIPTOR_WORDS
from ...runtime.workspace import address_of
from ...simd.atomic import array_at
from ...simd.jit import jit_inner
from ..cells import Cell

__all__ = [
    "APART",
    "APART_WIDTH",
    "BATCH_SIZES",
    "BOUNDS",
    "CELLS",
    "CHUNKS",
    "COUNT",
    "EACH",
    "FEATURES",
    "GATES",
    "HEIGHT",
    "HIDDEN",
    "H_FEATURES",
    "H_WIDTH",
    "IDS",
    "KIND",
    "NOW",
    "OTHER",
    "PARTS",
    "PIPELINE",
    "PROGRESS",
    "READY",
    "REVERSE_OUT",
    "SEQUENCES",
    "STEP",
    "STEPS",
    "UNITS",
    "UNIT_PARALLEL",
    "X_FIRST",
    "X_SEQUENCE",
    "X_STEP",
    "X",
    "new_descriptor",
    "packed_weights",
    "weights_of",
]

STEP, PIPELINE, UNIT_PARALLEL, SEQUENCES = range(4)
"""Kinds of work: one step (`stream_step`), the inputs of all steps (`input_pipeline`), whole sequences whose units are
shared (`unit_parallel`), a batch whose sequences are (`batch_parallel`)."""

COUNT, STEPS, FEATURES, UNITS, H_FEATURES = range(3, 8)
"""Places of numbers: N, T, D, H and P."""

X, X_FIRST, X_STEP, X_SEQUENCE, HIDDEN, H_WIDTH, REVERSE_OUT, CELLS = range(8, 16)
"""Places of what differs between the directions of a batch: arguments of ``infer``; of arrays, addresses."""

WEIGHTS, SIZES = 16, 22
"""First places of the addresses of the six packed weights, in the order of ``infer``'s tuple, and of their sizes."""

OTHER = 28
"""Of batches: the address of a second direction's words. 0: there is none."""

GATES, IDS, APART, APART_WIDTH = range(29, 33)
"""Places of more addresses, and A. IDS 0: ``x`` holds features, else a table, as in ``infer``."""

NOW, READY = 33, 34
"""Of a step: which half of ``hidden`` holds h before it. Of inputs: the address of what is ready."""

BATCH_SIZES, HEIGHT, EACH, BOUNDS, PROGRESS = range(35, 40)
"""Of sequences and batches: more arguments of ``infer`` or `unit_parallel`, and the elements of a core's scratch."""


def new_descriptor(
    kind: int, weights: Sequence[NDArray[Any]], shape: tuple[int, int, int, int], h_features: int
) -> NDArray[np.int64]:
    """Return a descriptor of work on a batch (N, T, D, H) with these packed weights, but for its other arrays."""
    words = np.zeros(DESCRIPTOR_WORDS, np.int64)
    words[KIND], words[PARTS], words[CHUNKS] = kind, 1, 1
    words[COUNT], words[STEPS], words[FEATURES], words[UNITS] = shape
    words[H_FEATURES] = h_features
    for place, array in enumerate(weights):
        words[WEIGHTS + place], words[SIZES + place] = address_of(array), array.size
    return words


@jit_inner
def packed_weights(words, like):
    """Return the packed weights of a descriptor: ``(input, bias, recurrent, recurrent_bias, diagonals, second)``."""
    return (
        array_at(like, words[WEIGHTS], words[SIZES]),
        array_at(like, words[WEIGHTS + 1], words[SIZES + 1]),
        array_at(like, words[WEIGHTS + 2], words[SIZES + 2]),
        array_at(like, words[WEIGHTS + 3], words[SIZES + 3]),
        array_at(like, words[WEIGHTS + 4], words[SIZES + 4]),
        array_at(like, words[WEIGHTS + 5], words[SIZES + 5]),
    )


@lru_cache(maxsize=64)
def weights_of(cell: Cell) -> Any:
    """Return the kernel that gives a descriptor's weights as ``infer`` takes them: of a plain cell the first three."""
    if not cell.plain:
        return packed_weights

    def first_three(words, like):
        packed, bias, recurrent, _, _, _ = packed_weights(words, like)
        return packed, bias, recurrent

    return jit_inner(first_three, cell.name)
