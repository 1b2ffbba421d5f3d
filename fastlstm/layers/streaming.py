"""Streaming: a chain of layers taken one step at a time, its state in the open.

A step gives the same bits as the same step of a whole sequence: it is the same kernel, on a batch of one step.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.numbers import as_numbers
from ..data.packed import Packed, writeable
from ..errors import NotBuiltError, OptionError, ShapeError
from ..kernels import lstm as kernels
from ..kernels import team
from ..kernels.lstm_step import take_steps, task_of
from ..kernels.lstm_task import CHUNKS, NOW, PARTS
from ..kernels.scratch import aligned
from . import shared_units
from .base import Layer, Run
from .dense import Dense
from .dropout import Dropout
from .embedding import Embedding
from .lstm import LSTM, Weights
from .pooling import LastStep

__all__ = ["Stream"]

Array = NDArray[Any]


class _Stepper(Protocol):
    """One layer, stepwise: rows in, rows out; ``state`` holds arrays whose first axis is the sequence."""

    layer: Layer

    @property
    def state(self) -> dict[str, Array]:
        """The arrays that hold the state."""

    def __call__(self, rows: Array) -> Array:
        """Return the layer's output for one row of each sequence."""


_LARGEST_TABLE = 16 << 20
"""Bytes of the products of an Embedding's rows that a stream keeps rather than multiply at each step."""


class _LSTMStepper:
    """An LSTM with all its buffers: a step allocates nothing."""

    def __init__(self, layer: LSTM, batch: int):
        stride, dtype, features = layer.stride, layer.dtype, layer.features_in
        assert features is not None
        self.layer: Layer = layer
        self.lstm, self._batch = layer, batch
        self.embedding: Embedding | None = None  # taken in: ids are read
        self._hidden = aligned((2, batch, layer.units), dtype)  # before the step and after it, by turns
        self._cells = aligned((batch, stride), dtype)
        self._hidden[...] = self._cells[...] = 0.0
        self._now = 0  # which half of `hidden` is the state
        self._gates = aligned((batch * 4 * layer.span,), dtype)
        self._input = 0, 0, features, features
        self._no_ids = np.empty(0, np.int64)
        self._before = self._hidden.reshape(-1), layer.units
        self._state = self._cells.reshape(-1), layer.units, np.array([batch])
        self._cut = shared_units.StepCut(0, 1, 1, 0.0)
        self._leader = team.Leader(take_steps, (take_steps,), layer.dtype)
        self._halves: tuple[Array, Array] = (self._hidden[0], self._hidden[1])
        self._alone: tuple[Any, ...] | None = None  # weights; a call's arguments from the ids on, for either half
        self._task: tuple[object, object, Array, Array] | None = None  # weights, table; their task, and x or ids for it

    @property
    def state(self) -> dict[str, Array]:
        return {"h": self._hidden[self._now], "c": self._cells[:, : self.lstm.units]}

    def __call__(self, rows: Array) -> Array:
        lstm, now = self.lstm, self._now
        weights = lstm.packed()
        if self.embedding is None:
            x, ids, features = rows, self._no_ids, self._input[2]
        else:
            ids, features = self.embedding.take_ids(rows), 0
            x = lstm.folded(self.embedding.params["weight"], self.embedding.edition)
        if self._cut.threads != team.get_num_threads():
            self._cut = shared_units.cut_of_step(self._batch, lstm.units, features, lstm.dtype.itemsize)
        if self._cut.cores > 1:
            self._share(x, ids, weights)
        else:
            alone = self._alone
            if alone is None or alone[0] is not weights:
                batch = self._batch
                after_ids = (
                    (*self._before, back, *self._state, *weights, batch, self._gates, 0, batch)
                    for back in (False, True)
                )
                alone = self._alone = weights, *after_ids
            kernels.infer(x.ravel(), *self._input, ids, *alone[1 + now])
        self._now = 1 - now
        return self._halves[1 - now]

    def _share(self, x: Array, ids: Array, weights: Weights) -> None:
        """Take the step on several cores, each with some of the units."""
        known, cut = self._task, self._cut
        table = None if self.embedding is None else x
        if known is None or known[0] is not weights or known[1] is not table:
            # what is read on all cores lies always in the same place
            given = aligned(x.shape, x.dtype) if table is None else np.empty(self._batch, np.int64)
            source, picks = (given, None) if table is None else (x, given)
            task = task_of(source, picks, self._hidden, self._cells, self._gates, weights, self._input[2])
            known = self._task = weights, table, task, given
        _, _, task, given = known
        given[...] = x if table is None else ids
        task[PARTS], task[CHUNKS], task[NOW] = cut.cores, cut.chunks, self._now
        self._leader.lead(task, cut.cores - 1, cut.cost)


class _RowStepper:
    """A layer that looks at one step at a time anyhow: Embedding, Dense."""

    def __init__(self, layer: Layer, batch: int):
        self.layer = layer
        self._sizes = np.array([batch])
        self._run = Run()

    @property
    def state(self) -> dict[str, Array]:
        return {}

    def __call__(self, rows: Array) -> Array:
        return self.layer.forward(Packed(rows, self._sizes, steps=False), self._run)[0].rows


def _stepper(layer: Layer, batch: int) -> _Stepper | None:
    """Return how `layer` goes by steps; None for one that lets single steps through as they are."""
    if isinstance(layer, LSTM) and not layer.go_backwards:
        return _LSTMStepper(layer, batch)
    if isinstance(layer, Embedding | Dense):
        return _RowStepper(layer, batch)
    if isinstance(layer, Dropout | LastStep):
        return None
    raise OptionError(f"stream: {layer.kind} ({layer.name}) needs the whole sequence; a stream sees one step at a time")


def _folds(embedding: Embedding, lstm: LSTM) -> bool:
    table = embedding.input_dim * 4 * lstm.span * lstm.dtype.itemsize
    return table <= _LARGEST_TABLE


class Stream:
    """Layers that read `batch` sequences side by side, a step at a call. `Sequential.stream` makes one too.

    Where the model ends with the last step of each sequence, a step returns what it would say if they ended here.
    Weights are the model's own: when it is trained on, its streams follow. One thread at a time may step a stream;
    different streams of one model may step at once.

    Parameters
    ----------
    layers : sequence of Layer
        Built; LSTM, Embedding, Dense, Dropout (which does nothing here) and LastStep.
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
        self._steppers: dict[str, _Stepper] = {}
        for name, before, layer in zip(names, [None, *layers], layers, strict=False):
            stepper = _stepper(layer, batch)
            if isinstance(before, Embedding) and isinstance(stepper, _LSTMStepper) and _folds(before, stepper.lstm):
                self._steppers = {}  # an Embedding comes first
                stepper.embedding = before
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
        """Begin anew: all sequences, or only the one of this number."""
        if sequence is not None and not 0 <= sequence < self.batch:
            raise OptionError(f"reset: sequence={sequence}; expected 0 to {self.batch - 1}, or None for all")
        which = slice(None) if sequence is None else sequence
        for stepper in self._steppers.values():
            for value in stepper.state.values():
                value[which] = 0.0

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all states, ``lstm.h`` and ``lstm.c`` (N, H) of each LSTM: to keep, send or save."""
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
