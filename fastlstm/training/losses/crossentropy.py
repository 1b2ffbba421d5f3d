"""The cross-entropies. Fused with the activation before them they take logits, in one pass that loses no digits.

On probabilities they are Keras's: of several classes the probabilities of a row are divided by their sum, and all are
kept `EPSILON` away from 0 and 1, so that a certain mistake costs 16, not infinity. Where one is cut so, the gradient of
Keras is 0 and the mistake stays; here it is the one at the cut, which pulls towards the target.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.rows import activate
from ...errors import DataError, OptionError
from ...kernels import softmax
from ...runtime.pool import parallel_for
from .base import EPSILON, KernelLoss, Rows, class_numbers, number_from

__all__ = ["BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy"]


class _Crossentropy(KernelLoss):
    """What the cross-entropies share: whether probabilities come in or logits, and smoothed targets."""

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0):
        self.from_logits = bool(from_logits)
        self.label_smoothing = number_from(type(self).__name__, "label_smoothing", label_smoothing, 0.0, 1.0)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them."""
        return {"from_logits": self.from_logits, "label_smoothing": self.label_smoothing}

    def example(self, shape: tuple[int, int], rng: np.random.Generator, fused: bool = False) -> tuple[Rows, Rows]:
        """Return logits or probabilities, and targets; see `Loss.example`."""
        output, target = super().example(shape, rng)
        if not self.takes_classes:
            target = _probabilities(target, self.fuses)
        return output if fused else _probabilities(output, self.fuses), target

    def smoothed(self, target: Rows, spread: float) -> Rows:
        """Return targets (M, K) less `label_smoothing` of them, and `spread` of that added to every output."""
        s = self.label_smoothing
        return target * target.dtype.type(1.0 - s) + target.dtype.type(s * spread) if s else target


class SparseCategoricalCrossentropy(_Crossentropy):
    """``-log p[class]`` of the right class, given as its number.

    Parameters
    ----------
    from_logits : bool
        The model ends without a softmax: this loss applies it. (Where a Dense ends with one, both are fused anyway.)
    ignore_class : int, optional
        Rows with this target weigh 0, in the mean's divisor, too, and metrics leave them out; often -1, or the id of
        padding. It need not be one of the model's classes.
    label_smoothing : float
        From 0 to 1: this much of the target is spread over all K classes, ``label_smoothing / K`` each, as in torch.

    Examples
    --------
    >>> import numpy as np
    >>> float(SparseCategoricalCrossentropy().value(np.log([[0.25, 0.75]]), np.array([0]), fused=True).__round__(4))
    1.3863
    """

    name = "sparse_categorical_crossentropy"
    fuses = "softmax"
    takes_classes = True

    def __init__(self, from_logits: bool = False, ignore_class: int | None = None, *, label_smoothing: float = 0.0):
        super().__init__(from_logits, label_smoothing)
        if ignore_class is not None and (
            isinstance(ignore_class, bool) or not isinstance(ignore_class, int | np.integer)
        ):
            raise OptionError(
                f"SparseCategoricalCrossentropy: ignore_class={ignore_class!r}; expected the number of a class, or None"
            )
        self.ignore_class = None if ignore_class is None else int(ignore_class)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them."""
        return super().config() | {"ignore_class": self.ignore_class}

    def check_targets(self, target: Rows, output: Rows) -> Rows:
        """Return targets as int64 class numbers, -1 where they are ignored; see `Loss.check_targets`."""
        return class_numbers(self.name, target, output, self.ignore_class)

    def ignored(self, target: Rows) -> NDArray[np.bool_] | None:
        """Return which rows count nothing (M,); None where all count."""
        return None if self.ignore_class is None else target < 0

    def rows(self, output: Rows, target: Rows, fused: bool = False) -> NDArray[np.float64]:
        """Return the loss of each row."""
        if self.label_smoothing:
            return self.overwrite(output.copy(), target, np.zeros(len(output)), fused)
        ignored = self.ignored(target)
        if ignored is not None:
            target = np.maximum(target, 0)
        if fused:
            losses = np.empty(len(output))
            parallel_for(softmax.cross_entropy, output, target, losses, count=len(output), cost=0.4 * output.size)
        else:
            losses = -np.log(_right(output, target)[1])
        if ignored is not None:
            losses[ignored] = 0.0
        return losses

    def overwrite(self, output: Rows, target: Rows, weights: NDArray[np.float64], fused: bool) -> NDArray[np.float64]:
        """Overwrite `output` with the gradient; fused, in one pass over the logits. Return the losses of the rows."""
        ignored = self.ignored(target)
        if ignored is not None:
            target, weights = np.maximum(target, 0), np.where(ignored, 0.0, weights)
        losses = self._fused(output, target, weights) if fused else self._unfused(output, target, weights)
        if ignored is not None:
            losses[ignored] = 0.0
        return losses

    def _fused(self, output: Rows, target: Rows, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        losses, count, cost = np.empty(len(output)), len(output), 0.6 * output.size
        if rest := self.label_smoothing:
            kernel = softmax.smoothed_cross_entropy
            parallel_for(kernel, output, target, rest, weights, losses, count=count, cost=cost)
        else:
            parallel_for(softmax.softmax_cross_entropy, output, target, weights, losses, count=count, cost=cost)
        return losses

    def _unfused(self, output: Rows, target: Rows, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        every = np.arange(len(output))
        if self.label_smoothing:
            one_hot = np.zeros(output.shape)
            one_hot[every, target] = 1.0
            return _on_probabilities(output, self.smoothed(one_hot, 1.0 / output.shape[1]), weights)
        share, cut, total = _right(output, target)
        by = weights / (cut * total)
        output[...] = (by * share)[:, None]
        output[every, target] -= by
        return np.asarray(-np.log(cut))


class CategoricalCrossentropy(_Crossentropy):
    """``-sum(y * log p)`` for targets that are distributions over the classes, or one-hot.

    Parameters
    ----------
    from_logits : bool
        See `SparseCategoricalCrossentropy`.
    label_smoothing : float
        From 0 to 1: the target is ``(1 - label_smoothing) * y + label_smoothing / K``.

    Examples
    --------
    >>> import numpy as np
    >>> loss = CategoricalCrossentropy(label_smoothing=0.1)
    >>> round(loss.value(np.array([[0.25, 0.75]]), np.array([[0.0, 1.0]])), 4)
    0.3426
    """

    name = "categorical_crossentropy"
    fuses = "softmax"

    def rows(self, output: Rows, target: Rows, fused: bool = False) -> NDArray[np.float64]:
        """Return the loss of each row."""
        return self.overwrite(output.copy(), target, np.zeros(len(output)), fused)

    def overwrite(self, output: Rows, target: Rows, weights: NDArray[np.float64], fused: bool) -> NDArray[np.float64]:
        """Overwrite `output` with the gradient; fused, in one pass over the logits. Return the losses of the rows."""
        target = self.smoothed(target, 1.0 / output.shape[1])
        if not fused:
            return _on_probabilities(output, target, weights)
        losses, kernel = np.empty(len(output)), softmax.soft_cross_entropy
        parallel_for(kernel, output, target, weights, losses, count=len(output), cost=0.6 * output.size)
        return losses


class BinaryCrossentropy(_Crossentropy):
    """``-y log p - (1 - y) log(1 - p)``, the mean over the K outputs of a row; targets from 0 to 1.

    Parameters
    ----------
    from_logits : bool
        The model ends without a sigmoid: this loss applies it.
    label_smoothing : float
        From 0 to 1: the target is ``(1 - label_smoothing) * y + label_smoothing / 2``.

    Examples
    --------
    >>> import numpy as np
    >>> round(BinaryCrossentropy().value(np.array([[0.75]]), np.array([[1.0]])), 4)
    0.2877
    """

    name = "binary_crossentropy"
    fuses = "sigmoid"

    def check_targets(self, target: Rows, output: Rows) -> Rows:
        """Return targets of the output's shape; see `Loss.check_targets`."""
        target = super().check_targets(target, output)
        if target.size and (target.min() < 0 or target.max() > 1):
            raise DataError(f"{self.name}: targets reach from {target.min()} to {target.max()}; expected 0 to 1")
        return target

    def rows(self, output: Rows, target: Rows, fused: bool = False) -> NDArray[np.float64]:
        """Return the loss of each row."""
        z, y = output.astype(np.float64), self.smoothed(target.astype(np.float64), 0.5)
        if fused:  # log(1 + exp(z)) - y z, in the form that cannot overflow
            losses = np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))
        else:
            p = np.clip(z, EPSILON, 1.0 - EPSILON)
            losses = -y * np.log(p) - (1.0 - y) * np.log1p(-p)
        return np.asarray(losses.mean(axis=1))

    def overwrite(self, output: Rows, target: Rows, weights: NDArray[np.float64], fused: bool) -> NDArray[np.float64]:
        """Overwrite `output` with the gradient; return the losses of the rows."""
        losses = self.rows(output, target, fused)
        z, y = output.astype(np.float64), self.smoothed(target.astype(np.float64), 0.5)
        if fused:
            e = np.exp(-np.abs(z))
            slope = np.where(z >= 0, 1.0, e) / (1.0 + e) - y
        else:
            p = np.clip(z, EPSILON, 1.0 - EPSILON)
            slope = (p - y) / (p * (1.0 - p))
        output[...] = slope * (weights / output.shape[1])[:, None]
        return losses


def _probabilities(z: Rows, activation: str | None) -> Rows:
    """Return what an activation makes of logits."""
    y = z.copy()
    activate(y, activation or "linear")
    return y


def _right(output: Rows, target: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the right class's share of a row's probabilities, the same kept away from 0 and 1, and their sum."""
    total = _sums(output)
    share = output[np.arange(len(output)), target] / total
    return share, np.clip(share, EPSILON, 1.0 - EPSILON), total


def _on_probabilities(output: Rows, target: Rows, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``-sum(y log p)`` of each row, p being shares of the row's sum; overwrite `output` with the gradient."""
    total = _sums(output)[:, None]
    share = output / total
    cut = np.clip(share, EPSILON, 1.0 - EPSILON)
    losses: NDArray[np.float64] = -(target * np.log(cut)).sum(axis=1)
    np.divide(target, cut, out=cut)
    share *= cut
    output[...] = (weights[:, None] / total) * (share.sum(axis=1, keepdims=True) - cut)
    return losses


def _sums(output: Rows) -> NDArray[np.float64]:
    """Return the sum of each row in float64; 1 where it is 0, which no division stands."""
    total: NDArray[np.float64] = output.sum(axis=1, dtype=np.float64)
    total[total == 0.0] = 1.0
    return total
