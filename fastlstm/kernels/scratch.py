"""Memory for kernels: aligned to cache lines, used again where that is safe."""

import math
from collections.abc import Hashable
from ctypes import addressof, c_char
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Scratch", "address_of", "aligned", "borrowed", "zeros"]

_LINE = 64
"""Bytes of a cache line. NumPy aligns to 16: a register that straddles two lines costs two accesses."""

_SMALL = 2048
"""Bytes below which finding an aligned address costs more than it saves."""

_KEPT, _LARGEST = 4, 8 << 20
"""How many buffers `borrowed` keeps for the next call, and how many bytes one may have."""

_spare: list[NDArray[Any]] = []  # append and pop are atomic: any thread may take and give


def address_of(array: NDArray[Any]) -> int:
    """Return where the elements of a contiguous array are. NumPy itself takes 4 times as long."""
    try:
        return addressof(c_char.from_buffer(cast(Any, array)))
    except (TypeError, ValueError):  # not writeable, or empty
        address: int = array.__array_interface__["data"][0]
        return address


def aligned(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an uninitialised array that begins on a cache line; a small one, where it matters little, may not."""
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if size < _SMALL:
        return np.empty(shape, kind)
    memory = np.empty(size + _LINE, np.uint8)
    start = -address_of(memory) % _LINE
    return memory[start : start + size].view(kind).reshape(shape)


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of zeros, as `aligned` makes them."""
    if math.prod(shape) < _SMALL // 8:
        return np.zeros(shape, dtype)
    memory = aligned(shape, dtype)
    memory[...] = 0.0
    return memory


class borrowed:
    """Lend an aligned, uninitialised 1-D array of at least `size` elements to one call.

    A fresh large array costs a page fault for every 4 KiB, more than a short call's own work.
    """

    __slots__ = ("_kind", "_memory", "_size")

    def __init__(self, size: int, dtype: np.dtype[Any]) -> None:
        self._size, self._kind = size, dtype

    def __enter__(self) -> NDArray[Any]:
        memory = None
        if _spare:
            try:
                memory = _spare.pop()
            except IndexError:  # another thread was faster
                memory = None
        if memory is None or memory.nbytes < self._size * self._kind.itemsize:
            memory = aligned(((self._size + 1) * self._kind.itemsize + _LINE,), np.uint8)
            memory = memory[: memory.nbytes // 8 * 8]
        self._memory = memory
        return memory.view(self._kind)

    def __exit__(self, *_: object) -> None:
        if len(_spare) < _KEPT and self._memory.nbytes <= _LARGEST:
            _spare.append(self._memory)


class Scratch:
    """Hand out uninitialised arrays by key; the same key gets the same memory each time, grown where it must.

    An array is valid until its key is taken again. Not for use by two threads at once: each call that may run beside
    another makes its own.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[Hashable, ...], tuple[NDArray[Any], NDArray[Any]]] = {}

    def take(self, *key: Hashable, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of `shape`, aligned to a cache line, its contents undefined."""
        memory, last = self._held.get(key, (None, None))
        if last is not None and last.shape == shape and last.dtype == dtype:
            return last
        size = math.prod(shape)
        if memory is None or memory.size < size or memory.dtype != dtype:
            memory = aligned((size,), dtype)
        last = memory[:size].reshape(shape)
        self._held[key] = memory, last
        return last
