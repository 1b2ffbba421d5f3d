"""Model: layers connected as a graph between inputs and outputs, with Keras's words and defaults."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..data.packed import Packed
from ..data.sequences import DataSet
from ..errors import OptionError
from ..layers import Layer, PassContext
from ..layers.symbol import Symbol, connect, is_symbolic, symbols_in
from ..training.graph import Graph
from .data import make_set, ports_of
from .description import describe_layer, describe_symbol, make_input, make_layer
from .graph_stream import GraphStream
from .step_function import before_steps, step_function
from .structure import name_layer, shown
from .trainable import Trainable

__all__ = ["Model", "build_layers", "refuse_last_of_both", "replay"]


class Model(Trainable):
    """What lies between inputs and outputs: layers that were called on symbols.

    Parameters
    ----------
    inputs : Symbol, or list of Symbol
        Made by `Input`, or any symbol from which the outputs can be computed.
    outputs : Symbol, or list of Symbol
        What layers returned for them.
    name : str, optional
    seed : int, optional
        Makes initial weights, shuffling and dropout repeatable, bit for bit.

    Raises
    ------
    OptionError
        An output depends on an input that is not named, two layers have one name, or an input is not used.
    ShapeError
        A layer was built for other features than it gets here.

    Notes
    -----
    Layers may be shared: within a model, where each use adds to the gradient of the same parameters, and between
    models, as a translation's training model and its two for inference do. Layers get their parameters when the first
    model that holds them is made.

    Examples
    --------
    >>> import numpy as np, fastlstm as fl
    >>> x = fl.Input((None, 3))
    >>> y, h, c = fl.LSTM(8, return_sequences=True, return_state=True)(x)
    >>> model = fl.Model(x, [fl.Dense(2)(y), fl.Dense(1)(h)], seed=0)
    >>> steps, last = model.predict(np.ones((4, 5, 3)))
    >>> steps.shape, last.shape
    ((4, 5, 2), (4, 1))
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, *, seed: int | None = None):
        super().__init__(seed)
        self.name = name
        self._one_output = not isinstance(outputs, list | tuple | Mapping)
        self._graph = Graph(_symbols(inputs, "inputs"), _symbols(outputs, "outputs"), "Model")
        self.layers: list[Layer] = self._graph.layers
        for place, layer in enumerate(self.layers):
            name_layer(layer, (*self.layers[:place], *(one for one in self.layers[place:] if one.name)), "Model")
        for symbol in self._graph.inputs:
            if not self._graph.uses[symbol].reads and not self._graph.uses[symbol].leaves:
                raise OptionError(f"Model: the input {symbol!r} is not used by any output; leave it out")
        refuse_last_of_both(self._graph, "Model")
        build_layers(self._graph, self.rng, "Model")
        self._input_names = _names([symbol.name or "input" for symbol in self._graph.inputs])
        given = list(outputs) if isinstance(outputs, Mapping) else [symbol.name for symbol in self._graph.outputs]
        made_by = [
            symbol.name or "input" if symbol.node is None else str(symbol.node.layer.name)
            for symbol in self._graph.outputs
        ]
        self._output_names = _names([own or made for own, made in zip(given, made_by, strict=True)])

    @property
    def graph(self) -> Graph:
        """How the layers are connected."""
        return self._graph

    @property
    def inputs(self) -> list[Symbol]:
        """The symbols of the inputs."""
        return list(self._graph.inputs)

    @property
    def outputs(self) -> list[Symbol]:
        """The symbols of the outputs."""
        return list(self._graph.outputs)

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs, as a dict of data has them."""
        return self._input_names

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs."""
        return self._output_names

    def _prepare(self, data: DataSet) -> None:
        """Do nothing: the layers were built with the model."""

    def __call__(self, x: Any, *, lengths: Any = None) -> Any:
        """Return the model's output for one batch; for symbols, what its layers return for them."""
        if is_symbolic(x) or (isinstance(x, Mapping) and any(isinstance(one, Symbol) for one in x.values())):
            given = [x[name] for name in self.input_names] if isinstance(x, Mapping) else x
            made = replay(self._graph, symbols_in(given, "Model"))
            return made[0] if self._one_output else list(made)
        data = self._set("Model", x, lengths=lengths)
        outputs = self._outputs("Model", data, len(data))
        return outputs[0] if len(outputs) == 1 else outputs

    def stream(self, batch: int = 1) -> GraphStream:
        """Return a session that reads `batch` sequences a step at a time, with the bits of whole sequences.

        Where there are several inputs a step takes a list of them; where there are several outputs it returns one.

        Raises
        ------
        OptionError
            A layer needs the whole sequence: `Bidirectional`, pooling, attention; see `step_function` for a decoder.

        Examples
        --------
        >>> import numpy as np, fastlstm as fl
        >>> x = fl.Input((None, 4))
        >>> y = fl.LSTM(8, return_sequences=True)(x)
        >>> model = fl.Model(x, fl.Dense(2)(fl.Concatenate()([x, y])), seed=0)
        >>> whole, session = model(np.ones((1, 3, 4))), model.stream()
        >>> bool(all((session.step(np.ones((1, 4))) == whole[:, t]).all() for t in range(3)))
        True
        """
        return GraphStream(self._graph, batch)

    def step_function(self, steps: str, x: Any = None, *, output: str | None = None, lengths: Any = None) -> Any:
        """Return what `fastlstm.decode.beam_search` asks of a model: a step function, and the state to begin with.

        What does not depend on the input `steps`, such as an encoder, is computed here, once.

        Parameters
        ----------
        steps : str
            The name of the input that comes a token at a time: ids, or features of which a token is one (one-hot).
        x : array, list or dict
            All other inputs, as `predict` takes them; left out where there are none, for one sequence.
        output : str, optional
            The name of the output that says what follows; default: the first.
        lengths
            As in `fit`.

        Returns
        -------
        step : callable
            ``step(tokens, state) -> (logits, state)`` for B beams: tokens ``(B,)``, logits ``(B, V)``, the values
            before a last softmax. The step of a sequence has the bits of the same step of the whole.
        state : dict of arrays
            Before the first token: one row for each of the N sequences. Searches reorder its rows.

        Raises
        ------
        OptionError
            A layer that depends on the steps needs more than the step and what came before it.

        Examples
        --------
        >>> import numpy as np, fastlstm as fl
        >>> source, target = fl.Input((None, 3), name="source"), fl.Input((None,), name="target")
        >>> _, h, c = fl.LSTM(8, return_state=True)(source)
        >>> hidden = fl.LSTM(8, return_sequences=True)(fl.Embedding(5, 4)(target), initial_state=[h, c])
        >>> model = fl.Model([source, target], fl.Dense(5, activation="softmax")(hidden), seed=0)
        >>> step, state = model.step_function("target", np.ones((2, 4, 3)))
        >>> [len(hypotheses) for hypotheses in fl.decode.beam_search(step, [0, 0], state=state, max_length=3)]
        [1, 1]
        """
        if steps not in self._input_names:
            raise OptionError(
                f"step_function: steps={steps!r}; expected one of the inputs {', '.join(self._input_names)}"
            )
        if output is not None and output not in self._output_names:
            raise OptionError(f"step_function: output={output!r}; expected one of {', '.join(self._output_names)}")
        stepped = self._graph.inputs[self._input_names.index(steps)]
        wanted = self._graph.outputs[0 if output is None else self._output_names.index(output)]
        before = before_steps(self._graph, stepped, wanted)
        others = [
            (name, one) for name, one in zip(self._input_names, self._graph.inputs, strict=True) if one is not stepped
        ]
        values: dict[Symbol, Packed] = {}
        count = 1
        if others:
            once = Graph([symbol for _, symbol in others], before, "step_function")
            ports = ports_of(once, [name for name, _ in others], [str(place) for place in range(len(before))])
            data = make_set(ports, x, lengths=lengths, who="step_function")
            batch = data.take(np.arange(len(data)), self._dtype)
            self._check_inputs(batch, once)
            values = dict(zip(before, once.forward(batch.inputs, PassContext())[0], strict=True))
            count = len(data)
        return step_function(self._graph, stepped, wanted, values, count, np.dtype(self._dtype))

    def _summary_rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [("layer", "output", "parameters", "connected to")]
        names: dict[Symbol, str] = {}
        for symbol, name in zip(self._graph.inputs, self._input_names, strict=True):
            names[symbol] = name
            rows.append((f"{name} (Input)", shown(symbol), "0", ""))
        seen: set[Layer] = set()
        for node in self._graph.nodes:
            layer = node.layer
            for symbol in node.outputs:
                names[symbol] = f"{layer.name}[{symbol.index}]" if symbol.index else str(layer.name)
            count = sum(value.size for value in layer.saved().values())
            again = "shared" if layer in seen else f"{count:,}"
            seen.add(layer)
            uses = self._graph.uses
            read = [one for one in node.outputs if uses[one].reads or uses[one].leaves]
            shapes = ", ".join(shown(symbol) for symbol in read)
            connected = ", ".join(names[symbol] for symbol in node.inputs)
            rows.append((f"{layer.name} ({layer.kind})", shapes, again, connected))
        return rows

    def get_config(self) -> dict[str, Any]:
        """Return how the layers are made and connected, as JSON can hold it."""
        graph = self._graph
        places: dict[Symbol, list[int]] = {symbol: [-1, place] for place, symbol in enumerate(graph.inputs)}
        for number, node in enumerate(graph.nodes):
            places |= {symbol: [number, place] for place, symbol in enumerate(node.outputs)}
        return {
            "name": self.name,
            "inputs": [
                describe_symbol(symbol, name) for symbol, name in zip(graph.inputs, self._input_names, strict=True)
            ],
            "layers": [describe_layer(layer) for layer in self.layers],
            "nodes": [
                [self.layers.index(node.layer), [places[symbol] for symbol in node.inputs]] for node in graph.nodes
            ],
            "outputs": [
                [name, *places[symbol]] for symbol, name in zip(graph.outputs, self._output_names, strict=True)
            ],
            "one_output": self._one_output,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Model":
        """Return a model of what `get_config` returned; its parameters are without values."""
        layers = []
        for described in config["layers"]:
            layer = make_layer(described)
            layer.allocate(described["features"])
            layers.append(layer)
        inputs = [make_input(described) for described in config["inputs"]]
        made: list[tuple[Symbol, ...]] = []

        def at(node: int, place: int) -> Symbol:
            return inputs[place] if node < 0 else made[node][place]

        for number, taken in config["nodes"]:
            made.append(connect(layers[number], [at(*place) for place in taken]))
        outputs = {name: at(node, place) for name, node, place in config["outputs"]}
        model = cls(inputs, outputs, config["name"])
        model._one_output = config["one_output"]
        return model


def _symbols(given: Any, word: str) -> tuple[Symbol, ...]:
    several = list(given.values()) if isinstance(given, Mapping) else given
    found = symbols_in(several, f"Model: {word}")
    if not found:
        raise OptionError(f"Model: {word} is empty; pass at least one symbol")
    if len(set(found)) < len(found) and word == "inputs":
        raise OptionError("Model: an input is named twice")
    return found


def _names(wanted: Sequence[str]) -> list[str]:
    """Return names that are all different: ``dense``, ``dense_1``."""
    names: list[str] = []
    for name in wanted:
        number, own = 0, name
        while own in names:
            number += 1
            own = f"{name}_{number}"
        names.append(own)
    return names


def build_layers(graph: Graph, rng: Any, who: str) -> None:
    """Give every layer its parameters, in the order of their first use, and one dtype.

    Raises
    ------
    OptionError
        Layers compute in different types.
    """
    dtype: Any = next((layer.dtype for layer in graph.layers if layer.built and layer.arrays), None)
    dtype = graph.layers[0].dtype if dtype is None and graph.layers else dtype
    for node in graph.nodes:
        layer = node.layer
        features = tuple(symbol.spec.features or 0 for symbol in node.inputs)
        wanted = features if layer.takes_several else features[0]
        if layer.dtype != dtype:
            if layer.create(wanted, None):
                raise OptionError(
                    f"{who}: {layer.name} computes in {layer.dtype}, {graph.layers[0].name} in {dtype}; "
                    "give all layers the same dtype="
                )
            layer.dtype = dtype  # without parameters it takes what comes
        if not layer.built:
            layer.build(wanted, rng)
        elif not layer.takes_ids and not layer.takes_several:
            layer.check_features(features[0])


def replay(graph: Graph, inputs: Sequence[Symbol]) -> list[Symbol]:
    """Return what the outputs of a graph are for other inputs: its layers are called on them, and shared."""
    if len(inputs) != len(graph.inputs):
        raise OptionError(f"Model: called on {len(inputs)} inputs; it takes {len(graph.inputs)}")
    made = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        made |= zip(node.outputs, connect(node.layer, [made[symbol] for symbol in node.inputs]), strict=True)
    return [made[symbol] for symbol in graph.outputs]


def refuse_last_of_both(graph: Graph, who: str) -> None:
    """Raise OptionError for LastStep after Bidirectional: the backward direction's last step has read one step only."""
    for node in graph.nodes:
        if node.layer.kind != "LastStep":
            continue
        symbol = node.inputs[0]
        while symbol.node is not None and symbol.node.layer.by_row:
            symbol = symbol.node.inputs[0]
        if symbol.node is not None and symbol.node.layer.kind == "Bidirectional":
            both = symbol.node.layer.name
            raise OptionError(
                f"{who}: {node.layer.name} takes the last step of {both}, whose backward direction has read one step "
                "only there; leave return_sequences False in the layer within Bidirectional, and LastStep out"
            )
