"""From a fresh process to the first result of an LSTM: with nothing compiled, and with a filled cache; and the peers.

Each call is a process of its own: start-up is what is timed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastlstm.benchmark.cells import OURS, Cell, Contender, Runner
from fastlstm.benchmark.contenders import ONNX, TORCH
from fastlstm.benchmark.onnx_models import sequence_model
from fastlstm.benchmark.problems import Problem, Shape

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


class Folder:
    """The files that the processes read; they are removed when the last contender is."""

    def __init__(self) -> None:
        self.path, self.problem = tempfile.mkdtemp(prefix="fastlstm-bench-"), Problem(SHAPE)
        weakref.finalize(self, shutil.rmtree, self.path)
        np.savez(os.path.join(self.path, "problem.npz"), x=self.problem.x, **self.problem.weights)


def runner(folder: Folder, program: str, cache: str | None = None) -> Runner:
    """Run a program in fresh processes, which say themselves how long they took."""
    return Runner(
        lambda: process(program, folder.path, cache)[0],
        lambda y: {"sum": y},
        repeat=lambda seconds, warm: [process(program, folder.path, cache)[1]],
    )


def compiled(folder: Folder, threads: int) -> Runner:
    """Run ours with a filled cache."""
    warm = os.path.join(folder.path, "warm")
    process(_OURS, folder.path, warm)  # fills it
    return runner(folder, _OURS, warm)


def nothing_compiled(folder: Folder, threads: int) -> Runner:
    """Run ours with an empty cache."""
    return runner(folder, _OURS, tempfile.mkdtemp(dir=folder.path))


def in_torch(folder: Folder, threads: int) -> Runner:
    """Run torch."""
    return runner(folder, _TORCH)


def in_onnxruntime(folder: Folder, threads: int) -> Runner:
    """Run ONNX Runtime."""
    Path(folder.path, "model.onnx").write_bytes(sequence_model(folder.problem))
    return runner(folder, _ONNX)


CONTENDERS = (
    Contender(OURS, compiled),
    Contender(f"{OURS}, nothing compiled", nothing_compiled, once=True),
    Contender("torch", in_torch, TORCH),
    Contender("onnxruntime", in_onnxruntime, ONNX),
)


def cells(tiny: bool) -> Iterator[Cell]:
    """Yield one cell: a fresh process reads its threads from its environment, and this needs no second one."""
    yield Cell(f"fresh process to first result, {SHAPE}", 1, Folder, CONTENDERS, checks=1)


def test_startup(time_contender):
    time_contender()
