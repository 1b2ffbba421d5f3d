"""Describing a model: what layers are called on instead of arrays, and what they return for it.

`Input` makes a `Symbol`, a batch that is not there yet. A layer called on symbols computes nothing: it notes a `Node`,
what it would be applied to, and returns symbols of its outputs. A model is what lies between input and output symbols.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..data.numbers import whole
from ..errors import OptionError, ShapeError

if TYPE_CHECKING:
    from .base import Layer

__all__ = ["Input", "Node", "Spec", "Symbol", "TimeAxis", "connect", "is_symbolic", "symbols_in"]

Lengths: TypeAlias = NDArray[np.int64]


class TimeAxis:
    """Where the steps of a symbol come from: two symbols of one axis have the same lengths in every batch.

    Parameters
    ----------
    source : Symbol or int
        The input whose steps they are, or a number of steps that all sequences have.
    layers : tuple of Layer
        Those that changed the lengths since.
    """

    __slots__ = ("layers", "source")

    def __init__(self, source: "Symbol | int", layers: "tuple[Layer, ...]" = ()):
        self.source, self.layers = source, layers

    def then(self, layer: "Layer") -> "TimeAxis":
        """Return the axis of what `layer`, which changes lengths, makes of this one."""
        return TimeAxis(self.source, (*self.layers, layer))

    def lengths(self, of_inputs: "Mapping[Symbol, Lengths]", count: int) -> Lengths:
        """Return the steps of each of `count` sequences, given those of the inputs."""
        source = self.source
        lengths = np.full(count, source, np.int64) if isinstance(source, int) else of_inputs[source]
        for layer in self.layers:
            lengths = layer.lengths_out(lengths)
        return lengths

    def same_as(self, other: "TimeAxis | None") -> bool:
        """Tell whether both have the same lengths in every batch (equal ones may not be known to be)."""
        return other is not None and self.source == other.source and self.layers == other.layers


class Spec(NamedTuple):
    """What is known of a symbol before there is data.

    Attributes
    ----------
    features : int or None
        F of a row; None where a row is one id, or where it depends on the batch.
    axis : TimeAxis or None
        Its steps; None where there is one row a sequence.
    ids : bool
        Whether a row is an integer id.
    """

    features: int | None
    axis: TimeAxis | None
    ids: bool = False

    @property
    def steps(self) -> bool:
        """Whether rows are steps of sequences."""
        return self.axis is not None

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape with N, T and unknown sizes None, as Keras shows it."""
        own: tuple[int | None, ...] = () if self.ids else (self.features,)
        if self.axis is None:
            return (None, *own)
        fixed = self.axis.source if isinstance(self.axis.source, int) and not self.axis.layers else None
        return (None, fixed, *own)


class Symbol:
    """A batch that is not there yet: an `Input`, or what a layer returns for one."""

    __slots__ = ("_spec", "dtype", "index", "name", "node", "open_size")

    def __init__(
        self,
        spec: Spec | None,
        *,
        node: "Node | None" = None,
        index: int = 0,
        name: str | None = None,
        dtype: str | None = None,
    ):
        self._spec = spec
        self.node, self.index = node, index
        """What makes it (None: it is an input), and as which of its outputs."""
        self.name = name
        self.dtype = dtype
        self.open_size: int | None = None
        """Of an input ``(n,)`` that nothing reads yet: n features, or ids of n steps."""

    @property
    def spec(self) -> Spec:
        """What is known of it; an input that nothing has read yet counts as features."""
        if self._spec is None:
            self._spec = Spec(self.open_size, None)
        return self._spec

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape, None for sizes that are not known."""
        return self.spec.shape

    def read_as(self, *, ids: bool) -> Spec:
        """Return what is known of it, decided for ids or features by the first layer that reads it."""
        if self._spec is None and ids:
            self._spec = Spec(None, TimeAxis(self), ids=True)
        return self.spec

    def __repr__(self) -> str:
        return f"<Symbol {self.name} {self.shape}>" if self.name else f"<Symbol {self.shape}>"

    def __iter__(self) -> Iterator[Any]:
        raise OptionError(f"{self!r} is one output; a layer returns several only with return_state=True or the like")


class Node:
    """One use of a layer: what it is applied to, and the symbols of its outputs."""

    __slots__ = ("inputs", "layer", "outputs")

    def __init__(self, layer: "Layer", inputs: tuple[Symbol, ...]):
        self.layer, self.inputs = layer, inputs
        specs = layer.specs(tuple(symbol.spec for symbol in inputs))
        self.outputs = tuple(Symbol(spec, node=self, index=place) for place, spec in enumerate(specs))


def Input(
    shape: Sequence[int | None],
    *,
    name: str | None = None,
    dtype: DTypeLike | None = None,
) -> Symbol:
    """Return a symbol for what a model takes.

    Parameters
    ----------
    shape : sequence of int or None
        Without the batch: ``(T, D)`` or ``(None, D)`` for sequences of D features, ``(None,)`` or ``(T,)`` for ids,
        ``(D,)`` for one row of features a sequence. A T that is given is not required of the data: sequences may have
        any lengths.
    name : str, optional
        What a dict of data, and errors, call it.
    dtype : dtype, optional
        An integer type says that ``(T,)`` are ids; else that is seen from the layer that reads it.

    Raises
    ------
    OptionError
        The shape is none of these.

    Examples
    --------
    >>> import fastlstm as fl
    >>> x = fl.Input((None, 8))
    >>> fl.LSTM(16, return_sequences=True)(x).shape
    (None, None, 16)
    """
    sizes = tuple(shape) if isinstance(shape, Sequence) else (shape,)
    if len(sizes) not in (1, 2) or not all(value is None or not isinstance(value, bool) for value in sizes):
        raise OptionError(f"Input: shape={shape!r}; expected (T, D), (None, D), (None,) or (D,), without the batch")
    sizes = tuple(None if value is None else whole(value, "Input: shape", 1) for value in sizes)
    symbol = Symbol(None, name=name, dtype=None if dtype is None else np.dtype(dtype).name)
    if len(sizes) == 2:
        if sizes[1] is None:
            raise OptionError(f"Input: shape={shape!r}; the number of features must be known: (None, D)")
        symbol._spec = Spec(sizes[1], TimeAxis(symbol))
    elif sizes[0] is None or (dtype is not None and np.dtype(dtype).kind in "iu"):
        symbol._spec = Spec(None, TimeAxis(symbol), ids=True)
    else:
        symbol.open_size = sizes[0]
    return symbol


def is_symbolic(given: Any) -> bool:
    """Tell whether this is a symbol, or a list or tuple that holds one."""
    return isinstance(given, Symbol) or (
        isinstance(given, list | tuple) and any(isinstance(one, Symbol) for one in given)
    )


def symbols_in(given: Any, who: str) -> tuple[Symbol, ...]:
    """Return the symbols of one or a list of them; raise OptionError for anything else among them."""
    several = tuple(given) if isinstance(given, list | tuple) else (given,)
    for one in several:
        if not isinstance(one, Symbol):
            raise OptionError(f"{who}: {type(one).__name__} among symbols; pass what Input or a layer returned")
    return several


def connect(layer: "Layer", inputs: Sequence[Symbol]) -> tuple[Symbol, ...]:
    """Note that `layer` is applied to these symbols; return those of its outputs."""
    for symbol in inputs:
        spec = symbol.read_as(ids=layer.takes_ids)
        if spec.ids != layer.takes_ids:
            what = ("ids", "features") if spec.ids else ("features", "ids")
            raise ShapeError(f"{layer.kind}: the input {symbol!r} holds {what[0]}; this layer takes {what[1]}")
    return Node(layer, tuple(inputs)).outputs
