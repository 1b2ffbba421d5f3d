"""Noise of training: whole features dropped, normal noise added or multiplied. Inference is untouched."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..data.numbers import real
from ..data.packed import Packed
from ..kernels.embedding import gather
from ..runtime.pool import parallel_for
from ..runtime.workspace import Frame
from .base import Gradients, Layer, PassContext, dropped
from .dropout import draw_mask

__all__ = ["GaussianDropout", "GaussianNoise", "SpatialDropout1D"]


class _Cache(NamedTuple):
    factors: NDArray[Any] | None  # what the rows were multiplied by; None: by nothing
    frame: Frame


class _Noise(Layer):
    """What they have in common: rows go out as they came in, but for the noise of training."""

    by_row = True

    def forward(self, x: Packed, context: PassContext) -> tuple[Packed, _Cache | None]:
        if not context.training:
            return x, None
        frame = context.workspace.frame(self)
        out = frame.take("out", x.rows.shape, self.dtype)
        factors = self._disturb(x, out, frame, context)
        return x.with_rows(out), _Cache(factors, frame)

    def _disturb(self, x: Packed, out: NDArray[Any], frame: Frame, context: PassContext) -> NDArray[Any] | None:
        """Write the rows with their noise; return what each value was multiplied by."""
        raise NotImplementedError

    def backward(self, dy: NDArray[Any], cache: _Cache, context: PassContext) -> tuple[NDArray[Any], Gradients]:
        if cache.factors is not None:
            dy *= cache.factors
        context.workspace.release(self, cache.frame)
        return dy, {}

    def _normal(self, shape: tuple[int, ...], frame: Frame, context: PassContext) -> NDArray[Any]:
        """Return standard normal numbers, one for each value."""
        drawn = frame.take("drawn", shape, self.dtype)
        kind: Any = self.dtype
        context.rng.standard_normal(dtype=kind, out=drawn)
        return drawn


class SpatialDropout1D(_Noise):
    """Drop whole features of a sequence while training, the same ones at every step (Tompson et al. 2015).

    Parameters
    ----------
    rate : float
        Fraction of the features that is dropped, 0 <= rate < 1; the others are scaled by ``1 / (1 - rate)``.
    name, dtype
        See `Layer`.

    Raises
    ------
    OptionError
        The rate is no such fraction.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.SpatialDropout1D(0.5)([[[1.0, 2.0]]])
    array([[[1., 2.]]], dtype=float32)
    """

    def __init__(self, rate: float, *, name: str | None = None, dtype: DTypeLike = "float32"):
        super().__init__(name=name, dtype=dtype)
        self.rate = dropped(self.kind, "rate", rate)

    def config(self) -> dict[str, Any]:
        return {"rate": self.rate} | super().config()

    def _disturb(self, x: Packed, out: NDArray[Any], frame: Frame, context: PassContext) -> NDArray[Any]:
        mask = draw_mask(frame, (x.sequences, x.features), self.rate, self.dtype, context)
        factors = frame.take("factors", out.shape, self.dtype)
        parallel_for(gather, mask, x.sequence_of_row, factors, count=len(factors), cost=0.1 * factors.size)
        np.multiply(x.rows, factors, out=out)
        return factors


class GaussianDropout(_Noise):
    """Multiply every value by a normal number of mean 1 while training (Srivastava et al. 2014, section 10).

    Parameters
    ----------
    rate : float
        As in `Dropout`, 0 <= rate < 1: the variance is ``rate / (1 - rate)``, that of such a mask.
    name, dtype
        See `Layer`.

    Raises
    ------
    OptionError
        The rate is no such fraction.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.GaussianDropout(0.5)([[1.0, 2.0]])
    array([[1., 2.]], dtype=float32)
    """

    takes_samples = True

    def __init__(self, rate: float, *, name: str | None = None, dtype: DTypeLike = "float32"):
        super().__init__(name=name, dtype=dtype)
        self.rate = dropped(self.kind, "rate", rate)

    def config(self) -> dict[str, Any]:
        return {"rate": self.rate} | super().config()

    def _disturb(self, x: Packed, out: NDArray[Any], frame: Frame, context: PassContext) -> NDArray[Any]:
        factors = self._normal(out.shape, frame, context)
        factors *= np.sqrt(self.rate / (1.0 - self.rate))
        factors += 1.0
        np.multiply(x.rows, factors, out=out)
        return factors


class GaussianNoise(_Noise):
    """Add a normal number of mean 0 to every value while training.

    Parameters
    ----------
    stddev : float
        Standard deviation of the noise, 0 or more.
    name, dtype
        See `Layer`.

    Raises
    ------
    OptionError
        `stddev` is no number, or negative.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.GaussianNoise(0.5)([[1.0, 2.0]])
    array([[1., 2.]], dtype=float32)
    """

    takes_samples = True

    def __init__(self, stddev: float, *, name: str | None = None, dtype: DTypeLike = "float32"):
        super().__init__(name=name, dtype=dtype)
        self.stddev = real(stddev, f"{self.kind}: stddev", 0.0)

    def config(self) -> dict[str, Any]:
        return {"stddev": self.stddev} | super().config()

    def _disturb(self, x: Packed, out: NDArray[Any], frame: Frame, context: PassContext) -> None:
        noise = self._normal(out.shape, frame, context)
        noise *= self.stddev
        np.add(x.rows, noise, out=out)
