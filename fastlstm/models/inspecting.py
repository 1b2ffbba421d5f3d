"""Look inside a model: run it once, and keep every gate, cell and hidden state of its recurrent layers."""

from collections.abc import Container, Iterable, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..data.packed import BatchFormat, Packed
from ..data.vocabulary import split_words
from ..engine.context import PassContext
from ..engine.tracing import Traced
from ..errors import DataError, OptionError
from ..layers import Bidirectional, Layer, RecurrentLayer
from .description import name_of_kind
from .language_checks import expect
from .language_model import LanguageModel
from .traces import AnyTrace, BidirectionalTrace, LayerTrace, Trace

__all__ = ["Inspectable", "inspect"]

Paddings: TypeAlias = Sequence[tuple[NDArray[np.int64], int]]
"""Of inputs: the lengths of the sequences, (N,), and the steps that they are padded to (0: they are not)."""


@runtime_checkable
class Inspectable(Protocol):
    """What `inspect` asks of a model that is no language model: `Model`, `Sequential`, or a class of your own."""

    layers: Sequence[Layer]
    """Its layers, which have the names."""

    def run_once(self, x: Any, lengths: Any, context: PassContext) -> Paddings:
        """Run the layers on what a user passed, all of them under this context; return how it was padded."""


def inspect(model: Any, x: Any, lengths: Any = None) -> Trace:
    """Run a model once and return every gate, cell and hidden state of its recurrent layers, over time.

    The hidden states are bit for bit those of inference: nothing is dropped, and no weight changes.

    Parameters
    ----------
    model : Sequential, Model, LanguageModel, or a layer such as LSTM or Bidirectional
    x : array or list of arrays; str
        What the model takes; of a language model a text, whose characters or words become the trace's labels.
    lengths : array of int, shape (N,), optional
        True steps of each sequence of a padded array.

    Returns
    -------
    Trace
        ``trace["lstm"].gates["i"]``, ``.cell`` and ``.hidden``, each ``(N, T, H)``; ``trace.plot()`` draws them. Of a
        Bidirectional there are ``.forward`` and ``.backward``. Step t is always the one at which the layer read step
        t of its input, of a layer that reads from the end too.

    Raises
    ------
    OptionError
        This is no model, or it has no recurrent layer; a language model was given something else than a text.
    NotBuiltError
        The model has no weights yet.
    ShapeError, DataError
        What the model itself refuses; an empty text.
    VocabularyError
        The text has characters that the vocabulary lacks.

    Examples
    --------
    >>> import numpy as np, fastlstm as fl
    >>> model = fl.Sequential([fl.GRU(3, return_sequences=True), fl.LSTM(2), fl.Dense(1)], seed=0)
    >>> model.build(features=5)
    >>> trace = fl.inspect(model, [np.ones((4, 5)), np.ones((7, 5))])
    >>> [*trace.layers], [*trace["gru"].gates], trace["lstm"].cell.shape, trace["lstm"].lengths
    (['gru', 'lstm'], ['r', 'z', 'n'], (2, 7, 2), array([4, 7]))
    """
    noted: list[tuple[Any, Traced]] = []
    context = PassContext(traces=noted)
    labels = None
    paddings: Paddings = ()
    if isinstance(model, LanguageModel):
        layers: Iterable[Layer] = model.network.lstms
        labels = _read_text(model, x, lengths, context)
    elif isinstance(model, Layer):
        layers = [model]
        paddings = _run_layer(model, x, lengths, context)
    elif isinstance(model, Inspectable):
        layers = model.layers
        paddings = model.run_once(x, lengths, context)
    else:
        raise OptionError(
            f"inspect: {type(model).__name__} is no model; pass a Sequential, Model or LanguageModel, or a layer"
        )
    if not noted:
        kinds = ", ".join(layer.kind for layer in layers)
        raise OptionError(f"inspect: there is no recurrent layer among {kinds}; pass a model that has one")
    return Trace(_named(noted, layers, paddings), labels)


def _run_layer(layer: Layer, x: Any, lengths: Any, context: PassContext) -> Paddings:
    packed, form = layer.take(x, lengths)
    layer.forward(packed, context)
    return [(np.array(packed.to_user_order(packed.lengths)), form.length)]


def _read_text(model: LanguageModel, text: Any, lengths: Any, context: PassContext) -> list[str]:
    """Let a language model read a text; return the tokens as they stand in it."""
    expect("inspect: x", text, str, "the text that the language model reads")
    if lengths is not None:
        raise OptionError("inspect: lengths= goes with arrays; a language model reads one text")
    if not text:
        raise DataError("inspect: the text is empty; pass at least one character")
    model.network.read(model.vocabulary.encode(text), None, context)
    if model.vocabulary.level == "char":
        return list(text)
    return [word for words in split_words(text) for word in words]


def _named(noted: list[tuple[Any, Traced]], layers: Iterable[Layer], paddings: Paddings) -> dict[str, AnyTrace]:
    """Return the traces by the names of their layers, in the order in which these ran."""
    names: dict[int, str] = {}  # by identity: a layer may be equal to another one
    directions: dict[int, Bidirectional] = {}
    for layer in layers:
        names[id(layer)] = layer.name or _free(name_of_kind(layer.kind), names.values())
        if isinstance(layer, Bidirectional):
            directions |= {id(one): layer for one in layer.directions}
    found: dict[str, AnyTrace] = {}
    runs: dict[int, int] = {}
    pending = iter(noted)
    for layer, traced in pending:
        owner = directions.get(id(layer), layer)
        if id(owner) not in names:  # a layer inside another one
            names[id(owner)] = _free(owner.name or name_of_kind(owner.kind), names.values())
        runs[id(owner)] = run = runs.get(id(owner), 0) + 1
        name = names[id(owner)] + (f"#{run}" if run > 1 else "")
        if isinstance(owner, Bidirectional):
            ahead = _unpacked("forward", layer, traced, paddings)
            back_layer, back = next(pending)  # the other direction follows at once; it read turned sequences
            backward = _unpacked("backward", back_layer, back.turned(), paddings)
            found[name] = BidirectionalTrace(name, ahead, backward)
        else:
            found[name] = _unpacked(name, layer, traced, paddings)
    return found


def _free(stem: str, taken: Container[str]) -> str:
    """Return a name that is not taken: ``lstm``, ``lstm_1``, ..."""
    number = 0
    while (name := f"{stem}_{number}" if number else stem) in taken:
        number += 1
    return name


def _unpacked(name: str, layer: RecurrentLayer, traced: Traced, paddings: Paddings) -> LayerTrace:
    """Return what was traced in the user's order, padded with zeros, as far as the input of the same lengths was."""
    batch = traced.batch
    own = np.array(batch.to_user_order(batch.lengths))
    form = BatchFormat("padded", next((steps for lengths, steps in paddings if np.array_equal(own, lengths)), 0))

    def padded(rows: NDArray[Any]) -> NDArray[Any]:
        values: NDArray[Any] = form.unpack(Packed(rows, batch.batch_sizes, batch.order))
        return values

    gates = {gate: padded(rows) for gate, rows in traced.gates.items()}
    cell = None if traced.cell is None else padded(traced.cell)
    return LayerTrace(name, layer.kind, gates, cell, padded(traced.hidden), own, layer.config())
