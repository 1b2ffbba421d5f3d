"""Epochs: the order of the batches, their training, the evaluation of held-out data, and the callbacks between."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..data.numbers import whole
from ..data.sequences import Batch, SequenceSet
from ..errors import OptionError
from ..layers.base import size
from .callbacks import Callback
from .loop import Evaluator, Trainer, batches_of, check, describe, evaluate

__all__ = ["Plan", "fit", "split_off", "weigh_classes"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a fit goes over its data; the words are those of `Sequential.fit`."""

    batch_size: int = 32
    epochs: int = 1
    initial_epoch: int = 0
    shuffle: bool = True
    class_weight: Mapping[int, float] | None = None

    def __post_init__(self) -> None:
        size("fit", "batch_size", self.batch_size)
        size("fit", "epochs", self.epochs)
        if whole(self.initial_epoch, "fit: initial_epoch", 0) > self.epochs:
            raise OptionError(f"fit: initial_epoch={self.initial_epoch}; expected 0 to epochs={self.epochs}")
        if self.class_weight is not None:
            _check_class_weight(self.class_weight)

    def batches(self, count: int) -> int:
        """Return how many batches an epoch over `count` sequences has."""
        return -(-count // self.batch_size)


def fit(
    trainer: Trainer,
    data: SequenceSet,
    held: SequenceSet | None,
    plan: Plan,
    calls: Callback,
    stopped: Callable[[], bool],
) -> None:
    """Train for all epochs, or until `stopped` says so after one.

    Parameters
    ----------
    trainer : Trainer
        Moves the parameters; its generator also draws the order of the sequences.
    data, held : SequenceSet
        What is trained on, and what is judged after each epoch.
    plan : Plan
    calls : Callback
        Hears of every batch and epoch.
    stopped : callable
        Whether a callback has asked to stop.

    Raises
    ------
    DataError, ShapeError
        Anywhere in the data, before the first step.
    OptionError
        Class weights for a class that the model does not have.
    DivergedError
        See `Trainer.step`.
    """
    evaluator = trainer.evaluator
    held_evaluator = Evaluator(evaluator.network, evaluator.loss, evaluator.plain, evaluator.weighted)
    rng = trainer.context.rng
    dtype = evaluator.network.layers[0].dtype
    batches = plan.batches(len(data))

    def next_order() -> NDArray[np.int64] | None:
        return rng.permutation(len(data)) if plan.shuffle else None

    order = next_order()
    check(data, evaluator.network, evaluator.loss, plan.batch_size, order)
    if plan.class_weight is not None:
        _check_classes(plan.class_weight, evaluator)
    if held is not None:
        check(held, evaluator.network, evaluator.loss, plan.batch_size, who="fit: validation data")
    calls.on_train_begin()
    for epoch in range(plan.initial_epoch, plan.epochs):
        if epoch > plan.initial_epoch:  # here, not at the end of the one before: a later fit then draws the same
            order = next_order()
        calls.on_epoch_begin(epoch)
        evaluator.reset()
        for number, which in enumerate(batches_of(len(data), plan.batch_size, order)):
            calls.on_train_batch_begin(number)
            taken = data.take(which, dtype)
            if plan.class_weight is not None:
                taken = weigh_classes(taken, plan.class_weight)
            trainer.step(taken, describe(number, batches, epoch))
            calls.on_train_batch_end(number, evaluator.logs(running=True))
        trainer.check_parameters(f"the end of epoch {epoch + 1}")
        logs = evaluator.logs()
        if held is not None:
            logs |= {f"val_{name}": value for name, value in evaluate(held_evaluator, held, plan.batch_size).items()}
        calls.on_epoch_end(epoch, logs)
        if stopped():
            break
    calls.on_train_end()


def split_off(data: SequenceSet, share: float) -> tuple[SequenceSet, SequenceSet]:
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


def _check_classes(class_weight: Mapping[int, float], evaluator: Evaluator) -> None:
    """Raise OptionError if a class is named that the model does not have: most often a slip in the mapping."""
    outputs = evaluator.network.layers[-1].features_out
    if outputs == 1 and evaluator.loss.fuses is None:
        return  # one output without a sigmoid may stand for any number
    classes = max(outputs, 2)
    if unknown := sorted(number for number in class_weight if number >= classes):
        raise OptionError(
            f"fit: class_weight names class {unknown[0]}; the model has {classes} classes: 0 to {classes - 1}. "
            "Leave it out, or give the last layer more units"
        )


def weigh_classes(taken: Batch, class_weight: Mapping[int, float]) -> Batch:
    """Return the batch with each row's weight multiplied by that of its class; classes not named weigh 1."""
    assert taken.y is not None
    y = taken.y.reshape(len(taken.y), -1)
    classes = y[:, 0] if y.shape[1] == 1 else y.argmax(axis=1)
    weights = np.ones(len(y))
    for number, weight in class_weight.items():
        weights[classes == number] = weight
    return replace(taken, weights=weights if taken.weights is None else taken.weights * weights)
