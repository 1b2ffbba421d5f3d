"""Memory for kernels: aligned to cache lines, used again where that is safe.

`temporary` lends memory to one call. A `Workspace` keeps the memory of training passes: each forward takes a `Frame`,
whose arrays its cache holds and its backward gives back, so that steps of a loop use the same memory again, and a layer
that runs twice before it goes back has two frames.
"""

import math
from collections.abc import Hashable
from ctypes import addressof, c_char
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import config

__all__ = ["Frame", "Workspace", "address_of", "aligned", "temporary", "zeros"]

_LINE = 64
"""Bytes of a cache line. NumPy aligns to 16: a register that straddles two lines costs two accesses."""

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
    if size < config.TUNED.small_bytes:
        return np.empty(shape, kind)
    memory = np.empty(size + _LINE, np.uint8)
    start = -address_of(memory) % _LINE
    return memory[start : start + size].view(kind).reshape(shape)


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of zeros, as `aligned` makes them."""
    if math.prod(shape) < config.TUNED.small_bytes // 8:
        return np.zeros(shape, dtype)
    memory = aligned(shape, dtype)
    memory[...] = 0.0
    return memory


class temporary:
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
        count, largest = config.TUNED.spare_buffers
        if len(_spare) < count and self._memory.nbytes <= largest:
            _spare.append(self._memory)


class Frame:
    """The arrays of one pass of a layer, forward and back, by name."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[Hashable, tuple[NDArray[Any], NDArray[Any]]] = {}

    def take(self, name: Hashable, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an uninitialised array on a cache line; the same name gets the same memory, if it is large enough."""
        memory, last = self._held.get(name, (None, None))
        if last is not None and last.shape == shape and last.dtype == dtype:
            return last
        size = math.prod(shape)
        if memory is None or memory.size < size or memory.dtype != dtype:
            memory = aligned((size,), dtype)
        last = memory[:size].reshape(shape)
        self._held[name] = memory, last
        return last


class Workspace:
    """Frames by owner, used again once they are given back. Not for use by two threads at once."""

    def __init__(self) -> None:
        self._free: dict[Hashable, list[Frame]] = {}
        self._shared = Frame()

    def frame(self, owner: Hashable) -> Frame:
        """Return a frame that no other pass of `owner` has; its arrays hold anything."""
        free = self._free.get(owner)
        return free.pop() if free else Frame()

    def release(self, owner: Hashable, frame: Frame) -> None:
        """Let the next `frame` of `owner` have this one's memory: its arrays are valid until then."""
        self._free.setdefault(owner, []).append(frame)

    def shared(self, name: Hashable, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array that is valid until the same name is asked for again: scratch of a single call."""
        return self._shared.take(name, shape, dtype)
