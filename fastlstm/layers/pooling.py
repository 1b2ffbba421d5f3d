"""Pooling over time, from the true steps of each sequence only: one row for all of them, or one for each window."""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..data.packed import Packed
from ..engine import pooling
from ..engine.sliding import SlidingWindow, Taps, packed_rows, reads_of
from ..runtime.workspace import Frame
from .base import Gradients, Layer, PassContext
from .sliding import SlidingLayer, one_of, single

__all__ = ["AveragePooling1D", "GlobalAveragePooling1D", "GlobalMaxPooling1D", "LastStep", "MaxPooling1D"]


class _Cache(NamedTuple):
    x: Packed
    frame: Frame
    step: NDArray[np.int32] | None = None  # for the maximum: (N, F), the step it comes from


class _OneRow(Layer):
    """What those that give one row have in common: no parameters, the same features out, no steps."""

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

    def _cache(self, x: Packed, context: PassContext, step: NDArray[np.int32] | None = None) -> _Cache | None:
        return _Cache(x, context.workspace.frame(self), step) if context.training else None

    def _dx(self, cache: _Cache, context: PassContext) -> NDArray[Any]:
        """Return memory for the gradient of the input, valid until the layer's next forward."""
        context.workspace.release(self, cache.frame)
        return cache.frame.take("dx", (cache.x.total, cache.x.features), self.dtype)


class LastStep(_OneRow):
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


class GlobalAveragePooling1D(_OneRow):
    """Average each feature over the true steps of each sequence: ``(N, T, F)`` to ``(N, F)``.

    Sums are exact to a few units in the last place, whatever the number of steps.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.GlobalAveragePooling1D()([[[1.0], [2.0]], [[3.0], [0.0]]], lengths=[2, 1])
    array([[1.5],
           [3. ]], dtype=float32)
    """

    def forward(self, x: Packed, context: PassContext) -> tuple[Packed, _Cache | None]:
        return x.one_row_each(pooling.mean_of_steps(x, packed_rows(x).rows)), self._cache(x, context)

    def backward(self, dy: NDArray[Any], cache: _Cache, context: PassContext) -> tuple[NDArray[Any], Gradients]:
        share = dy / cache.x.lengths[:, None].astype(self.dtype)
        return pooling.spread_steps(share, cache.x, self._dx(cache, context)), {}


class GlobalMaxPooling1D(_OneRow):
    """Take each feature's largest value over the true steps of each sequence: ``(N, T, F)`` to ``(N, F)``.

    Among equal values the first step counts, and gets the gradient. NaN counts as larger than all else.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.GlobalMaxPooling1D()([[[-1.0], [-2.0]], [[-3.0], [0.0]]], lengths=[2, 1])
    array([[-1.],
           [-3.]], dtype=float32)
    """

    def forward(self, x: Packed, context: PassContext) -> tuple[Packed, _Cache | None]:
        best, step = pooling.largest_of_steps(x, packed_rows(x).rows)
        return x.one_row_each(best), self._cache(x, context, step)

    def backward(self, dy: NDArray[Any], cache: _Cache, context: PassContext) -> tuple[NDArray[Any], Gradients]:
        assert cache.step is not None
        dx = self._dx(cache, context)
        dx[...] = 0.0
        sequence, feature = np.indices(dy.shape)
        dx[cache.x.offsets[cache.step] + sequence, feature] = dy
        return dx, {}


class _WindowCache(NamedTuple):
    total: int  # rows of the input
    taps: Taps
    frame: Frame
    chosen: NDArray[np.int32] | None = None  # for the maximum: (R, F), the tap it comes from


class _Windows(SlidingLayer):
    """What those that give one row for each window have in common."""

    def __init__(
        self,
        pool_size: int | tuple[int] = 2,
        strides: int | tuple[int] | None = None,
        padding: Literal["valid", "same"] = "valid",
        *,
        name: str | None = None,
        dtype: DTypeLike = "float32",
    ):
        kind = type(self).__name__
        count = single(kind, "pool_size", pool_size)
        stride = count if strides is None else single(kind, "strides", strides)
        window = SlidingWindow(count, stride, 1, one_of(kind, "padding", padding, "valid", "same"))
        super().__init__(window, "pool_size", name=name, dtype=dtype)

    @property
    def features_out(self) -> int:
        return self.features_in or 0

    def config(self) -> dict[str, Any]:
        window = self.window
        return {
            "pool_size": window.size,
            "strides": window.stride,
            "padding": window.padding,
            "name": self.name,
            "dtype": self.dtype.name,
        }

    def _output(self, taps: Taps, features: int, frame: Frame | None) -> NDArray[Any]:
        shape = taps.rows.shape[1], features
        return np.empty(shape, self.dtype) if frame is None else frame.take("y", shape, self.dtype)

    def _dx(
        self, dy: NDArray[Any], cache: _WindowCache, context: PassContext
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return memory for the gradient of the input, and the windows that see each of its rows."""
        context.workspace.release(self, cache.frame)
        dx = cache.frame.take("dx", (cache.total, dy.shape[1]), self.dtype)
        return dx, reads_of(cache.taps, cache.total, cache.frame.take)


class MaxPooling1D(_Windows):
    """Take each feature's largest value in windows over the true steps of each sequence.

    Parameters
    ----------
    pool_size : int
        Steps of a window.
    strides : int, optional
        Steps from one window to the next; default `pool_size`.
    padding : {"valid", "same"}
        "valid": only whole windows, ``(T - pool_size) // strides + 1``. "same": ``ceil(T / strides)``, and those that
        reach beyond the sequence take the steps that there are.
    name, dtype
        See `Layer`.

    Raises
    ------
    OptionError
        An argument has a value that is not listed here.
    ShapeError
        When called: with "valid" padding, a sequence is shorter than a window.

    Notes
    -----
    Among equal values the first step counts, and gets the gradient. NaN counts as larger than all else.

    Examples
    --------
    >>> import numpy as np, fastlstm as fl
    >>> fl.MaxPooling1D(2)(np.array([[[1.0], [4.0], [9.0], [2.0], [7.0]]])).ravel().tolist()
    [4.0, 9.0]
    >>> fl.MaxPooling1D(2, padding="same")(np.array([[[1.0], [4.0], [9.0], [2.0], [7.0]]])).ravel().tolist()
    [4.0, 9.0, 7.0]
    """

    def forward(self, x: Packed, context: PassContext) -> tuple[Packed, _WindowCache | None]:
        frame = context.workspace.frame(self) if context.training else None
        rows, taps = self.look(x, frame)
        y = self._output(taps, rows.shape[1], frame)
        chosen = np.empty(y.shape, np.int32) if frame is None else frame.take("chosen", y.shape, np.int32)
        pooling.largest_of_taps(rows, taps.rows, y, chosen)
        return taps.output(y, x), None if frame is None else _WindowCache(x.total, taps, frame, chosen)

    def backward(self, dy: NDArray[Any], cache: _WindowCache, context: PassContext) -> tuple[NDArray[Any], Gradients]:
        assert cache.chosen is not None
        dx, windows = self._dx(dy, cache, context)
        return pooling.sum_of_largest(np.ascontiguousarray(dy), cache.chosen, windows, dx), {}


class AveragePooling1D(_Windows):
    """Average each feature in windows over the true steps of each sequence.

    Parameters
    ----------
    pool_size : int
        Steps of a window.
    strides : int, optional
        Steps from one window to the next; default `pool_size`.
    padding : {"valid", "same"}
        "valid": only whole windows, ``(T - pool_size) // strides + 1``. "same": ``ceil(T / strides)``, and those that
        reach beyond the sequence average the steps that there are.
    name, dtype
        See `Layer`.

    Raises
    ------
    OptionError
        An argument has a value that is not listed here.
    ShapeError
        When called: with "valid" padding, a sequence is shorter than a window.

    Examples
    --------
    >>> import numpy as np, fastlstm as fl
    >>> fl.AveragePooling1D(2, padding="same")(np.array([[[1.0], [4.0], [9.0], [2.0], [7.0]]])).ravel().tolist()
    [2.5, 5.5, 7.0]
    """

    def forward(self, x: Packed, context: PassContext) -> tuple[Packed, _WindowCache | None]:
        frame = context.workspace.frame(self) if context.training else None
        rows, taps = self.look(x, frame)
        y = self._output(taps, rows.shape[1], frame)
        pooling.sum_of_taps(rows, taps.rows, y, mean=True)
        return taps.output(y, x), None if frame is None else _WindowCache(x.total, taps, frame)

    def backward(self, dy: NDArray[Any], cache: _WindowCache, context: PassContext) -> tuple[NDArray[Any], Gradients]:
        dx, windows = self._dx(dy, cache, context)
        share = np.ascontiguousarray(dy)
        share /= (cache.taps.rows >= 0).sum(axis=0)[:, None].astype(self.dtype)
        return pooling.sum_of_taps(share, windows, dx, mean=False), {}
