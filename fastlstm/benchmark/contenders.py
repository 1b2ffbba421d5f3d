"""The contenders of each task, ours first; all get the same weights, NumPy arrays in and out.

A library that is not installed, or cannot do a task or a kind of cell, takes no part in it.
"""

from collections.abc import Mapping
from typing import TypeAlias

from . import ours, peers
from .cells import OURS, Contender

__all__ = ["ONNX", "TASKS", "TORCH", "Tasks", "contenders", "missing"]

Tasks: TypeAlias = Mapping[str, tuple[Contender, ...]]

TORCH, ONNX = ("torch",), ("onnxruntime", "onnx")  # onnx writes the models
TASKS: Tasks = {
    "inference": (
        Contender(OURS, ours.inference, kinds=ours.KINDS),
        Contender("torch", peers.torch_inference, TORCH),
        Contender("onnxruntime", peers.onnx_inference, ONNX),
    ),
    "training": (
        Contender(OURS, ours.training, kinds=ours.KINDS),
        Contender("torch", peers.torch_training, TORCH),
    ),
    "streaming": (
        Contender(OURS, ours.stream_step, kinds=ours.KINDS),
        Contender(f"{OURS} layer", ours.layer_call, kinds=ours.KINDS),
        Contender("torch cell", peers.torch_cell_step, TORCH),
        Contender("torch layer", peers.torch_layer_step, TORCH),
        Contender("onnxruntime", peers.onnx_step, ONNX),
    ),
}


def contenders(task: str, kind: str = "LSTM", tasks: Tasks = TASKS) -> tuple[Contender, ...]:
    """Return the contenders of a task that can do a kind of cell."""
    return tuple(contender for contender in tasks[task] if kind in contender.kinds)


def missing(tasks: Tasks = TASKS) -> list[str]:
    """Return the packages that contenders need and that are not installed, each once."""
    return list(dict.fromkeys(name for row in tasks.values() for contender in row for name in contender.missing))
