"""ONNX's recurrent nodes with the weights of a case, run by ONNX Runtime (float32) or by ONNX's own reference.

ONNX orders gates i, o, f, c (an LSTM) and z, r, h (a GRU), peepholes i, o, f, and has one tensor of both biases.
"""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
ORDERS = {"lstm": "iofg", "gru": "zrn", "rnn": "h"}
ACTIVATIONS = {
    "tanh": ("Tanh", None, None),
    "sigmoid": ("Sigmoid", None, None),
    "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),
    "hard_sigmoid_keras2": ("HardSigmoid", 0.2, 0.5),
    "relu": ("Relu", None, None),
    "linear": ("Affine", 1.0, 0.0),
    "softsign": ("Softsign", None, None),
}
"""Name, alpha and beta."""


def supports(spec):
    """Tell whether ONNX has this layer."""
    return not spec.projection


def reference_supports(spec):
    """Tell whether ONNX's reference evaluator does what the node says: it passes over most attributes."""
    plain = spec.activation == "tanh" and spec.recurrent_activation in ("sigmoid", *["tanh"] * (spec.kind == "rnn"))
    return plain and supports(spec) and not spec.coupled


def reordered(spec, stacked, missing=0.0):
    """Return a stacked weight (gates * H, ...) with its gates as ONNX wants them; `missing` where one has none."""
    parts = dict(zip(spec.gates, np.split(stacked, len(spec.gates)), strict=True))
    gap = np.full_like(stacked[: len(stacked) // len(spec.gates)], missing)
    return np.concatenate([parts.get(gate, gap) for gate in ORDERS[spec.kind]])


def tensors(spec, weights, missing=0.0):
    """Return W, R, B and P of one direction, each with the axis of directions; B and P only where there are some.

    A coupled LSTM has no weights of the forget gate; `missing` stands in for them, and should not matter.
    """
    found = {
        "W": reordered(spec, weights["weight_ih_l0"], missing),
        "R": reordered(spec, weights["weight_hh_l0"], missing),
    }
    if spec.use_bias:
        biases = [reordered(spec, weights[f"bias_{side}_l0"], missing) for side in ("ih", "hh")]
        found["B"] = np.concatenate(biases)
    if spec.peephole:
        gap = np.full_like(weights["weight_ci_l0"], missing)
        found["P"] = np.concatenate([weights.get(f"weight_c{gate}_l0", gap) for gate in "iof"])
    return {name: value[None] for name, value in found.items()}


def attributes(spec, units, directions=1):
    """Return the node's attributes."""
    names = {
        "lstm": (spec.recurrent_activation, spec.activation, spec.activation),
        "gru": (spec.recurrent_activation, spec.activation),
        "rnn": (spec.activation,),
    }[spec.kind]
    chosen = [ACTIVATIONS[name] for name in names] * directions
    found = {"hidden_size": units, "activations": [name for name, _, _ in chosen]}
    if alphas := [alpha for _, alpha, _ in chosen if alpha is not None]:
        found |= {"activation_alpha": alphas, "activation_beta": [beta for _, _, beta in chosen if beta is not None]}
    if spec.coupled:
        found["input_forget"] = 1
    if spec.kind == "gru":
        found["linear_before_reset"] = int(spec.reset_after)
    return found


def model(spec, weights, dtype="float32", direction="forward", missing=0.0):
    """Return a model of one node; inputs X (T, N, D), lengths (N,), h0 and c0 (1, N, H), outputs Y, Y_h and Y_c.

    `weights` is one dict, or a pair of them for ``direction="bidirectional"``.
    """
    both = weights if direction == "bidirectional" else (weights,)
    parts = [tensors(spec, part, missing) for part in both]
    held = {name: np.concatenate([part[name] for part in parts]).astype(dtype) for name in parts[0]}
    rows, features = both[0]["weight_ih_l0"].shape
    units, kind = rows // len(spec.gates), getattr(TensorProto, {"float32": "FLOAT", "float64": "DOUBLE"}[dtype])
    states, finals = (["h0"], ["Y", "Y_h"]) if spec.kind != "lstm" else (["h0", "c0"], ["Y", "Y_h", "Y_c"])
    held_names = [name if name in held else "" for name in ("W", "R", "B")]
    inputs = ["X", *held_names, "lengths", *states, *(["P"] if "P" in held else [])]
    node = helper.make_node(
        OPERATORS[spec.kind],
        inputs,
        finals,
        direction=direction,
        **attributes(spec, units, len(both)),
    )
    shape = [len(both), None, units]
    given = [helper.make_tensor_value_info("X", kind, [None, None, features])]
    given += [helper.make_tensor_value_info("lengths", TensorProto.INT32, [None])]
    given += [helper.make_tensor_value_info(name, kind, shape) for name in states]
    made = [helper.make_tensor_value_info("Y", kind, [None, *shape])]
    made += [helper.make_tensor_value_info(name, kind, shape) for name in finals[1:]]
    held_tensors = [numpy_helper.from_array(value, name) for name, value in held.items()]
    graph = helper.make_graph([node], "cell", given, made, held_tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def feed(case, dtype, directions=1):
    """Return the inputs of a case: sequences padded, steps first; the same states for every direction."""
    longest = max(case.lengths)
    x = np.zeros((longest, len(case.xs), case.features), dtype)
    for n, row in enumerate(case.xs):
        x[: len(row), n] = row
    inputs = {"X": x, "lengths": np.array(case.lengths, np.int32)}
    for name, part in zip(("h0", "c0"), case.states, strict=False):
        inputs[name] = np.stack([part.astype(dtype)] * directions)
    return inputs


def with_runtime(case, missing=0.0):
    """Return (ys, finals) of a case from ONNX Runtime: float32, ragged."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    proto = model(case.spec, case.weights, missing=missing)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    y, *finals = session.run(None, feed(case, "float32"))
    return [y[: len(x), 0, n] for n, x in enumerate(case.xs)], tuple(part[0] for part in finals)


def with_reference(case, dtype="float64"):
    """Return (ys, finals) of a case from ONNX's reference evaluator, which takes no lengths: one sequence at a time."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(model(case.spec, case.weights, dtype))
    ys, ends = [], []
    for n in range(len(case.xs)):
        y, *finals = evaluator.run(None, feed(case.keep(slice(n, n + 1)), dtype))
        ys.append(y[:, 0, 0])
        ends.append([part[0, 0] for part in finals])
    return ys, tuple(np.array(part) for part in zip(*ends, strict=True))
