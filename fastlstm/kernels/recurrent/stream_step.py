"""Single steps of a stream on all cores that spin; and the worker's loop for every kind of work. Made for a cell.

A step is cut into chunks of its panels. The coordinator publishes them, some for each core, and all cores claim chunks
until none is left: their own first, for their weights are in that core's cache, then the others'.

Other kinds of work go the same way: chunks of inputs (`input_pipeline`), whole sequences whose units are shared
(`unit_parallel`), and batches whose sequences are (`batch_parallel`): of these each core has one chunk.

Letters and arrays as in `sequence`, words as in `descriptor`.
"""

from functools import lru_cache
from typing import Any

from ...runtime.coordinator import claim, finish, has_chunk, is_over, publish, wait_for_all, worker_begins
from ...simd.atomic import array_at
from ...simd.denormals import flush, restore
from ...simd.jit import jit, jit_inner
from ...simd.vector import lanes_of
from ..cells import Cell
from ..gemm import START
from .batch_parallel import batch_parallel_loops
from .descriptor import (
    APART,
    APART_WIDTH,
    BATCH_SIZES,
    BOUNDS,
    CELLS,
    CHUNKS,
    COUNT,
    EACH,
    FEATURES,
    GATES,
    HEIGHT,
    HIDDEN,
    IDS,
    KIND,
    NOW,
    PARTS,
    PIPELINE,
    PROGRESS,
    SEQUENCES,
    STEPS,
    UNIT_PARALLEL,
    UNITS,
    X,
    packed_weights,
)
from .input_pipeline import input_pipeline_loops
from .layout import packed_units
from .meeting import PROGRESS_WORDS
from .sequence import are_zeros
from .unit_parallel import unit_parallel_loops

__all__ = ["worker_loop"]


def _unit_parallel_parts(cell: Cell) -> tuple[Any, Any]:
    """Return the kernels of one chunk of a step, and of one core's part of whole sequences."""
    gate_count, halves, columns = len(cell.gates), cell.halves, cell.columns
    each_panel = cell.blocks
    loops = unit_parallel_loops(cell)
    panels_of_step, inputs_of_panels, split_steps = loops.panels_of_step, loops.inputs_of_panels, loops.steps

    def chunk_of_step(words, like, chunk):
        """Take all sequences one step on in the units of one chunk."""
        lanes = lanes_of(like)
        count, units, features, now = words[COUNT], words[UNITS], words[FEATURES], words[NOW]
        wide = gate_count * packed_units(units, lanes, halves)
        panels = (units + each_panel * lanes - 1) // (each_panel * lanes)
        chunks = words[PARTS] * words[CHUNKS]
        first, last = panels * chunk // chunks, panels * (chunk + 1) // chunks
        width = columns * lanes
        x = array_at(like, words[X], count * features)
        gates = array_at(like, words[GATES], count * wide)[first * width :]
        packed, bias, recurrent, recurrent_bias, diagonals, _ = packed_weights(words, like)
        if words[IDS] == 0:
            inputs_of_panels((x, START, count, features), (packed, bias), gates, wide, units, (first, last))
        else:
            ids = array_at(words, words[IDS], count)
            for n in range(count):
                for g in range(first * width, min(last * width, wide)):
                    gates[n * wide + g - first * width] = x[ids[n] * wide + g]
        hidden, cells = array_at(like, words[HIDDEN], 0), array_at(like, words[CELLS], 0)
        recurrent_k = START if are_zeros(hidden, now * count * units, units, units, count) else units
        panels_of_step(
            (gates, START, wide),
            (array_at(like, words[APART], count * words[APART_WIDTH]), START, words[APART_WIDTH], True),
            (hidden, now * count, (1 - now) * count),
            (cells, START, START),
            units,
            (recurrent, recurrent_bias, diagonals),
            (False, gates, START),
            count,
            (first, last),
            *(now, recurrent_k),
        )

    def part_of_sequences(words, like, part):
        """Run all steps in the units of one core; in all units where there is no other."""
        lanes = lanes_of(like)
        count, steps, features = words[COUNT], words[STEPS], words[FEATURES]
        units, parts, each = words[UNITS], words[PARTS], words[EACH]
        padded_units = (units + lanes - 1) // lanes * lanes
        rows = count * steps
        bounds = array_at(words, words[BOUNDS], 1 + parts)
        begin, end = bounds[part], bounds[part + 1]
        if parts == 1:
            end = (units + each_panel * lanes - 1) // (each_panel * lanes)
        packed, bias, recurrent, recurrent_bias, diagonals, _ = packed_weights(words, like)
        nothing = array_at(like, words[X], 0)
        split_steps(
            (array_at(like, words[X], rows * features), features),
            array_at(like, words[HIDDEN], (count + rows) * units),
            array_at(like, words[CELLS], (count + rows) * padded_units),
            units,
            array_at(words, words[BATCH_SIZES], steps),
            (packed, bias, recurrent, recurrent_bias, diagonals),
            (nothing, nothing),
            (bounds, array_at(words, words[PROGRESS], parts * PROGRESS_WORDS)),
            words[HEIGHT],
            array_at(like, words[GATES] + part * each * like.itemsize, each),
            *(begin, end),
        )

    return jit_inner(chunk_of_step, cell.name), jit_inner(part_of_sequences, cell.name)


@lru_cache(maxsize=64)
def worker_loop(cell: Cell) -> Any:
    """Return the kernel that coordinates a step or whole sequences, and that workers take all kinds of work by.

    ``run(words, descriptor, next_descriptor, like, mine, until, spins)``, see `runtime.coordinator.Coordinator`.
    """
    part_of_batch, prepare_chunk = batch_parallel_loops(cell).part, input_pipeline_loops(cell).prepare_chunk
    shares_units = cell.single_stage
    chunk_of_step, part_of_sequences = _unit_parallel_parts(cell) if shares_units else (part_of_batch, part_of_batch)

    def take_all_chunks(words, descriptor, like, mine):
        """Take chunks until none is left, the core's own first."""
        mode = flush()
        part, left = claim(words, descriptor, mine)
        while left > 0:
            chunk = left - 1 if descriptor[NOW] else descriptor[CHUNKS] - left
            if descriptor[KIND] == PIPELINE:
                prepare_chunk(descriptor, like, chunk)
            elif descriptor[KIND] == SEQUENCES:
                part_of_batch(descriptor, like, part)
            elif shares_units and descriptor[KIND] == UNIT_PARALLEL:
                part_of_sequences(descriptor, like, part)
            elif shares_units:
                chunk_of_step(descriptor, like, part * descriptor[CHUNKS] + chunk)
            finish(words, part)
            part, left = claim(words, descriptor, mine)
        restore(mode)

    take_chunks = jit_inner(take_all_chunks, cell.name)

    def run_chunks(words, descriptor, next_descriptor, like, mine, until, spins):
        """Coordinate one step, or whole sequences; or be a worker, whatever the work is."""
        if mine == 0:
            publish(words, descriptor, next_descriptor, until)
            take_chunks(words, descriptor, like, mine)
            wait_for_all(words, descriptor)
            return True
        worker_begins(words, mine, until)
        while has_chunk(words, mine, until, spins):
            take_chunks(words, descriptor, like, mine)
        return is_over(words, mine, until)

    return jit(run_chunks, cell.name)
