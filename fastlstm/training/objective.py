"""What training minimises: the losses of a model's outputs, weighted, and the penalties of its parameters."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.lengths import longest_first
from ..data.packed import Packed
from ..data.sequences import Batch
from ..errors import ShapeError
from ..layers import PassContext
from ..layers.symbol import Symbol
from .callback import Logs
from .graph import GradientSum, Graph
from .head import Head, Output
from .optimizers import global_norm

__all__ = ["Objective"]


class Objective:
    """A model and the losses of its outputs; gathers their figures over batches.

    Parameters
    ----------
    inputs : sequence of Symbol
    outputs : sequence of Output
        Their metrics are copied: two objectives never share a count.
    who : str
        Named in errors.
    """

    def __init__(self, inputs: Sequence[Symbol], outputs: Sequence[Output], who: str = "Model"):
        symbols = [output.symbol for output in outputs]
        self.graph = Graph(inputs, symbols, who)
        self.layers = self.graph.layers
        self.trained = [layer for layer in self.layers if layer.trainable and layer.arrays]
        self.params = [value for layer in self.trained for value in layer.arrays.values()]
        self.heads = []
        for output in outputs:
            own = output._replace(plain=copy.deepcopy(output.plain), weighted=copy.deepcopy(output.weighted))
            alone = symbols.count(output.symbol) == 1
            self.heads.append(Head(own, self.graph.uses[output.symbol], alone))
        self._body = Graph(inputs, [head.source for head in self.heads], who)
        self._penalised = [(layer, name) for layer in self.layers for name in layer.penalties]
        self._buffers = [value for layer in self.layers for value in layer.buffers.values()]
        self.reset()

    @property
    def kept(self) -> list[NDArray[Any]]:
        """All arrays that a step may change: the trained parameters, and running statistics."""
        return [*self.params, *self._buffers]

    @property
    def dtype(self) -> Any:
        """Type of the features that go in."""
        return self.layers[0].dtype if self.layers else np.dtype(np.float32)

    # --- figures --------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Begin the figures again."""
        self._penalties, self._batches = 0.0, 0
        for head in self.heads:
            head.reset()

    def logs(self, *, running: bool = False) -> Logs:
        """Return the figures since `reset`; with `running`, only those that are cheap to give after each batch."""
        loss = sum(head.output.weight * head.mean for head in self.heads) + self._penalties / max(self._batches, 1)
        logs: Logs = {"loss": loss}
        several = len(self.heads) > 1
        for head in self.heads if several else ():
            logs[f"{head.output.name}_loss"] = head.mean
        for head in self.heads:
            logs |= head.logs(running=running, prefix=f"{head.output.name}_" if several else "")
        return logs

    def penalty(self) -> float:
        """Return what the regularizers of all layers add to the loss: ``sum(factor * sum(w ** 2))``."""
        total = 0.0
        for layer, name in self._penalised:
            norm = global_norm([layer.arrays[name]])
            total += layer.penalties[name] * norm * norm
        return total

    def _penalty(self) -> float:
        own = self.penalty() if self._penalised else 0.0
        self._penalties += own
        self._batches += 1
        return own

    # --- passes ---------------------------------------------------------------------------------------------------

    def evaluate(self, batch: Batch) -> None:
        """Count the losses and metrics of a batch."""
        outputs, _ = self._body.forward(batch.inputs, PassContext())
        for place, (head, x) in enumerate(zip(self.heads, outputs, strict=True)):
            head.evaluate(x, *batch.target(place, x, head.loss))
        self._penalty()

    def train(self, batch: Batch, context: PassContext) -> tuple[float, list[NDArray[Any]] | None]:
        """Run a batch forward and back; return the loss, and the gradient of every parameter in the order of `params`.

        The gradients are None where the loss is not finite.
        """
        outputs, caches = self._body.forward(batch.inputs, context)
        found = GradientSum(context)
        loss, dys = 0.0, []
        for place, (head, x) in enumerate(zip(self.heads, outputs, strict=True)):
            own, dy = head.train(x, *batch.target(place, x, head.loss), context, found)
            loss += own
            dys.append(dy)
        loss += self._penalty()
        if not np.isfinite(loss):
            return loss, None
        self._body.backward(dys, caches, context, found)  # type: ignore[arg-type]
        gradients = []
        for layer in self.trained:
            own_gradients = found.of(layer)
            gradients += [own_gradients[name] for name in layer.arrays]
        return loss, gradients

    def check(self, batch: Batch) -> None:
        """Raise what training would raise for the targets of a batch, without computing anything.

        Raises
        ------
        DataError, ShapeError
            Targets that the loss cannot use, or that do not go with the model's output.
        """
        for place, head in enumerate(self.heads):
            like = self._like(head, batch)
            target, weights = batch.target(place, like, head.loss)
            head.loss.check_targets(target, like if head.loss.by_sequence else like.rows)  # type: ignore[arg-type]
            wanted = like.sequences if head.loss.by_sequence else like.total
            if weights is not None and len(weights) != wanted:
                raise ShapeError(
                    f"{head.output.name}: sample_weight has {len(weights)} numbers for a batch of {wanted}; "
                    "expected one each"
                )

    def _like(self, head: Head, batch: Batch) -> Packed:
        """Return a batch of zeros as the model's output will be, but for the order of its sequences."""
        features, axis = head.output.symbol.spec[:2]
        if features is None:
            raise ShapeError(
                f"{head.output.name}: the features of this output depend on the batch; it can have no loss"
            )
        count = batch.inputs[0].sequences
        zero = self.dtype.type(0)
        if axis is None:
            return Packed(np.broadcast_to(zero, (count, features)), np.array([count]), steps=False)
        of_inputs = {
            symbol: x.to_user_order(x.lengths) for symbol, x in zip(self.graph.inputs, batch.inputs, strict=True)
        }
        order, batch_sizes = longest_first(axis.lengths(of_inputs, count))
        return Packed(np.broadcast_to(zero, (int(batch_sizes.sum()), features)), batch_sizes, order)

    def changed(self) -> None:
        """Tell the layers that their parameters have new values."""
        for layer in self.trained:
            layer.changed()
