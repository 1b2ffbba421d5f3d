"""Losses: a value over rows, and its gradient written over the model's output.

``output`` is always ``(M, K)`` rows. A loss that `fuses` with an activation can take the values before it ("logits")
and give the gradient with respect to those: one pass, and no logarithm of a rounded 0.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..data.labels import Labels
from ..data.packed import Packed
from ..errors import DataError, OptionError, ShapeError
from ..kernels import softmax
from ..runtime.pool import parallel_for

__all__ = [
    "MAE",
    "MSE",
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "Huber",
    "Labels",
    "Loss",
    "SequenceLoss",
    "SparseCategoricalCrossentropy",
    "get",
    "known",
]

Rows = NDArray[Any]


class Loss:
    """Base of the losses.

    The value of a batch is ``sum(weights * row losses) / M``, as in Keras: weights are not normalised.
    """

    name: ClassVar[str]
    fuses: ClassVar[str | None] = None
    """The activation whose input this loss can take, or None."""
    from_logits: bool = False
    """Whether the model's output is that input, with no activation of its own."""
    by_sequence: ClassVar[bool] = False
    """Whether it looks at whole sequences: see `SequenceLoss`."""

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them."""
        return {}

    def check_targets(self, target: Rows, output: Rows) -> Rows:
        """Return targets in the shape and type that the loss computes with.

        Raises
        ------
        ShapeError
            They do not go with ``output`` (M, K).
        DataError
            They hold NaN, infinity, or classes outside 0 .. K - 1.
        """
        if target.ndim == 1:
            target = target[:, None]
        if target.shape != output.shape:
            raise ShapeError(
                f"{self.name}: targets have shape {target.shape} by row, the model's output {output.shape}; "
                "expected the same"
            )
        if not np.isfinite(target).all():
            raise DataError(f"{self.name}: targets hold NaN or infinity")
        return np.ascontiguousarray(target, output.dtype)

    def rows(self, output: Rows, target: Rows, fused: bool) -> NDArray[np.float64]:
        """Return the loss of each row, in float64; `output` stays as it is."""
        raise NotImplementedError

    def differentiate(self, output: Rows, target: Rows, weights: NDArray[np.float64], fused: bool) -> None:
        """Overwrite `output` with the gradient of ``sum(weights * row losses)``."""
        raise NotImplementedError

    def value(
        self, output: Rows, target: Rows, weights: NDArray[np.float64] | None = None, fused: bool = False
    ) -> float:
        """Return the loss of checked targets; `output` stays as it is."""
        losses = self.rows(output, target, fused)
        return float(losses.mean() if weights is None else (losses * weights).sum() / len(losses))

    def gradient(
        self, output: Rows, target: Rows, weights: NDArray[np.float64] | None = None, fused: bool = False
    ) -> float:
        """Return the loss of checked targets, and overwrite `output` with its gradient."""
        value = self.value(output, target, weights, fused)
        self.differentiate(output, target, _by_row(weights, len(output)), fused)
        return value


class SequenceLoss(Loss):
    """Base of losses over whole sequences, such as CTC.

    ``output`` is a `Packed` instead of rows. The value of a batch is ``sum(weights * sequence losses) / N``; weights
    are one a sequence, in packed order. `gradient` overwrites the rows of the output.
    """

    by_sequence = True
    own_lengths: ClassVar[bool] = False
    """Whether targets are `Labels`, of other lengths than the output; else they are rows, one for each of its rows."""

    def sequences(self, output: Packed, target: Any, fused: bool) -> NDArray[np.float64]:
        """Return the loss of each sequence (N,), in packed order; `output` stays as it is."""
        raise NotImplementedError


def _by_row(weights: NDArray[np.float64] | None, count: int) -> NDArray[np.float64]:
    """Return what each row's loss counts in the value."""
    if weights is not None and weights.shape != (count,):
        raise ShapeError(f"the loss has {count} rows, its weights have shape {weights.shape}; expected one each")
    return np.full(count, 1.0 / count) if weights is None else weights / count


class _Crossentropy(Loss):
    """What the cross-entropies share: whether probabilities come in, or what a softmax or sigmoid would take."""

    def __init__(self, from_logits: bool = False):
        self.from_logits = bool(from_logits)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them."""
        return {"from_logits": self.from_logits}


class SparseCategoricalCrossentropy(_Crossentropy):
    """``-log p[class]`` of the right class, given as its number.

    Parameters
    ----------
    from_logits : bool
        The model ends without a softmax: this loss applies it. (Where a Dense ends with one, both are fused anyway.)

    Examples
    --------
    >>> import numpy as np
    >>> float(SparseCategoricalCrossentropy().value(np.log([[0.25, 0.75]]), np.array([0]), fused=True).__round__(4))
    1.3863
    """

    name = "sparse_categorical_crossentropy"
    fuses = "softmax"

    def check_targets(self, target: Rows, output: Rows) -> Rows:
        """Return targets as int64 class numbers; see `Loss.check_targets`."""
        if target.ndim == 2 and target.shape[1] == 1:
            target = target[:, 0]
        if target.shape != output.shape[:1]:
            raise ShapeError(
                f"{self.name}: targets have shape {target.shape} by row; expected ({len(output)},): a class number each"
            )
        classes = output.shape[1]
        if target.size and not (target.min() >= 0 and target.max() < classes):
            wrong = target[~((target >= 0) & (target < classes))][0]
            raise DataError(f"{self.name}: target {wrong}; the model has {classes} classes: 0 to {classes - 1}")
        whole = target.astype(np.int64)
        if (whole != target).any():
            raise DataError(
                f"{self.name}: targets are no whole numbers; for distributions take categorical_crossentropy"
            )
        return np.ascontiguousarray(whole)

    def rows(self, output: Rows, target: Rows, fused: bool) -> NDArray[np.float64]:
        """Return the loss of each row."""
        if not fused:
            return _minus_log(output[np.arange(len(output)), target])
        losses = np.empty(len(output))
        parallel_for(softmax.cross_entropy, output, target, losses, count=len(output), cost=0.4 * output.size)
        return losses

    def differentiate(self, output: Rows, target: Rows, weights: NDArray[np.float64], fused: bool) -> None:
        """Overwrite `output` with the gradient."""
        every = np.arange(len(output))
        right = output[every, target]
        output[...] = 0.0
        output[every, target] = -weights / np.maximum(right, np.finfo(output.dtype).tiny)

    def gradient(
        self, output: Rows, target: Rows, weights: NDArray[np.float64] | None = None, fused: bool = False
    ) -> float:
        """Return the loss and overwrite `output` with its gradient; fused, in one pass over the logits."""
        if not fused:
            return super().gradient(output, target, weights, fused)
        losses = np.empty(len(output))
        by_row = _by_row(weights, len(output))
        kernel = softmax.softmax_cross_entropy
        parallel_for(kernel, output, target, by_row, losses, count=len(output), cost=0.6 * output.size)
        return float((losses * by_row).sum())


class CategoricalCrossentropy(_Crossentropy):
    """``-sum(y * log p)`` for targets that are distributions over the classes, or one-hot.

    Parameters
    ----------
    from_logits : bool
        See `SparseCategoricalCrossentropy`.
    """

    name = "categorical_crossentropy"
    fuses = "softmax"

    def rows(self, output: Rows, target: Rows, fused: bool) -> NDArray[np.float64]:
        """Return the loss of each row."""
        if not fused:
            losses: NDArray[np.float64] = (target * _minus_log(output)).sum(axis=1)
            return losses
        losses = np.empty(len(output))
        self._fused(output.copy(), target, np.zeros(len(output)), losses)
        return losses

    def differentiate(self, output: Rows, target: Rows, weights: NDArray[np.float64], fused: bool) -> None:
        """Overwrite `output` with the gradient."""
        np.divide(-target, np.maximum(output, np.finfo(output.dtype).tiny), out=output)
        output *= weights[:, None].astype(output.dtype)

    def gradient(
        self, output: Rows, target: Rows, weights: NDArray[np.float64] | None = None, fused: bool = False
    ) -> float:
        """Return the loss and overwrite `output` with its gradient; fused, in one pass over the logits."""
        if not fused:
            return super().gradient(output, target, weights, fused)
        losses = np.empty(len(output))
        by_row = _by_row(weights, len(output))
        self._fused(output, target, by_row, losses)
        return float((losses * by_row).sum())

    @staticmethod
    def _fused(output: Rows, target: Rows, weights: NDArray[np.float64], losses: NDArray[np.float64]) -> None:
        kernel = softmax.soft_cross_entropy
        parallel_for(kernel, output, target, weights, losses, count=len(output), cost=0.6 * output.size)


class BinaryCrossentropy(_Crossentropy):
    """``-y log p - (1 - y) log(1 - p)``, the mean over the K outputs of a row; targets from 0 to 1.

    Parameters
    ----------
    from_logits : bool
        The model ends without a sigmoid: this loss applies it.
    """

    name = "binary_crossentropy"
    fuses = "sigmoid"

    def check_targets(self, target: Rows, output: Rows) -> Rows:
        """Return targets of the output's shape; see `Loss.check_targets`."""
        target = super().check_targets(target, output)
        if target.size and (target.min() < 0 or target.max() > 1):
            raise DataError(f"{self.name}: targets reach from {target.min()} to {target.max()}; expected 0 to 1")
        return target

    def rows(self, output: Rows, target: Rows, fused: bool) -> NDArray[np.float64]:
        """Return the loss of each row."""
        z, y = output.astype(np.float64), target.astype(np.float64)
        if fused:  # log(1 + exp(z)) - y z, in the form that cannot overflow
            losses = np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))
        else:
            losses = y * _minus_log(z) + (1 - y) * _minus_log(1 - z)
        return np.asarray(losses.mean(axis=1))

    def differentiate(self, output: Rows, target: Rows, weights: NDArray[np.float64], fused: bool) -> None:
        """Overwrite `output` with the gradient."""
        z = output.astype(np.float64)
        if fused:
            e = np.exp(-np.abs(z))
            slope = np.where(z >= 0, 1.0, e) / (1.0 + e) - target
        else:
            slope = (z - target) / np.maximum(z * (1 - z), 1e-7)
        output[...] = slope * (weights / output.shape[1])[:, None]


class MSE(Loss):
    """Mean squared error over the K outputs of a row."""

    name = "mse"

    def rows(self, output: Rows, target: Rows, fused: bool) -> NDArray[np.float64]:
        """Return the loss of each row."""
        return np.asarray(((output.astype(np.float64) - target) ** 2).mean(axis=1))

    def differentiate(self, output: Rows, target: Rows, weights: NDArray[np.float64], fused: bool) -> None:
        """Overwrite `output` with the gradient."""
        output -= target
        output *= (2.0 * weights / output.shape[1])[:, None].astype(output.dtype)


class MAE(Loss):
    """Mean absolute error over the K outputs of a row."""

    name = "mae"

    def rows(self, output: Rows, target: Rows, fused: bool) -> NDArray[np.float64]:
        """Return the loss of each row."""
        return np.asarray(np.abs(output.astype(np.float64) - target).mean(axis=1))

    def differentiate(self, output: Rows, target: Rows, weights: NDArray[np.float64], fused: bool) -> None:
        """Overwrite `output` with the gradient."""
        output -= target
        np.sign(output, out=output)
        output *= (weights / output.shape[1])[:, None].astype(output.dtype)


class Huber(Loss):
    """Squared near 0 and linear from `delta` on (Huber 1964), the mean over the K outputs of a row.

    Parameters
    ----------
    delta : float
        Where the square ends.
    """

    name = "huber"

    def __init__(self, delta: float = 1.0):
        if not delta > 0:
            raise OptionError(f"Huber: delta={delta}; expected a number > 0")
        self.delta = float(delta)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them."""
        return {"delta": self.delta}

    def rows(self, output: Rows, target: Rows, fused: bool) -> NDArray[np.float64]:
        """Return the loss of each row."""
        size = np.abs(output.astype(np.float64) - target)
        return np.asarray(np.where(size <= self.delta, size**2 / 2, self.delta * (size - self.delta / 2)).mean(axis=1))

    def differentiate(self, output: Rows, target: Rows, weights: NDArray[np.float64], fused: bool) -> None:
        """Overwrite `output` with the gradient."""
        output -= target
        np.clip(output, -self.delta, self.delta, out=output)
        output *= (weights / output.shape[1])[:, None].astype(output.dtype)


def _minus_log(p: Rows) -> NDArray[np.float64]:
    """Return -log(p), finite for p = 0."""
    return np.asarray(-np.log(np.maximum(p.astype(np.float64), np.finfo(np.float32).tiny)))


_BY_NAME: dict[str, Callable[..., Loss]] = {
    "binary_crossentropy": BinaryCrossentropy,
    "categorical_crossentropy": CategoricalCrossentropy,
    "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
    "mse": MSE,
    "mean_squared_error": MSE,
    "mae": MAE,
    "mean_absolute_error": MAE,
    "huber": Huber,
}


def known(loss: Loss) -> bool:
    """Tell whether `get` makes this loss again from its name and `config`."""
    return _BY_NAME.get(loss.name) is type(loss)


def get(loss: str | Loss, config: Mapping[str, Any] | None = None) -> Loss:
    """Return the loss of a name, with the arguments in `config`; or the loss itself.

    Raises
    ------
    OptionError
        No loss has this name.
    """
    if isinstance(loss, Loss):
        return loss
    kind = _BY_NAME.get(str(loss).lower())
    if kind is None:
        raise OptionError(f"loss={loss!r}; expected a Loss or one of {', '.join(_BY_NAME)}")
    return kind(**(config or {}))
