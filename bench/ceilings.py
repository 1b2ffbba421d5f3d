"""What this machine can do at all: multiply-adds, sgemm of NumPy's BLAS, and reading from its caches and its memory.

Each thread count is measured in a process of its own, because BLAS libraries read theirs when they are loaded.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

from fastlstm.benchmark.machine import machine, on_threads, sgemm
from fastlstm.simd.host import REGISTERS
from fastlstm.simd.vector import fma, load, store

from .measure import save, thread_counts

__all__ = ["cache_sizes", "level_of"]

_PASSES = 7

_CHAINS = 12
"""Registers that multiply-adds go to by turns, so that none waits for the one before it: 4 cycles, 2 begun in each."""


def cache_sizes() -> dict[str, int]:
    """Return the bytes of a core's L1 and L2 and of the L3 as Linux tells them; elsewhere those of a common CPU."""
    sizes = {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        if (index / "type").read_text().strip() != "Instruction":
            level = "L" + (index / "level").read_text().strip()
            sizes[level] = int((index / "size").read_text().strip().removesuffix("K")) << 10
    return sizes


def level_of(size: int, caches: dict[str, int]) -> str:
    """Return the smallest cache that holds so many bytes."""
    return next((level for level, held in sorted(caches.items()) if size <= held), "memory")


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


def on_all(work: Callable[[Any, int], object], arrays: list[Any], times: int) -> float:
    """Return the seconds that one thread for each array takes, all at once."""
    best = float("inf")
    for _ in range(_PASSES):
        team = [threading.Thread(target=work, args=(array, times)) for array in arrays]
        start = time.perf_counter()
        for thread in team:
            thread.start()
        for thread in team:
            thread.join()
        best = min(best, time.perf_counter() - start)
    return best


def arithmetic(threads: int) -> float:
    """Return the float32 operations per second of multiply-adds, two each, on so many threads."""
    lanes, times = REGISTERS.lanes(4), 5_000_000
    arrays = [np.repeat(np.float32([0.5, 1.0]), lanes) for _ in range(threads)]
    return 2.0 * lanes * _CHAINS * times * threads / on_all(multiply_add, arrays, times)


def bandwidth(size: int, threads: int) -> float:
    """Return the bytes per second that so many threads read together, each from `size` bytes of its own."""
    arrays = [np.ones(size // 16 * 4, np.float32) for _ in range(threads)]
    times = max(1, int(2e9 / size))
    return times * size * threads / on_all(read_all, arrays, times)


def ceilings(threads: int) -> dict[str, float]:
    """Measure this process."""
    read_all(np.ones(64, np.float32), 1)  # compiles it
    caches = cache_sizes()
    sizes = {level: caches[level] // 2 for level in ("L1", "L2")}
    sizes |= {"L3": min(caches["L3"] // 4, 4 * caches["L2"]), "memory": 8 * caches["L3"]}
    multiply_add(np.ones(64, np.float32), 1)
    speeds = {"multiply-add": arithmetic(threads), "sgemm": sgemm()}
    return speeds | {level: bandwidth(size, threads) for level, size in sizes.items()}


def main() -> None:
    """Measure all thread counts, or in this process the one that was asked for."""
    if len(sys.argv) > 1:
        print(json.dumps(ceilings(int(sys.argv[1]))))
        return
    measured: dict[str, Any] = {}
    for threads in thread_counts():
        measured[str(threads)] = json.loads(on_threads("bench.ceilings", threads))
        figures = ", ".join(f"{name} {value / 1e9:.0f}" for name, value in measured[str(threads)].items())
        print(f"ceilings on {threads} threads, GFLOP/s and GB/s: {figures}", flush=True)
    save("ceilings", {"machine": machine(), "caches": cache_sizes(), "threads": measured})


if __name__ == "__main__":
    main()
