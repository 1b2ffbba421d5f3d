"""All contenders of the recurrent suites: those of `fastlstm bench` (`fastlstm.benchmark`), OpenVINO and JAX."""

import os

import numpy as np

from fastlstm.benchmark import contenders as known
from fastlstm.benchmark.cells import Contender, Runner
from fastlstm.benchmark.contenders import TASKS
from fastlstm.benchmark.onnx_models import sequence_model
from fastlstm.benchmark.peers import from_onnx, time_major
from fastlstm.benchmark.problems import Problem

from . import jax_lstm

__all__ = ["contenders"]


def openvino_inference(problem: Problem, threads: int) -> Runner:
    """Let OpenVINO read the same ONNX model, and run it in float32, as one stream tuned for latency."""
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    model = core.compile_model(core.read_model(sequence_model(problem)), "CPU", settings)
    request, x = model.create_infer_request(), time_major(problem.x)

    def call() -> np.ndarray:
        return request.infer({0: x}, share_inputs=True)[0]

    return Runner(call, lambda y: {"y": from_onnx(y)})


JAX_KINDS = ("LSTM",) if hasattr(os, "sched_setaffinity") else ()  # only by its cores can its threads be chosen
ONLY_HERE = {
    "inference": (
        Contender("openvino", openvino_inference, ("openvino", "onnx")),
        Contender("jax", jax_lstm.inference, ("jax",), kinds=JAX_KINDS),
    ),
    "training": (Contender("jax", jax_lstm.training, ("jax",), kinds=JAX_KINDS),),
}


def contenders(task: str, kind: str = "LSTM") -> tuple[Contender, ...]:
    """Return the contenders of a task that can do a kind of cell, ours first."""
    return known.contenders(task, kind, {task: (*TASKS[task], *ONLY_HERE.get(task, ()))})
