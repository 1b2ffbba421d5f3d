"""Dropout, inverted: training drops values at random, inference is untouched (Srivastava et al. 2014)."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..data.packed import Packed
from ..runtime.workspace import Frame
from .base import Gradients, Layer, PassContext, dropped

__all__ = ["Dropout", "draw_mask"]


def draw_mask(
    frame: Frame, shape: tuple[int, ...], rate: float, dtype: DTypeLike, context: PassContext
) -> NDArray[Any]:
    """Return a mask in the frame: 0 for the fraction `rate` of its places, ``1 / (1 - rate)`` for the others."""
    mask = frame.take("mask", shape, dtype)
    if rate:
        drawn = frame.take("drawn", shape, np.float32)
        context.rng.random(dtype=np.float32, out=drawn)
        np.multiply(drawn >= rate, mask.dtype.type(1.0 / (1.0 - rate)), out=mask)
    else:
        mask[...] = 1.0
    return mask


class _Cache(NamedTuple):
    mask: NDArray[Any]
    frame: Frame


class Dropout(Layer):
    """Set a fraction of the values to 0 while training and scale the others by ``1 / (1 - rate)``.

    Parameters
    ----------
    rate : float
        Fraction that is dropped, 0 <= rate < 1.
    name, dtype
        See `Layer`.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.Dropout(0.5)([[1.0, 2.0]])
    array([[1., 2.]], dtype=float32)
    """

    takes_samples = True
    by_row = True

    def __init__(self, rate: float, *, name: str | None = None, dtype: DTypeLike = "float32"):
        super().__init__(name=name, dtype=dtype)
        self.rate = dropped("Dropout", "rate", rate)

    def config(self) -> dict[str, Any]:
        return {"rate": self.rate, "name": self.name, "dtype": self.dtype.name}

    def forward(self, x: Packed, context: PassContext) -> tuple[Packed, _Cache | None]:
        if not context.training:
            return x, None
        shape, frame = x.rows.shape, context.workspace.frame(self)
        mask = draw_mask(frame, shape, self.rate, self.dtype, context)
        out = frame.take("out", shape, self.dtype)
        return x.with_rows(np.multiply(x.rows, mask, out=out)), _Cache(mask, frame)

    def backward(self, dy: NDArray[Any], cache: _Cache, context: PassContext) -> tuple[NDArray[Any], Gradients]:
        dy *= cache.mask
        context.workspace.release(self, cache.frame)
        return dy, {}
