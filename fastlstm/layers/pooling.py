"""Pooling over time: one row for each sequence, from its true steps only."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..data.packed import Packed
from ..runtime.workspace import Frame
from .base import Gradients, Layer, PassContext

__all__ = ["GlobalAveragePooling1D", "GlobalMaxPooling1D", "LastStep"]


class _Cache(NamedTuple):
    x: Packed
    frame: Frame
    chosen: NDArray[np.int64] | None = None  # for the maximum: (N, F), the step it came from


class _Pooling(Layer):
    """What the three have in common: no parameters, the same features out, no steps."""

    def __init__(self, *, name: str | None = None, dtype: DTypeLike = "float32"):
        super().__init__(name=name, dtype=dtype)

    @property
    def features_out(self) -> int:
        return self.features_in or 0

    @property
    def returns_steps(self) -> bool:
        return False

    def config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype.name}

    def _cache(self, x: Packed, context: PassContext, chosen: NDArray[np.int64] | None = None) -> _Cache | None:
        return _Cache(x, context.workspace.frame(self), chosen) if context.training else None

    def _dx(self, cache: _Cache, context: PassContext) -> NDArray[Any]:
        """Return memory for the gradient of the input, valid until the layer's next forward."""
        context.workspace.release(self, cache.frame)
        return cache.frame.take("dx", cache.x.rows.shape, self.dtype)


def _steps(x: Packed) -> list[tuple[int, slice]]:
    """Return each step's sequences and rows."""
    offsets = x.offsets
    return [(int(n), slice(offsets[t], offsets[t + 1])) for t, n in enumerate(x.batch_sizes)]


class LastStep(_Pooling):
    """Keep the last true step of each sequence: ``(N, T, F)`` to ``(N, F)``.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.LastStep()([[[1.0], [2.0]], [[3.0], [0.0]]], lengths=[2, 1])
    array([[2.],
           [3.]], dtype=float32)
    """

    def forward(self, x: Packed, context: PassContext) -> tuple[Packed, _Cache | None]:
        return x.one_row_each(x.last_of(x.rows)), self._cache(x, context)

    def backward(self, dy: NDArray[Any], cache: _Cache, context: PassContext) -> tuple[NDArray[Any], Gradients]:
        dx = self._dx(cache, context)
        dx[...] = 0.0
        dx[cache.x.last_rows] = dy
        return dx, {}


class GlobalAveragePooling1D(_Pooling):
    """Average each feature over the true steps of each sequence: ``(N, T, F)`` to ``(N, F)``.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.GlobalAveragePooling1D()([[[1.0], [2.0]], [[3.0], [0.0]]], lengths=[2, 1])
    array([[1.5],
           [3. ]], dtype=float32)
    """

    def forward(self, x: Packed, context: PassContext) -> tuple[Packed, _Cache | None]:
        total = np.zeros((x.sequences, x.rows.shape[1]), self.dtype)
        for n, rows in _steps(x):
            total[:n] += x.rows[rows]
        total /= x.lengths[:, None].astype(self.dtype)
        return x.one_row_each(total), self._cache(x, context)

    def backward(self, dy: NDArray[Any], cache: _Cache, context: PassContext) -> tuple[NDArray[Any], Gradients]:
        share = dy / cache.x.lengths[:, None].astype(self.dtype)
        dx = self._dx(cache, context)
        for n, rows in _steps(cache.x):
            dx[rows] = share[:n]
        return dx, {}


class GlobalMaxPooling1D(_Pooling):
    """Take each feature's largest value over the true steps of each sequence: ``(N, T, F)`` to ``(N, F)``.

    Among equal values the first step counts, and gets the gradient.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.GlobalMaxPooling1D()([[[-1.0], [-2.0]], [[-3.0], [0.0]]], lengths=[2, 1])
    array([[-1.],
           [-3.]], dtype=float32)
    """

    def forward(self, x: Packed, context: PassContext) -> tuple[Packed, _Cache | None]:
        best = x.rows[: x.sequences].copy()
        chosen = np.zeros(best.shape, np.int64)
        for step, (n, rows) in enumerate(_steps(x)):
            values = x.rows[rows]
            higher = ~((values <= best[:n]) | np.isnan(best[:n]))  # NaN wins and stays
            best[:n][higher] = values[higher]
            chosen[:n][higher] = step
        return x.one_row_each(best), self._cache(x, context, chosen)

    def backward(self, dy: NDArray[Any], cache: _Cache, context: PassContext) -> tuple[NDArray[Any], Gradients]:
        dx = self._dx(cache, context)
        dx[...] = 0.0
        sequence, feature = np.indices(dy.shape)
        dx[cache.x.offsets[cache.chosen] + sequence, feature] = dy
        return dx, {}
