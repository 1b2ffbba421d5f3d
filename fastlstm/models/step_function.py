"""A graph taken one step at a time by a search: what does not depend on the steps is computed once, the rest each step.

A search such as `fastlstm.decode.beam_search` calls ``step(tokens, state)`` and reorders the rows of the state as its
beams go on. So the state holds what is each beam's own: the recurrent states, and the number of the sequence that the
beam belongs to. What all beams of a sequence share, such as an encoder's outputs, stays outside.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..data.packed import Packed
from ..data.pairs import select
from ..errors import OptionError
from ..layers import Bidirectional, Layer, PassContext, RecurrentLayer
from ..layers.symbol import Node, Symbol
from ..training.graph import Graph

__all__ = ["State", "StepFunction", "before_steps", "step_function"]

State: TypeAlias = dict[str, Any]
"""Arrays of one row a beam: ``"sequence"``, and of each recurrent layer its state by the layer's name."""

StepFunction: TypeAlias = Callable[[NDArray[np.int64], State], tuple[NDArray[Any], State]]


class _Recurrent(NamedTuple):
    """A recurrent layer that goes by steps, and the symbols of its start state."""

    name: str
    layer: RecurrentLayer
    start: tuple[Symbol, ...]


class _Steps:
    """What depends on the steps, node by node."""

    def __init__(self, graph: Graph, steps: Symbol, output: Symbol):
        self.steps, self.output = steps, output
        moving = {steps}
        self.nodes: list[Node] = []
        self.before: list[Symbol] = []
        """Symbols that the steps read and that do not depend on them."""
        for node in graph.nodes:
            if moving.isdisjoint(node.inputs):
                continue
            self.nodes.append(node)
            moving |= set(node.outputs)
            self.before += [symbol for symbol in node.inputs if symbol not in moving]
        if output not in moving:
            raise OptionError(f"step_function: the output does not depend on {steps!r}")
        self.before = list(dict.fromkeys(self.before))
        names: dict[Layer, str] = {}
        self.recurrent: dict[Node, _Recurrent] = {}
        for node in self.nodes:
            self._check(node, moving)
            if isinstance(node.layer, RecurrentLayer):
                if node.layer in names:
                    raise OptionError(f"step_function: {node.layer.name} runs twice; a step function goes by each once")
                names[node.layer] = str(node.layer.name)
                self.recurrent[node] = _Recurrent(str(node.layer.name), node.layer, node.inputs[1:])

    @staticmethod
    def _check(node: Node, moving: set[Symbol]) -> None:
        layer = node.layer
        ahead = isinstance(layer, RecurrentLayer) and not layer.go_backwards and moving.isdisjoint(node.inputs[1:])
        attends = layer.kind in ("Attention", "AdditiveAttention") and moving.isdisjoint(node.inputs[1:])
        rows = layer.by_row and moving.issuperset(node.inputs)
        if isinstance(layer, Bidirectional) or not (ahead or attends or rows or layer.kind == "LastStep"):
            raise OptionError(f"step_function: {layer.name} ({layer.kind}) needs more than the step and its own past")


def before_steps(graph: Graph, steps: Symbol, output: Symbol) -> list[Symbol]:
    """Return what the steps read and that can be computed once, without them."""
    return _Steps(graph, steps, output).before


def step_function(
    graph: Graph, steps: Symbol, output: Symbol, values: dict[Symbol, Packed], count: int, dtype: np.dtype[Any]
) -> tuple[StepFunction, State]:
    """Return a step function and the state before the first step.

    Parameters
    ----------
    graph : Graph
    steps : Symbol
        The input that comes a step at a time: ids, or features, of which a token is then one.
    output : Symbol
        What a step returns: the values before a last softmax.
    values : dict of Symbol to Packed
        What `before_steps` names.
    count : int
        N, the sequences.
    dtype : dtype
        Of features.

    Raises
    ------
    OptionError
        Something needs more than a step and what came before it.
    """
    own = _Steps(graph, steps, output)
    context = PassContext()
    shared = {symbol: values[symbol] for symbol in own.before}
    state: State = {"sequence": np.arange(count)}
    for one in own.recurrent.values():
        sizes = one.layer.state_sizes
        if one.start:
            parts = tuple(np.array(shared[symbol].to_user_order(shared[symbol].rows)) for symbol in one.start)
        else:
            parts = tuple(np.zeros((count, size), one.layer.dtype) for size in sizes)
        state[one.name] = parts
    last = output.node
    known: list[tuple[NDArray[np.int64], dict[Symbol, Packed]]] = []

    def memory(sequence: NDArray[np.int64]) -> dict[Symbol, Packed]:
        """Return what the beams of these sequences read besides their steps: it seldom changes."""
        if not (known and np.array_equal(known[0][0], sequence)):
            reads = {symbol for node in own.nodes if node not in own.recurrent for symbol in node.inputs}
            some = {symbol: select(x, sequence) for symbol, x in shared.items() if symbol in reads}
            known[:] = [(sequence.copy(), some)]
        return known[0][1]

    def step(tokens: NDArray[np.int64], state: State) -> tuple[NDArray[Any], State]:
        after: State = {"sequence": state["sequence"]}
        made = dict(memory(state["sequence"]))
        made[steps] = _one_step(tokens, steps, dtype)
        for node in own.nodes:
            one = own.recurrent.get(node)
            if one is not None:
                x = made[node.inputs[0]]
                y, final, _ = one.layer.run_from(Packed(x.rows, np.array([x.total])), state[one.name], context)
                rows = y.with_rows(y.rows) if y.steps else y
                made[node.outputs[0]] = Packed(rows.rows, np.array([x.total]), steps=False)
                after[one.name] = tuple(np.array(part) for part in final)
                for symbol, part in zip(node.outputs[1:], after[one.name], strict=False):
                    made[symbol] = Packed(part, np.array([len(part)]), steps=False)
            elif node.layer.kind == "LastStep":
                made[node.outputs[0]] = made[node.inputs[0]]
            elif node is last and node.layer.fused_by == "softmax":
                made[output] = node.layer.forward(made[node.inputs[0]], context, linear=True)[0]  # type: ignore[call-arg]
            else:
                outputs, _ = node.layer.run(tuple(made[symbol] for symbol in node.inputs), context)
                made |= zip(node.outputs, outputs, strict=False)
        return made[output].rows, after

    return step, state


def _one_step(tokens: NDArray[np.int64], steps: Symbol, dtype: np.dtype[Any]) -> Packed:
    """Return tokens (B,) as one step: ids, or rows that are 1 at the token's place."""
    if steps.spec.ids:
        return Packed(np.ascontiguousarray(tokens, np.int64), np.array([len(tokens)]), steps=False)
    features = steps.spec.features
    assert features is not None
    if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < features:
        raise OptionError(f"step: a token is outside 0 to {features - 1}, the features of the input")
    return Packed(np.eye(features, dtype=dtype)[tokens], np.array([len(tokens)]), steps=False)
