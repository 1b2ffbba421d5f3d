"""Metrics: figures gathered over many batches. They look at the output and change nothing."""

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError, ShapeError
from ..kernels.softmax import softmax_rows
from .losses import BinaryCrossentropy, CategoricalCrossentropy, Loss, SparseCategoricalCrossentropy

__all__ = [
    "AUC",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "MeanAbsoluteError",
    "Metric",
    "Perplexity",
    "SparseCategoricalAccuracy",
    "get",
    "known",
]

Rows = NDArray[Any]


class Metric:
    """Base of the metrics: a mean over rows, unless `result` says otherwise.

    ``output`` is (M, K). Where the loss takes care of the last activation, ``pending`` names it ("softmax", "sigmoid")
    and ``output`` holds the values before it.
    """

    name: str
    running: ClassVar[bool] = True
    """Whether `result` is cheap enough to be shown after each batch."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin again."""
        self.total, self.count = 0.0, 0.0

    def update(
        self,
        output: Rows,
        target: Rows,
        pending: str | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """Take in a batch: targets as the loss checked them, and what each row counts (all alike by default)."""
        values = self.rows(output, target, pending)
        self.total += float(values.sum() if weights is None else values @ weights)
        self.count += float(len(values) if weights is None else weights.sum())

    def rows(self, output: Rows, target: Rows, pending: str | None) -> Rows:
        """Return the figure of each row."""
        raise NotImplementedError

    def result(self) -> float:
        """Return the figure over all that came in; NaN for nothing."""
        return self.total / self.count if self.count else math.nan


class SparseCategoricalAccuracy(Metric):
    """Share of rows whose largest output is the class that the target names."""

    name = "sparse_categorical_accuracy"

    def rows(self, output: Rows, target: Rows, pending: str | None) -> Rows:
        """Return 1 where it is."""
        return np.asarray(output.argmax(axis=1) == target.reshape(-1))


class CategoricalAccuracy(Metric):
    """Share of rows whose largest output is the target's largest."""

    name = "categorical_accuracy"

    def rows(self, output: Rows, target: Rows, pending: str | None) -> Rows:
        """Return 1 where it is."""
        return np.asarray(output.argmax(axis=1) == target.argmax(axis=1))


class BinaryAccuracy(Metric):
    """Share of outputs on the target's side of 1/2."""

    name = "binary_accuracy"

    def rows(self, output: Rows, target: Rows, pending: str | None) -> Rows:
        """Return each row's share."""
        return np.asarray(((output > (0.0 if pending == "sigmoid" else 0.5)) == (target > 0.5)).mean(axis=1))


class MeanAbsoluteError(Metric):
    """Mean absolute error over the outputs of a row."""

    name = "mae"

    def rows(self, output: Rows, target: Rows, pending: str | None) -> Rows:
        """Return the error of each row."""
        output = output.astype(np.float64)
        if pending == "sigmoid":
            output = 0.5 * (1.0 + np.tanh(0.5 * output))
        elif pending == "softmax":
            softmax_rows(output, 0, len(output))
        if target.shape != output.shape:
            raise ShapeError(f"mae: targets have shape {target.shape} by row, the output {output.shape}")
        return np.asarray(np.abs(output - target).mean(axis=1))


class Perplexity(Metric):
    """exp of the mean cross-entropy: among how many equally likely classes the model seems to choose."""

    name = "perplexity"

    def rows(self, output: Rows, target: Rows, pending: str | None) -> Rows:
        """Return the cross-entropy of each row, in nats."""
        loss = SparseCategoricalCrossentropy() if target.ndim == 1 else CategoricalCrossentropy()
        return loss.rows(output, target, pending == "softmax")

    def result(self) -> float:
        """Return the perplexity over all rows; infinity beyond what a float64 holds."""
        mean = super().result()
        return math.exp(mean) if not mean > 700.0 else math.inf


class AUC(Metric):
    """Area under the ROC curve: how often a random positive scores above a random negative (ties count half).

    Exact: it keeps every score until `reset`, and compares ranks rather than thresholds.

    Examples
    --------
    >>> import numpy as np
    >>> auc = AUC()
    >>> auc.update(np.array([[0.1], [0.4], [0.4], [0.9]]), np.array([[0], [0], [1], [1]]))
    >>> auc.result()
    0.875
    """

    name = "auc"
    running = False

    def reset(self) -> None:
        """Begin again."""
        self._kept: list[tuple[Rows, Rows, Rows]] = []

    def update(
        self,
        output: Rows,
        target: Rows,
        pending: str | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """Take in a batch; ranks are the same before and after a sigmoid."""
        if target.shape != output.shape:
            raise ShapeError(f"auc: targets have shape {target.shape} by row, the output {output.shape}")
        by_output = np.repeat(np.ones(len(output)) if weights is None else weights, output.shape[1])
        self._kept.append((output.reshape(-1).copy(), target.reshape(-1) > 0.5, by_output))

    def result(self) -> float:
        """Return the area; NaN unless both classes came in."""
        if not self._kept:
            return math.nan
        scores, positive, weights = (np.concatenate(parts) for parts in zip(*self._kept, strict=True))
        _, place = np.unique(scores, return_inverse=True)
        yes, no = np.bincount(place, weights * positive), np.bincount(place, weights * ~positive)
        pairs = yes.sum() * no.sum()
        below = np.cumsum(no) - no
        return float((yes * (below + no / 2)).sum() / pairs) if pairs else math.nan


_BY_NAME: dict[str, type[Metric]] = {
    "binary_accuracy": BinaryAccuracy,
    "categorical_accuracy": CategoricalAccuracy,
    "sparse_categorical_accuracy": SparseCategoricalAccuracy,
    "mae": MeanAbsoluteError,
    "mean_absolute_error": MeanAbsoluteError,
    "perplexity": Perplexity,
    "auc": AUC,
}

_ACCURACY: dict[type[Loss], type[Metric]] = {
    BinaryCrossentropy: BinaryAccuracy,
    CategoricalCrossentropy: CategoricalAccuracy,
    SparseCategoricalCrossentropy: SparseCategoricalAccuracy,
}


def known(metric: Metric) -> bool:
    """Tell whether `get` makes this metric again from its name."""
    return type(metric) in {*_BY_NAME.values(), *_ACCURACY.values()}


def get(metric: str | Metric, loss: Loss) -> Metric:
    """Return the metric of a name, or the metric itself; "accuracy" is the kind that goes with the loss."""
    if isinstance(metric, Metric):
        return metric
    name = str(metric).lower()
    kind = _ACCURACY.get(type(loss)) if name in ("accuracy", "acc") else _BY_NAME.get(name)
    if kind is None:
        raise OptionError(
            f"metric {metric!r} is unknown, or does not go with {loss.name}; expected a Metric, accuracy "
            f"(with a cross-entropy) or one of {', '.join(_BY_NAME)}"
        )
    made = kind()
    made.name = name  # figures bear the name that was asked for
    return made
