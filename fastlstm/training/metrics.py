"""Metrics: figures gathered over many batches. They look at the output and change nothing."""

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
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
]

Rows = NDArray[Any]


class Metric:
    """Base of the metrics: a mean over rows, unless `result` says otherwise.

    ``output`` is (M, K); with `fused`, it holds the values before the activation that the loss takes care of.
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.total, self.count = 0.0, 0

    def update(self, output: Rows, target: Rows, fused: bool = False) -> None:
        """Take in a batch; targets as the loss checked them."""
        values = self.rows(output, target, fused)
        self.total += float(values.sum())
        self.count += len(values)

    def rows(self, output: Rows, target: Rows, fused: bool) -> Rows:
        """Return the figure of each row."""
        raise NotImplementedError

    def result(self) -> float:
        """Return the figure over all that came in; NaN for nothing."""
        return self.total / self.count if self.count else math.nan


class SparseCategoricalAccuracy(Metric):
    """Share of rows whose largest output is the class that the target names."""

    name = "accuracy"

    def rows(self, output: Rows, target: Rows, fused: bool) -> Rows:
        """Return 1 where it is."""
        return np.asarray(output.argmax(axis=1) == target.reshape(-1))


class CategoricalAccuracy(Metric):
    """Share of rows whose largest output is the target's largest."""

    name = "accuracy"

    def rows(self, output: Rows, target: Rows, fused: bool) -> Rows:
        """Return 1 where it is."""
        return np.asarray(output.argmax(axis=1) == target.argmax(axis=1))


class BinaryAccuracy(Metric):
    """Share of outputs on the target's side of 1/2."""

    name = "accuracy"

    def rows(self, output: Rows, target: Rows, fused: bool) -> Rows:
        """Return each row's share."""
        return np.asarray(((output > (0.0 if fused else 0.5)) == (target > 0.5)).mean(axis=1))


class MeanAbsoluteError(Metric):
    """Mean absolute error over the outputs of a row."""

    name = "mae"

    def rows(self, output: Rows, target: Rows, fused: bool) -> Rows:
        """Return the error of each row."""
        if fused:
            output = 0.5 * (1.0 + np.tanh(0.5 * output))
        return np.asarray(np.abs(output.astype(np.float64) - target).mean(axis=1))


class Perplexity(Metric):
    """exp of the mean cross-entropy: among how many equally likely classes the model seems to choose."""

    name = "perplexity"

    def rows(self, output: Rows, target: Rows, fused: bool) -> Rows:
        """Return the cross-entropy of each row, in nats."""
        loss = SparseCategoricalCrossentropy() if target.ndim == 1 else CategoricalCrossentropy()
        return loss.rows(output, target, fused)

    def result(self) -> float:
        """Return the perplexity over all rows."""
        return math.exp(min(super().result(), 700.0)) if self.count else math.nan


class AUC(Metric):
    """Area under the ROC curve: how often a random positive scores above a random negative (ties count half).

    Exact: it keeps every score until `reset`, and compares ranks rather than thresholds.
    """

    name = "auc"

    def reset(self) -> None:
        """Begin anew."""
        self.scores: list[Rows] = []
        self.targets: list[Rows] = []

    def update(self, output: Rows, target: Rows, fused: bool = False) -> None:
        """Take in a batch; ranks are the same before and after a sigmoid."""
        self.scores.append(output.reshape(-1).copy())
        self.targets.append(target.reshape(-1) > 0.5)

    def result(self) -> float:
        """Return the area; NaN unless both classes came in."""
        if not self.scores:
            return math.nan
        scores, positive = np.concatenate(self.scores), np.concatenate(self.targets)
        yes, no = int(positive.sum()), int((~positive).sum())
        if not yes or not no:
            return math.nan
        _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
        ranks = (np.cumsum(count) - (count - 1) / 2)[place]  # ties share their mean rank
        return float((ranks[positive].sum() - yes * (yes + 1) / 2) / (yes * no))


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
    return kind()
