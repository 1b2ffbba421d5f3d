"""Buffers that a training loop uses again at every step."""

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Scratch"]


class Scratch:
    """Hand out uninitialised arrays by key; the same key gets the same memory each time, grown where it must.

    An array is valid until its key is taken again. Not for use by two threads at once: each call that may run beside
    another makes its own.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[Hashable, ...], NDArray[Any]] = {}

    def take(self, *key: Hashable, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of `shape`, its contents undefined."""
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64))
        held = self._held.get((*key, dtype))
        if held is None or held.size < size:
            held = self._held[(*key, dtype)] = np.empty(size, dtype)
        return held[:size].reshape(shape)
