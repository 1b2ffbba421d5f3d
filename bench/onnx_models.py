"""A problem as an ONNX model: one LSTM node a layer, its shapes fixed, which is what runtimes optimise best for."""

import numpy as np

from .shapes import Problem

__all__ = ["language_step_model", "sequence_model", "step_model"]

_GATES = (0, 3, 1, 2)
"""ONNX keeps i, o, f, c where we have i, f, g, o."""


def _operands(problem: Problem, layer: int) -> dict[str, np.ndarray]:
    """Return W, R and B of a layer, by name."""
    suffixes = ("", "_reverse")[: problem.shape.directions]

    def gathered(name: str) -> np.ndarray:
        values = [problem.weights[f"{name}_l{layer}{suffix}"] for suffix in suffixes]
        return np.stack([np.concatenate([np.split(value, 4)[gate] for gate in _GATES]) for value in values])

    bias = np.concatenate([gathered("bias_ih"), gathered("bias_hh")], axis=1)
    return {f"W{layer}": gathered("weight_ih"), f"R{layer}": gathered("weight_hh"), f"B{layer}": bias}


def _serialized(
    problem: Problem, nodes: list, inputs: dict[str, tuple], outputs: dict[str, tuple], extra: dict
) -> bytes:
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
    return model.SerializeToString()


def sequence_model(problem: Problem) -> bytes:
    """Return a model from x (T, N, D) to y (T, directions, N, H), time-major as ONNX has it."""
    from onnx import helper

    N, T, D, H, layers, directions = shape = problem.shape
    direction = "forward" if directions == 1 else "bidirectional"
    nodes, source = [], "x"
    for layer in range(layers):
        inputs = [source, f"W{layer}", f"R{layer}", f"B{layer}"]
        target = "y" if layer == layers - 1 else f"y{layer}"
        nodes.append(helper.make_node("LSTM", inputs, [target], hidden_size=H, direction=direction))
        if target != "y":
            if directions == 2:
                raise NotImplementedError(f"{shape}: no suite stacks layers of both directions")
            source = f"x{layer + 1}"
            nodes.append(helper.make_node("Squeeze", [target, "axis"], [source]))
    extra = {"axis": np.array([1])} if layers > 1 else {}
    return _serialized(problem, nodes, {"x": (T, N, D)}, {"y": (T, directions, N, H)}, extra)


def step_model(problem: Problem) -> bytes:
    """Return a model of one step: x (1, N, D) and the state h, c (1, N, H) to the state after it."""
    from onnx import helper

    N, _, D, H, _, _ = problem.shape
    node = helper.make_node("LSTM", ["x", "W0", "R0", "B0", "", "h", "c"], ["", "h1", "c1"], hidden_size=H)
    state = (1, N, H)
    return _serialized(problem, [node], {"x": (1, N, D), "h": state, "c": state}, {"h1": state, "c1": state}, {})


def language_step_model(problem: Problem, tables: dict[str, np.ndarray]) -> bytes:
    """Return a model of a language model's step: ids (1, N) and the state h, c (1, N, H) to logits (1, N, V) and state.

    `tables` has the embedding (V, D), and output (H, V) with its bias (V,).
    """
    from onnx import helper

    N, _, _, H, _, _ = problem.shape
    nodes = [
        helper.make_node("Gather", ["embedding", "ids"], ["x"]),
        helper.make_node("LSTM", ["x", "W0", "R0", "B0", "", "h", "c"], ["", "h1", "c1"], hidden_size=H),
        helper.make_node("MatMul", ["h1", "output"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
    ]
    state = {"h": (1, N, H), "c": (1, N, H)}
    after = {f"{name}1": shape for name, shape in state.items()}
    logits = {"logits": (1, N, len(tables["bias"]))}
    return _serialized(problem, nodes, {"ids": (1, N)} | state, logits | after, tables)
