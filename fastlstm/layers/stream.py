"""Streaming: a chain of layers taken one step at a time, its state in the open.

A step gives the same bits as the same step of a whole sequence: it is the same kernel, on a batch of one step.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.numbers import as_numbers
from ..data.packed import writeable
from ..errors import NotBuiltError, OptionError, ShapeError
from .base import Layer
from .embedding import Embedding
from .steppers import LayerStepper, RecurrentStepper, stepper_of

__all__ = ["Stream"]

Array = NDArray[Any]


class Stream:
    """Layers that read `batch` sequences side by side, a step at a call. `Sequential.stream` makes one too.

    Where the model ends with the last step of each sequence, a step returns what it would say if they ended here.
    Weights are the model's own: when it is trained on, its streams follow. One thread at a time may step a stream;
    different streams of one model may step at once.

    Parameters
    ----------
    layers : sequence of Layer
        Built; recurrent layers, causal Conv1D of stride 1, layers that look at one row at a time, such as Embedding and
        Dense, Dropout (which does nothing here) and LastStep.
    batch : int
        N, the sequences side by side.

    Examples
    --------
    >>> import numpy as np, fastlstm as fl
    >>> lstm = fl.LSTM(4, return_sequences=True)
    >>> x = np.random.default_rng(0).random((1, 3, 2), np.float32)
    >>> whole = lstm(x)
    >>> stream = fl.Stream([lstm])
    >>> all((stream.step(x[:, t]) == whole[:, t]).all() for t in range(3))
    True
    """

    def __init__(self, layers: Sequence[Layer], batch: int = 1):
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise OptionError(f"stream: batch={batch!r}; expected a whole number from 1 on")
        if not layers or not all(layer.built for layer in layers):
            raise NotBuiltError("stream: the layers have no weights yet; call fit, build(features), or load some first")
        self.layers = list(layers)
        first = layers[0]
        ids = isinstance(first, Embedding)
        self._dtype = None if ids else first.dtype
        self._shape = (batch,) if ids else (batch, first.features_in)
        names = [layer.name or f"{layer.kind.lower()}_{place}" for place, layer in enumerate(layers)]
        if len(set(names)) < len(names):
            raise OptionError(f"stream: the layers are named {', '.join(names)}; give each a name of its own")
        if len({layer.dtype for layer in layers}) > 1:
            kinds = ", ".join(f"{name} {layer.dtype}" for name, layer in zip(names, layers, strict=True))
            raise OptionError(f"stream: the layers compute in different types: {kinds}; make them alike")
        self._steppers: dict[str, LayerStepper] = {}
        for name, before, layer in zip(names, [None, *layers], layers, strict=False):
            stepper = stepper_of(layer, batch)
            if isinstance(stepper, RecurrentStepper) and isinstance(before, Embedding) and stepper.take_in(before):
                self._steppers = {}  # an Embedding comes first
            if stepper is not None:
                self._steppers[name] = stepper
        self.batch = batch

    def step(self, x: ArrayLike) -> Array:
        """Read one step of every sequence.

        Parameters
        ----------
        x : array
            ``(N, D)`` features, or ``(N,)`` ids for a model that begins with an Embedding.

        Returns
        -------
        array
            ``(N, K)``, a new array.

        Raises
        ------
        ShapeError
            `x` has another shape.
        DataError
            An id is outside the vocabulary; these are no numbers, or masked ones.
        """
        if type(x) is np.ndarray and x.dtype is self._dtype and x.shape == self._shape and x.flags.carray:
            rows = x  # as it is: to look closer takes as long as a step of 40 units
        else:
            rows = self._take(x)
        given = rows
        for stepper in self._steppers.values():
            rows = stepper(rows)
        return rows.copy() if rows.base is not None or rows is given else rows

    def _take(self, x: ArrayLike) -> Array:
        """Return a step's input as kernels take it."""
        plain = type(x) is np.ndarray and x.dtype.kind in "fiub"  # as_numbers would look at it for half a microsecond
        rows = writeable(np.asarray(x if plain else as_numbers(x, "step: x"), self._dtype, order="C"))
        if rows.shape != self._shape:
            raise ShapeError(f"step: x has shape {rows.shape}; expected {self._shape}: one step of each sequence")
        return rows

    def reset(self, sequence: int | None = None) -> None:
        """Begin again: all sequences, or only the one of this number."""
        if sequence is not None and not 0 <= sequence < self.batch:
            raise OptionError(f"reset: sequence={sequence}; expected 0 to {self.batch - 1}, or None for all")
        which = slice(None) if sequence is None else sequence
        for stepper in self._steppers.values():
            for value in stepper.state.values():
                value[which] = 0.0

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all states, ``lstm.h`` and ``lstm.c`` (N, H) of an LSTM: to keep, send or save."""
        return {
            f"{name}.{part}": value.copy()
            for name, stepper in self._steppers.items()
            for part, value in stepper.state.items()
        }

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Go on from what `state_dict` returned.

        Raises
        ------
        ShapeError
            A state is missing, unknown, or has another shape; nothing was changed.
        DataError
            A state holds no numbers, or masked ones.
        """
        own = {f"{n}.{part}": value for n, stepper in self._steppers.items() for part, value in stepper.state.items()}
        given = {name: as_numbers(value, f"load_state_dict: {name}") for name, value in state.items()}
        if own.keys() != given.keys():
            raise ShapeError(f"load_state_dict: given {sorted(given)}; expected {sorted(own)}")
        for name, value in given.items():
            if value.shape != own[name].shape:
                raise ShapeError(f"load_state_dict: {name} has shape {value.shape}; expected {own[name].shape}")
        for name, value in given.items():
            own[name][...] = value

    def clone(self) -> "Stream":
        """Return a second stream that goes on from the same state, over the same weights. `copy.copy` does it too."""
        return _going_on(self.layers, self.batch, self.state_dict())

    def __reduce__(self) -> tuple[Any, ...]:  # buffers are views of each other, and tasks hold their addresses
        return _going_on, (self.layers, self.batch, self.state_dict())


def _going_on(layers: list[Layer], batch: int, state: dict[str, Array]) -> Stream:
    """Return a stream that goes on from a state."""
    stream = Stream(layers, batch)
    stream.load_state_dict(state)
    return stream
