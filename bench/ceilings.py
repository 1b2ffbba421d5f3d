"""How fast this machine multiplies, adds and reads: on registers, in large products of BLAS, from caches and memory.

Each thread count is measured in a process of its own, because BLAS libraries read theirs when they are loaded:
``python -m bench.ceilings 2`` prints the speeds of two threads as JSON.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numba
import numpy as np

from fastlstm.simd.host import REGISTERS
from fastlstm.simd.vector import fma, load, store

__all__ = ["LEVELS", "NAMES", "cache_sizes", "speeds"]

LEVELS = ("L1", "L2", "L3", "memory")
NAMES = ("multiply-add", "sgemm, NumPy", "sgemm, torch", *LEVELS)

_CHAINS = 12
"""Registers that multiply-adds go to one after the other, so that none waits for the one before it: a multiply-add
takes four cycles, and two begin in each."""
_SIZE = 1536
"""Rows and columns of the product of sgemm."""


def cache_sizes() -> dict[str, int]:
    """Return the bytes of a core's L1 and L2 and of the L3 as Linux tells them; elsewhere those of a common CPU."""
    sizes = {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        if (index / "type").read_text().strip() != "Instruction":
            level = "L" + (index / "level").read_text().strip()
            sizes[level] = int((index / "size").read_text().strip().removesuffix("K")) << 10
    return sizes


@numba.njit(fastmath={"reassoc", "nsz"}, nogil=True)
def read_all(x: np.ndarray, times: int) -> float:
    """Read an array so many times; four streams, or the additions' latency would be the limit."""
    quarter = len(x) // 4
    a, b, c, d = x[:quarter], x[quarter : 2 * quarter], x[2 * quarter : 3 * quarter], x[3 * quarter :]
    total = np.float32(0)
    for _ in range(times):
        p, q, r, s = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for i in range(quarter):
            p += a[i]
            q += b[i]
            r += c[i]
            s += d[i]
        total += p + q + r + s
    return total


@numba.njit(nogil=True)
def multiply_add(x: np.ndarray, times: int) -> None:
    """Do twelve multiply-adds so many times, all on registers: what products are made of, and nothing else."""
    half, one = load(x, 0), load(x, len(x) // 2)
    a, b, c = one, one + half, one - half  # all of them different, or a compiler might keep one
    d, e, f = a + one, b + one, c + one
    g, h, i = d + one, e + one, f + one
    j, k, l = g + one, h + one, i + one
    for _ in range(times):
        a, b, c = fma(a, half, one), fma(b, half, one), fma(c, half, one)
        d, e, f = fma(d, half, one), fma(e, half, one), fma(f, half, one)
        g, h, i = fma(g, half, one), fma(h, half, one), fma(i, half, one)
        j, k, l = fma(j, half, one), fma(k, half, one), fma(l, half, one)
    store(x, 0, a + b + c + d + e + f + g + h + i + j + k + l)


def seconds_of(call: Callable[[], Any], rounds: int) -> list[float]:
    """Return the seconds of each round of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def together(work: Callable[[Any, int], object], arrays: list[Any], times: int) -> None:
    """Run a kernel on one thread for each array, all at once."""
    threads = [threading.Thread(target=work, args=(array, times)) for array in arrays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def multiply_adds(threads: int, rounds: int, scale: float) -> dict[str, Any]:
    """Time multiply-adds on registers."""
    lanes, times = REGISTERS.lanes(4), int(5_000_000 * scale)
    arrays = [np.repeat(np.float32([0.5, 1.0]), lanes) for _ in range(threads)]
    seconds = seconds_of(lambda: together(multiply_add, arrays, times), rounds)
    return {"seconds": seconds, "flops": 2.0 * lanes * _CHAINS * times * threads}


def sgemm(rounds: int, scale: float) -> dict[str, dict[str, Any]]:
    """Time a large product in the BLAS of NumPy, and in that of torch where it is installed."""
    size = round(_SIZE * scale ** (1 / 3))
    a, b, out = (np.ones((size, size), np.float32) for _ in range(3))
    calls: dict[str, Callable[[], Any]] = {"sgemm, NumPy": lambda: np.matmul(a, b, out=out)}
    if find_spec("torch") is not None:
        import torch

        p, q, result = torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(out)
        calls["sgemm, torch"] = lambda: torch.mm(p, q, out=result)
    return {name: {"seconds": seconds_of(call, rounds), "flops": 2.0 * size**3} for name, call in calls.items()}


def reading(size: int, threads: int, rounds: int, scale: float) -> dict[str, Any]:
    """Time reading: each thread reads `size` bytes of its own, again and again."""
    arrays = [np.ones(size // 16 * 4, np.float32) for _ in range(threads)]
    times = max(1, int(2e9 * scale / size))
    seconds = seconds_of(lambda: together(read_all, arrays, times), rounds)
    return {"seconds": seconds, "bytes": float(times * arrays[0].nbytes * threads)}


def speeds(threads: int, rounds: int = 7, scale: float = 1.0) -> dict[str, dict[str, Any]]:
    """Measure this process: by name the seconds of each round, and the operations or bytes of one.

    `scale` shrinks the work, for tests.
    """
    multiply_add(np.ones(64, np.float32), 1)  # compiles it
    read_all(np.ones(64, np.float32), 1)
    caches = cache_sizes()
    sizes = {level: caches[level] // 2 for level in ("L1", "L2")}
    sizes |= {"L3": min(caches["L3"] // 4, 4 * caches["L2"]), "memory": 8 * caches["L3"]}
    measured = {"multiply-add": multiply_adds(threads, rounds, scale)} | sgemm(rounds, scale)
    return measured | {
        level: reading(max(64, int(size * scale)), threads, rounds, scale) for level, size in sizes.items()
    }


if __name__ == "__main__":
    print(json.dumps(speeds(*map(int, sys.argv[1:]))))
