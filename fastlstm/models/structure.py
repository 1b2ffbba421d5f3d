"""What every model of layers has: its layers by name, their weights, a summary; nothing of training."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.numbers import as_numbers, whole
from ..errors import NotBuiltError, OptionError, ShapeError
from ..layers import Layer
from ..layers.symbol import Symbol
from ..training.graph import Graph
from .description import name_of_kind

__all__ = ["Structure", "name_layer"]


def name_layer(layer: Layer, others: Iterable[Layer], who: str) -> None:
    """Give a layer without a name one by its kind, ``lstm``, ``lstm_1``; refuse a name that another layer has."""
    if layer.name is not None:
        if any(layer.name == other.name for other in others if other is not layer):
            raise OptionError(f"{who}: two layers are called {layer.name!r}; give them different names")
        return
    stem, taken, number = name_of_kind(layer.kind), {other.name for other in others}, 0
    while (name := f"{stem}_{number}" if number else stem) in taken:
        number += 1
    layer.name = name


class Structure:
    """Layers with names and weights: what `Model` and `Sequential` are before they are trained.

    Parameters
    ----------
    seed : int, optional
        Makes initial weights repeatable, and whatever else draws from `rng`.
    """

    layers: list[Layer]
    """Each once, in the order of their first use."""

    def __init__(self, seed: int | None):
        self.rng = np.random.default_rng(None if seed is None else whole(seed, f"{self.kind}: seed", 0))

    @property
    def kind(self) -> str:
        """Class name, as errors and files show it."""
        return type(self).__name__

    @property
    def graph(self) -> Graph:
        """How the layers are connected."""
        raise NotImplementedError

    @property
    def built(self) -> bool:
        """Whether every layer has its parameters."""
        return bool(self.layers) and all(layer.built for layer in self.layers)

    @property
    def trainable(self) -> bool:
        """Whether training moves any parameter; set it to freeze or free all layers."""
        return any(layer.trainable for layer in self.layers)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.layers:
            layer.trainable = bool(value)

    def _need_built(self, what: str) -> None:
        if not self.built:
            raise NotBuiltError(f"{what}: the model has no weights yet; call fit, or build(features), or load one")

    @property
    def _dtype(self) -> Any:
        return self.layers[0].dtype

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Return a layer by its name or its place.

        Raises
        ------
        OptionError
            There is no such layer, or both or none of the two were passed.
        """
        if (name is None) == (index is None):
            raise OptionError("get_layer: pass a name or an index")
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise OptionError(f"get_layer: index={index}; the model has {len(self.layers)} layers")
            return self.layers[index]
        for layer in self.layers:
            if layer.name == name:
                return layer
        names = ", ".join(str(layer.name) for layer in self.layers)
        raise OptionError(f"get_layer: no layer is called {name!r}; there are {names}")

    def count_params(self) -> int:
        """Return the number of all parameters."""
        self._need_built("count_params")
        return sum(value.size for layer in self.layers for value in layer.saved().values())

    def summary(self) -> str:
        """Print, and return, a table of layers, output shapes and parameters."""
        rows = self._summary_rows()
        columns = len(rows[0])
        widths = [max(len(row[i]) for row in rows) for i in range(columns)]
        lines = [
            "  ".join(
                f"{cell:>{width}}" if i == 2 else f"{cell:<{width}}"
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        lines.insert(1, "-" * (sum(widths) + 2 * (columns - 1)))
        total = sum(value.size for layer in self.layers for value in layer.saved().values())
        frozen = sum(
            value.size
            for layer in self.layers
            for value in (layer.buffers if layer.trainable else layer.saved()).values()
        )
        ending = f", {frozen:,} of them not trained" if frozen else ""
        lines.append(f"total {total:,} parameters{ending}" if self.built else "total: not built yet")
        text = "\n".join(lines)
        print(text)
        return text

    def _summary_rows(self) -> list[tuple[str, ...]]:
        """Return the head and the rows of the summary."""
        raise NotImplementedError

    # --- weights --------------------------------------------------------------------------------------------------

    def _values(self) -> list[NDArray[Any]]:
        return [value for layer in self.layers for value in layer.saved().values()]

    def get_weights(self) -> list[NDArray[Any]]:
        """Return copies of all parameters, in the order of the layers."""
        return [value.copy() for value in self._values()]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Overwrite all parameters with what `get_weights` returned."""
        self._need_built("set_weights")
        params = self._values()
        given = [as_numbers(value, "set_weights: a tensor") for value in weights]
        if [value.shape for value in given] != [value.shape for value in params]:
            raise ShapeError("set_weights: the arrays do not fit this model's parameters in number or shape")
        for param, value in zip(params, given, strict=True):
            param[...] = value
        for layer in self.layers:
            layer.changed()

    @property
    def _trained_names(self) -> list[str]:
        """Names of the parameters that training moves, in the order in which an optimizer sees them."""
        return [f"{layer.name}.{name}" for layer in self.layers if layer.trainable for name in layer.arrays]

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return copies of all parameters, named ``layer.parameter``: ``lstm.weight_ih_l0``."""
        self._need_built("state_dict")
        return {f"{layer.name}.{name}": value.copy() for layer in self.layers for name, value in layer.saved().items()}

    def load_state_dict(self, tensors: Mapping[str, ArrayLike]) -> None:
        """Take over all parameters by the names that `state_dict` gives; all must be there, and fit."""
        if unknown := {name.rsplit(".", 1)[0] for name in tensors} - {str(layer.name) for layer in self.layers}:
            raise ShapeError(f"load_state_dict: tensors for {sorted(unknown)}, which are no layers of this model")
        for layer in self.layers:
            split = ((*name.rpartition("."), value) for name, value in tensors.items())
            own = {name: value for prefix, _, name, value in split if prefix == layer.name}
            if own or layer.saved():
                layer.load_state_dict(own)


def shown(symbol: Symbol) -> str:
    """Return a symbol's shape as a summary shows it."""
    shape = symbol.shape
    sizes = ["N", *(["T" if shape[1] is None else str(shape[1])] if symbol.spec.steps else [])]
    if not symbol.spec.ids:
        sizes.append("?" if shape[-1] is None else str(shape[-1]))
    return f"({', '.join(sizes)})" if len(sizes) > 1 else "(N,)"
