"""Rectifiers as layers, with parameters that `Activation` fixes: ReLU, LeakyReLU, ELU."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..data.numbers import real
from ..data.packed import Packed
from ..engine.rows import activate
from ..kernels.rectify import elu_backward, rectify, rectify_backward, scale_below_zero
from ..runtime.pool import parallel_for
from ..runtime.workspace import Frame
from .base import Gradients, Layer, PassContext

__all__ = ["ELU", "LeakyReLU", "ReLU"]

_NS_PER_VALUE = 0.3
"""What one of the kernels takes for a value, about."""


class _Cache(NamedTuple):
    kept: NDArray[Any]  # the rows that went in; of ELU those that came out
    frame: Frame


class _Rectifier(Layer):
    """What they have in common: rows in, rows of as many features out, no parameters."""

    takes_samples = True
    by_row = True

    def _rows(self, x: Packed, context: PassContext) -> tuple[NDArray[Any], NDArray[Any], Frame | None]:
        """Return the rows, memory for those that come out, and in training the frame that it is in."""
        rows = np.ascontiguousarray(x.rows, self.dtype)
        frame = context.workspace.frame(self) if context.training else None
        return rows, np.empty_like(rows) if frame is None else frame.take("y", rows.shape, self.dtype), frame


class ReLU(_Rectifier):
    """Return ``max(x, 0)``, or what its parameters make of that.

    Parameters
    ----------
    max_value : float or None
        Where the values end, 0 or more.
    negative_slope : float
        Below the threshold, values are ``negative_slope * (x - threshold)``; 0 or more.
    threshold : float
        From here on values are those of x; 0 or more.
    name, dtype
        See `Layer`.

    Raises
    ------
    OptionError
        A parameter is no number, or negative.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.ReLU(max_value=6)([[-1.0, 2.0, 9.0]])
    array([[0., 2., 6.]], dtype=float32)
    """

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        *,
        name: str | None = None,
        dtype: DTypeLike = "float32",
    ):
        super().__init__(name=name, dtype=dtype)
        self.max_value = None if max_value is None else real(max_value, f"{self.kind}: max_value", 0.0)
        self.negative_slope = real(negative_slope, f"{self.kind}: negative_slope", 0.0)
        self.threshold = real(threshold, f"{self.kind}: threshold", 0.0)

    def config(self) -> dict[str, Any]:
        return {
            "max_value": self.max_value,
            "negative_slope": self.negative_slope,
            "threshold": self.threshold,
        } | super().config()

    @property
    def _line(self) -> tuple[float, float, float]:
        return self.negative_slope, self.threshold, float("inf") if self.max_value is None else self.max_value

    def forward(self, x: Packed, context: PassContext) -> tuple[Packed, _Cache | None]:
        rows, y, frame = self._rows(x, context)
        cost = _NS_PER_VALUE * rows.size
        parallel_for(rectify, rows.reshape(-1), y.reshape(-1), *self._line, count=rows.size, cost=cost)
        return x.with_rows(y), None if frame is None else _Cache(rows, frame)

    def backward(self, dy: NDArray[Any], cache: _Cache, context: PassContext) -> tuple[NDArray[Any], Gradients]:
        dx, x = np.ascontiguousarray(dy), cache.kept
        cost = _NS_PER_VALUE * x.size
        parallel_for(rectify_backward, dx.reshape(-1), x.reshape(-1), *self._line, count=x.size, cost=cost)
        context.workspace.release(self, cache.frame)
        return dx, {}


class LeakyReLU(ReLU):
    """Return x above 0, ``negative_slope * x`` below (Maas, Hannun and Ng 2013).

    Parameters
    ----------
    negative_slope : float
        0 or more.
    name, dtype
        See `Layer`.

    Raises
    ------
    OptionError
        The slope is no number, or negative.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.LeakyReLU(0.5)([[-1.0, 2.0]])
    array([[-0.5,  2. ]], dtype=float32)
    """

    def __init__(self, negative_slope: float = 0.3, *, name: str | None = None, dtype: DTypeLike = "float32"):
        super().__init__(negative_slope=negative_slope, name=name, dtype=dtype)

    def config(self) -> dict[str, Any]:
        return {"negative_slope": self.negative_slope, "name": self.name, "dtype": self.dtype.name}


class ELU(_Rectifier):
    """Return x above 0, ``alpha * (exp(x) - 1)`` below (Clevert, Unterthiner and Hochreiter 2016).

    Parameters
    ----------
    alpha : float
        0 or more.
    name, dtype
        See `Layer`.

    Raises
    ------
    OptionError
        `alpha` is no number, or negative.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.ELU(2.0)([[-1e4, 2.0]])
    array([[-2.,  2.]], dtype=float32)
    """

    def __init__(self, alpha: float = 1.0, *, name: str | None = None, dtype: DTypeLike = "float32"):
        super().__init__(name=name, dtype=dtype)
        self.alpha = real(alpha, f"{self.kind}: alpha", 0.0)

    def config(self) -> dict[str, Any]:
        return {"alpha": self.alpha} | super().config()

    def forward(self, x: Packed, context: PassContext) -> tuple[Packed, _Cache | None]:
        rows, y, frame = self._rows(x, context)
        np.copyto(y, rows)
        activate(y, "elu")
        if self.alpha != 1.0:
            parallel_for(scale_below_zero, y.reshape(-1), self.alpha, count=y.size, cost=_NS_PER_VALUE * y.size)
        return x.with_rows(y), None if frame is None else _Cache(y, frame)

    def backward(self, dy: NDArray[Any], cache: _Cache, context: PassContext) -> tuple[NDArray[Any], Gradients]:
        dx, y = np.ascontiguousarray(dy), cache.kept
        cost = _NS_PER_VALUE * y.size
        parallel_for(elu_backward, dx.reshape(-1), y.reshape(-1), self.alpha, count=y.size, cost=cost)
        context.workspace.release(self, cache.frame)
        return dx, {}
