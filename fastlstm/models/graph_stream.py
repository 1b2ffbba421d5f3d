"""Streaming a graph: every input a step at a time, its states in the open."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.numbers import as_numbers
from ..data.packed import Packed, writeable
from ..errors import OptionError, ShapeError
from ..layers import Layer, PassContext, Stream
from ..layers.steppers import LayerStepper, stepper_of
from ..layers.symbol import Node
from ..training.graph import Graph

__all__ = ["GraphStream"]

Array = NDArray[Any]


class GraphStream(Stream):
    """The layers of a graph, which read `batch` sequences side by side, a step at a call. `Model.stream` makes one.

    As `Stream`, but that a step takes a list of the steps of all inputs where there are several, and returns a list of
    all outputs.

    Parameters
    ----------
    graph : Graph
        Its inputs have steps; its layers are built, and look at a step and at what came before it.
    batch : int
        N, the sequences side by side.

    Raises
    ------
    OptionError
        A layer needs the whole sequence, begins with a state from elsewhere, or runs twice.
    """

    def __init__(self, graph: Graph, batch: int = 1):
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise OptionError(f"stream: batch={batch!r}; expected a whole number from 1 on")
        self.layers, self.batch = graph.layers, batch
        self._graph, self._context, self._sizes = graph, PassContext(), np.array([batch])
        self._steppers: dict[str, LayerStepper] = {}
        self._merging: set[Node] = set()
        for symbol in graph.inputs:
            if not symbol.spec.steps:
                raise OptionError(f"stream: the input {symbol!r} has no steps; a stream reads every input step by step")
        seen: set[Layer] = set()
        for node in graph.nodes:
            self._plan(node, seen)

    def _plan(self, node: Node, seen: set[Layer]) -> None:
        layer, name = node.layer, str(node.layer.name)
        if layer.takes_several and layer.by_row:
            self._merging.add(node)
            return
        if len(node.inputs) > 1:
            raise OptionError(f"stream: {name} begins with a state from elsewhere; see step_function")
        stepper = stepper_of(layer, self.batch)
        if stepper is None:
            return
        if layer in seen and stepper.state:
            raise OptionError(f"stream: {name} runs twice; its states would have one name")
        seen.add(layer)
        self._steppers[name] = stepper

    def step(self, x: Any) -> Any:
        """Read one step of every sequence.

        Parameters
        ----------
        x : array, or list of arrays for several inputs
            ``(N, D)`` features, or ``(N,)`` ids.

        Returns
        -------
        array, or list of arrays for several outputs
            ``(N, K)``, new arrays.

        Raises
        ------
        ShapeError
            An input has another shape, or there are not as many as the model has.
        DataError
            An id is outside the vocabulary; these are no numbers, or masked ones.
        """
        inputs = self._graph.inputs
        given = [x] if len(inputs) == 1 else x
        if not isinstance(given, list | tuple) or len(given) != len(inputs):
            raise ShapeError(f"step: expected a list of {len(inputs)} arrays, one for each input")
        made: dict[Any, Array] = {symbol: self._row(one, symbol) for symbol, one in zip(inputs, given, strict=True)}
        for node in self._graph.nodes:
            rows = [made[symbol] for symbol in node.inputs]
            if node in self._merging:
                packed = tuple(Packed(one, self._sizes, steps=False) for one in rows)
                (merged,), _ = node.layer.run(packed, self._context)
                made[node.outputs[0]] = merged.rows
                continue
            stepper = self._steppers.get(str(node.layer.name))
            made[node.outputs[0]] = rows[0] if stepper is None else stepper(rows[0])
            if stepper is not None:
                made |= zip(node.outputs[1:], stepper.state.values(), strict=False)
        outputs = [np.array(made[symbol]) for symbol in self._graph.outputs]
        return outputs[0] if len(outputs) == 1 else outputs

    def _row(self, x: ArrayLike, symbol: Any) -> Array:
        """Return one input's step as kernels take it."""
        spec = symbol.spec
        dtype = None if spec.ids else self._graph.layers[0].dtype
        rows = writeable(np.asarray(as_numbers(x, "step: x"), dtype, order="C"))
        wanted = (self.batch,) if spec.ids else (self.batch, spec.features)
        if rows.shape != wanted:
            raise ShapeError(f"step: x has shape {rows.shape}; expected {wanted}: one step of each sequence")
        return rows

    def clone(self) -> "GraphStream":
        """Return a second stream that goes on from the same state, over the same weights."""
        return _going_on(self._graph, self.batch, self.state_dict())

    def __reduce__(self) -> tuple[Any, ...]:
        return _going_on, (self._graph, self.batch, self.state_dict())


def _going_on(graph: Graph, batch: int, state: dict[str, Array]) -> GraphStream:
    """Return a stream that goes on from a state."""
    stream = GraphStream(graph, batch)
    stream.load_state_dict(state)
    return stream
