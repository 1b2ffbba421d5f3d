"""JAX: an LSTM of ``lax.scan`` under ``jax.jit``, in a worker process for each thread count.

XLA takes its number of threads from the cores that the process may use when the backend starts, and keeps it: within
our process it could not be pinned cell by cell, as the others are. So there is a worker for each thread count, held to
as many cores before it imports jax; it stays for the whole session, since its start takes seconds. Between calls it
waits on a pipe and takes nothing from the others. It times its own calls, as all are timed
(`fastlstm.benchmark.interleaved.repeat`): the way through the pipe is not JAX's work. That it may not choose among idle
cores, as the others may, is the price.
"""

import multiprocessing
import os
from collections.abc import Callable
from functools import cache, partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from fastlstm.benchmark.cells import Runner
from fastlstm.benchmark.interleaved import repeat
from fastlstm.benchmark.peers import time_major
from fastlstm.benchmark.problems import Problem

__all__ = ["inference", "training", "worker"]

Made = tuple[Callable[[], Any], Callable[[Any], dict[str, np.ndarray]]]
"""What is timed, and what reads its result."""


# --- in the worker --------------------------------------------------------------------------------------------------


def layers(weights: dict[str, Any], x: Any, shape: Any) -> Any:
    """Return the outputs (T, N, features) for x (T, N, D); the input product is taken out of the scan."""
    import jax
    import jax.numpy as jnp

    for layer in range(shape.layers):
        outputs = []
        for suffix in (f"l{layer}", f"l{layer}_reverse")[: shape.directions]:
            recurrent = weights[f"weight_hh_{suffix}"]

            def step(state: tuple[Any, Any], product: Any, recurrent: Any = recurrent) -> tuple[tuple[Any, Any], Any]:
                h, c = state
                i, f, g, o = jnp.split(product + h @ recurrent, 4, axis=-1)
                c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
                h = jax.nn.sigmoid(o) * jnp.tanh(c)
                return (h, c), h

            products = x @ weights[f"weight_ih_{suffix}"] + weights[f"bias_ih_{suffix}"] + weights[f"bias_hh_{suffix}"]
            zeros = jnp.zeros((shape.N, shape.H), jnp.float32)
            outputs.append(jax.lax.scan(step, (zeros, zeros), products, reverse=suffix.endswith("reverse"))[1])
        x = jnp.concatenate(outputs, axis=-1) if len(outputs) > 1 else outputs[0]
    return x


def prepared(problem: Problem) -> tuple[dict[str, Any], np.ndarray]:
    """Return the weights in JAX's memory, transposed as its products want them, and x time-major."""
    import jax

    weights = {name: jax.device_put(np.ascontiguousarray(value.T)) for name, value in problem.weights.items()}
    return weights, time_major(problem.x)


def inference_made(problem: Problem) -> Made:
    """Compile the layers."""
    import jax

    weights, x = prepared(problem)
    run = jax.jit(lambda weights, x: layers(weights, x, problem.shape))
    return lambda: np.asarray(run(weights, x)), lambda y: {"y": y.swapaxes(0, 1)}


def training_made(problem: Problem) -> Made:
    """Compile forward and backward."""
    import jax

    weights, x = prepared(problem)
    dy = time_major(problem.dy)

    @jax.jit
    def gradients(weights: dict[str, Any], x: Any, dy: Any) -> Any:
        return jax.vjp(lambda weights, x: layers(weights, x, problem.shape), weights, x)[1](dy)

    def read(raw: tuple[dict[str, np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
        return {name: value.T for name, value in raw[0].items()} | {"x": raw[1].swapaxes(0, 1)}

    return lambda: jax.tree.map(np.asarray, gradients(weights, x, dy)), read


def serve(pipe: Connection, threads: int) -> None:
    """Answer what comes through the pipe, on so many cores, until it is closed."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ["JAX_PLATFORMS"] = "cpu"
    call, read = None, None
    while True:
        try:
            what, *arguments = pipe.recv()
        except EOFError:
            return
        if what == "make":
            task, problem = arguments
            call, read = {"inference": inference_made, "training": training_made}[task](problem)
            pipe.send(None)
        elif what == "call":
            pipe.send(read(call()))
        else:
            pipe.send(repeat(call, *arguments))


# --- in our process -------------------------------------------------------------------------------------------------


class Worker:
    """A process that serves."""

    def __init__(self, threads: int):
        context = multiprocessing.get_context("spawn")  # a copy of this process would have its thread pools
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, threads), daemon=True)
        self.process.start()
        other.close()

    def ask(self, *question: Any) -> Any:
        """Send a question and wait for the answer; a worker that broke off has said why on standard error."""
        self.pipe.send(question)
        return self.pipe.recv()


@cache
def worker(threads: int) -> Worker:
    """Return the worker for a thread count, started when first asked for."""
    return Worker(threads)


def runner(task: str, problem: Problem, threads: int) -> Runner:
    """Have the worker make a task ready; it holds one at a time."""
    ask = worker(threads).ask
    ask("make", task, problem)
    return Runner(lambda: ask("call"), lambda arrays: arrays, repeat=lambda seconds, warm: ask("repeat", seconds, warm))


inference = partial(runner, "inference")
training = partial(runner, "training")
