"""Stack: layers one after the other, fitted to each other; their shapes and weights, and nothing of training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.numbers import as_numbers, whole
from ..errors import NotBuiltError, OptionError, ShapeError
from ..layers import Layer, Stream
from .description import name_of_kind

__all__ = ["Stack"]


class Stack:
    """Layers one after the other: what `Sequential` is before it is trained.

    Parameters
    ----------
    layers : sequence of Layer
        The first is an Embedding (ids in) or any other layer (features in).
    seed : int, optional
        Makes initial weights repeatable, and whatever else draws from `rng`.
    """

    def __init__(self, layers: Sequence[Layer] = (), *, seed: int | None = None):
        self.layers: list[Layer] = []
        self.rng = np.random.default_rng(None if seed is None else whole(seed, "Sequential: seed", 0))
        self._joined = False  # whether the layers were fitted to each other (one from another model has its weights)
        for layer in layers:
            self.add(layer)

    # --- structure ----------------------------------------------------------------------------------------------

    def add(self, layer: Layer) -> None:
        """Append a layer."""
        if not isinstance(layer, Layer):
            raise OptionError(f"Sequential: {layer!r} is no layer")
        if any(layer is other for other in self.layers):
            raise OptionError(f"Sequential: the same {layer.kind} twice; make a new one for each place")
        if self._joined:
            raise OptionError("Sequential: the model is built already; add layers before its first use")
        if layer.name is None:
            stem = name_of_kind(layer.kind)
            taken = {other.name for other in self.layers}
            number = 0
            while (name := f"{stem}_{number}" if number else stem) in taken:
                number += 1
            layer.name = name
        elif any(layer.name == other.name for other in self.layers):
            raise OptionError(f"Sequential: two layers are called {layer.name!r}; give them different names")
        self.layers.append(layer)

    @property
    def built(self) -> bool:
        """Whether every layer has its parameters."""
        return bool(self.layers) and all(layer.built for layer in self.layers)

    @property
    def takes_ids(self) -> bool:
        """Whether the model takes ids rather than features."""
        return bool(self.layers) and self.layers[0].takes_ids

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
            steps = steps and layer.returns_steps
        self._joined = True

    @property
    def _returns_steps(self) -> bool:
        return all(layer.returns_steps for layer in self.layers)

    def _need_built(self, what: str) -> None:
        if not self.built:
            raise NotBuiltError(f"{what}: the model has no weights yet; call fit, or build(features), or load one")

    @property
    def _dtype(self) -> Any:
        return self.layers[0].dtype

    def summary(self) -> str:
        """Print, and return, a table of layers, output shapes and parameters."""
        rows = [("layer", "output", "parameters")]
        steps = True
        for layer in self.layers:
            steps = steps and layer.returns_steps
            features = str(layer.features_out) if layer.built or layer.features_out else "?"
            count = f"{sum(value.size for value in layer.params.values()):,}" if layer.built else "not built"
            rows.append((f"{layer.name} ({layer.kind})", f"(N, T, {features})" if steps else f"(N, {features})", count))
        total = sum(value.size for layer in self.layers for value in layer.params.values())
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows]
        lines.insert(1, "-" * len(lines[0]))
        lines.append(f"total {total:,} parameters" if self.built else "total: not built yet")
        text = "\n".join(lines)
        print(text)
        return text

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

    # --- weights ------------------------------------------------------------------------------------------------

    def get_weights(self) -> list[NDArray[Any]]:
        """Return copies of all parameters, in the order of the layers."""
        return [value.copy() for layer in self.layers for value in layer.params.values()]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Overwrite all parameters with what `get_weights` returned."""
        self._need_built("set_weights")
        params = [value for layer in self.layers for value in layer.params.values()]
        given = [as_numbers(value, "set_weights: a tensor") for value in weights]
        if [value.shape for value in given] != [value.shape for value in params]:
            raise ShapeError("set_weights: the arrays do not fit this model's parameters in number or shape")
        for param, value in zip(params, given, strict=True):
            param[...] = value
        for layer in self.layers:
            layer.changed()

    @property
    def _names(self) -> list[str]:
        """Names of all parameters, in the order in which an optimizer sees them."""
        return [f"{layer.name}.{name}" for layer in self.layers for name in layer.params]

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return copies of all parameters, named ``layer.parameter``: ``lstm.weight_ih_l0``."""
        self._need_built("state_dict")
        return dict(zip(self._names, self.get_weights(), strict=True))

    def load_state_dict(self, tensors: Mapping[str, ArrayLike]) -> None:
        """Take over all parameters by the names that `state_dict` gives; all must be there, and fit."""
        if unknown := {name.rsplit(".", 1)[0] for name in tensors} - {str(layer.name) for layer in self.layers}:
            raise ShapeError(f"load_state_dict: tensors for {sorted(unknown)}, which are no layers of this model")
        for layer in self.layers:
            split = ((*name.rpartition("."), value) for name, value in tensors.items())
            own = {name: value for prefix, _, name, value in split if prefix == layer.name}
            if own or layer.params:
                layer.load_state_dict(own)
