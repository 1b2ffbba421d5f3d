"""Metrics: figures gathered over many batches. They look at the output and change nothing."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..engine.rows import activate
from ..errors import ContractError, OptionError, ShapeError
from ..kernels.softmax import softmax_rows
from ..layers import registry
from ..layers.registry import snake_case
from .losses import BinaryCrossentropy, CategoricalCrossentropy, Loss, SparseCategoricalCrossentropy
from .returned import read_only, returned_array

__all__ = [
    "AUC",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "MeanAbsoluteError",
    "Metric",
    "Perplexity",
    "SparseCategoricalAccuracy",
    "describe",
    "get",
    "known",
]

Rows = NDArray[Any]


class Metric:
    """Base of the metrics, also of your own: a mean over rows, unless `result` says otherwise.

    A metric of your own defines `rows`; `result`, if it is no mean; `config`, if its constructor takes arguments.

    Attributes
    ----------
    name : str
        What figures are called: the class name in lower case, unless the class says otherwise.
    total, count
        Of what `rows` returned, the weighted sum over all rows since `reset`, and the sum of the weights.

    Examples
    --------
    Counts that belong together are columns of `rows`, and of `total`:

    >>> import numpy as np, fastlstm as fl
    >>> class F1(fl.Metric):
    ...     def rows(self, output, target):
    ...         found, true = output > 0.5, target > 0.5
    ...         return np.hstack([found & true, found ^ true])
    ...
    ...     def result(self):
    ...         right, wrong = self.total
    ...         return 2 * right / (2 * right + wrong)
    >>> f1 = F1()
    >>> f1.update(np.array([[0.9], [0.8], [0.1]]), np.array([[1.0], [0.0], [0.0]]))
    >>> f1.name, round(float(f1.result()), 4)
    ('f1', 0.6667)
    """

    name: str = "metric"
    running: ClassVar[bool] = True
    """Whether `result` is cheap enough to be shown after each batch."""
    before_activation: ClassVar[bool] = False
    """Whether `rows` takes what the last activation would take, and a third argument that names it (or None)."""

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "name" not in cls.__dict__:
            cls.name = snake_case(cls.__name__)
        if "rows" in cls.__dict__ and "before_activation" not in cls.__dict__:
            cls.before_activation = False

    def __init__(self) -> None:
        self.reset()

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them."""
        return {}

    def reset(self) -> None:
        """Begin again."""
        self.total: Any = 0.0
        self.count = 0.0

    def update(
        self,
        output: Rows,
        target: Rows,
        pending: str | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """Take in a batch.

        Parameters
        ----------
        output : array, shape (M, K)
        target : array
            As the loss checked it. Rows whose class is negative are left out: the loss ignores them.
        pending : {"softmax", "sigmoid"}, optional
            The last activation, where the loss takes care of it and `output` holds the values before it.
        weights : array of float64, shape (M,), optional
            What each row counts; all alike by default.
        """
        if (
            isinstance(target, np.ndarray)
            and target.ndim == 1
            and target.dtype == np.int64
            and target.min(initial=0) < 0
        ):
            kept = target >= 0
            output, target, weights = output[kept], target[kept], None if weights is None else weights[kept]
        values = self._values(output, target, pending)
        self.total = self.total + (values.sum(axis=0) if weights is None else weights @ values)
        self.count += float(len(values) if weights is None else weights.sum())

    def _values(self, output: Rows, target: Rows, pending: str | None) -> Rows:
        """Return what `rows` does, checked."""
        if self.before_activation:
            return self.rows(output, target, pending)  # type: ignore[call-arg]
        if pending is not None:
            output = output.copy()
            activate(output, pending)
        what = f"{type(self).__name__}.rows"
        values = returned_array(what, self.rows(read_only(output), read_only(target)), f"{len(output)} figures")
        if values.ndim not in (1, 2) or len(values) != len(output):
            raise ShapeError(
                f"{what} returned shape {values.shape}; expected ({len(output)},), a figure for each row, or "
                f"({len(output)}, C) for C of them"
            )
        if values.dtype.kind not in "fiub":
            raise ContractError(f"{what} returned {values.dtype}; expected numbers or bool")
        return values

    def rows(self, output: Rows, target: Rows) -> Rows:
        """Return the figure of each row (M,), or several of each (M, C): numbers or bool.

        Parameters
        ----------
        output : array, shape (M, K)
            What the model puts out, after its last activation; it cannot be written to.
        target : array
            As the loss takes it: ``(M, K)``, or ``(M,)`` classes; neither can this.
        """
        raise NotImplementedError

    def result(self) -> float:
        """Return the figure over all that came in; NaN for nothing."""
        if np.ndim(self.total):
            raise ContractError(
                f"{type(self).__name__}.rows returns {len(self.total)} figures a row; define result(), which makes one "
                "of total"
            )
        return float(self.total / self.count) if self.count else math.nan


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


class MeanAbsoluteError(Metric):
    """Mean absolute error over the outputs of a row."""

    name = "mae"
    before_activation = True

    def rows(self, output: Rows, target: Rows, pending: str | None = None) -> Rows:
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
    "perplexity": Perplexity,
    "auc": AUC,
}

_ACCURACY: dict[type[Loss], type[Metric]] = {
    BinaryCrossentropy: BinaryAccuracy,
    CategoricalCrossentropy: CategoricalAccuracy,
    SparseCategoricalCrossentropy: SparseCategoricalAccuracy,
}


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
    kind = _ACCURACY.get(type(loss)) if name in ("accuracy", "acc") else _BY_NAME.get(name)
    if kind is None:
        raise OptionError(
            f"metric {metric!r} is unknown, or does not go with {loss.name}; expected a Metric, accuracy "
            f"(with a cross-entropy) or one of {', '.join(_BY_NAME)}"
        )
    made = kind()
    made.name = name  # figures bear the name that was asked for
    return made
