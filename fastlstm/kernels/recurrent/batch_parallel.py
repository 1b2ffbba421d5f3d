"""Batches whose sequences cores share without the GIL: one direction of a layer, or both. Made for a cell.

Each core has some sequences, of one direction or of both, and runs all their steps: none waits for another. Letters and
arrays as in `sequence`, words as in `descriptor`.
"""

from functools import lru_cache
from typing import Any, NamedTuple

from ...runtime.coordinator import claim, finish, has_chunk, is_over, publish, wait_for_all, worker_begins
from ...runtime.pool import DESCRIPTOR_WORDS
from ...simd.atomic import array_at
from ...simd.jit import jit, jit_inner
from ...simd.vector import lanes_of
from ..cells import Cell
from .descriptor import (
    BATCH_SIZES,
    CELLS,
    COUNT,
    EACH,
    FEATURES,
    GATES,
    H_FEATURES,
    H_WIDTH,
    HEIGHT,
    HIDDEN,
    OTHER,
    PARTS,
    REVERSE_OUT,
    STEPS,
    UNITS,
    X_FIRST,
    X_SEQUENCE,
    X_STEP,
    X,
    weights_of,
)
from .sequence import sequence_loops

__all__ = ["BatchParallelLoops", "batch_parallel_loops"]


class BatchParallelLoops(NamedTuple):
    """The kernels of batches: the coordinator's and the workers' loop; one core's part, a part of other kernels."""

    run: Any
    part: Any


@lru_cache(maxsize=64)
def batch_parallel_loops(cell: Cell) -> BatchParallelLoops:
    """Return the kernels of batches whose sequences are shared, for `cell`."""
    infer, weights = sequence_loops(cell).infer, weights_of(cell)

    def part_of_batch(descriptor, like, part):
        """Run all steps of one core's sequences; of all sequences where there is no other core."""
        count, steps, features, units = (descriptor[COUNT], descriptor[STEPS], descriptor[FEATURES], descriptor[UNITS])
        parts, each = descriptor[PARTS], descriptor[EACH]
        lanes = lanes_of(like)
        total = count if descriptor[OTHER] == 0 else 2 * count
        begin, end = total * part // parts, total * (part + 1) // parts
        for before in range(0, total, count):
            first, last = max(begin - before, 0), min(end - before, count)
            if first < last:
                words = descriptor if before == 0 else array_at(descriptor, descriptor[OTHER], DESCRIPTOR_WORDS)
                h_elements = ((1 + steps) * count - 1) * words[H_WIDTH] + words[H_FEATURES]  # steps take slices of it
                infer(
                    (
                        array_at(like, words[X], count * steps * features),
                        words[X_FIRST],
                        words[X_STEP],
                        words[X_SEQUENCE],
                    ),
                    *(features, array_at(descriptor, words[X], 0)),  # no ids
                    (
                        array_at(like, words[HIDDEN], h_elements),
                        words[H_WIDTH],
                        words[H_FEATURES],
                        words[REVERSE_OUT] != 0,
                    ),
                    array_at(like, words[CELLS], count * ((units + lanes - 1) // lanes * lanes)),
                    *(units, array_at(descriptor, descriptor[BATCH_SIZES], steps)),
                    *(weights(words, like), descriptor[HEIGHT]),
                    *(array_at(like, descriptor[GATES] + part * each * like.itemsize, each), first, last),
                )

    part_of = jit_inner(part_of_batch, cell.name)

    def take_parts(words, descriptor, like, mine):
        """Take parts of a batch until none is left, the core's own first."""
        part, left = claim(words, descriptor, mine)
        while left > 0:
            part_of(descriptor, like, part)
            finish(words, part)
            part, left = claim(words, descriptor, mine)

    take = jit_inner(take_parts, cell.name)

    def run_batches(words, descriptor, next_descriptor, like, mine, until, spins):
        """Coordinate a batch, or be a worker where all work is batches; see `runtime.coordinator.Coordinator`.

        `stream_step` has a worker's loop for other work too, which takes four times as long to compile.
        """
        if mine == 0:
            publish(words, descriptor, next_descriptor, until)
            take(words, descriptor, like, mine)
            wait_for_all(words, descriptor)
            return True
        worker_begins(words, mine, until)
        while has_chunk(words, mine, until, spins):
            take(words, descriptor, like, mine)
        return is_over(words, mine, until)

    return BatchParallelLoops(jit(run_batches, cell.name), part_of)
