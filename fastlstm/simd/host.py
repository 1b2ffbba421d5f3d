"""What vector registers this CPU has.

The width is read from the target that Numba compiles for, never written down: the same source gives 16 float32 lanes
under AVX-512, 8 under AVX2, 4 under SSE2 or NEON. ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` are honoured, because
the registers that count are those the compiler may use.
"""

from typing import Any, NamedTuple

from llvmlite import binding as llvm
from numba.core import config as numba_config

__all__ = ["REGISTERS", "Registers", "detect"]

config: Any = numba_config  # its names are made at run time


class Registers(NamedTuple):
    """The vector register file: ``width`` bytes in each of ``number`` registers."""

    width: int
    number: int

    def lanes(self, itemsize: int) -> int:
        """Return how many values of `itemsize` bytes one register holds."""
        return self.width // itemsize


def _features() -> set[str]:
    """Return the names of the CPU features that Numba compiles for."""
    if config.CPU_FEATURES is not None:
        listed = config.CPU_FEATURES.split(",")
    elif config.CPU_NAME == "generic":
        listed = []
    else:
        try:
            listed = llvm.get_host_cpu_features().flatten().split(",")
        except RuntimeError:  # LLVM cannot tell on some platforms
            listed = []
    return {name[1:] for name in listed if name.startswith("+")}


def detect() -> Registers:
    """Return the register file that compiled code may use on this machine."""
    features = _features()
    if "avx512f" in features:
        return Registers(width=64, number=32)
    if "avx2" in features and "fma" in features:
        return Registers(width=32, number=16)
    if llvm.get_process_triple().startswith(("aarch64", "arm64")):
        return Registers(width=16, number=32)
    return Registers(width=16, number=16)


REGISTERS = detect()
