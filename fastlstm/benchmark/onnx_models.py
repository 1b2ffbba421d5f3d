"""A problem as an ONNX model: one LSTM node a layer, its shapes fixed, which is what runtimes optimise best for."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .problems import Problem

__all__ = ["sequence_model", "serialized", "step_model"]

Shapes: TypeAlias = dict[str, tuple[int, ...]]

_GATES = (0, 3, 1, 2)
"""ONNX keeps i, o, f, c where we have i, f, g, o."""


def _operands(problem: Problem, layer: int) -> dict[str, NDArray[Any]]:
    """Return W, R and B of a layer, by name."""
    suffixes = ("", "_reverse")[: problem.shape.directions]

    def gathered(name: str) -> NDArray[Any]:
        values = [problem.weights[f"{name}_l{layer}{suffix}"] for suffix in suffixes]
        return np.stack([np.concatenate([np.split(value, 4)[gate] for gate in _GATES]) for value in values])

    bias = np.concatenate([gathered("bias_ih"), gathered("bias_hh")], axis=1)
    return {f"W{layer}": gathered("weight_ih"), f"R{layer}": gathered("weight_hh"), f"B{layer}": bias}


def serialized(
    problem: Problem, nodes: list[Any], inputs: Shapes, outputs: Shapes, extra: dict[str, NDArray[Any]]
) -> bytes:
    """Return a model of these nodes, which use a problem's weights and the extra tensors."""
    from onnx import TensorProto, helper, numpy_helper

    tensors = dict(extra)
    for layer in range(problem.shape.layers):
        tensors |= _operands(problem, layer)
    graph = helper.make_graph(
        nodes,
        "lstm",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64 if name == "ids" else TensorProto.FLOAT, shape)
            for name, shape in inputs.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)])
    model.ir_version = 8  # the helper's own may be newer than a runtime knows
    return bytes(model.SerializeToString())


def sequence_model(problem: Problem) -> bytes:
    """Return a model from x (T, N, D) to y (T, directions, N, H), time-major as ONNX has it."""
    from onnx import helper

    N, T, D, H, layers, directions = problem.shape
    direction = "forward" if directions == 1 else "bidirectional"
    nodes, source = [], "x"
    for layer in range(layers):
        inputs = [source, f"W{layer}", f"R{layer}", f"B{layer}"]
        target = "y" if layer == layers - 1 else f"y{layer}"
        nodes.append(helper.make_node("LSTM", inputs, [target], hidden_size=H, direction=direction))
        if target != "y":  # (T, directions, N, H) to (T, N, directions * H)
            nodes.append(helper.make_node("Transpose", [target], [f"t{layer}"], perm=[0, 2, 1, 3]))
            source = f"x{layer + 1}"
            nodes.append(helper.make_node("Reshape", [f"t{layer}", "rows"], [source]))
    extra = {"rows": np.array([T, N, directions * H])} if layers > 1 else {}
    return serialized(problem, nodes, {"x": (T, N, D)}, {"y": (T, directions, N, H)}, extra)


def step_model(problem: Problem) -> bytes:
    """Return a model of one step: x (1, N, D) and the state h, c (1, N, H) to the state after it."""
    from onnx import helper

    N, _, D, H, _, _ = problem.shape
    node = helper.make_node("LSTM", ["x", "W0", "R0", "B0", "", "h", "c"], ["", "h1", "c1"], hidden_size=H)
    state = (1, N, H)
    return serialized(problem, [node], {"x": (1, N, D), "h": state, "c": state}, {"h1": state, "c1": state}, {})
