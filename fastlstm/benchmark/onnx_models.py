"""A problem as an ONNX model: one node a layer, its shapes fixed, which is what runtimes optimise best for."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .problems import STATES, Problem

__all__ = ["recurrent_node", "sequence_model", "serialized", "step_model"]

Shapes: TypeAlias = dict[str, tuple[int, ...]]

_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
"""Places of ONNX's gates in torch's order: i, o, f, c in i, f, g, o; z, r, h in r, z, n."""
_ATTRIBUTES: dict[str, dict[str, int]] = {"GRU": {"linear_before_reset": 1}}
"""What makes ONNX's cell the one of torch: its GRU resets after the recurrent product."""


def _operands(problem: Problem, layer: int) -> dict[str, NDArray[Any]]:
    """Return W, R and B of a layer, by name."""
    suffixes = ("", "_reverse")[: problem.shape.directions]
    order = _GATES[problem.shape.kind]

    def gathered(name: str) -> NDArray[Any]:
        values = [problem.weights[f"{name}_l{layer}{suffix}"] for suffix in suffixes]
        return np.stack([np.concatenate([np.split(value, len(order))[gate] for gate in order]) for value in values])

    bias = np.concatenate([gathered("bias_ih"), gathered("bias_hh")], axis=1)
    return {f"W{layer}": gathered("weight_ih"), f"R{layer}": gathered("weight_hh"), f"B{layer}": bias}


def recurrent_node(problem: Problem, layer: int, inputs: list[str], outputs: list[str]) -> Any:
    """Return the node of a layer: `inputs` are x and what follows the weights, "" for what is left out."""
    from onnx import helper

    shape = problem.shape
    operands = [inputs[0], f"W{layer}", f"R{layer}", f"B{layer}", *inputs[1:]]
    direction = "forward" if shape.directions == 1 else "bidirectional"
    more = _ATTRIBUTES.get(shape.kind, {})
    return helper.make_node(shape.kind, operands, outputs, hidden_size=shape.H, direction=direction, **more)


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
        problem.shape.kind,
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

    N, T, D, H, layers, directions, _ = problem.shape
    nodes, source = [], "x"
    for layer in range(layers):
        target = "y" if layer == layers - 1 else f"y{layer}"
        nodes.append(recurrent_node(problem, layer, [source], [target]))
        if target != "y":  # (T, directions, N, H) to (T, N, directions * H)
            nodes.append(helper.make_node("Transpose", [target], [f"t{layer}"], perm=[0, 2, 1, 3]))
            source = f"x{layer + 1}"
            nodes.append(helper.make_node("Reshape", [f"t{layer}", "rows"], [source]))
    extra = {"rows": np.array([T, N, directions * H])} if layers > 1 else {}
    return serialized(problem, nodes, {"x": (T, N, D)}, {"y": (T, directions, N, H)}, extra)


def step_model(problem: Problem) -> bytes:
    """Return a model of one step: x (1, N, D) and the state, h and c (1, N, H), to the state after it: h1 and c1."""
    shape = problem.shape
    states = list(STATES[shape.kind])
    after = [f"{name}1" for name in states]
    node = recurrent_node(problem, 0, ["x", "", *states], ["", *after])
    size: tuple[int, ...] = (1, shape.N, shape.H)
    inputs: Shapes = {"x": (1, shape.N, shape.D)}
    return serialized(problem, [node], inputs | dict.fromkeys(states, size), dict.fromkeys(after, size), {})
