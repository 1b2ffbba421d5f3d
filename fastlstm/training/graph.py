"""A model as a graph of layers: what lies between input and output symbols, in an order in which it can run."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.packed import Packed
from ..errors import OptionError
from ..layers import Layer, PassContext
from ..layers.base import Gradients, TableGradient
from ..layers.symbol import Node, Symbol, connect
from ..runtime.workspace import Workspace

__all__ = ["Caches", "GradientSum", "Graph", "Uses", "nodes_between"]

Gradient = NDArray[Any] | TableGradient


class _Step(NamedTuple):
    """One use of a layer: the places of its inputs and outputs among all values of a pass."""

    layer: Layer
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    shared: tuple[int, ...]
    """Outputs that several read, or that leave the graph: rows are made of them."""
    last: tuple[int, ...]
    """Values that no later step reads."""
    back: bool
    """Whether a gradient is wanted of the layer, or of what is before it."""
    wanted: tuple[bool, ...]
    """Of which inputs a gradient is wanted."""


class Uses(NamedTuple):
    """How often a symbol is read, and whether it is an output."""

    reads: int
    leaves: bool


Caches = list[Any]
"""What each step's backward needs."""


def nodes_between(inputs: Sequence[Symbol], outputs: Sequence[Symbol], who: str) -> list[Node]:
    """Return the nodes that the outputs depend on, each after those that it depends on.

    Raises
    ------
    OptionError
        An output depends on an input that was not named.
    """
    known, found, entered = set(inputs), [], set()
    for output in outputs:
        stack: list[tuple[Symbol, Iterator[Symbol]]] = []

        def enter(symbol: Symbol, stack: list[tuple[Symbol, Iterator[Symbol]]] = stack) -> None:
            if symbol in known or (symbol.node is not None and symbol.node in entered):
                return
            if symbol.node is None:
                raise OptionError(
                    f"{who}: an output depends on {symbol!r}, which is not among the inputs; name it there"
                )
            entered.add(symbol.node)
            stack.append((symbol, iter(symbol.node.inputs)))

        enter(output)
        while stack:  # a deep graph must not meet Python's limit of nested calls
            symbol, rest = stack[-1]
            before = next(rest, None)
            if before is None:
                stack.pop()
                assert symbol.node is not None
                found.append(symbol.node)
            else:
                enter(before)
    return found


class Graph:
    """Layers as they are connected between inputs and outputs.

    Parameters
    ----------
    inputs, outputs : sequences of Symbol
    who : str
        Named in errors.

    Attributes
    ----------
    layers : list of Layer
        Each once, in the order of their first use.
    """

    def __init__(self, inputs: Sequence[Symbol], outputs: Sequence[Symbol], who: str = "Model"):
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.nodes = nodes_between(inputs, outputs, who)
        self.layers = list(dict.fromkeys(node.layer for node in self.nodes))
        self._places = {symbol: place for place, symbol in enumerate(self.inputs)}
        for node in self.nodes:
            for symbol in node.outputs:
                self._places.setdefault(symbol, len(self._places))
        self.uses = self._count_uses()
        self._leave = tuple(self._places[symbol] for symbol in self.outputs)
        self._steps = self._order()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as a list of nodes: symbols that hold each other would nest as deep as the graph."""
        inputs = tuple(
            symbol if symbol.node is None else Symbol(symbol.spec, name=symbol.name, dtype=symbol.dtype)
            for symbol in self.inputs
        )
        nodes = [(node.layer, [self._places[symbol] for symbol in node.inputs]) for node in self.nodes]
        return _connected, (inputs, nodes, self._leave)

    def _count_uses(self) -> dict[Symbol, Uses]:
        reads: dict[Symbol, int] = {}
        for node in self.nodes:
            for symbol in node.inputs:
                reads[symbol] = reads.get(symbol, 0) + 1
        leaving = set(self.outputs)
        return {symbol: Uses(reads.get(symbol, 0), symbol in leaving) for symbol in self._places}

    def _order(self) -> list[_Step]:
        places, last_read, wanted = self._places, {}, dict.fromkeys(self.inputs, False)
        for number, node in enumerate(self.nodes):
            for symbol in node.inputs:
                last_read[symbol] = number
        leaving = set(self.outputs)
        steps = []
        for number, node in enumerate(self.nodes):
            moved = bool(node.layer.trainable and node.layer.arrays)
            back = moved or any(wanted[symbol] for symbol in node.inputs)
            wanted |= dict.fromkeys(node.outputs, back)
            shared = tuple(
                places[symbol] for symbol in node.outputs if self.uses[symbol].reads > 1 or symbol in leaving
            )
            unread = [symbol for symbol in node.outputs if symbol not in last_read]
            done = [symbol for symbol in dict.fromkeys(node.inputs) if last_read[symbol] == number]
            last = tuple(places[symbol] for symbol in (*done, *unread) if symbol not in leaving)
            steps.append(
                _Step(
                    node.layer,
                    tuple(places[symbol] for symbol in node.inputs),
                    tuple(places[symbol] for symbol in node.outputs),
                    shared,
                    last,
                    back,
                    tuple(wanted[symbol] for symbol in node.inputs),
                )
            )
        return steps

    def readers(self, symbol: Symbol) -> list[Layer]:
        """Return the layers that a symbol is the first input of: not those that begin with it as a state."""
        return [node.layer for node in self.nodes if node.inputs[0] is symbol]

    def forward(self, inputs: Sequence[Packed], context: PassContext) -> tuple[list[Packed], Caches]:
        """Return all outputs, and the cache of each step."""
        values: list[Packed | None] = [None] * len(self._places)
        values[: len(inputs)] = inputs
        caches: Caches = []
        training = context.training
        for step in self._steps:
            own = context
            if training and not step.back:  # its memory would not be given back
                own = PassContext(True, context.rng, Workspace())
            given = tuple([values[place] for place in step.inputs])
            made, cache = step.layer.run(given, own)  # type: ignore[arg-type]
            for place, value in zip(step.outputs, made, strict=False):
                values[place] = value
            for place in step.shared:  # of rows of a table: each reader would else go back to the table
                _ = values[place].in_place  # type: ignore[union-attr]
            caches.append(cache if step.back else None)
            if not training:
                for place in step.last:
                    values[place] = None
        return [values[place] for place in self._leave], caches  # type: ignore[misc]

    def backward(
        self, dys: Sequence[NDArray[Any] | None], caches: Caches, context: PassContext, found: "GradientSum"
    ) -> None:
        """Add the gradient of every parameter to `found`, from those of the outputs (None: not a part of the loss).

        Those of the outputs may be overwritten.
        """
        gradients: dict[int, Gradient] = {}
        for place, dy in zip(self._leave, dys, strict=True):
            if dy is not None:
                _add_to(gradients, place, dy)
        for step, cache in zip(reversed(self._steps), reversed(caches), strict=True):
            if not step.back:
                continue
            own = tuple([gradients.pop(place, None) for place in step.outputs])
            if all(one is None for one in own):
                continue
            dxs, of_params = step.layer.run_back(own, cache, context)  # type: ignore[arg-type]
            if of_params:
                found.add(step.layer, of_params)
            for place, dx, wanted in zip(step.inputs, dxs, step.wanted, strict=True):
                if wanted and dx is not None:
                    _add_to(gradients, place, dx)

    def changed(self) -> None:
        """Tell the layers that their parameters have new values."""
        for layer in self.layers:
            layer.changed()


def _connected(inputs: tuple[Symbol, ...], nodes: list[tuple[Layer, list[int]]], leave: tuple[int, ...]) -> Graph:
    """Return a graph of these inputs and nodes, by the places of what they read."""
    symbols = list(inputs)
    for layer, places in nodes:
        symbols += connect(layer, [symbols[place] for place in places])
    return Graph(inputs, [symbols[place] for place in leave])


def _add_to(gradients: dict[int, Gradient], place: int, own: Gradient) -> None:
    """Add to the gradient of a value that several steps read."""
    known = gradients.get(place)
    if known is None:
        gradients[place] = own
        return
    assert not isinstance(known, TableGradient)  # where several read, rows were made
    assert not isinstance(own, TableGradient)
    known += own


class GradientSum:
    """Gradients of the parameters by layer; those of a layer that runs several times are added up.

    Parameters
    ----------
    context : PassContext
        Whose workspace holds the sums.
    """

    def __init__(self, context: PassContext):
        self._context = context
        self._found: dict[Layer, Gradients] = {}
        self._own: set[Layer] = set()

    def add(self, layer: Layer, gradients: Gradients) -> None:
        """Add the gradients of one use of a layer."""
        known = self._found.get(layer)
        if known is None:
            self._found[layer] = gradients
            return
        if layer in self._own:
            for name, value in gradients.items():
                known[name] += value
            return
        # sums in arrays of their own: both biases of a recurrent layer may share one gradient
        self._own.add(layer)
        self._found[layer] = {
            name: np.add(known[name], value, out=self._sum(layer, name, value)) for name, value in gradients.items()
        }

    def _sum(self, layer: Layer, name: str, like: NDArray[Any]) -> NDArray[Any]:
        return self._context.workspace.shared((layer, name, "sum"), like.shape, like.dtype)

    def of(self, layer: Layer) -> Gradients:
        """Return the gradients of a layer's parameters, its penalties' included; zeros where nothing depends on it."""
        found = self._found.get(layer)
        if found is None:
            found = self._found[layer] = {name: np.zeros_like(param) for name, param in layer.arrays.items()}
        for name, factor in layer.penalties.items():
            found[name] = self._with_penalty(layer, name, found[name], factor)
        return found

    def _with_penalty(self, layer: Layer, name: str, gradient: NDArray[Any], factor: float) -> NDArray[Any]:
        """Return a gradient plus ``2 * factor * w``.

        The sum is an array of its own: both biases of a recurrent layer may share one gradient, and one is penalised.
        """
        param = layer.arrays[name]
        total = self._context.workspace.shared((layer, name), param.shape, param.dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # overflow is told as divergence
            np.multiply(param, 2.0 * factor, out=total)
            total += gradient
        return total
