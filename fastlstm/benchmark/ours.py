"""How fastlstm runs a problem: called as its users call it, batch first."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import layers
from ..data.packed import pack
from ..layers import Bidirectional, PassContext, Stream
from ..threads import get_num_threads, set_num_threads
from .cells import Runner
from .problems import STATES, Problem

__all__ = [
    "KINDS",
    "get_num_threads",
    "inference",
    "layer_call",
    "list_of",
    "set_num_threads",
    "stream_step",
    "training",
]

Array: TypeAlias = NDArray[Any]

_LAYERS = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "SimpleRNN"}
KINDS = tuple(_LAYERS)
"""The kinds of cells that fastlstm has a layer for."""


def recurrent_layer(kind: str, *arguments: Any, **options: Any) -> Any:
    """Return a layer of a kind of cell."""
    return getattr(layers, _LAYERS[kind])(*arguments, **options)


def layers_of(problem: Problem) -> list[Any]:
    """Return the layers of a problem with its weights."""
    shape = problem.shape
    stack: list[Any] = []
    for place in range(shape.layers):
        layer: Any = recurrent_layer(shape.kind, shape.H, return_sequences=True)
        if shape.directions == 2:
            layer = Bidirectional(layer)
        layer.load_state_dict(problem.of_layer(place))
        stack.append(layer)
    return stack


def inference(problem: Problem, threads: int) -> Runner:
    """Call the layers one after the other."""
    set_num_threads(threads)
    stack = layers_of(problem)

    def call() -> Array:
        y = problem.x
        for layer in stack:
            y = layer(y)
        return y

    return Runner(call, lambda y: {"y": y})


def training(problem: Problem, threads: int, batch: Any = None) -> Runner:
    """Run forward and backward as the training loop does, its buffers used again; from `batch` if not from x."""
    set_num_threads(threads)
    stack = layers_of(problem)
    context = PassContext(training=True)
    dy, form = pack(list_of(problem.dy, batch), features=True)

    def call() -> tuple[Any, dict[str, Array]]:
        x, _ = stack[0].take(problem.x if batch is None else batch)
        caches = []
        for layer in stack:
            x, cache = layer.forward(x, context)
            caches.append(cache)
        gradients: dict[str, Array] = {}
        rows = dy.rows
        for place in reversed(range(len(stack))):
            rows, of_layer = stack[place].backward(rows, caches[place], context)
            gradients |= {key.replace("_l0", f"_l{place}"): value for key, value in of_layer.items()}
        return rows, gradients

    def read(raw: tuple[Any, dict[str, Array]]) -> dict[str, Array]:
        dx = form.unpack(dy.with_rows(raw[0]))
        return raw[1] | {"x": dx if batch is None else np.concatenate(dx)}

    return Runner(call, read)


def list_of(dy: Array, batch: Any) -> Any:
    """Return `dy` cut to the lengths of a ragged batch."""
    return dy if batch is None else [row[: len(x)] for row, x in zip(dy, batch, strict=True)]


def stream_step(problem: Problem, threads: int) -> Runner:
    """Step a stream, which holds its state."""
    set_num_threads(threads)
    layer = recurrent_layer(problem.shape.kind, problem.shape.H, name="layer")
    layer.load_state_dict(dict(problem.weights))
    x, stream = problem.x[:, 0], Stream([layer], len(problem.x))

    def call() -> Any:
        stream.step(x)
        return stream

    def read(stream: Any) -> dict[str, Array]:
        return {name: stream.state_dict()[f"layer.{name}"] for name in STATES[problem.shape.kind]}

    return Runner(call, read)


def layer_call(problem: Problem, threads: int) -> Runner:
    """Call the layer on sequences of one step, its state going in and coming out."""
    set_num_threads(threads)
    layer = recurrent_layer(problem.shape.kind, problem.shape.H, return_state=True)
    layer.load_state_dict(dict(problem.weights))
    x, state = problem.x[:, 0], None

    def call() -> Any:
        nonlocal state
        _, state = layer(x[:, None], initial_state=state)
        return state

    return Runner(call, lambda state: {name: getattr(state, name) for name in STATES[problem.shape.kind]})
