"""How torch and ONNX Runtime run a problem: time-major, as their kernels want it, laid out before the clock starts."""

from collections.abc import Iterable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from . import onnx_models
from .cells import Runner
from .problems import STATES, Problem

__all__ = [
    "from_onnx",
    "onnx_inference",
    "onnx_session",
    "onnx_step",
    "time_major",
    "torch_cell_step",
    "torch_inference",
    "torch_layer_step",
    "torch_module",
    "torch_training",
]

Array: TypeAlias = NDArray[Any]


def time_major(array: Array) -> Array:
    """Return (N, T, ...) as contiguous (T, N, ...), or the other way round."""
    return np.ascontiguousarray(array.swapaxes(0, 1))


def torch_module(problem: Problem, threads: int) -> Any:
    """Return ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN`` with a problem's weights, and pin the threads of torch."""
    import torch

    torch.set_num_threads(threads)
    shape = problem.shape
    module = getattr(torch.nn, shape.kind)(shape.D, shape.H, shape.layers, bidirectional=shape.directions == 2)
    module.load_state_dict({name: torch.from_numpy(value) for name, value in problem.weights.items()})
    return module


def torch_inference(problem: Problem, threads: int) -> Runner:
    """Call the module in inference mode."""
    import torch

    module, x = torch_module(problem, threads).eval(), time_major(problem.x)

    def call() -> Any:
        with torch.inference_mode():
            return module(torch.from_numpy(x))[0].numpy()

    return Runner(call, lambda y: {"y": y.swapaxes(0, 1)})


def torch_training(problem: Problem, threads: int) -> Runner:
    """Let autograd give the gradients of the input and of all weights."""
    import torch

    module, x, dy = torch_module(problem, threads), time_major(problem.x), time_major(problem.dy)
    names = list(problem.weights)

    def call() -> list[Array]:
        inputs = torch.from_numpy(x).requires_grad_()
        wanted = [inputs, *(getattr(module, name) for name in names)]
        return [g.numpy() for g in torch.autograd.grad(module(inputs)[0], wanted, torch.from_numpy(dy))]

    def read(gradients: list[Array]) -> dict[str, Array]:
        return {"x": gradients[0].swapaxes(0, 1)} | dict(zip(names, gradients[1:], strict=True))

    return Runner(call, read)


def _arrays(state: Any) -> tuple[Array, ...]:
    """Return the arrays of torch's state: h and c, or h alone."""
    return (state[0].numpy(), state[1].numpy()) if isinstance(state, tuple) else (state.numpy(),)


def _named(problem: Problem, parts: Iterable[Array]) -> dict[str, Array]:
    return dict(zip(STATES[problem.shape.kind], parts, strict=True))


def torch_cell_step(problem: Problem, threads: int) -> Runner:
    """Step with ``nn.LSTMCell`` and its like."""
    import torch

    torch.set_num_threads(threads)
    shape, x, state = problem.shape, problem.x[:, 0], None
    cell = getattr(torch.nn, f"{shape.kind}Cell")(shape.D, shape.H).eval()
    cell.load_state_dict({name[:-3]: torch.from_numpy(value) for name, value in problem.weights.items()})

    def call() -> tuple[Array, ...]:
        nonlocal state
        with torch.inference_mode():
            state = cell(torch.from_numpy(x), state)
        return _arrays(state)

    return Runner(call, partial(_named, problem))


def torch_layer_step(problem: Problem, threads: int) -> Runner:
    """Call ``nn.LSTM`` and its like on sequences of one step, the state going in and coming out."""
    import torch

    module, x, state = torch_module(problem, threads).eval(), problem.x[:, 0], None

    def call() -> tuple[Array, ...]:
        nonlocal state
        with torch.inference_mode():
            _, state = module(torch.from_numpy(x)[None], state)
        return _arrays(state)

    return Runner(call, lambda parts: _named(problem, (part[0] for part in parts)))


def onnx_session(model: bytes, threads: int) -> Any:
    """Return a session on so many threads, which may spin, as is its default."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def onnx_inference(problem: Problem, threads: int) -> Runner:
    """Run the ONNX model of the whole sequence."""
    session, x = onnx_session(onnx_models.sequence_model(problem), threads), time_major(problem.x)
    return Runner(lambda: session.run(["y"], {"x": x})[0], lambda y: {"y": from_onnx(y)})


def onnx_step(problem: Problem, threads: int) -> Runner:
    """Run the ONNX model of one step, its state going in and coming out."""
    shape, x = problem.shape, problem.x[:, 0]
    session = onnx_session(onnx_models.step_model(problem), threads)
    names = list(STATES[shape.kind])
    after = [f"{name}1" for name in names]
    inputs = {"x": x[None]} | {name: np.zeros((1, shape.N, shape.H), np.float32) for name in names}

    def call() -> Any:
        state = session.run(after, inputs)
        inputs.update(zip(names, state, strict=True))
        return state

    return Runner(call, lambda parts: _named(problem, (part[0] for part in parts)))


def from_onnx(y: Array) -> Array:
    """Return ONNX's (T, directions, N, H) as (N, T, directions * H)."""
    steps, directions, count, units = y.shape
    return y.transpose(2, 0, 1, 3).reshape(count, steps, directions * units)
