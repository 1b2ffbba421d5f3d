"""Epochs: where batches come from, their training, the evaluation of held-out data, and the callbacks between."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.numbers import whole
from ..data.sequences import Batch, DataSet
from ..errors import DataError, OptionError
from ..layers.base import size
from .callbacks import Callback
from .loop import Trainer, batches_of, check, check_batch, describe, evaluate
from .objective import Objective

__all__ = ["ArrayFeed", "Feed", "IterableFeed", "Plan", "fit", "split_off"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a fit goes over its data; the words are those of `Model.fit`."""

    batch_size: int = 32
    epochs: int = 1
    initial_epoch: int = 0
    shuffle: bool = True
    class_weight: Mapping[int, float] | None = None
    steps_per_epoch: int | None = None
    validation_steps: int | None = None
    validation_batch_size: int | None = None
    validation_freq: int = 1

    def __post_init__(self) -> None:
        for word in ("batch_size", "epochs", "validation_freq"):
            size("fit", word, getattr(self, word))
        for word in ("steps_per_epoch", "validation_steps", "validation_batch_size"):
            if getattr(self, word) is not None:
                size("fit", word, getattr(self, word))
        if whole(self.initial_epoch, "fit: initial_epoch", 0) > self.epochs:
            raise OptionError(f"fit: initial_epoch={self.initial_epoch}; expected 0 to epochs={self.epochs}")
        if self.class_weight is not None:
            _check_class_weight(self.class_weight)


class Feed:
    """Where the batches of each epoch come from.

    Attributes
    ----------
    batches : int or None
        How many an epoch has; None where that is seen at its end only.
    samples : int or None
        How many sequences an epoch has.
    """

    batches: int | None
    samples: int | None

    def check(self, objective: Objective) -> None:
        """Look at the data before training touches a parameter, as far as it is there."""

    def epoch(self, objective: Objective) -> Iterator[Batch]:
        """Yield the batches of the next epoch."""
        raise NotImplementedError


class ArrayFeed(Feed):
    """Batches of a set that is there as a whole.

    Parameters
    ----------
    data : DataSet
    batch_size : int
    rng : numpy.random.Generator, optional
        Draws a new order for each epoch; None keeps the order.
    steps : int, optional
        Batches of an epoch, where it shall not be the whole set.
    class_weight : mapping of int to float, optional
    who : str
        Named in errors.
    """

    def __init__(
        self,
        data: DataSet,
        batch_size: int,
        rng: np.random.Generator | None = None,
        steps: int | None = None,
        class_weight: Mapping[int, float] | None = None,
        who: str = "fit",
    ):
        self.data, self.batch_size, self.class_weight, self.who = data, batch_size, class_weight, who
        whole_set = -(-len(data) // batch_size)
        if steps is not None and steps > whole_set:
            raise OptionError(f"{who}: {steps} steps of {batch_size} are asked for, but the data have {whole_set}")
        self.batches = whole_set if steps is None else steps
        self.samples = min(len(data), self.batches * batch_size)
        self._rng = rng
        self._drawn = False
        self._order: Any = None

    def _next_order(self) -> None:
        self._order = None if self._rng is None else self._rng.permutation(len(self.data))
        self._drawn = True

    def check(self, objective: Objective) -> None:
        """Look at all of it, in the batches of the first epoch."""
        self._next_order()
        check(self.data, objective, self.batch_size, self._order, self.who)

    def epoch(self, objective: Objective) -> Iterator[Batch]:
        """Yield the batches of the next epoch; its order is drawn now."""
        if not self._drawn:  # here, not at the end of the one before: a later fit then draws the same
            self._next_order()
        self._drawn = False
        return self._batches(objective)

    def _batches(self, objective: Objective) -> Iterator[Batch]:
        for number, which in enumerate(batches_of(len(self.data), self.batch_size, self._order)):
            if number == self.batches:
                return
            yield self.data.take(which, objective.dtype, self.class_weight)


class IterableFeed(Feed):
    """Batches that come one by one: from a generator, or from anything that can be gone through several times.

    Parameters
    ----------
    batches : iterable
        Of ``(x, y)`` or ``(x, y, sample_weight)``.
    make : callable
        Makes a set of what it yields.
    steps : int, optional
        Batches of an epoch. A generator needs it for more than one epoch.
    class_weight : mapping of int to float, optional
    who : str
        Named in errors.
    """

    def __init__(
        self,
        batches: Iterable[Any],
        make: Callable[[Any], DataSet],
        steps: int | None = None,
        class_weight: Mapping[int, float] | None = None,
        who: str = "fit",
    ):
        self._make, self.class_weight, self.who = make, class_weight, who
        self._again = batches
        self._once = isinstance(batches, Iterator)
        self._running: Iterator[Any] | None = batches if isinstance(batches, Iterator) else None
        length = len(batches) if isinstance(batches, Sized) else None
        self.batches = length if steps is None else steps
        self._steps, self.samples = steps, None
        self._epochs = 0
        self.ran_out = False
        """Whether the last epoch ended before it had all its steps."""

    def epoch(self, objective: Objective) -> Iterator[Batch]:
        """Yield the batches of the next epoch, each looked at first."""
        if self._running is None or (self._steps is None and not self._once):
            self._running = iter(self._again)
        number = 0
        while number != self._steps:
            given = next(self._running, self)
            if given is self:
                if self._steps is not None and not self._once and number:
                    self._running = iter(self._again)  # steps_per_epoch goes on over its end, as in Keras
                    continue
                break
            data = self._make(given)
            batch = data.take(np.arange(len(data)), objective.dtype, self.class_weight)
            check_batch(batch, objective, self.who, describe(number, self.batches, self._epochs))
            number += 1
            yield batch
        if not number and not self._epochs:
            raise DataError(f"{self.who}: the iterable yields no batch; it should yield tuples (x, y)")
        if not number:
            raise DataError(
                f"{self.who}: the generator is exhausted after epoch {self._epochs}; pass steps_per_epoch=, "
                "or something that can be gone through again, such as a list of batches"
            )
        self.ran_out = self._steps is not None and number < self._steps
        self._epochs += 1


def fit(
    trainer: Trainer[Objective],
    feed: Feed,
    held: tuple[Objective, Feed] | None,
    plan: Plan,
    calls: Callback,
    stopped: Callable[[], bool],
) -> None:
    """Train for all epochs, or until `stopped` says so after one.

    Parameters
    ----------
    trainer : Trainer
        Moves the parameters.
    feed : Feed
        What is trained on.
    held : tuple of Objective and Feed, optional
        What is evaluated after each epoch, or after every `validation_freq`.
    plan : Plan
    calls : Callback
        Hears of every batch and epoch.
    stopped : callable
        Whether a callback has asked to stop.

    Raises
    ------
    DataError, ShapeError
        Anywhere in the data, before the first step; of data that come batch by batch, before that batch's step.
    OptionError
        Class weights for a class that the model does not have.
    DivergedError
        See `Trainer.step`.
    """
    objective = trainer.objective
    feed.check(objective)
    if plan.class_weight is not None:
        _check_classes(plan.class_weight, objective)
    if held is not None:
        held[1].check(held[0])
    calls.on_train_begin()
    for epoch in range(plan.initial_epoch, plan.epochs):
        batches = feed.epoch(objective)
        calls.on_epoch_begin(epoch)
        objective.reset()
        number = 0
        for batch in batches:
            calls.on_train_batch_begin(number)
            trainer.step(batch, describe(number, feed.batches, epoch))
            calls.on_train_batch_end(number, objective.logs(running=True))
            number += 1
        trainer.check_parameters(f"the end of epoch {epoch + 1}")
        logs = objective.logs()
        if held is not None and (epoch + 1) % plan.validation_freq == 0:
            logs |= {f"val_{name}": value for name, value in evaluate(held[0], held[1].epoch(held[0])).items()}
        calls.on_epoch_end(epoch, logs)
        if stopped():
            break
        if isinstance(feed, IterableFeed) and feed.ran_out:
            warnings.warn(
                f"fit: the data ran out in epoch {epoch + 1}, after {number} of {feed.batches} steps; training ends",
                UserWarning,
                stacklevel=3,
            )
            break
    calls.on_train_end()


def split_off(data: DataSet, share: float) -> tuple[DataSet, DataSet]:
    """Return what is trained on, and the last `share` of the sequences: as many as Keras takes.

    Raises
    ------
    OptionError
        The share is not between 0 and 1, or leaves one side empty.
    """
    if not (isinstance(share, float | int | np.number) and 0.0 < share < 1.0):
        raise OptionError(f"fit: validation_split={share!r}; expected 0 <= validation_split < 1")
    count = math.floor(len(data) * (1.0 - share))
    if count in (0, len(data)):
        raise OptionError(f"fit: validation_split={share} of {len(data)} sequences leaves one side empty")
    return data.split(count)


def _check_class_weight(class_weight: Mapping[int, float]) -> None:
    """Raise OptionError unless it maps class numbers to weights, numbers from 0 on."""
    if not isinstance(class_weight, Mapping):
        raise OptionError(f"fit: class_weight={class_weight!r}; expected a mapping such as {{0: 1.0, 1: 5.0}}")
    for number, weight in class_weight.items():
        if not isinstance(number, int | np.integer) or number < 0:
            raise OptionError(f"fit: class_weight names class {number!r}; expected whole numbers from 0 on, as in y")
        right = isinstance(weight, int | float | np.integer | np.floating) and not isinstance(weight, bool)
        if not (right and math.isfinite(weight) and weight >= 0):
            raise OptionError(
                f"fit: class_weight of class {number} is {weight!r}; expected a finite number, 0 or more "
                "(0 leaves the class out)"
            )


def _check_classes(class_weight: Mapping[int, float], objective: Objective) -> None:
    """Raise OptionError if a class is named that the model does not have: most often a slip in the mapping."""
    if len(objective.heads) > 1:
        raise OptionError("fit: class_weight goes with one output; pass sample_weight= for each output instead")
    [head] = objective.heads
    outputs = head.output.symbol.spec.features or 1
    if head.loss.by_sequence:
        raise OptionError(f"fit: class_weight goes with a loss by row; {head.loss.name} looks at whole sequences")
    if outputs == 1 and head.loss.fuses is None:
        return  # one output without a sigmoid may stand for any number
    classes = max(outputs, 2)
    if unknown := sorted(number for number in class_weight if number >= classes):
        raise OptionError(
            f"fit: class_weight names class {unknown[0]}; the model has {classes} classes: 0 to {classes - 1}. "
            "Leave it out, or give the last layer more units"
        )
