"""How layers go by single steps of sequences: what a stream calls, one after the other."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..data.packed import Packed
from ..engine.stepping import Stepper
from ..errors import OptionError
from .base import Layer, PassContext
from .conv1d import Conv1D, ConvStepper
from .dropout import Dropout
from .embedding import Embedding
from .pooling import LastStep
from .recurrent import RecurrentLayer

__all__ = ["LayerStepper", "RecurrentStepper", "stepper_of"]

Array = NDArray[Any]


class LayerStepper(Protocol):
    """A layer that takes one row of each sequence at a call, and returns one."""

    @property
    def state(self) -> dict[str, Array]:
        """The arrays that hold its state, first axis the sequences; zeros before the first step."""
        ...

    def __call__(self, rows: Array) -> Array:
        """Return the layer's rows for the next step of every sequence."""
        ...


class RecurrentStepper:
    """A recurrent layer, stepwise. It may take in the embedding before it."""

    def __init__(self, layer: RecurrentLayer, batch: int):
        self._stepper = Stepper(layer.recurrence, batch)
        self._words = layer.state_type._fields
        self._embedding: Embedding | None = None  # taken in: ids are read

    def take_in(self, embedding: Embedding) -> bool:
        """Read ids, unless the products of all rows of the table are too many to be kept; tell whether it does."""
        self._embedding = embedding if self._stepper.may_keep(embedding.input_dim) else None
        return self._embedding is not None

    @property
    def state(self) -> dict[str, Array]:
        return dict(zip(self._words, self._stepper.state, strict=True))

    def __call__(self, rows: Array) -> Array:
        embedding = self._embedding
        if embedding is None:
            return self._stepper.step(rows)
        ids = embedding.take_ids(rows)
        return self._stepper.step_of_table(ids, embedding.arrays["weight"], embedding.version)


class _RowStepper:
    """A layer that looks at one row at a time anyhow."""

    def __init__(self, layer: Layer, batch: int):
        self._layer = layer
        self._sizes = np.array([batch])
        self._context = PassContext()

    @property
    def state(self) -> dict[str, Array]:
        return {}

    def __call__(self, rows: Array) -> Array:
        return self._layer.forward(Packed(rows, self._sizes, steps=False), self._context)[0].rows


def stepper_of(layer: Layer, batch: int) -> LayerStepper | None:
    """Return how `layer` goes by steps; None for one that lets single steps through as they are.

    Raises
    ------
    OptionError
        A step of its output needs later steps of the input.
    """
    if isinstance(layer, RecurrentLayer) and not layer.go_backwards:
        return RecurrentStepper(layer, batch)
    if isinstance(layer, Conv1D) and layer.steps_alone:
        return ConvStepper(layer, batch)
    if isinstance(layer, Dropout | LastStep):
        return None
    if layer.by_row:
        return _RowStepper(layer, batch)
    raise OptionError(f"stream: {layer.kind} ({layer.name}) needs the whole sequence; a stream sees one step at a time")
