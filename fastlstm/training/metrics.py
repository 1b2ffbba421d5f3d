"""Metrics by Keras's names, and which accuracy goes with a loss."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError, ShapeError
from ..layers import registry
from .losses import (
    MAE,
    MAPE,
    MSE,
    MSLE,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    KLDivergence,
    Loss,
    SparseCategoricalCrossentropy,
)
from .metric import Metric

__all__ = [
    "AUC",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Metric",
    "Perplexity",
    "RootMeanSquaredError",
    "SparseCategoricalAccuracy",
    "describe",
    "get",
    "known",
]

Rows = NDArray[Any]


class SparseCategoricalAccuracy(Metric):
    """Share of rows whose largest output is the class that the target names."""

    name = "sparse_categorical_accuracy"
    before_activation = True

    def rows(self, output: Rows, target: Rows, pending: str | None = None) -> Rows:
        """Return 1 where it is."""
        return np.asarray(output.argmax(axis=1) == target.reshape(-1))


class CategoricalAccuracy(Metric):
    """Share of rows whose largest output is the target's largest."""

    name = "categorical_accuracy"
    before_activation = True

    def rows(self, output: Rows, target: Rows, pending: str | None = None) -> Rows:
        """Return 1 where it is."""
        return np.asarray(output.argmax(axis=1) == target.argmax(axis=1))


class BinaryAccuracy(Metric):
    """Share of outputs on the target's side of 1/2."""

    name = "binary_accuracy"
    before_activation = True

    def rows(self, output: Rows, target: Rows, pending: str | None = None) -> Rows:
        """Return each row's share."""
        return np.asarray(((output > (0.0 if pending == "sigmoid" else 0.5)) == (target > 0.5)).mean(axis=1))


class _MeanError(Metric):
    """Mean of what a loss makes of each row."""

    kind: ClassVar[type[Loss]]

    def rows(self, output: Rows, target: Rows) -> Rows:
        """Return the error of each row."""
        if target.shape != output.shape:
            raise ShapeError(f"{self.name}: targets have shape {target.shape} by row, the output {output.shape}")
        return self.kind().rows(output, target)


class MeanAbsoluteError(_MeanError):
    """Mean absolute error over the outputs of a row."""

    name = "mae"
    kind = MAE


class MeanSquaredError(_MeanError):
    """Mean squared error over the outputs of a row."""

    name = "mse"
    kind = MSE


class RootMeanSquaredError(MeanSquaredError):
    """Root of the mean squared error over all rows."""

    name = "root_mean_squared_error"

    def result(self) -> float:
        """Return the root of the mean over all rows."""
        return math.sqrt(super().result())


class MeanAbsolutePercentageError(_MeanError):
    """Mean absolute error in percent of the target; see `losses.MAPE`."""

    name = "mape"
    kind = MAPE


class MeanSquaredLogarithmicError(_MeanError):
    """Mean squared difference of ``log(1 + y)``; see `losses.MSLE`."""

    name = "msle"
    kind = MSLE


class Perplexity(Metric):
    """exp of the mean cross-entropy: among how many equally likely classes the model seems to choose."""

    name = "perplexity"
    before_activation = True

    def rows(self, output: Rows, target: Rows, pending: str | None = None) -> Rows:
        """Return the cross-entropy of each row, in nats."""
        if pending == "softmax":
            loss = SparseCategoricalCrossentropy() if target.ndim == 1 else CategoricalCrossentropy()
            return loss.rows(output, target, fused=True)
        if target.ndim == 1:
            return _minus_log(output[np.arange(len(output)), target])
        return np.asarray((target * _minus_log(output)).sum(axis=1))

    def result(self) -> float:
        """Return the perplexity over all rows; infinity beyond what a float64 holds."""
        mean = super().result()
        return math.exp(mean) if not mean > 700.0 else math.inf


def _minus_log(p: Rows) -> NDArray[np.float64]:
    """Return -log(p), finite for p = 0."""
    return np.asarray(-np.log(np.maximum(p.astype(np.float64), np.finfo(np.float32).tiny)))


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
    "mse": MeanSquaredError,
    "mean_squared_error": MeanSquaredError,
    "rmse": RootMeanSquaredError,
    "root_mean_squared_error": RootMeanSquaredError,
    "mape": MeanAbsolutePercentageError,
    "mean_absolute_percentage_error": MeanAbsolutePercentageError,
    "msle": MeanSquaredLogarithmicError,
    "mean_squared_logarithmic_error": MeanSquaredLogarithmicError,
    "perplexity": Perplexity,
    "auc": AUC,
}

_ACCURACY: dict[type[Loss], type[Metric]] = {
    BinaryCrossentropy: BinaryAccuracy,
    CategoricalCrossentropy: CategoricalAccuracy,
    SparseCategoricalCrossentropy: SparseCategoricalAccuracy,
    KLDivergence: CategoricalAccuracy,
}
"""The accuracy that goes with a loss; that of one whose targets are classes is the sparse one."""


def known(metric: Metric) -> bool:
    """Tell whether `get` makes this metric again from its name, in any program."""
    return type(metric) in {*_BY_NAME.values(), *_ACCURACY.values()}


def describe(metric: Metric) -> str | dict[str, Any]:
    """Return what `get` makes this metric of again: its name, or what a file says of a class of the user's own.

    Raises
    ------
    OptionError
        No other program could make it; see `registry.name_to_save` and `registry.checked_config`.
    """
    name = metric.name.removeprefix("weighted_")
    if known(metric):
        return name
    kind = registry.name_to_save(metric, "metric")
    return {"kind": kind, "config": registry.checked_config(metric, "metric"), "name": name}


def get(metric: str | type[Metric] | Metric | Mapping[str, Any], loss: Loss) -> Metric:
    """Return the metric of a name, of a class or of what `describe` returned, or the metric itself.

    "accuracy" is the kind that goes with the loss.
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, type) and issubclass(metric, Metric):
        return metric()
    if isinstance(metric, Mapping):
        described: Metric = registry.make(metric["kind"], Metric, metric["config"])
        described.name = metric["name"]
        return described
    name = str(metric).lower()
    kind = _accuracy(loss) if name in ("accuracy", "acc") else _BY_NAME.get(name)
    if kind is None:
        raise OptionError(
            f"metric {metric!r} is unknown, or does not go with {loss.name}; expected a Metric, accuracy "
            f"(where targets are classes) or one of {', '.join(_BY_NAME)}"
        )
    made = kind()
    made.name = name  # figures bear the name that was asked for
    return made


def _accuracy(loss: Loss) -> type[Metric] | None:
    """Return the accuracy that goes with a loss; None where none does."""
    return _ACCURACY.get(type(loss), SparseCategoricalAccuracy if loss.takes_classes else None)
