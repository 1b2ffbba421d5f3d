"""What users pass to a model's inputs and outputs, made into sets; and its outputs in the form of what came in."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.packed import BatchFormat, Packed, places
from ..data.sequences import DataSet, Sequences, Targets
from ..errors import OptionError
from ..layers import Embedding, Layer, Masking
from ..layers.symbol import Symbol
from ..training.graph import Graph
from .compiled import by_name

__all__ = ["InputPort", "OutputPort", "Ports", "Unpacker", "is_iterable_of_batches", "join", "make_set", "ports_of"]


def is_iterable_of_batches(x: Any, y: Any) -> bool:
    """Tell whether `x` yields batches, rather than being data: a generator, or an object that is no array."""
    if y is not None or isinstance(x, list | tuple | dict | str | bytes) or hasattr(x, "__array__"):
        return False
    return isinstance(x, Iterable) or (hasattr(x, "__getitem__") and hasattr(x, "__len__"))


class InputPort(NamedTuple):
    """An input as data sees it.

    Attributes
    ----------
    name : str
    ids : bool
        Whether it takes ids.
    samples : bool
        Whether it also takes one row a sequence, without time.
    true_steps : callable, optional
        Tells which steps of an array are no padding.
    """

    name: str
    ids: bool
    samples: bool
    true_steps: Callable[[NDArray[Any]], NDArray[np.bool_]] | None = None


class OutputPort(NamedTuple):
    """An output as data sees it: its name, and the place of the input whose steps it has unchanged, if any."""

    name: str
    follows: int | None


Ports = tuple[Sequence[InputPort], Sequence[OutputPort]]


def ports_of(graph: Graph, input_names: Sequence[str], output_names: Sequence[str]) -> Ports:
    """Return the inputs and outputs of a graph as data sees them."""
    inputs = []
    for symbol, name in zip(graph.inputs, input_names, strict=True):
        samples = not symbol.spec.steps or all(layer.takes_samples for layer in graph.readers(symbol))
        inputs.append(InputPort(name, symbol.spec.ids, samples, mask_of(graph.readers(symbol))))
    outputs = [
        OutputPort(name, followed(symbol, graph)) for symbol, name in zip(graph.outputs, output_names, strict=True)
    ]
    return inputs, outputs


def mask_of(readers: Iterable[Layer]) -> Callable[[NDArray[Any]], NDArray[np.bool_]] | None:
    """Return what tells an input's padding, given the layers that read it: a Masking, or an Embedding that masks 0."""
    for layer in readers:
        if isinstance(layer, Masking) or (isinstance(layer, Embedding) and layer.mask_zero):
            return layer.true_steps
    return None


def make_set(
    ports: Ports,
    x: Any,
    y: Any = None,
    weights: Any = None,
    lengths: Any = None,
    *,
    who: str,
    targets: bool = False,
) -> DataSet:
    """Return what was passed as a set.

    Parameters
    ----------
    ports : tuple of sequences of InputPort and OutputPort
    x, y, weights, lengths
        As `Model.fit` takes them.
    who : str
        Named in errors.
    targets : bool
        Whether `y` is wanted.
    """
    of_inputs, of_outputs = [port.name for port in ports[0]], [port.name for port in ports[1]]
    alone = len(of_inputs) == 1
    given = by_name(x, of_inputs, f"{who}: x")
    true = [None] * len(given)
    of_labels: dict[str, Any] = {}
    if lengths is not None:
        if isinstance(lengths, Mapping):
            of_labels = {name: value for name, value in lengths.items() if name in of_outputs}
            lengths = {name: value for name, value in lengths.items() if name not in of_labels}
            true = by_name(lengths, of_inputs, f"{who}: lengths", lambda _: None)
        else:
            true = by_name(lengths, of_inputs, f"{who}: lengths")
    inputs = []
    for port, one, own in zip(ports[0], given, true, strict=True):
        word = "x" if alone else f"x[{port.name!r}]"
        inputs.append(Sequences(one, own, ids=port.ids, samples=port.samples, who=who, word=word))
        if port.true_steps is not None:
            inputs[-1].mask(port.true_steps)
    if y is None:
        if targets:
            raise OptionError(f"{who}: y is None; pass the targets")
        return DataSet(inputs)
    wanted = by_name(y, of_outputs, f"{who}: y")
    counts = [None] * len(wanted) if weights is None else by_name(weights, of_outputs, f"{who}: sample_weight", _none)
    sets = []
    for name, one, count in zip(of_outputs, wanted, counts, strict=True):
        word = "y" if len(wanted) == 1 else f"y[{name!r}]"
        if name in of_labels:
            one = [np.asarray(labels)[:n] for labels, n in zip(one, of_labels[name], strict=True)]
        sets.append(Targets(one, count, who=who, word=word))
    return DataSet(inputs, sets, [port.follows for port in ports[1]])


def _none(_: str) -> None:
    return None


def followed(symbol: Symbol, graph: Graph) -> int | None:
    """Return the place of the input whose steps an output has, unchanged."""
    axis = symbol.spec.axis
    if axis is None or axis.layers or isinstance(axis.source, int):
        return None
    return graph.inputs.index(axis.source)


class Unpacker:
    """Gives an output the form of the input whose steps it has.

    Parameters
    ----------
    symbol : Symbol
        The output.
    graph : Graph
    data : DataSet
        What goes in.
    """

    def __init__(self, symbol: Symbol, graph: Graph, data: DataSet):
        axis = symbol.spec.axis
        self._form, self._starts = BatchFormat("padded", 0), None
        if axis is None or isinstance(axis.source, int):
            return
        source = data.inputs[graph.inputs.index(axis.source)]
        self._form = source.form
        for layer in axis.layers:
            self._form = layer.form_out(self._form)
        self._starts = None if axis.layers else source.starts

    def __call__(self, y: Packed, which: NDArray[np.int64]) -> Any:
        """Return the output of the sequences of these numbers."""
        if not y.steps or (y.order is None and self._starts is None):
            return self._form.unpack(y)
        if self._form.kind == "list":
            return self._form.unpack(y)
        length = max(self._form.length, len(y.batch_sizes))
        padded = np.zeros((y.sequences, length, *y.rows.shape[1:]), y.rows.dtype)
        sequence, step = places(y)
        padded[sequence, step if self._starts is None else step + self._starts[which][sequence]] = y.rows
        return padded


def join(parts: list[Any]) -> Any:
    """Return the outputs of several batches as one."""
    if isinstance(parts[0], list):
        return [row for part in parts for row in part]
    if len(parts) == 1:
        return parts[0]
    width = {part.shape[1:] for part in parts}
    if len(width) > 1:  # sizes that depend on the batch: the steps of an unpadded list's longest, attention scores
        largest = np.max([part.shape[1:] for part in parts], axis=0)
        parts = [
            np.pad(part, [(0, 0), *((0, int(most) - own) for most, own in zip(largest, part.shape[1:], strict=True))])
            for part in parts
        ]
    return np.concatenate(parts)
