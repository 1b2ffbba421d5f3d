"""Normalisation over the features of each row, or over all rows of a batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..data.numbers import real
from ..data.packed import Packed
from ..kernels import norm
from ..runtime.pool import parallel_for
from ..runtime.workspace import Frame
from .activation import checked_axis
from .base import Gradients, Layer, PassContext
from .initializers import checked_initializer, initial
from .regularizers import L2, checked_regularizer

__all__ = ["BatchNormalization", "LayerNormalization", "RMSNormalization"]

_NS_PER_VALUE = 0.6
"""What a pass of a kernel takes for a value, about."""

Regularizer = L2 | float | str | None


class _Normalization(Layer):
    """What they have in common: a weight and a bias for each feature, their arguments, and features that stay."""

    takes_samples = True
    by_row = True

    def __init__(
        self,
        axis: int,
        epsilon: float,
        center: bool,
        scale: bool,
        beta_initializer: str,
        gamma_initializer: str,
        beta_regularizer: Regularizer,
        gamma_regularizer: Regularizer,
        *,
        name: str | None,
        dtype: DTypeLike,
    ):
        super().__init__(name=name, dtype=dtype)
        kind = self.kind
        self.axis = checked_axis(kind, axis)
        self.epsilon = real(epsilon, f"{kind}: epsilon", 0.0)
        self.center, self.scale = bool(center), bool(scale)
        self.beta_initializer = checked_initializer(kind, "beta_initializer", beta_initializer)
        self.gamma_initializer = checked_initializer(kind, "gamma_initializer", gamma_initializer)
        self.beta_regularizer = checked_regularizer(kind, "beta_regularizer", beta_regularizer)
        self.gamma_regularizer = checked_regularizer(kind, "gamma_regularizer", gamma_regularizer)
        if self.gamma_regularizer is not None and self.scale:
            self.penalties["weight"] = self.gamma_regularizer.l2
        if self.beta_regularizer is not None and self.center:
            self.penalties["bias"] = self.beta_regularizer.l2

    def config(self) -> dict[str, Any]:
        beta, gamma = self.beta_regularizer, self.gamma_regularizer
        return {
            "axis": self.axis,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "beta_initializer": self.beta_initializer,
            "gamma_initializer": self.gamma_initializer,
            "beta_regularizer": None if beta is None else beta.l2,
            "gamma_regularizer": None if gamma is None else gamma.l2,
        } | super().config()

    def create(self, features: int, rng: np.random.Generator | None) -> dict[str, NDArray[Any]]:
        params = {"weight": initial(self.gamma_initializer, rng, (features,))} if self.scale else {}
        return params | ({"bias": initial(self.beta_initializer, rng, (features,))} if self.center else {})

    def features_from(self, tensors: dict[str, NDArray[Any]]) -> int:
        return next((len(value) for value in tensors.values() if value.ndim == 1), 0)

    def _weight(self) -> NDArray[Any]:
        return self.arrays["weight"] if self.scale else np.ones(self.features_in, self.dtype)

    def _bias(self) -> NDArray[Any]:
        return self.arrays["bias"] if self.center else np.zeros(self.features_in, self.dtype)

    def _sums(self, frame: Frame) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Return memory for two sums over rows (2, F): scratch, and float64."""
        shape = 2, self.features_in
        return frame.take("part", shape, self.dtype), frame.take("sums", shape, np.float64)

    def _gradients(self, sums: NDArray[np.float64], frame: Frame) -> Gradients:
        """Return the gradients that are wanted, of ``sums`` (2, F): that of the weight, that of the bias."""
        return {
            name: _assigned(frame.take(name, sums[place].shape, self.dtype), sums[place])
            for place, name in enumerate(("weight", "bias"))
            if name in self.arrays
        }


def _assigned(target: NDArray[Any], values: NDArray[np.float64]) -> NDArray[Any]:
    """Round float64 values into `target`; those that are too large for its type become infinite."""
    with np.errstate(over="ignore"):
        target[...] = values
    return target


def _over_rows(kernel: Callable[..., Any], *args: Any, like: NDArray[Any]) -> None:
    """Call a kernel for all rows of `like`, shared over cores."""
    parallel_for(kernel, *args, count=len(like), cost=_NS_PER_VALUE * like.size)


def _over_features(kernel: Callable[..., Any], *args: Any, like: NDArray[Any]) -> None:
    """Call a kernel for all features of `like`, shared over cores."""
    parallel_for(kernel, *args, count=like.shape[1], cost=_NS_PER_VALUE * like.size)


class _RowCache(NamedTuple):
    x: NDArray[Any]
    stats: NDArray[Any]
    frame: Frame


class LayerNormalization(_Normalization):
    """Give the features of each row mean 0 and variance 1, then a weight and a bias each (Ba, Kiros and Hinton 2016).

    ``y = (x - mean) / sqrt(variance + epsilon) * weight + bias``, with the mean and the (biased) variance of the row.

    Parameters
    ----------
    axis : int
        -1: the features.
    epsilon : float
        0 or more; Keras's default, torch's is 1e-5.
    center : bool
        Whether there is a bias, which Keras calls beta.
    scale : bool
        Whether there is a weight, which Keras calls gamma.
    beta_initializer, gamma_initializer : str
        Start values by Keras's names.
    beta_regularizer, gamma_regularizer : L2, float, "l2" or None
        A penalty on the bias, on the weight; see `L2`.
    name, dtype
        See `Layer`.

    Raises
    ------
    OptionError
        Another axis, or an `epsilon` that is negative.

    Notes
    -----
    Takes ``(N, T, F)`` or ``(N, F)``. Parameters, as torch's ``LayerNorm`` names them: ``weight (F,)``, ``bias (F,)``.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.LayerNormalization(epsilon=0.0)([[1.0, 3.0]])
    array([[-1.,  1.]], dtype=float32)
    """

    _about_mean = True

    def __init__(
        self,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: str = "zeros",
        gamma_initializer: str = "ones",
        beta_regularizer: Regularizer = None,
        gamma_regularizer: Regularizer = None,
        *,
        name: str | None = None,
        dtype: DTypeLike = "float32",
    ):
        beta, gamma = (beta_initializer, beta_regularizer), (gamma_initializer, gamma_regularizer)
        super().__init__(axis, epsilon, center, scale, beta[0], gamma[0], beta[1], gamma[1], name=name, dtype=dtype)

    def forward(self, x: Packed, context: PassContext) -> tuple[Packed, _RowCache | None]:
        rows = np.ascontiguousarray(x.rows, self.dtype)
        frame = context.workspace.frame(self) if context.training else Frame()
        y = frame.take("y", rows.shape, self.dtype)
        stats = frame.take("stats", (len(rows), 3), self.dtype)
        weight, bias = self._weight(), self._bias()
        _over_rows(norm.layer_norm, rows, weight, bias, y, stats, self.epsilon, self._about_mean, like=rows)
        return x.with_rows(y), _RowCache(rows, stats, frame) if context.training else None

    def backward(self, dy: NDArray[Any], cache: _RowCache, context: PassContext) -> tuple[NDArray[Any], Gradients]:
        x, stats, frame = cache
        dx = np.ascontiguousarray(dy)
        part, sums = self._sums(frame)
        if self.arrays:
            _over_features(norm.layer_norm_sums, dx, x, stats, part, sums, like=x)
        _over_rows(norm.layer_norm_backward, dx, x, self._weight(), stats, self._about_mean, like=x)
        context.workspace.release(self, frame)
        return dx, self._gradients(sums, frame)


class RMSNormalization(LayerNormalization):
    """Divide each row by the root of its mean square, then give each feature a weight (Zhang and Sennrich 2019).

    ``y = x / sqrt(mean(x^2) + epsilon) * weight``.

    Parameters
    ----------
    axis : int
        -1: the features.
    epsilon : float
        0 or more.
    name, dtype
        See `Layer`.

    Raises
    ------
    OptionError
        Another axis, or an `epsilon` that is negative.

    Notes
    -----
    Takes ``(N, T, F)`` or ``(N, F)``. Parameter, as torch's ``RMSNorm`` names it: ``weight (F,)``.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.RMSNormalization(epsilon=0.0)([[3.0, -3.0]])
    array([[ 1., -1.]], dtype=float32)
    """

    _about_mean = False

    def __init__(self, axis: int = -1, epsilon: float = 1e-6, *, name: str | None = None, dtype: DTypeLike = "float32"):
        super().__init__(axis, epsilon, center=False, name=name, dtype=dtype)

    def config(self) -> dict[str, Any]:
        return {"axis": self.axis, "epsilon": self.epsilon, "name": self.name, "dtype": self.dtype.name}


class _BatchCache(NamedTuple):
    x: NDArray[Any]
    of_batch: bool  # whether the statistics are those of the rows, rather than the running ones
    stats: NDArray[Any]
    factor: NDArray[Any]
    frame: Frame


class BatchNormalization(_Normalization):
    """Give each feature mean 0 and variance 1 over the rows of a batch, then a weight and a bias (Ioffe, Szegedy 2015).

    ``y = (x - mean) / sqrt(variance + epsilon) * weight + bias``. In training, mean and (biased) variance are those of
    all rows of the batch, every true step of every sequence: padding never counts. They also move the running ones,
    ``running = momentum * running + (1 - momentum) * of_batch``, which take their place in inference, and in training
    too once ``layer.trainable = False``.

    Parameters
    ----------
    axis : int
        -1: the features.
    momentum : float
        From 0 to 1, Keras's: torch's is 1 less this.
    epsilon : float
        0 or more; Keras's default, torch's is 1e-5.
    center : bool
        Whether there is a bias, which Keras calls beta.
    scale : bool
        Whether there is a weight, which Keras calls gamma.
    beta_initializer, gamma_initializer : str
        Start values by Keras's names.
    beta_regularizer, gamma_regularizer : L2, float, "l2" or None
        A penalty on the bias, on the weight; see `L2`.
    name, dtype
        See `Layer`.

    Raises
    ------
    OptionError
        Another axis, a `momentum` that is not from 0 to 1, an `epsilon` that is negative.

    Notes
    -----
    Takes ``(N, T, F)`` or ``(N, F)``. Saved tensors, as torch's ``BatchNorm1d`` names them: ``weight``, ``bias``,
    ``running_mean`` (0 at first), ``running_var`` (1 at first), each ``(F,)``; its ``num_batches_tracked`` is passed
    over. The running variance is that of biased ones, as in Keras; torch makes each larger by ``M / (M - 1)``.

    Examples
    --------
    >>> import fastlstm as fl
    >>> layer = fl.BatchNormalization(epsilon=0.0)
    >>> layer.load_state_dict({"weight": [1.0], "bias": [0.0], "running_mean": [1.0], "running_var": [4.0]})
    >>> layer([[1.0], [5.0]])
    array([[0.],
           [2.]], dtype=float32)
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: str = "zeros",
        gamma_initializer: str = "ones",
        beta_regularizer: Regularizer = None,
        gamma_regularizer: Regularizer = None,
        *,
        name: str | None = None,
        dtype: DTypeLike = "float32",
    ):
        beta, gamma = (beta_initializer, beta_regularizer), (gamma_initializer, gamma_regularizer)
        super().__init__(axis, epsilon, center, scale, beta[0], gamma[0], beta[1], gamma[1], name=name, dtype=dtype)
        self.momentum = real(momentum, f"{self.kind}: momentum", 0.0, 1.0)

    def config(self) -> dict[str, Any]:
        return {"axis": self.axis, "momentum": self.momentum} | super().config()

    def create_buffers(self, features: int) -> dict[str, NDArray[Any]]:
        return {"running_mean": np.zeros(features), "running_var": np.ones(features)}

    def load_state_dict(self, tensors: dict[str, ArrayLike]) -> None:
        super().load_state_dict({name: value for name, value in tensors.items() if name != "num_batches_tracked"})

    def forward(self, x: Packed, context: PassContext) -> tuple[Packed, _BatchCache | None]:
        rows = np.ascontiguousarray(x.rows, self.dtype)
        frame = context.workspace.frame(self) if context.training else Frame()
        of_batch = context.training and self.trainable
        stats = frame.take("stats", (3, rows.shape[1]), self.dtype)
        factor = frame.take("factor", (rows.shape[1],), self.dtype)
        if of_batch:
            variance = self._moments(rows, stats, frame)
        else:
            stats[0], stats[1] = self.buffers["running_mean"], 0.0
            variance = self.buffers["running_var"].astype(np.float64)
        inverse = 1.0 / np.sqrt(variance + self.epsilon)
        stats[2] = inverse
        factor[...] = inverse * self._weight()
        y = frame.take("y", rows.shape, self.dtype)
        _over_rows(norm.batch_norm, rows, stats, factor, self._bias(), y, like=rows)
        return x.with_rows(y), _BatchCache(rows, of_batch, stats, factor, frame) if context.training else None

    def _moments(self, rows: NDArray[Any], stats: NDArray[Any], frame: Frame) -> NDArray[np.float64]:
        """Write a guess of each feature's mean and what the mean is above it; move the running statistics.

        Return the variances.
        """
        part, sums = self._sums(frame)
        stats[0] = 0.0
        _over_features(norm.batch_moments, rows, stats[0], part, sums, like=rows)
        _assigned(stats[0], sums[0] / len(rows))
        _over_features(norm.batch_moments, rows, stats[0], part, sums, like=rows)
        above, squares = sums / len(rows)
        stats[1] = above
        variance: NDArray[np.float64] = np.maximum(squares - above * above, 0.0)
        for name, value in (("running_mean", stats[0] + above), ("running_var", variance)):
            running = self.buffers[name]
            _assigned(running, self.momentum * running.astype(np.float64) + (1.0 - self.momentum) * value)
        return variance

    def backward(self, dy: NDArray[Any], cache: _BatchCache, context: PassContext) -> tuple[NDArray[Any], Gradients]:
        x, of_batch, stats, factor, frame = cache
        dx = np.ascontiguousarray(dy)
        part, sums = self._sums(frame)
        _over_features(norm.batch_norm_sums, dx, x, stats, part, sums, like=x)
        part[...] = sums / len(x) if of_batch else 0.0
        _over_rows(norm.batch_norm_backward, dx, x, stats, factor, part, like=x)
        context.workspace.release(self, frame)
        return dx, self._gradients(sums, frame)
