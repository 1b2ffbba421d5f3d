"""What a callback is, and several of them as one. Hooks are Keras's."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

from ..errors import OptionError

__all__ = ["Callback", "CallbackList", "Logs"]

Logs: TypeAlias = dict[str, float]
"""Figures by name."""


class Callback:
    """Base of the callbacks. Every hook does nothing by itself.

    Attributes
    ----------
    model
        The model that is fitted: ``optimizer``, ``stop_training``, ``get_weights()``, ``set_weights()``, ``save()``.
    params : dict
        "epochs", "initial_epoch", "steps" (batches an epoch) and "samples" of this fit.
    """

    model: Any = None
    params: Mapping[str, int] = MappingProxyType({})

    def on_train_begin(self) -> None:
        """Act once before the first epoch."""

    def on_train_end(self) -> None:
        """Act once after the last epoch."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Act before each epoch; epochs count from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Act after each epoch, on its loss, metrics and validation figures."""

    def on_train_batch_begin(self, batch: int) -> None:
        """Act before each batch; batches count from 0 in each epoch."""

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Act after each batch, on the figures of the epoch so far (those that are cheap to compute)."""


class CallbackList(Callback):
    """Several callbacks as one."""

    def __init__(self, callbacks: Sequence[Callback], model: Any, params: Mapping[str, int]):
        self.callbacks = list(callbacks)
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise OptionError(f"fit: callbacks holds {callback!r}; expected instances of Callback")
            callback.model, callback.params = model, params

    def on_train_begin(self) -> None:
        """Call every callback's hook."""
        for callback in self.callbacks:
            callback.on_train_begin()

    def on_train_end(self) -> None:
        """Call every callback's hook."""
        for callback in self.callbacks:
            callback.on_train_end()

    def on_epoch_begin(self, epoch: int) -> None:
        """Call every callback's hook."""
        for callback in self.callbacks:
            callback.on_epoch_begin(epoch)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Call every callback's hook."""
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, logs)

    def on_train_batch_begin(self, batch: int) -> None:
        """Call every callback's hook."""
        for callback in self.callbacks:
            callback.on_train_batch_begin(batch)

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Call every callback's hook."""
        for callback in self.callbacks:
            callback.on_train_batch_end(batch, logs)
