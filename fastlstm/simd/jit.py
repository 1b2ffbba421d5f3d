"""The one jit policy: every Numba flag and cache rule of the project stands here.

``nogil``: a kernel can be called from any thread and shared by several. ``error_model="numpy"``: no branch per
division. No ``fastmath``: it would let NaN and infinity vanish, and results depend on the shape of a loop; where a
product and a sum shall be one rounding, the kernel says ``fma``. ``_nrt=False``: kernels make no arrays, and so count
no references: each call of a part would take and give back one on each of its arrays, atomic instructions on memory
that all cores share, 400 cycles for a tile's call. Allocating in a kernel is then an error of compilation.

Loops that are made for a cell are functions within a function. Numba names machine code after a function and a number
that begins again in each process, and looks for cached code under the function's name: so each of them gets a name of
its own, ``variant``. What a closure holds must follow from that name and from the sources, which the stamp covers.
"""

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

__all__ = ["jit", "jit_inline", "jit_inner", "stamp_of"]

_FLAGS: dict[str, Any] = {
    "_nrt": False,
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
    "no_cfunc_wrapper": True,
}

_ROOMS = "simd", "runtime", "kernels"
"""Folders whose sources are compiled."""

_warned = False


def stamp_of(package: Path) -> str:
    """Return a digest of every source that kernels are made of, by name and content.

    Numba takes compiled code as fresh while the kernel's own file is unchanged; but a kernel also holds what it calls
    in other files, and its arrays' layout is theirs too.
    """
    digest = hashlib.sha256()
    for room in _ROOMS:
        for source in sorted((package / room).rglob("*.py")):
            digest.update(source.relative_to(package).as_posix().encode())
            digest.update(source.read_bytes())
    return digest.hexdigest()


_STAMP = stamp_of(Path(__file__).parent.parent)


def _named(function: Callable[..., Any], variant: str) -> Callable[..., Any]:
    """Give a function that is made for `variant` a name of its own."""
    if variant:
        function.__qualname__ = function.__name__ = f"{function.__name__}_{variant}"
    return function


def jit(function: Callable[..., Any], variant: str = "") -> Any:
    """Compile `function` at its first call and keep the machine code where Numba finds a folder that it may write."""
    global _warned
    _named(function, variant)
    try:
        kernel: Any = numba.njit(cache=True, **_FLAGS)(function)
    except RuntimeError:  # no folder can be written: not a reason to fail an import
        if not _warned:
            _warned = True
            warnings.warn(
                "fastlstm: no folder for compiled kernels can be written, so each process compiles again; "
                "set NUMBA_CACHE_DIR to a folder that can",
                RuntimeWarning,
                stacklevel=3,
            )
        return numba.njit(**_FLAGS)(function)
    # No public way; test_jit.py fails should a Numba drop these. Numba's own key holds a digest of the closure, in
    # which each process's functions have other numbers.
    kernel._cache._cache_file._source_stamp = _STAMP
    kernel._cache._index_key = lambda signature, codegen: (signature, codegen.magic_tuple())
    return kernel


def jit_inline(function: Callable[..., Any], variant: str = "") -> Any:
    """Compile `function` into each of its callers: for parts so short that calling them would count."""
    compile_: Any = numba.njit
    return compile_(no_cpython_wrapper=True, forceinline=True, **_FLAGS)(_named(function, variant))


def jit_inner(function: Callable[..., Any], variant: str = "") -> Any:
    """Compile `function` as a part of the kernels that call it: nothing of its own is kept."""
    compile_: Any = numba.njit  # its own signature does not know the flag
    return compile_(no_cpython_wrapper=True, **_FLAGS)(_named(function, variant))
