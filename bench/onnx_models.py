"""A language model's step as an ONNX model."""

import numpy as np

from fastlstm.benchmark.onnx_models import recurrent_node, serialized
from fastlstm.benchmark.problems import Problem

__all__ = ["language_step_model"]


def language_step_model(problem: Problem, tables: dict[str, np.ndarray]) -> bytes:
    """Return a model of a language model's step: ids (1, N) and the state h, c (1, N, H) to logits (1, N, V) and state.

    `tables` has the embedding (V, D), and output (H, V) with its bias (V,).
    """
    from onnx import helper

    N, _, _, H, *_ = problem.shape
    nodes = [
        helper.make_node("Gather", ["embedding", "ids"], ["x"]),
        recurrent_node(problem, 0, ["x", "", "h", "c"], ["", "h1", "c1"]),
        helper.make_node("MatMul", ["h1", "output"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
    ]
    state = {"h": (1, N, H), "c": (1, N, H)}
    after = {f"{name}1": shape for name, shape in state.items()}
    logits = {"logits": (1, N, len(tables["bias"]))}
    return serialized(problem, nodes, {"ids": (1, N)} | state, logits | after, tables)
