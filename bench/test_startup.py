"""From a fresh process to the first result of an LSTM: with nothing compiled, and with a filled cache; and the peers.

``python -m bench.test_startup [--seconds S | --quick]``. Each call is a process of its own: start-up is what is timed.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from .contenders import OnnxRuntime, Torch, installed
from .measure import OURS, Cell, Contender, main, run_suite
from .onnx_models import sequence_model
from .shapes import Problem, Shape

SHAPE = Shape(1, 100, 64, 64)
_COMMON = f"""
import numpy as np
N, T, D, H = {SHAPE[:4]}
x = np.full((N, T, D), 0.5, np.float32)
w, r, b = np.full((4 * H, D), 0.01, np.float32), np.full((4 * H, H), -0.01, np.float32), np.zeros(4 * H, np.float32)
weights = {{"weight_ih_l0": w, "weight_hh_l0": r, "bias_ih_l0": b, "bias_hh_l0": b}}
"""
_OURS = f"""{_COMMON}
import fastlstm as fl
lstm = fl.LSTM(H, return_sequences=True)
lstm.load_state_dict(weights)
print(float(lstm(x).sum()))
"""
_TORCH = f"""{_COMMON}
import torch
lstm = torch.nn.LSTM(D, H, batch_first=True)
lstm.load_state_dict({{name: torch.from_numpy(value) for name, value in weights.items()}})
with torch.inference_mode():
    print(float(lstm(torch.from_numpy(x))[0].numpy().sum()))
"""
_ONNX = f"""{_COMMON}
import onnxruntime, sys
print(float(onnxruntime.InferenceSession(sys.argv[1]).run(["y"], {{"x": x.swapaxes(0, 1)}})[0].sum()))
"""


def process(program: str, *arguments: str, cache: str | None = None) -> float:
    """Run a program in a fresh interpreter; return what it printed."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    env |= {"NUMBA_CACHE_DIR": cache} if cache else {}
    command = [sys.executable, "-c", program, *arguments]
    return float(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)


def first_results() -> list[Contender]:
    """Return all contenders, ours with a filled cache first."""
    folder = tempfile.TemporaryDirectory(prefix="fastlstm-bench-")  # goes when the contenders go
    warm = os.path.join(folder.name, "warm")

    def cold() -> float:
        with tempfile.TemporaryDirectory(dir=folder.name) as empty:
            return process(_OURS, cache=empty)

    process(_OURS, cache=warm)  # fills it
    racers = [
        Contender(OURS, lambda: process(_OURS, cache=warm), lambda y: {"sum": y}),
        Contender(f"{OURS}, nothing compiled", cold, lambda y: {"sum": y}, once=True),
    ]
    if installed(Torch):
        racers.append(Contender("torch", lambda: process(_TORCH), lambda y: {"sum": y}))
    if installed(OnnxRuntime):
        path = os.path.join(folder.name, "model.onnx")
        with open(path, "wb") as file:
            file.write(sequence_model(constant_problem()))
        racers.append(Contender("onnxruntime", lambda: process(_ONNX, path), lambda y: {"sum": y}))
    return racers


def constant_problem() -> Problem:
    """Return the problem that the programs above solve."""
    problem = Problem(SHAPE)
    for name, value in problem.weights.items():
        value[...] = 0.01 if "_ih" in name else -0.01
        if "bias" in name:
            value[...] = 0.0
    return problem


def cells() -> Iterator[Cell]:
    """Yield the one cell: a fresh process reads its threads from its environment, and this needs no second one."""
    yield Cell(f"fresh process to first result, {SHAPE}", 1, first_results, checks=1)


def test_startup():
    assert run_suite("startup", cells())


if __name__ == "__main__":
    main("startup", cells)
