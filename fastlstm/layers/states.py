"""States that go into and come out of recurrent layers in a graph: each a batch of one row a sequence.

A state may come from a batch with other lengths, such as an encoder's: its sequences then stand in another order, and
are brought into that of the batch they start; gradients go the way back.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..data.packed import Packed
from ..data.pairs import align, align_back, check_partners, places_in
from ..engine.context import Gradients, PassContext
from ..errors import ShapeError
from .symbol import Spec, Symbol, symbols_in

__all__ = ["StatesInGraph", "StatesOfBoth", "initial_symbols", "starts_of", "state_specs"]


Parts: TypeAlias = tuple[NDArray[Any], ...]
"""Parts of a state, each (N, features) in packed order."""


class Start(NamedTuple):
    """A start state in packed order, and where the partner of each sequence stood in the batches it came from."""

    state: Parts | None
    places: tuple[NDArray[np.int64] | None, ...]


def initial_symbols(given: Any, who: str) -> tuple[Symbol, ...]:
    """Return the symbols of what was passed as ``initial_state``: one, a list, or a list of lists."""
    if given is None:
        return ()
    flat: list[Any] = []
    for one in given if isinstance(given, list | tuple) else [given]:
        flat += one if isinstance(one, list | tuple) else [one]
    return symbols_in(flat, f"{who}: initial_state")


def state_specs(who: str, given: Sequence[Spec], words: Sequence[str], sizes: Sequence[int]) -> tuple[Spec, ...]:
    """Check the start states that a layer is called on; return the specs of those that it returns.

    Raises
    ------
    ShapeError
        There are not as many as the layer has, or one has steps, or other features.
    """
    if given and len(given) != len(sizes):
        raise ShapeError(f"{who}: initial_state has {len(given)} parts; expected {len(sizes)}: {', '.join(words)}")
    for word, spec, size in zip(words, given, sizes, strict=False):
        if spec.steps or spec.features != size:
            raise ShapeError(
                f"{who}: initial_state.{word} has shape {spec.shape}; expected (None, {size}): one row a sequence"
            )
    return tuple(Spec(size, None) for size in sizes)


def starts_of(x: Packed, states: Sequence[Packed], who: str) -> Start:
    """Return the start state that batches of states give for the sequences of `x`."""
    if not states:
        return Start(None, ())
    for state in states:
        check_partners(state, x, f"{who}: initial_state")
    places = tuple(places_in(state, x) for state in states)
    return Start(tuple(align(one.rows, place) for one, place in zip(states, places, strict=True)), places)


class StatesInGraph:
    """What layers with a state have in common as nodes of a graph, whose inputs and outputs may be states.

    A layer says what the parts of its state are, flat, and how it runs from them and goes back.
    """

    kind: str
    dtype: np.dtype[Any]
    state_words: tuple[str, ...]
    """Names of the parts of the state."""
    state_sizes: tuple[int, ...]
    """Features of each part."""
    gives_state: bool
    """Whether final states are outputs."""

    def run_from(self, x: Packed, start: Parts | None, context: PassContext) -> tuple[Packed, Parts, Any]:
        """Return the output, the parts of the final state and the cache, from those of a start state (None: zeros)."""
        raise NotImplementedError

    def back_from(
        self, dy: NDArray[Any] | None, d_final: Parts | None, cache: Any, context: PassContext, of_state: bool
    ) -> tuple[Any, Parts, Gradients]:
        """Return the gradients of the input, of the start state's parts (if `of_state`) and of the parameters."""
        raise NotImplementedError

    def specs_from(self, own: tuple[Spec, ...], given: Sequence[Spec]) -> tuple[Spec, ...]:
        """Return the specs of all outputs, given those of the output and of the start states."""
        states = state_specs(self.kind, given, self.state_words, self.state_sizes)
        return (*own, *states) if self.gives_state else own

    def run(self, inputs: tuple[Packed, ...], context: PassContext) -> tuple[tuple[Packed, ...], Any]:
        """See `Layer.run`; inputs are the sequences and the parts of a start state."""
        x = inputs[0]
        start = starts_of(x, inputs[1:], self.kind)
        y, final, cache = self.run_from(x, start.state, context)
        states = tuple(x.one_row_each(part) for part in final) if self.gives_state else ()
        return (y, *states), (cache, start.places, x.sequences)

    def run_back(
        self, dys: tuple[NDArray[Any] | None, ...], cache: Any, context: PassContext
    ) -> tuple[tuple[Any, ...], Gradients]:
        """See `Layer.run_back`."""
        own, places, count = cache
        d_final = None
        if any(one is not None for one in dys[1:]):
            given = zip(dys[1:], self.state_sizes, strict=True)
            d_final = tuple(np.zeros((count, size), self.dtype) if one is None else one for one, size in given)
        dx, d_start, gradients = self.back_from(dys[0], d_final, own, context, bool(places))
        back = tuple(align_back(one, place) for one, place in zip(d_start, places, strict=False))
        return (dx, *back), gradients


class StatesOfBoth(StatesInGraph):
    """The states of two directions as nodes of a graph: the parts of the forward direction's come first."""

    directions: tuple[Any, Any]

    @property
    def state_words(self) -> tuple[str, ...]:  # type: ignore[override]
        ahead, back = (layer.state_words for layer in self.directions)
        return (*ahead, *(f"{word}_reverse" for word in back))

    @property
    def state_sizes(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(size for layer in self.directions for size in layer.state_sizes)

    @property
    def gives_state(self) -> bool:  # type: ignore[override]
        return bool(self.directions[0].return_state)

    def of_each(self, parts: Parts | None) -> tuple[Parts | None, Parts | None]:
        """Return the parts of each direction's state."""
        half = len(self.directions[0].state_sizes)
        return (None, None) if parts is None else (parts[:half], parts[half:])

    def run_steps(self, x: Packed, states: Any, context: PassContext) -> tuple[Packed, tuple[Parts, Parts], Any]:
        """Return the merged output, both final states and the cache."""
        raise NotImplementedError

    def run_from(self, x: Packed, start: Parts | None, context: PassContext) -> tuple[Packed, Parts, Any]:
        """See `StatesInGraph.run_from`."""
        y, (final, final_back), cache = self.run_steps(x, self.of_each(start), context)
        return y, (*final, *final_back), cache
