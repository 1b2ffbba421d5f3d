"""What a model file says about a Sequential: its layers and how it was compiled, as JSON; and the way back."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .. import layers as layer_kinds
from ..errors import ModelFileError
from ..layers import Bidirectional, Layer
from ..training import losses, metrics, optimizers

__all__ = ["describe_compiled", "describe_layer", "make_layer", "name_of_kind"]


def name_of_kind(kind: str) -> str:
    """Return a layer's name from its kind, as Keras does.

    Examples
    --------
    >>> name_of_kind("LSTM"), name_of_kind("GlobalMaxPooling1D")
    ('lstm', 'global_max_pooling1d')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", kind).lower()


def describe_layer(layer: Layer) -> dict[str, Any]:
    """Return what `make_layer` needs to make this layer again, and the input features to build it for."""
    return {"kind": layer.kind, "features": layer.features_in, "config": layer.config()}


def make_layer(described: Mapping[str, Any]) -> Layer:
    """Return a new layer that is not built yet.

    Raises
    ------
    ModelFileError
        This version has no such kind of layer.
    """
    kind, config = described["kind"], dict(described["config"])
    cls = getattr(layer_kinds, kind, None) if kind in layer_kinds.__all__ else None
    if not (isinstance(cls, type) and issubclass(cls, Layer)):
        raise ModelFileError(f"the model holds a layer of kind {kind!r}, which this fastlstm does not know")
    layer: Layer = Bidirectional.from_config(config) if cls is Bidirectional else cls(**config)
    return layer


def describe_compiled(
    loss: losses.Loss,
    optimizer: optimizers.Optimizer,
    plain: Sequence[metrics.Metric],
    weighted: Sequence[metrics.Metric],
) -> dict[str, Any] | None:
    """Return the keyword arguments of a `compile`, by names; None where a class is the user's own."""
    if not (losses.known(loss) and optimizers.known(optimizer) and all(map(metrics.known, [*plain, *weighted]))):
        return None
    return {
        "optimizer": [type(optimizer).__name__.lower(), optimizer.config()],
        "loss": [loss.name, loss.config()],
        "metrics": [metric.name for metric in plain],
        "weighted_metrics": [metric.name.removeprefix("weighted_") for metric in weighted],
    }
