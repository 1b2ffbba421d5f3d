"""The fit loop: batches in, parameters moved, figures out. It knows layers and losses, but no model."""

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.packed import Packed
from ..data.sequences import Batch, SequenceSet
from ..errors import DataError, DivergedError
from ..layers import Embedding, PassContext
from .callbacks import Logs
from .losses import Loss
from .metrics import Metric
from .network import Network
from .optimizers import Optimizer

__all__ = ["Evaluator", "Snapshot", "Trainer", "batches_of", "check", "describe", "evaluate"]


class Snapshot:
    """The last parameters whose loss was known to be finite.

    A copy of all parameters each step costs a small part of the optimizer's own pass over them, so it is simply made.
    """

    def __init__(self, params: Sequence[NDArray[Any]]):
        self._params = params
        self._kept = [param.copy() for param in params]

    def keep(self) -> None:
        """Take the parameters as they are now."""
        for kept, param in zip(self._kept, self._params, strict=True):
            kept[...] = param

    def restore(self) -> None:
        """Put the parameters back."""
        for kept, param in zip(self._kept, self._params, strict=True):
            param[...] = kept


class Evaluator:
    """Gathers the loss and the metrics of many batches.

    Parameters
    ----------
    network : Network
    loss : Loss
    metrics, weighted_metrics : sequences of Metric
        Copied: two evaluators never share a count. Sample weights enter the second kind only, as in Keras.
    """

    def __init__(
        self, network: Network, loss: Loss, metrics: Sequence[Metric] = (), weighted_metrics: Sequence[Metric] = ()
    ):
        self.network, self.loss = network, loss
        self.plain, self.weighted = copy.deepcopy(list(metrics)), copy.deepcopy(list(weighted_metrics))
        self.fused = network.fuses(loss)
        self.reset()

    def reset(self) -> None:
        """Begin again from zero."""
        self._total, self._rows = 0.0, 0
        for metric in [*self.plain, *self.weighted]:
            metric.reset()

    def logs(self, *, running: bool = False) -> Logs:
        """Return the figures since `reset`; with `running`, only those that are cheap to give after each batch."""
        metrics = [metric for metric in [*self.plain, *self.weighted] if metric.running or not running]
        return {"loss": self._total / max(self._rows, 1)} | {metric.name: metric.result() for metric in metrics}

    def look(self, output: NDArray[Any], target: NDArray[Any], weights: NDArray[np.float64] | None) -> None:
        """Show the metrics a batch's output, before the loss overwrites it."""
        pending = self.loss.fuses if self.fused else None
        for metric in self.plain:
            metric.update(output, target, pending)
        for metric in self.weighted:
            metric.update(output, target, pending, weights)

    def note(self, loss: float, rows: int) -> None:
        """Count a batch's loss."""
        self._total += loss * rows
        self._rows += rows

    def evaluate(self, taken: Batch) -> None:
        """Count the loss and metrics of a batch."""
        assert taken.y is not None
        y, _ = self.network.forward(taken.x, PassContext(), self.fused)
        target = self.loss.check_targets(taken.y, y.rows)
        self.look(y.rows, target, taken.weights)
        loss = self.loss.value(y.rows, target, taken.weights, self.fused)
        self.note(loss + self.network.penalty(), len(y.rows))


class Trainer:
    """Moves the parameters of a network, batch by batch.

    Parameters
    ----------
    evaluator : Evaluator
        Gathers the figures of what it is trained on.
    optimizer : Optimizer
    rng : numpy.random.Generator
        Where dropout draws its masks.
    """

    def __init__(self, evaluator: Evaluator, optimizer: Optimizer, rng: np.random.Generator):
        self.evaluator, self.optimizer = evaluator, optimizer
        self.network = evaluator.network
        self.context = PassContext(training=True, rng=rng)
        self._good = Snapshot(self.network.params)

    def step(self, taken: Batch, where: str) -> None:
        """Take one optimizer step.

        Parameters
        ----------
        taken : Batch
            The batch.
        where : str
            Names it in errors.

        Raises
        ------
        DivergedError
            The loss or a gradient is NaN or infinite; the last parameters with a finite loss are put back.
        """
        assert taken.y is not None
        evaluator = self.evaluator
        y, caches = self.network.forward(taken.x, self.context, evaluator.fused)
        target = evaluator.loss.check_targets(taken.y, y.rows)
        with np.errstate(over="ignore", invalid="ignore"):  # overflow is told as divergence
            evaluator.look(y.rows, target, taken.weights)
            rows = y.rows if self.network.gives_away_output(evaluator.fused) else y.rows.copy()
            loss = evaluator.loss.gradient(rows, target, taken.weights, evaluator.fused) + self.network.penalty()
        if not math.isfinite(loss):
            raise self._diverged(f"the loss became {loss}", where)
        self._good.keep()
        gradients = self.network.backward(rows, caches, self.context)
        norm = self._update(gradients)
        if not math.isfinite(norm):
            raise self._diverged(f"the norm of the gradient became {norm}", where)
        evaluator.note(loss, len(rows))

    def _update(self, gradients: list[NDArray[Any]]) -> float:
        try:
            norm = self.optimizer.update(self.network.params, gradients)
        except BaseException:  # an interrupt between two tensors
            self._good.restore()
            raise
        finally:
            self.network.changed()
        return norm

    def check_parameters(self, where: str) -> None:
        """Raise DivergedError if the last update left a parameter that is NaN or infinite."""
        if not all(np.isfinite(param).all() for param in self.network.params):
            raise self._diverged("a parameter became NaN or infinite", where)

    def _diverged(self, what: str, where: str) -> DivergedError:
        self._good.restore()
        self.network.changed()
        rate = self.optimizer.learning_rate
        return DivergedError(
            f"{what} at {where}, after {self.optimizer.steps} steps; the last good weights are kept. Choose a lower "
            f"learning rate than {rate:g}" + ("" if self.optimizer.clipnorm else ", or clip the gradients: clipnorm=1")
        )


def batches_of(count: int, size: int, order: NDArray[np.int64] | None = None) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of each batch's sequences; the last batch may be smaller.

    Examples
    --------
    >>> [batch.tolist() for batch in batches_of(5, 2)]
    [[0, 1], [2, 3], [4]]
    """
    numbers = np.arange(count) if order is None else order
    for first in range(0, count, size):
        yield numbers[first : first + size]


def describe(batch: int, batches: int, epoch: int | None = None) -> str:
    """Return words that find a batch again; both count from 1."""
    return f"batch {batch + 1} of {batches}{'' if epoch is None else f' in epoch {epoch + 1}'}"


def check(
    data: SequenceSet,
    network: Network,
    loss: Loss,
    batch_size: int,
    order: NDArray[np.int64] | None = None,
    who: str = "fit",
) -> None:
    """Look at all data before any of it is used, so that an error costs no training and touches no parameter.

    Parameters
    ----------
    data : SequenceSet
        With targets.
    network, loss
        What they are meant for.
    batch_size, order
        The batches that errors name.
    who : str
        Named in errors, too.

    Raises
    ------
    DataError
        NaN or infinity in the input, ids outside the vocabulary, targets that the loss cannot use.
    ShapeError
        Targets that do not go with the network's output.
    """
    first, last = network.layers[0], network.layers[-1]
    batches = -(-len(data) // batch_size)
    for number, which in enumerate(batches_of(len(data), batch_size, order)):
        taken = data.take(which, first.dtype)
        _check_finite(taken.x, which, f"{who}: x", describe(number, batches))
        if isinstance(first, Embedding):
            first.check_ids(taken.x.rows)
        else:
            first.check_features(taken.x.features)
        assert taken.y is not None
        rows = taken.x.total if data.by_step else taken.x.sequences
        loss.check_targets(taken.y, np.broadcast_to(last.dtype.type(0), (rows, last.features_out)))


def _check_finite(x: Packed, which: NDArray[np.int64], what: str, where: str) -> None:
    """Raise DataError if the input of a batch holds NaN or infinity."""
    if x.rows.dtype.kind != "f" or np.isfinite(x.rows).all():
        return
    row = int(np.flatnonzero(~np.isfinite(x.rows.reshape(len(x.rows), -1)).all(axis=1))[0])
    step = int(np.searchsorted(x.offsets, row, side="right")) - 1
    place = row - int(x.offsets[step])
    sequence = int(which[place if x.order is None else x.order[place]])
    raise DataError(
        f"{what} holds NaN or infinity in {where}: sequence {sequence}"
        f"{f', step {step}' if x.steps else ''}; no weight was touched. Repair it or leave that sequence out"
    )


def evaluate(evaluator: Evaluator, data: SequenceSet, batch_size: int) -> Logs:
    """Return the figures of a whole set."""
    evaluator.reset()
    dtype = evaluator.network.layers[0].dtype
    for which in batches_of(len(data), batch_size):
        evaluator.evaluate(data.take(which, dtype))
    return evaluator.logs()
