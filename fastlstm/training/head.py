"""The end of a model for training: an output, its loss, and the last layer where the loss computes its activation.

A last Dense layer runs over blocks of rows, so that the values of a large vocabulary never take more than a few
megabytes, and over rows that count only: a row of weight 0 costs nothing.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.packed import Packed
from ..errors import OptionError
from ..layers import Dense, Layer, PassContext
from ..layers.symbol import Symbol
from .graph import Gradient, GradientSum, Uses
from .losses import Loss
from .metrics import Metric

__all__ = ["Head", "Output"]

Weights = NDArray[np.float64] | None

_BLOCK_BYTES = 16 << 20
"""Of the output of a last Dense layer, at a time."""

_LEAST_ROWS = 64
"""Of a block, however wide a row is."""

_PROBABILITIES = ("sigmoid", "softmax", "hard_sigmoid", "hard_sigmoid_keras2")
"""Activations that give numbers from 0 to 1."""

_LOSSES_OF_LAYERS = {"crf": "CRF"}
"""Losses that need a layer of their own kind last."""


class Output(NamedTuple):
    """What one output of a model is trained for.

    Attributes
    ----------
    name : str
        Of the output, in logs and errors.
    symbol : Symbol
    loss : Loss
    weight : float
        What the loss counts in the sum of all.
    plain, weighted : tuples of Metric
        Without and with sample weights.
    """

    name: str
    symbol: Symbol
    loss: Loss
    weight: float = 1.0
    plain: tuple[Metric, ...] = ()
    weighted: tuple[Metric, ...] = ()


def fuses(loss: Loss, layer: Layer | None) -> bool:
    """Tell whether the loss takes the values before the last activation, that of `layer`.

    Raises
    ------
    OptionError
        The loss needs probabilities and the layer gives none, or the other way round.
    """
    activation = None if layer is None else layer.fused_by
    name = "the model" if layer is None else layer.name
    if activation in _LOSSES_OF_LAYERS and loss.fuses != activation:
        raise OptionError(f"{loss.name}: {name} is a {layer.kind}; it is trained by loss={activation!r}")  # type: ignore[union-attr]
    if loss.fuses in _LOSSES_OF_LAYERS and activation != loss.fuses:
        raise OptionError(
            f"{loss.name}: the model ends with {name}; expected a {_LOSSES_OF_LAYERS[loss.fuses]} layer last"
        )
    if loss.from_logits:
        if activation in ("sigmoid", "softmax"):
            raise OptionError(f"{loss.name}: from_logits=True, but {name} ends with {activation}; drop one of the two")
        return True
    if loss.fuses is not None and activation is not None and activation not in (*_PROBABILITIES, loss.fuses):
        raise OptionError(
            f"{loss.name} needs probabilities, but {name} ends with activation={activation!r}; "
            f"write activation={loss.fuses!r}, or take the loss with from_logits=True"
        )
    return loss.fuses is not None and activation == loss.fuses


class Head:
    """Computes an output's loss, and the gradient of what comes before.

    Parameters
    ----------
    output : Output
    uses : Uses
        Of its symbol: who else reads it.
    """

    def __init__(self, output: Output, uses: Uses, alone: bool):
        self.output, self.loss = output, output.loss
        node = output.symbol.node
        last = None if node is None or output.symbol.index else node.layer
        self.fused = fuses(self.loss, last)
        activation = None if last is None else last.fused_by
        # of from_logits the output itself is what a softmax would take, whatever activation made it
        instead = self.fused and not self.loss.from_logits
        own = (instead or activation == "linear") and alone and uses.reads == 0
        self.layer = last if own else None
        """The last layer, where it is run here rather than in the graph."""
        if instead and not own:
            self.fused = False  # the activation's value is needed elsewhere, too
        self.source = node.inputs[0] if own and node is not None else output.symbol
        """What the graph shall give."""
        self.by_rows = isinstance(self.layer, Dense) and not self.loss.by_sequence
        self.pending = self.loss.fuses if self.fused and not self.loss.by_sequence else None
        if getattr(self.loss, "own_lengths", False) and self.metrics:
            raise OptionError(
                f"{self.loss.name}: metrics compare rows of the output with rows of the target, and the targets of "
                f"{output.name} have lengths of their own; leave them out, and decode what predict returns"
            )
        self.total, self.count = 0.0, 0

    # --- figures --------------------------------------------------------------------------------------------------

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """All metrics."""
        return (*self.output.plain, *self.output.weighted)

    def reset(self) -> None:
        """Begin the figures again."""
        self.total, self.count = 0.0, 0
        for metric in self.metrics:
            metric.reset()

    @property
    def mean(self) -> float:
        """The mean loss since `reset`."""
        return self.total / max(self.count, 1)

    def _look(self, rows: NDArray[Any], target: Any, weights: Weights) -> None:
        """Show the metrics an output before the loss overwrites it."""
        for metric in self.output.plain:
            metric.update(rows, target, self.pending)
        for metric in self.output.weighted:
            metric.update(rows, target, self.pending, weights)

    def _note(self, loss: float, count: int) -> None:
        self.total += loss * count
        self.count += count

    # --- passes ---------------------------------------------------------------------------------------------------

    def evaluate(self, x: Packed, target: Any, weights: Weights) -> float:
        """Count the loss and the metrics of a batch; return the loss."""
        loss, context = 0.0, PassContext()
        if self.by_rows:
            assert self.layer is not None
            target = self._checked(x, target)
            for rows, share, own, part in self._blocks(x, target, weights):
                y, _ = self.layer.forward(rows, context, linear=True)  # type: ignore[call-arg]
                self._look(y.rows, own, part)
                loss += share * self.loss.value(y.rows, own, part, self.fused)
            self._note(loss, self._rows_of(x, target))
            return loss
        y = x if self.layer is None else self.layer.forward(x, context, linear=True)[0]  # type: ignore[call-arg]
        given = y if self.loss.by_sequence else y.rows
        target = self.loss.check_targets(target, given)  # type: ignore[arg-type]
        self._look_at(y, target, weights)
        loss = self.loss.value(given, target, weights, self.fused)  # type: ignore[arg-type]
        self._note(loss, self._count(y))
        return loss

    def train(
        self, x: Packed, target: Any, weights: Weights, context: PassContext, found: GradientSum
    ) -> tuple[float, Gradient | None]:
        """Return the loss times its weight, and its gradient by the rows of `x`; add those of the last layer.

        The gradient is None where the loss counts nothing.
        """
        scale = self.output.weight
        with np.errstate(over="ignore", invalid="ignore"):  # overflow is told as divergence
            if self.by_rows:
                return self._train_rows(x, target, weights, context, found)
            y, cache = x, None
            if self.layer is not None:
                y, cache = self.layer.forward(x, context, linear=True)  # type: ignore[call-arg]
            given: Any = y
            if self.layer is None:
                given = y.with_rows(y.rows.copy())  # a cache may hold them
            target = self.loss.check_targets(target, given if self.loss.by_sequence else given.rows)
            self._look_at(y, target, weights)
            loss = self._gradient(given if self.loss.by_sequence else given.rows, target, weights, scale)
        self._note(loss, self._count(y))
        if scale == 0.0:
            return 0.0, None
        if self.layer is None:
            return scale * loss, given.rows
        dx, gradients = self.layer.backward(given.rows, cache, context)
        found.add(self.layer, gradients)
        return scale * loss, dx

    def _gradient(self, given: Any, target: Any, weights: Weights, scale: float) -> float:
        """Return the loss, and overwrite the output with the gradient of `scale` times it."""
        if scale == 1.0:
            return self.loss.gradient(given, target, weights, self.fused)
        if scale == 0.0:
            return self.loss.value(given, target, weights, self.fused)
        count = given.sequences if self.loss.by_sequence else len(given)
        scaled = np.full(count, scale) if weights is None else scale * weights
        return self.loss.gradient(given, target, scaled, self.fused) / scale

    def _train_rows(
        self, x: Packed, target: Any, weights: Weights, context: PassContext, found: GradientSum
    ) -> tuple[float, NDArray[Any] | None]:
        layer, scale, total = self.layer, self.output.weight, x.total
        assert isinstance(layer, Dense)
        target = self._checked(x, target)
        counting = self._counting(target, weights)
        whole = x.rows
        dx: NDArray[Any] | None = None
        loss, gradients = 0.0, None
        for rows, share, own, part in self._blocks(x, target, weights, counting):
            y, cache = layer.forward(rows, context, linear=True)
            self._look(y.rows, own, part)
            if share != 1.0:  # the loss divides by the block's rows
                part = np.full(len(y.rows), share) if part is None else part * share
            loss += self._gradient(y.rows, own, part, scale)
            if scale == 0.0:
                continue
            assert cache is not None
            back, gradients = layer.backward(y.rows, cache, context, add=gradients is not None)
            if len(back) == total:
                dx = back
                continue
            if dx is None:
                dx = context.workspace.shared((layer, "dx"), whole.shape, layer.dtype)
                dx[...] = 0.0
                done = 0
            which = slice(done, done + len(back)) if counting is None else counting[done : done + len(back)]
            dx[which] = back
            done += len(back)
        self._note(loss, self._rows_of(x, target))
        if scale == 0.0:
            return 0.0, None
        if gradients is None:  # no row counts
            return 0.0, None
        found.add(layer, gradients)
        return scale * loss, dx

    def _checked(self, x: Packed, target: Any) -> Any:
        """Return targets as the loss computes with them, for a last Dense layer."""
        assert self.layer is not None
        zeros = np.broadcast_to(self.layer.dtype.type(0), (x.total, self.layer.features_out))
        return self.loss.check_targets(target, zeros)

    def _rows_of(self, x: Packed, target: Any) -> int:
        """Return how many rows the loss divides by."""
        ignored = self.loss.ignored(target)
        return x.total if ignored is None else max(x.total - int(ignored.sum()), 1)

    def _counting(self, target: Any, weights: Weights, every: bool = False) -> NDArray[np.int64] | None:
        """Return the rows that count, where others need not be computed; None: all.

        Without sample weights a metric counts rows of weight 0, too, and so it does with `every`.
        """
        ignored = self.loss.ignored(target)
        counts = None if ignored is None else ~ignored
        if weights is not None and not every and not self.output.plain and not weights.all():
            counts = weights != 0 if counts is None else counts & (weights != 0)
        return None if counts is None or counts.all() else np.flatnonzero(counts)

    def _blocks(
        self, x: Packed, target: Any, weights: Weights, counting: NDArray[np.int64] | None = None
    ) -> Iterator[tuple[Packed, float, Any, Weights]]:
        """Yield blocks of rows, their share of the rows that the loss divides by, and their targets and weights."""
        layer, total = self.layer, x.total
        assert layer is not None
        if counting is None:
            counting = self._counting(target, weights, every=True)
        divisor, rows = self._rows_of(x, target), x.rows
        if counting is not None:
            rows, target = rows[counting], target[counting]
            weights = None if weights is None else weights[counting]
        count = len(rows)
        size = max(_LEAST_ROWS, _BLOCK_BYTES // (layer.features_out * layer.dtype.itemsize))
        if count == total and count <= size:
            yield x.with_rows(rows), 1.0, target, weights
            return
        for first in range(0, count, size):
            part = slice(first, min(first + size, count))
            block = Packed(rows[part], np.array([part.stop - first]), steps=False)
            yield block, (part.stop - first) / divisor, target[part], None if weights is None else weights[part]

    def _look_at(self, y: Packed, target: Any, weights: Weights) -> None:
        """Show the metrics the output of a whole batch."""
        if not self.metrics:
            return
        rows = y.rows
        if self.loss.by_sequence:
            if weights is not None and y.steps:
                weights = weights[y.sequence_of_row]
            marginals = getattr(self.loss, "marginals", None)
            rows = rows if marginals is None else marginals(y)
        self._look(rows, target, weights)

    def _count(self, y: Packed) -> int:
        return y.sequences if self.loss.by_sequence else y.total

    def logs(self, *, running: bool, prefix: str = "") -> dict[str, float]:
        """Return the figures of the metrics; with `running`, only those that are cheap to give after each batch."""
        return {prefix + metric.name: metric.result() for metric in self.metrics if metric.running or not running}
