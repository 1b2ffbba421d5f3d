"""TimeDistributed: a layer applied to each step alone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.packed import Packed
from ..errors import OptionError
from . import described
from .base import Gradients, Layer, PassContext, TableGradient

__all__ = ["TimeDistributed"]


class TimeDistributed(Layer):
    """Apply a layer to each step alone, as to one row a sequence.

    Parameters
    ----------
    layer : Layer
        One that takes one row a sequence, such as Dense, Activation or Dropout; or an Embedding.
    name : str, optional
        See `Layer`.

    Raises
    ------
    OptionError
        The layer takes sequences only: a step here is one row.

    Notes
    -----
    Parameters are the layer's own. Most layers take steps anyhow: ``TimeDistributed(Dense(5))`` is ``Dense(5)``.

    Examples
    --------
    >>> import numpy as np, fastlstm as fl
    >>> fl.TimeDistributed(fl.Dense(5))(np.ones((2, 7, 3))).shape
    (2, 7, 5)
    """

    def __init__(self, layer: Layer, *, name: str | None = None):
        if not isinstance(layer, Layer):
            raise OptionError(f"TimeDistributed: layer is {type(layer).__name__}; expected a layer such as Dense")
        if not (layer.takes_samples or layer.takes_ids) or layer.takes_several:
            raise OptionError(
                f"TimeDistributed: {layer.kind} takes whole sequences, and a step here is one row of features; "
                f"use {layer.kind} itself"
            )
        if layer.makes_steps or not layer.returns_steps:
            raise OptionError(f"TimeDistributed: {layer.kind} does not give one row for each row")
        super().__init__(name=name, dtype=layer.dtype)
        self.layer = layer
        self.takes_ids = layer.takes_ids  # type: ignore[misc]
        self.takes_samples = layer.takes_samples  # type: ignore[misc]
        self.by_row = layer.by_row  # type: ignore[misc]

    @property
    def features_out(self) -> int:
        return self.layer.features_out

    @property
    def fused_by(self) -> str | None:
        return self.layer.fused_by

    def features_for(self, features: Any) -> int | None:
        return self.layer.features_for(features)

    def config(self) -> dict[str, Any]:
        return {"layer": described.describe(self.layer), "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TimeDistributed":
        """Return a new layer of the given `config`."""
        return cls(described.make(config["layer"]), name=config["name"])

    def create(self, features: Any, rng: np.random.Generator | None) -> dict[str, NDArray[Any]]:
        return self.layer.create(features, rng)

    def create_buffers(self, features: Any) -> dict[str, NDArray[Any]]:
        return self.layer.create_buffers(features)

    def features_from(self, tensors: dict[str, NDArray[Any]]) -> Any:
        return self.layer.features_from(tensors)

    def _take_params(self, features: Any, rng: np.random.Generator | None) -> None:
        self.layer.dtype = self.dtype
        super()._take_params(features, rng)
        # the same arrays: what is written to one is written to the other
        self.layer.arrays, self.layer.buffers, self.layer.features_in = self.arrays, self.buffers, features
        self.layer.beside = (self,)
        self.layer.changed()
        self.penalties = self.layer.penalties

    def changed(self) -> None:
        self.layer.changed()

    def check_features(self, count: int) -> None:
        self.layer.check_features(count)

    def forward(self, x: Packed, context: PassContext, **how: Any) -> tuple[Packed, Any]:
        return self.layer.forward(x, context, **how)

    def backward(
        self, dy: NDArray[Any], cache: Any, context: PassContext
    ) -> tuple[NDArray[Any] | TableGradient | None, Gradients]:
        return self.layer.backward(dy, cache, context)
