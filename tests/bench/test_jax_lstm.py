"""JAX in its worker: the same outputs and gradients as ours, on as many cores as it was given, timed where it runs."""

import os
import time
from functools import partial

import pytest

pytest.importorskip("jax")

from bench import jax_lstm
from bench.contenders import contenders
from fastlstm.benchmark.cells import Cell
from fastlstm.benchmark.compare import prepare
from fastlstm.benchmark.problems import Problem, Shape


@pytest.mark.parametrize("task", ["inference", "training"])
@pytest.mark.parametrize("shape", [Shape(3, 5, 4, 8, layers=2), Shape(2, 6, 3, 8, directions=2)], ids=str)
def test_it_computes_the_same(task, shape):
    prepared = prepare(Cell(str(shape), 1, partial(Problem, shape), contenders(task)), names=["jax"])
    assert prepared.runners["jax"].read is not None
    assert not prepared.errors


def test_it_has_the_cores_of_its_cell_and_times_its_own_calls():
    runner = jax_lstm.inference(Problem(Shape(1, 1, 4, 8)), 1)
    worker = jax_lstm.worker(1)
    assert len(os.sched_getaffinity(worker.process.pid)) == 1
    start = time.perf_counter()
    times = runner.repeat(0.05, True)
    assert len(times) > 1
    assert 0.02 < sum(times) < time.perf_counter() - start
