"""Those who race: fastlstm, torch, ONNX Runtime; each with the same weights, NumPy arrays in and out.

A class holds what one library can do: `inference`, `training`, `streaming`. Each method takes a problem and a thread
count and returns contenders. A library that is not installed, or cannot do a task, takes no part in it.

fastlstm is called as its users call it, batch first; the peers get their arrays time-major, as their kernels want them,
turned before the clock starts.
"""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..data.packed import pack
from ..kernels.team import set_num_threads
from ..layers import LSTM, Bidirectional, Run, Stream
from . import onnx_models
from .problems import Problem
from .turns import OURS, Contender

__all__ = [
    "LIBRARIES",
    "FastLSTM",
    "OnnxRuntime",
    "Torch",
    "contenders",
    "from_onnx",
    "installed",
    "list_of",
    "missing",
    "time_major",
]

Array: TypeAlias = NDArray[Any]


def time_major(array: Array) -> Array:
    """Return (N, T, ...) as contiguous (T, N, ...), or the other way round."""
    return np.ascontiguousarray(array.swapaxes(0, 1))


class FastLSTM:
    """Ours."""

    needs: tuple[str, ...] = ()

    @staticmethod
    def layers(problem: Problem) -> list[Any]:
        """Return the layers of a problem with its weights."""
        made = []
        for place in range(problem.shape.layers):
            layer: Any = LSTM(problem.shape.H, return_sequences=True)
            layer = layer if problem.shape.directions == 1 else Bidirectional(layer)
            layer.load_state_dict(problem.of_layer(place))
            made.append(layer)
        return made

    @classmethod
    def inference(cls, problem: Problem, threads: int, name: str = OURS) -> list[Contender]:
        """Call the layers one after the other."""
        set_num_threads(threads)
        stack = cls.layers(problem)

        def call() -> Array:
            y = problem.x
            for layer in stack:
                y = layer(y)
            return y

        return [Contender(name, call, lambda y: {"y": y})]

    @classmethod
    def training(cls, problem: Problem, threads: int, batch: Any = None, name: str = OURS) -> list[Contender]:
        """Run forward and backward as the training loop does, its buffers used again; from `batch` if not from x."""
        set_num_threads(threads)
        stack = cls.layers(problem)
        run = Run(training=True)
        dy, form = pack(list_of(problem.dy, batch), features=True)

        def call() -> tuple[Any, dict[str, Array]]:
            x, _ = stack[0].take(problem.x if batch is None else batch)
            caches = []
            for layer in stack:
                x, cache = layer.forward(x, run)
                caches.append(cache)
            gradients: dict[str, Array] = {}
            rows = dy.rows
            for place in reversed(range(len(stack))):
                rows, of_layer = stack[place].backward(rows, caches[place], run)
                gradients |= {key.replace("_l0", f"_l{place}"): value for key, value in of_layer.items()}
            return rows, gradients

        def read(raw: tuple[Any, dict[str, Array]]) -> dict[str, Array]:
            dx = form.unpack(dy.with_rows(raw[0]))
            return raw[1] | {"x": dx if batch is None else np.concatenate(dx)}

        return [Contender(name, call, read)]

    @classmethod
    def streaming(cls, problem: Problem, threads: int) -> list[Contender]:
        """Step a stream, which holds its state; and call the layer, its state going in and coming out."""
        set_num_threads(threads)
        lstm = LSTM(problem.shape.H, return_state=True, name="lstm")
        lstm.load_state_dict(dict(problem.weights))
        x, state, stream = problem.x[:, 0], None, Stream([lstm], len(problem.x))

        def step() -> Stream:
            stream.step(x)
            return stream

        def call() -> Any:
            nonlocal state
            _, state = lstm(x[:, None], initial_state=state)
            return state

        def read(stream: Stream) -> dict[str, Array]:
            return {name: stream.state_dict()[f"lstm.{name}"] for name in "hc"}

        return [
            Contender(OURS, step, read),
            Contender(f"{OURS}, lstm(x, state)", call, lambda state: {"h": state.h, "c": state.c}),
        ]


def list_of(dy: Array, batch: Any) -> Any:
    """Return `dy` cut to the lengths of a ragged batch."""
    return dy if batch is None else [row[: len(x)] for row, x in zip(dy, batch, strict=True)]


class Torch:
    """PyTorch."""

    needs = ("torch",)

    @staticmethod
    def lstm(problem: Problem, threads: int) -> Any:
        """Return ``nn.LSTM`` with a problem's weights, and pin the threads of torch."""
        import torch

        torch.set_num_threads(threads)
        shape = problem.shape
        lstm = torch.nn.LSTM(shape.D, shape.H, shape.layers, bidirectional=shape.directions == 2)
        lstm.load_state_dict({name: torch.from_numpy(value) for name, value in problem.weights.items()})
        return lstm

    @classmethod
    def inference(cls, problem: Problem, threads: int) -> list[Contender]:
        """Call ``nn.LSTM`` in inference mode."""
        import torch

        lstm, x = cls.lstm(problem, threads).eval(), time_major(problem.x)

        def call() -> Any:
            with torch.inference_mode():
                return lstm(torch.from_numpy(x))[0].numpy()

        return [Contender("torch", call, lambda y: {"y": y.swapaxes(0, 1)})]

    @classmethod
    def training(cls, problem: Problem, threads: int) -> list[Contender]:
        """Let autograd give the gradients of the input and of all weights."""
        import torch

        lstm, x, dy = cls.lstm(problem, threads), time_major(problem.x), time_major(problem.dy)
        names = list(problem.weights)

        def call() -> list[Array]:
            inputs = torch.from_numpy(x).requires_grad_()
            wanted = [inputs, *(getattr(lstm, name) for name in names)]
            return [g.numpy() for g in torch.autograd.grad(lstm(inputs)[0], wanted, torch.from_numpy(dy))]

        def read(gradients: list[Array]) -> dict[str, Array]:
            return {"x": gradients[0].swapaxes(0, 1)} | dict(zip(names, gradients[1:], strict=True))

        return [Contender("torch", call, read)]

    @classmethod
    def streaming(cls, problem: Problem, threads: int) -> list[Contender]:
        """Step with ``nn.LSTMCell``, and with ``nn.LSTM`` on sequences of one step."""
        import torch

        lstm, x = cls.lstm(problem, threads).eval(), problem.x[:, 0]
        cell = torch.nn.LSTMCell(problem.shape.D, problem.shape.H).eval()
        cell.load_state_dict({name[:-3]: torch.from_numpy(value) for name, value in problem.weights.items()})
        of_cell: Any = None
        of_lstm: Any = None

        def call_cell() -> tuple[Array, Array]:
            nonlocal of_cell
            with torch.inference_mode():
                of_cell = cell(torch.from_numpy(x), of_cell)
            return of_cell[0].numpy(), of_cell[1].numpy()

        def call_lstm() -> tuple[Array, Array]:
            nonlocal of_lstm
            with torch.inference_mode():
                _, of_lstm = lstm(torch.from_numpy(x)[None], of_lstm)
            return of_lstm[0].numpy(), of_lstm[1].numpy()

        return [
            Contender("torch LSTMCell", call_cell, lambda state: {"h": state[0], "c": state[1]}),
            Contender("torch nn.LSTM", call_lstm, lambda state: {"h": state[0][0], "c": state[1][0]}),
        ]


class OnnxRuntime:
    """ONNX Runtime."""

    needs = ("onnxruntime", "onnx")  # which writes the models

    @staticmethod
    def session(model: bytes, threads: int) -> Any:
        """Return a session on so many threads, which may spin, as is its default."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @classmethod
    def inference(cls, problem: Problem, threads: int) -> list[Contender]:
        """Run the model."""
        session, x = cls.session(onnx_models.sequence_model(problem), threads), time_major(problem.x)
        return [Contender("onnxruntime", lambda: session.run(["y"], {"x": x})[0], lambda y: {"y": from_onnx(y)})]

    @classmethod
    def streaming(cls, problem: Problem, threads: int) -> list[Contender]:
        """Run a model of one step, its state going in and coming out."""
        session, x = cls.session(onnx_models.step_model(problem), threads), problem.x[:, 0]
        h = c = np.zeros((1, problem.shape.N, problem.shape.H), np.float32)

        def call() -> tuple[Array, Array]:
            nonlocal h, c
            h, c = session.run(["h1", "c1"], {"x": x[None], "h": h, "c": c})
            return h, c

        return [Contender("onnxruntime", call, lambda state: {"h": state[0][0], "c": state[1][0]})]


def from_onnx(y: Array) -> Array:
    """Return ONNX's (T, directions, N, H) as (N, T, directions * H)."""
    steps, directions, count, units = y.shape
    return y.transpose(2, 0, 1, 3).reshape(count, steps, directions * units)


LIBRARIES: tuple[Any, ...] = (FastLSTM, Torch, OnnxRuntime)


def missing(library: Any) -> list[str]:
    """Return the packages that a library needs to take part and that are not installed."""
    return [name for name in library.needs if find_spec(name) is None]


def installed(library: Any) -> bool:
    """Tell whether a library can take part."""
    return not missing(library)


def contenders(task: str, problem: Problem, threads: int, libraries: Iterable[Any] = LIBRARIES) -> list[Contender]:
    """Return all that can do a task, ours first."""
    able = [library for library in libraries if installed(library) and hasattr(library, task)]
    return [contender for library in able for contender in getattr(library, task)(problem, threads)]
