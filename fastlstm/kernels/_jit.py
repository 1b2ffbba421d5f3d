"""The one jit policy: every Numba flag and cache rule of the project stands here.

``nogil``: a kernel can be called from any thread and shared by several. ``error_model="numpy"``: no branch per
division. No ``fastmath``: it would let NaN and infinity vanish, and results depend on the shape of a loop; where a
product and a sum shall be one rounding, the kernel says ``fma``.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numba

__all__ = ["jit", "jit_inner"]

_FLAGS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False, "no_cfunc_wrapper": True}

_warned = False


def jit(function: Callable[..., Any]) -> Any:
    """Compile `function` at its first call and keep the machine code where Numba finds a folder that it may write."""
    global _warned
    try:
        return numba.njit(cache=True, **_FLAGS)(function)
    except RuntimeError:  # no folder can be written: not a reason to fail an import
        if not _warned:
            _warned = True
            warnings.warn(
                "fastlstm: no folder for compiled kernels can be written, so each process compiles anew; "
                "set NUMBA_CACHE_DIR to a folder that can",
                RuntimeWarning,
                stacklevel=3,
            )
        return numba.njit(**_FLAGS)(function)


def jit_inner(function: Callable[..., Any]) -> Any:
    """Compile `function` as a part of the kernels that call it: nothing of its own is kept."""
    compile_: Any = numba.njit  # its own signature does not know the flag
    return compile_(no_cpython_wrapper=True, **_FLAGS)(function)
