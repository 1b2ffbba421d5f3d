"""The fit loop: batches in, parameters moved, figures out. It knows layers and losses, but no model."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.packed import Packed
from ..data.sequences import SequenceSet, Taken
from ..errors import DataError, DivergedError
from ..layers import Dense, Layer, Run
from .callbacks import Logs
from .losses import Loss
from .metrics import Metric
from .optimizers import Optimizer

__all__ = ["Network", "Snapshot", "Step", "batches_of"]


class Snapshot:
    """The last parameters whose loss was known to be finite."""

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


class Network:
    """Layers one after the other.

    Parameters
    ----------
    layers : sequence of Layer
        Built, and fitting each other.
    """

    def __init__(self, layers: Sequence[Layer]):
        self.layers = list(layers)
        self.params = [value for layer in self.layers for value in layer.params.values()]

    def fuses(self, loss: Loss) -> bool:
        """Tell whether the loss takes the values before the last activation."""
        last = self.layers[-1]
        return isinstance(last, Dense) and last.activation == loss.fuses

    def forward(self, x: Packed, run: Run, fused: bool = False) -> tuple[Packed, list[Any]]:
        """Return the output and every layer's cache; with `fused`, the values before the last activation."""
        caches = []
        for layer in self.layers[:-1]:
            x, cache = layer.forward(x, run)
            caches.append(cache)
        last = self.layers[-1]
        x, cache = last.forward(x, run, linear=True) if fused and isinstance(last, Dense) else last.forward(x, run)
        return x, [*caches, cache]

    def backward(self, dy: NDArray[Any], caches: list[Any], run: Run) -> list[NDArray[Any]]:
        """Return the gradient of every parameter, in the order of ``params``."""
        gradients = []
        gradient: NDArray[Any] | None = dy
        for layer, cache in zip(reversed(self.layers), reversed(caches), strict=True):
            assert gradient is not None  # only the first layer takes ids
            gradient, own = layer.backward(gradient, cache, run)
            gradients.append([own[name] for name in layer.params])
        return [value for own in reversed(gradients) for value in own]

    def changed(self) -> None:
        """Tell the layers that their parameters have new values."""
        for layer in self.layers:
            layer.changed()


def batches_of(count: int, size: int, order: NDArray[np.int64] | None = None) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of each batch's sequences; the last batch may be smaller."""
    numbers = np.arange(count) if order is None else order
    for first in range(0, count, size):
        yield numbers[first : first + size]


@dataclass
class Step:
    """What every batch of a fit shares: the network, how its output is judged, and how it moves."""

    network: Network
    loss: Loss
    metrics: Sequence[Metric]
    optimizer: Optimizer
    run: Run = field(default_factory=lambda: Run(training=True))

    def __post_init__(self) -> None:
        self.fused = self.network.fuses(self.loss)
        self._good = Snapshot(self.network.params)
        self.reset()

    def reset(self) -> None:
        """Begin an epoch."""
        self._total, self._rows = 0.0, 0
        for metric in self.metrics:
            metric.reset()

    def logs(self) -> Logs:
        """Return the figures since `reset`."""
        return {"loss": self._total / max(self._rows, 1)} | {metric.name: metric.result() for metric in self.metrics}

    def _judge(self, taken: Taken, run: Run, where: str) -> tuple[Packed, list[Any], NDArray[Any]]:
        """Run a batch forward, check it, and note the metrics."""
        check_finite(taken.x.rows, where)
        y, caches = self.network.forward(taken.x, run, self.fused)
        assert taken.y is not None
        target = self.loss.check_targets(taken.y, y.rows)
        for metric in self.metrics:
            metric.update(y.rows, target, self.fused)
        return y, caches, target

    def _note(self, loss: float, rows: int) -> None:
        self._total += loss * rows
        self._rows += rows

    def train(self, taken: Taken, where: str) -> None:
        """Take one optimizer step; `where` names the batch in errors.

        Raises
        ------
        DataError
            The input holds NaN or infinity; no parameter was touched.
        DivergedError
            The loss or a gradient is NaN or infinite; the last parameters with a finite loss are put back.
        """
        y, caches, target = self._judge(taken, self.run, where)
        loss = self.loss.gradient(y.rows, target, taken.weights, self.fused)
        if math.isfinite(loss):
            self._good.keep()
            gradients = self.network.backward(y.rows, caches, self.run)
            if math.isfinite(self.optimizer.update(self.network.params, gradients)):
                self._note(loss, len(y.rows))
                self.network.changed()
                return
            loss = math.nan
        self._good.restore()
        self.network.changed()
        raise DivergedError(
            f"the loss became {loss} at {where} (step {self.optimizer.steps + 1}); the last good weights are kept. "
            "Lower the learning rate, or clip gradients: Adam(clipnorm=1.0)"
        )

    def evaluate(self, taken: Taken, where: str) -> None:
        """Note the loss and metrics of a batch."""
        y, _, target = self._judge(taken, Run(), where)
        self._note(self.loss.value(y.rows, target, taken.weights, self.fused), len(y.rows))


def check_finite(rows: NDArray[Any], where: str) -> None:
    """Raise DataError if the input of a batch holds NaN or infinity."""
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise DataError(f"the input holds NaN or infinity at {where}; clean it or leave those sequences out")


def describe(which: NDArray[np.int64], batch: int, epoch: int | None = None) -> str:
    """Return words that find a batch again."""
    first = f"{', '.join(map(str, which[:8]))}{', ...' if len(which) > 8 else ''}"
    return f"batch {batch}{'' if epoch is None else f' of epoch {epoch + 1}'} (sequences {first})"


def evaluate(step: Step, data: SequenceSet, batch_size: int, dtype: Any) -> Logs:
    """Return the figures of a whole set."""
    step.reset()
    for number, which in enumerate(batches_of(len(data), batch_size)):
        step.evaluate(data.take(which, dtype), describe(which, number))
    return step.logs()
