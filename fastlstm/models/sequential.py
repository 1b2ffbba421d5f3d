"""Sequential: layers one after the other, with Keras's words and defaults."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from ..data.packed import BatchLike, is_ragged, pack
from ..data.sequences import DataSet
from ..errors import NotBuiltError, OptionError, ShapeError
from ..layers import Layer, Stream
from ..layers.symbol import Input, Symbol, connect, is_symbolic
from ..training.graph import Graph
from .data import InputPort, OutputPort, Ports, mask_of
from .description import describe_layer, make_layer
from .model import refuse_last_of_both, replay
from .structure import name_layer, shown
from .trainable import Trainable

__all__ = ["Sequential"]


class Sequential(Trainable):
    """A model that passes its input through a list of layers.

    Parameters
    ----------
    layers : sequence of Layer
        The first is an Embedding (ids in) or any other layer (features in). An `Input` may come before it: the model
        is then built at once.
    name : str, optional
    seed : int, optional
        Makes initial weights, shuffling and dropout repeatable, bit for bit.

    Examples
    --------
    >>> import numpy as np, fastlstm as fl
    >>> model = fl.Sequential([fl.Embedding(20, 8), fl.LSTM(8), fl.Dense(1, activation="sigmoid")], seed=1)
    >>> model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    >>> x = np.random.default_rng(0).integers(0, 20, (64, 5))
    >>> history = model.fit(x, x[:, 0] > 9, epochs=2, verbose=0)
    >>> model.predict(x).shape
    (64, 1)
    """

    def __init__(self, layers: Sequence[Any] = (), *, name: str | None = None, seed: int | None = None):
        super().__init__(seed)
        self.name = name
        self.layers: list[Layer] = []
        self._graphs: dict[bool, Graph] = {}  # by whether the input has steps; empty until the layers are joined
        self._steps = True
        self._input: Any = None  # or the symbol that was passed before the layers
        for layer in layers:
            self.add(layer)
        if self.layers:
            self._build_if_known()

    def _build_if_known(self) -> None:
        if self._input is not None:
            self.build(self._input.spec.features or 0, steps=self._input.spec.steps)

    # --- structure ------------------------------------------------------------------------------------------------

    def add(self, layer: Any) -> None:
        """Append a layer."""
        if isinstance(layer, Symbol) and layer.node is None and not self.layers and self._input is None:
            self._input = layer
            return
        if not isinstance(layer, Layer):
            raise OptionError(f"Sequential: {layer!r} is no layer")
        if any(layer is other for other in self.layers):
            raise OptionError(f"Sequential: the same {layer.kind} twice; make a new one for each place")
        if self._graphs and self._input is None:
            raise OptionError("Sequential: the model is built already; add layers before its first use")
        if layer.takes_several:
            raise OptionError(f"Sequential: {layer.kind} takes several inputs; connect it in a Model")
        name_layer(layer, self.layers, "Sequential")
        if self._input is not None and not self.layers:
            self._input.read_as(ids=layer.takes_ids)
        self.layers.append(layer)
        self._graphs = {}

    @property
    def takes_ids(self) -> bool:
        """Whether the model takes ids rather than features."""
        return bool(self.layers) and self.layers[0].takes_ids

    @property
    def input_names(self) -> list[str]:
        """The name of the input, "x" unless it has one."""
        return [(self._input.name if self._input is not None else None) or "x"]

    @property
    def output_names(self) -> list[str]:
        """The name of the output: that of the last layer."""
        return [str(self.layers[-1].name) if self.layers else "y"]

    def build(self, features: int = 0, *, steps: bool = True) -> None:
        """Create all parameters for inputs of `features` features (0 where ids go in).

        Parameters
        ----------
        features : int
        steps : bool
            Whether the input has time.
        """
        if not self.layers:
            raise NotBuiltError("Sequential: no layers; add some first")
        with_steps = steps
        for place, layer in enumerate(self.layers):
            if layer.takes_ids and place:
                raise ShapeError(f"Sequential: {layer.kind} takes ids, so it can only be the first layer")
            if not steps and not layer.takes_samples:
                before = self.layers[place - 1].name if place else None
                raise ShapeError(
                    f"Sequential: {layer.name} takes sequences, but "
                    + (f"{before} puts out one row each: set return_sequences=True there" if before else "x has none")
                )
            if layer.dtype != self._dtype:
                if layer.create(features, None):
                    raise OptionError(
                        f"Sequential: {layer.name} computes in {layer.dtype}, {self.layers[0].name} in {self._dtype}; "
                        "give all layers the same dtype="
                    )
                layer.dtype = self._dtype  # without parameters it takes what comes
            if not layer.built:
                layer.build(features, self.rng)
            elif not layer.takes_ids:
                layer.check_features(features)
            features = layer.features_out
            steps = (steps and layer.returns_steps) or layer.makes_steps
        self._steps = with_steps
        refuse_last_of_both(self._joined(with_steps), "Sequential")

    def _joined(self, steps: bool) -> Graph:
        """Return the chain as a graph, for inputs with or without steps."""
        if steps not in self._graphs:
            features = self.layers[0].features_in
            shape = (None,) if self.takes_ids else (None, features) if steps else (features,)
            first = symbol = Input(shape)
            for layer in self.layers:
                symbol = connect(layer, [symbol])[0]
            self._graphs[steps] = Graph([first], [symbol], "Sequential")
        return self._graphs[steps]

    @property
    def graph(self) -> Graph:
        """How the layers are connected, once they are built."""
        self._need_built("graph")
        return self._joined(self._steps)

    def _prepare(self, data: DataSet) -> None:
        x = data.take(np.arange(1), self._dtype).inputs[0]
        self.build(0 if self.takes_ids else x.features, steps=x.steps)

    def _graph_for(self, data: DataSet) -> Graph:
        return self._joined(data.take(np.arange(1), self._dtype).inputs[0].steps)

    @property
    def _ports(self) -> Ports:
        """The input and the output as data sees them, also before there are parameters."""
        if not self.layers:
            raise NotBuiltError("Sequential: the model has no layers; add some first")
        same_steps = not any(layer.changes_lengths or layer.makes_steps for layer in self.layers)
        by_step = all(layer.returns_steps for layer in self.layers)
        first = InputPort(self.input_names[0], self.takes_ids, self.layers[0].takes_samples, mask_of(self.layers[:1]))
        return [first], [OutputPort(self.output_names[0], 0 if same_steps and by_step else None)]

    def _summary_rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [("layer", "output", "parameters")]
        outputs = (
            [node.outputs[0] for node in self._joined(self._steps).nodes] if self.built else [None] * len(self.layers)
        )
        for layer, output in zip(self.layers, outputs, strict=True):
            count = f"{sum(value.size for value in layer.saved().values()):,}" if layer.built else "not built"
            if output is not None:
                shape = shown(output)
            else:
                features = str(layer.features_out) if layer.features_out else "?"
                shape = f"(N, T, {features})" if layer.returns_steps else f"(N, {features})"
            rows.append((f"{layer.name} ({layer.kind})", shape, count))
        return rows

    # --- use ------------------------------------------------------------------------------------------------------

    def stream(self, batch: int = 1) -> Stream:
        """Return a session that reads `batch` sequences a step at a time, with the bits of whole sequences.

        Examples
        --------
        >>> import numpy as np, fastlstm as fl
        >>> model = fl.Sequential([fl.LSTM(8, return_sequences=True), fl.Dense(2)])
        >>> whole = model(np.ones((1, 3, 4)))
        >>> session = model.stream()
        >>> steps = [session.step(np.ones((1, 4))) for _ in range(3)]
        >>> bool((whole[:, 2] == steps[2]).all())
        True
        """
        self._need_built("stream")
        return Stream(self.layers, batch)

    def __call__(self, x: BatchLike, *, lengths: ArrayLike | None = None) -> Any:
        """Return the model's output for one batch; a model without weights builds itself for it first.

        Called on a symbol, such as an `Input`, it returns what its layers return for it.
        """
        if is_symbolic(x):
            symbol: Any = x[0] if isinstance(x, list | tuple) else x
            if not self.built:
                spec = symbol.read_as(ids=self.takes_ids)
                self.build(spec.features or 0, steps=spec.steps)
            return replay(self._joined(symbol.spec.steps), [symbol])[0]
        if not self.built:
            steps = self.takes_ids or is_ragged(x) or np.ndim(cast(ArrayLike, x)) == 3
            packed, _ = pack(x, lengths, features=not self.takes_ids, who="Sequential", steps=steps)
            self.build(0 if self.takes_ids else packed.features, steps=packed.steps)
        return self.predict(x, batch_size=len(x), lengths=lengths)  # type: ignore[arg-type]

    # --- files ----------------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return how the layers are made, as JSON can hold it."""
        more: dict[str, Any] = {} if self.name is None else {"name": self.name}
        more |= {} if self._steps else {"steps": False}
        return {"layers": [*map(describe_layer, self.layers)], **more}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Sequential":
        """Return a model of what `get_config` returned; its parameters are without values."""
        model = cls([make_layer(described) for described in config["layers"]], name=config.get("name"))
        for layer, described in zip(model.layers, config["layers"], strict=True):
            layer.allocate(described["features"])
        model._steps = config.get("steps", True)
        if model.layers:
            model._joined(model._steps)
        return model
