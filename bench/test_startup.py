"""From a fresh process to the first result of an LSTM: with nothing compiled, and with a filled cache; and the peers.

``python -m bench.test_startup [--seconds S | --quick]``. Each call is a process of its own: start-up is what is timed.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastlstm.benchmark.contenders import OnnxRuntime, Torch, installed
from fastlstm.benchmark.onnx_models import sequence_model
from fastlstm.benchmark.problems import Problem, Shape
from fastlstm.benchmark.turns import OURS, Cell, Contender

from .measure import main, run_suite

SHAPE = Shape(1, 100, 64, 64)
_COMMON = """
import sys
import numpy as np
weights = dict(np.load(sys.argv[1] + "/problem.npz"))
x, H = weights.pop("x"), weights["weight_hh_l0"].shape[1]
"""
_OURS = f"""{_COMMON}
import fastlstm as fl
lstm = fl.LSTM(H, return_sequences=True)
lstm.load_state_dict(weights)
print(float(lstm(x).sum(dtype=float)), flush=True)
"""
_TORCH = f"""{_COMMON}
import torch
lstm = torch.nn.LSTM(x.shape[2], H, batch_first=True)
lstm.load_state_dict({{name: torch.from_numpy(value) for name, value in weights.items()}})
with torch.inference_mode():
    print(float(lstm(torch.from_numpy(x))[0].numpy().sum(dtype=float)), flush=True)
"""
_ONNX = f"""{_COMMON}
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx")
print(float(session.run(["y"], {{"x": x.swapaxes(0, 1)}})[0].sum(dtype=float)), flush=True)
"""


def process(program: str, folder: str, cache: str | None = None) -> tuple[float, float]:
    """Run a program in a fresh interpreter; return what it printed, and the seconds until then."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    env |= {"NUMBA_CACHE_DIR": cache} if cache else {}
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", program, folder], env=env, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        printed = child.stdout.readline()
        seconds = time.perf_counter() - start
    assert child.returncode == 0
    return float(printed), seconds


def first_results() -> list[Contender]:
    """Return all contenders, ours with a filled cache first."""
    held = tempfile.TemporaryDirectory(prefix="fastlstm-bench-")  # goes when the contenders go
    folder, problem = held.name, Problem(SHAPE)
    warm = os.path.join(folder, "warm")
    np.savez(os.path.join(folder, "problem.npz"), x=problem.x, **problem.weights)

    def cold() -> float:
        with tempfile.TemporaryDirectory(dir=held.name) as empty:
            return process(_OURS, folder, empty)[0]

    def racer(name: str, *what: str) -> Contender:
        return Contender(
            name, lambda: process(*what)[0], lambda y: {"sum": y}, turn=lambda seconds, warm: [process(*what)[1]]
        )

    process(_OURS, folder, warm)  # fills the cache
    racers = [
        racer(OURS, _OURS, folder, warm),
        Contender(f"{OURS}, nothing compiled", cold, lambda y: {"sum": y}, once=True),
    ]
    if installed(Torch):
        racers.append(racer("torch", _TORCH, folder))
    if installed(OnnxRuntime):
        Path(folder, "model.onnx").write_bytes(sequence_model(problem))
        racers.append(racer("onnxruntime", _ONNX, folder))
    return racers


def cells() -> Iterator[Cell]:
    """Yield the one cell: a fresh process reads its threads from its environment, and this needs no second one."""
    yield Cell(f"fresh process to first result, {SHAPE}", 1, first_results, checks=1)


def test_startup():
    assert run_suite("startup", cells())


if __name__ == "__main__":
    main("startup", cells)
