"""What a model file says about a model: its layers and how it was compiled, as JSON; and the way back."""

import re
from collections.abc import Mapping
from typing import Any

from .. import layers as layer_kinds
from ..errors import ModelFileError
from ..layers import Bidirectional, Layer
from ..layers.symbol import Input, Symbol
from ..training import losses, metrics, optimizers
from .compiled import Compiled

__all__ = [
    "describe_compiled",
    "describe_layer",
    "describe_symbol",
    "make_input",
    "make_layer",
    "name_of_kind",
]


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


def describe_symbol(symbol: Symbol, name: str) -> dict[str, Any]:
    """Return what `make_input` needs to make this input again."""
    spec = symbol.spec
    return {"name": name, "features": spec.features, "steps": spec.steps, "ids": spec.ids}


def make_input(described: Mapping[str, Any]) -> Symbol:
    """Return a new input."""
    if described["ids"]:
        return Input((None,), name=described["name"])
    features = described["features"]
    return Input((None, features) if described["steps"] else (features,), name=described["name"])


def describe_compiled(compiled: Compiled) -> dict[str, Any] | None:
    """Return the keyword arguments of a `compile`, by names; None where a class is the user's own."""
    tasks, optimizer = compiled.tasks, compiled.optimizer
    judges = [metric for task in tasks for metric in (*task.plain, *task.weighted)]
    if not (
        optimizers.known(optimizer)
        and all(losses.known(task.loss) for task in tasks)
        and all(map(metrics.known, judges))
    ):
        return None
    described: dict[str, Any] = {
        "optimizer": [type(optimizer).__name__.lower(), optimizer.config()],
        "loss": [[task.loss.name, task.loss.config()] for task in tasks],
        "metrics": [[metric.name for metric in task.plain] for task in tasks],
        "weighted_metrics": [[metric.name.removeprefix("weighted_") for metric in task.weighted] for task in tasks],
    }
    if len(tasks) == 1:  # as before there were models of several outputs
        described |= {word: described[word][0] for word in ("loss", "metrics", "weighted_metrics")}
    if any(task.weight != 1.0 for task in tasks):
        described["loss_weights"] = [task.weight for task in tasks]
    return described
