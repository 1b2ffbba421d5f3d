"""All who race: those that `fastlstm bench` knows (`fastlstm.benchmark.contenders`), OpenVINO and JAX."""

import numpy as np

from fastlstm.benchmark import contenders as known
from fastlstm.benchmark.contenders import from_onnx, time_major
from fastlstm.benchmark.onnx_models import sequence_model
from fastlstm.benchmark.problems import Problem
from fastlstm.benchmark.turns import Contender

from .jax_lstm import JAX

__all__ = ["contenders"]


class OpenVINO:
    """OpenVINO, reading the same ONNX model."""

    needs = ("openvino", "onnx")

    @classmethod
    def inference(cls, problem: Problem, threads: int) -> list[Contender]:
        """Run the model, in float32, as one stream tuned for latency."""
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

        return [Contender("openvino", call, lambda y: {"y": from_onnx(y)})]


def contenders(task: str, problem: Problem, threads: int) -> list[Contender]:
    """Return all that can do a task, ours first."""
    return known.contenders(task, problem, threads, (*known.LIBRARIES, OpenVINO, JAX))
