"""The one jit policy: every Numba flag and cache rule of the project stands here.

``nogil``: a kernel can be called from any thread and shared by several. ``error_model="numpy"``: no branch per
division. No ``fastmath``: it would let NaN and infinity vanish, and results depend on the shape of a loop; where a
product and a sum shall be one rounding, the kernel says ``fma``. ``_nrt=False``: kernels make no arrays, and so count
no references: each call of a part would take and give back one on each of its arrays, atomic instructions on memory
that all cores share, 400 cycles for a tile's call. Allocating in a kernel is then an error of compilation.
"""

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

__all__ = ["jit", "jit_inline", "jit_inner"]

_FLAGS: dict[str, Any] = {
    "_nrt": False,
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
    "no_cfunc_wrapper": True,
}

_warned = False


def _stamp() -> str:
    """Return a digest of every source that kernels are made of.

    Numba takes compiled code as fresh while the kernel's own file is unchanged; but a kernel also holds what it calls
    in other files, and its arrays' layout is theirs too.
    """
    digest = hashlib.sha256()
    package = Path(__file__).parent.parent
    for room in ("simd", "kernels"):
        for source in sorted((package / room).glob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()


_STAMP = _stamp()


def jit(function: Callable[..., Any]) -> Any:
    """Compile `function` at its first call and keep the machine code where Numba finds a folder that it may write."""
    global _warned
    try:
        kernel: Any = numba.njit(cache=True, **_FLAGS)(function)
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
    kernel._cache._cache_file._source_stamp = _STAMP  # no public way; test_jit.py fails should a Numba drop it
    return kernel


def jit_inline(function: Callable[..., Any]) -> Any:
    """Compile `function` into each of its callers: for parts so short that calling them would count."""
    compile_: Any = numba.njit
    return compile_(no_cpython_wrapper=True, forceinline=True, **_FLAGS)(function)


def jit_inner(function: Callable[..., Any]) -> Any:
    """Compile `function` as a part of the kernels that call it: nothing of its own is kept."""
    compile_: Any = numba.njit  # its own signature does not know the flag
    return compile_(no_cpython_wrapper=True, **_FLAGS)(function)
