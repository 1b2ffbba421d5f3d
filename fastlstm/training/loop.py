"""Training step by step: batches in, parameters moved, figures out. It knows no model."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..data.packed import Packed
from ..data.sequences import Batch, DataSet
from ..errors import DataError, DivergedError, ShapeError
from ..layers import Embedding, PassContext
from .callback import Logs
from .graph import Graph
from .objective import Objective
from .optimizers import Optimizer

__all__ = [
    "Minimised",
    "Snapshot",
    "Trainer",
    "batches_of",
    "check",
    "check_batch",
    "check_inputs",
    "describe",
    "evaluate",
]


class Snapshot:
    """The last parameters whose loss was known to be finite.

    A copy of all parameters each step costs a small part of the optimizer's own pass over them, so it is simply made.
    """

    def __init__(self, params: Sequence[NDArray[Any]]):
        self._params = params
        self._kept = self._spare = [param.copy() for param in params]

    def keep(self) -> None:
        """Copy the parameters as they are now; an interrupt meanwhile leaves the copy from before."""
        if self._spare is self._kept:
            self._spare = [param.copy() for param in self._kept]
        for spare, param in zip(self._spare, self._params, strict=True):
            spare[...] = param
        self._kept, self._spare = self._spare, self._kept

    def restore(self) -> None:
        """Put the parameters back."""
        for kept, param in zip(self._kept, self._params, strict=True):
            param[...] = kept


class Minimised(Protocol):
    """What a trainer minimises: an `Objective`, or a language model's loss over windows of a text."""

    params: list[NDArray[Any]]
    """What the optimizer moves."""

    @property
    def kept(self) -> list[NDArray[Any]]:
        """All arrays that a step may change."""

    def train(self, batch: Any, context: PassContext) -> tuple[float, list[NDArray[Any]] | None]:
        """Return the loss of a batch, and the gradient of each parameter: None where the loss is not finite."""

    def changed(self) -> None:
        """Take notice that the parameters have new values."""


O = TypeVar("O", bound=Minimised)


class Trainer(Generic[O]):
    """Moves the parameters of a model, batch by batch.

    Parameters
    ----------
    objective : Minimised
        What is minimised; an `Objective` gathers the figures.
    optimizer : Optimizer
    rng : numpy.random.Generator
        Where dropout draws its masks.
    clipping : str
        How the user asks for clipping, for errors.
    """

    def __init__(self, objective: O, optimizer: Optimizer, rng: np.random.Generator, clipping: str = "clipnorm=1"):
        self.objective, self.optimizer, self._clipping = objective, optimizer, clipping
        self.context = PassContext(training=True, rng=rng)
        self._good = Snapshot(objective.kept)

    def step(self, batch: Any, where: str, rate: Callable[[], float] | None = None) -> float:
        """Take one optimizer step; return the loss before it.

        Parameters
        ----------
        batch : Batch, or whatever the objective takes
            The batch.
        where : str
            Names it in errors.
        rate : callable, optional
            Gives the learning rate of this step, once the loss is there.

        Raises
        ------
        DivergedError
            The loss or a gradient is NaN or infinite; the last parameters with a finite loss are put back.
        """
        loss, gradients = self.objective.train(batch, self.context)
        if gradients is None:
            raise self._diverged(f"the loss became {loss}", where)
        self._good.keep()
        if rate is not None:
            self.optimizer.learning_rate = rate()
        norm = self._update(gradients)
        if not math.isfinite(norm):
            raise self._diverged(f"the norm of the gradient became {norm}", where)
        return loss

    def _update(self, gradients: list[NDArray[Any]]) -> float:
        try:
            norm = self.optimizer.update(self.objective.params, gradients)
        except BaseException:  # an interrupt between two tensors
            self._good.restore()
            raise
        finally:
            self.objective.changed()
        return norm

    def restore(self) -> None:
        """Put the last parameters with a finite loss back."""
        self._good.restore()
        self.objective.changed()

    def check_parameters(self, where: str) -> None:
        """Raise DivergedError if the last update left a parameter that is NaN or infinite."""
        if not all(np.isfinite(param).all() for param in self.objective.kept):
            raise self._diverged("a parameter became NaN or infinite", where)

    def _diverged(self, what: str, where: str) -> DivergedError:
        self.restore()
        rate = self.optimizer.learning_rate
        return DivergedError(
            f"{what} at {where}, after {self.optimizer.steps} steps; the last good weights are kept. Choose a lower "
            f"learning rate than {rate:g}"
            + ("" if self.optimizer.clipnorm else f", or clip the gradients: {self._clipping}")
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


def describe(batch: int, batches: int | None, epoch: int | None = None) -> str:
    """Return words that find a batch again; both count from 1."""
    of = "" if batches is None else f" of {batches}"
    return f"batch {batch + 1}{of}{'' if epoch is None else f' in epoch {epoch + 1}'}"


def check(
    data: DataSet,
    objective: Objective,
    batch_size: int,
    order: NDArray[np.int64] | None = None,
    who: str = "fit",
) -> None:
    """Look at all data before any of it is used, so that an error costs no training and touches no parameter.

    Parameters
    ----------
    data : DataSet
        With targets.
    objective : Objective
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
        Targets that do not go with the model's output.
    """
    batches = -(-len(data) // batch_size)
    for number, which in enumerate(batches_of(len(data), batch_size, order)):
        check_batch(data.take(which, objective.dtype), objective, who, describe(number, batches))


def check_batch(batch: Batch, objective: Objective, who: str, where: str) -> None:
    """Look at a batch before it is used; see `check`."""
    check_inputs(batch, objective.graph, who, where)
    objective.check(batch)


def check_inputs(batch: Batch, graph: Graph, who: str, where: str) -> None:
    """Raise DataError or ShapeError for inputs that a model cannot take."""
    for symbol, x, given in zip(graph.inputs, batch.inputs, batch.data.inputs, strict=True):
        _check_finite(x, batch.which, f"{who}: {given.word}", where)
        for layer in graph.readers(symbol):
            if isinstance(layer, Embedding):
                layer.check_ids(x.rows)
            elif not layer.takes_several:
                layer.check_features(x.features)
        features = symbol.spec.features
        if features is not None and x.features != features:
            raise ShapeError(f"{who}: {given.word} has {x.features} features; the model takes {features}")


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


def evaluate(objective: Objective, batches: Iterable[Batch]) -> Logs:
    """Return the figures of some batches."""
    objective.reset()
    for batch in batches:
        objective.evaluate(batch)
    return objective.logs()
