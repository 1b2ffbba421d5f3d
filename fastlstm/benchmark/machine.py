"""The machine that a benchmark ran on: what it is, and what its arithmetic can do at all."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ..threads import usable_cores

__all__ = ["about", "machine", "on_threads", "sgemm"]

_LIBRARIES = ("numpy", "numba", "llvmlite", "torch", "onnxruntime", "openvino", "jax")
_BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_RUNS = 9


def machine() -> dict[str, Any]:
    """Say where and with what a run was made."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line[:10] == "model name"]
        cpu = names[0] if names else cpu
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu,
        "cores": usable_cores(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _LIBRARIES},
    }


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"


def about(machine: dict[str, Any], libraries: Iterable[str] | None = None) -> str:
    """Return the machine and the versions, or some of them, in a sentence."""
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in libraries or machine["versions"])
    cores = f"{machine['cores']} core{'s' * (machine['cores'] > 1)}"
    return f"{machine['date']}; {machine['cpu']}, {cores}; Python {machine['python']}, {versions}."


def sgemm(size: int = 1536) -> float:
    """Return the operations per second of a large float32 product in NumPy's BLAS."""
    a, b, out = (np.ones((size, size), np.float32) for _ in range(3))
    best = float("inf")
    for _ in range(_RUNS):
        start = time.perf_counter()
        np.matmul(a, b, out=out)
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best


def on_threads(module: str, threads: int) -> str:
    """Run a module in a process of its own, whose BLAS has so many threads; return what it printed.

    BLAS libraries read their number of threads when they are loaded.
    """
    pinned = dict.fromkeys(_BLAS_THREADS, str(threads))
    environment = os.environ | pinned | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", module, str(threads)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    print(sgemm())
