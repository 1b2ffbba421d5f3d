"""Batches whose sequences cores share without the GIL, in one direction or both: the same bits whichever core comes."""

import numpy as np
import pytest

from fastlstm.engine.candidates import BatchParallel
from fastlstm.kernels.recurrent.batch_parallel import batch_parallel_loops
from fastlstm.kernels.recurrent.stream_step import worker_loop
from fastlstm.runtime.pool import POSTED, WORDS
from tests.kernels.recurrent.harness import Batch, Coordinated, every_kind_of_step

SHAPES = [(2, 1, 3), (3, 9, 5), (7, 4, 21)]
"""N, T, H."""


def both_directions(name, dtype, shape, both):
    """Return a batch for each direction, and what each gives; they have weights of their own."""
    count, steps, units = shape
    batches = [Batch(name, dtype, [steps] * count, units, seed=seed) for seed in range(1 + both)]
    expected = [batches[0].infer()]
    if both:
        other = batches[1]
        by_step = other.x.reshape(steps, count, -1)
        kept = by_step.copy()
        by_step[...] = kept[::-1]
        expected.append(other.infer())
        by_step[...] = kept
    return batches, expected


@pytest.mark.parametrize("cores", [2, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("both", [False, True])
@every_kind_of_step
def test_the_same_bits_whichever_core_takes_the_parts(name, dtype, shape, both, cores, monkeypatch):
    batches, expected = both_directions(name, dtype, shape, both)
    for time_major in (True, False):
        shared = Coordinated(BatchParallel, batches, min(cores, shape[0] * (1 + both)), time_major)
        for how in ("together", "alone", "by a worker"):
            for found, whole in zip(shared.run(monkeypatch, how), expected, strict=True):
                batches[0].assert_same(found, whole)


@pytest.mark.parametrize("worker", ["of batches", "of all work"])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("cores", [2, 3])
@pytest.mark.parametrize(("name", "dtype"), [("lstm", "float64"), ("gru", "float64")])
def test_with_workers_by_either_kernel(name, dtype, cores, both, worker, monkeypatch):
    batches, expected = both_directions(name, dtype, (6, 20, 21), both)
    kernel = worker_loop(batches[0].cell) if worker == "of all work" else None
    shared = Coordinated(BatchParallel, batches, cores, worker=kernel)
    with shared.workers():
        for how in 20 * ["together", "by workers"]:
            for found, whole in zip(shared.run(monkeypatch, how), expected, strict=True):
                batches[0].assert_same(found, whole)


@pytest.mark.parametrize("loop", ["of batches", "of all work"])
def test_a_worker_leaves_when_it_is_told_to_or_has_looked_long_enough(loop):
    batch = Batch("lstm", "float64", [4, 4], 5)
    kernel = batch_parallel_loops(batch.cell).run if loop == "of batches" else worker_loop(batch.cell)
    shared = Coordinated(BatchParallel, [batch], 2, worker=kernel)
    arguments = shared.words, shared.descriptor, shared.descriptor, np.empty(1), 1
    assert not kernel(*arguments, 1, 3), "its job has not been posted"
    shared.words[WORDS + POSTED] = 1
    assert kernel(*arguments, 1, 1 << 40)
    assert not kernel(*arguments, 2, 3)
