"""What a model file says about a model: its layers and how it was compiled, as JSON; and the way back."""

import warnings
from collections.abc import Mapping
from typing import Any

from ..errors import OptionError
from ..layers import Layer, described, registry
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

name_of_kind = registry.snake_case
"""A layer's name from its kind, as Keras does: "global_max_pooling1d" of a GlobalMaxPooling1D."""


def describe_layer(layer: Layer) -> dict[str, Any]:
    """Return what `make_layer` needs to make this layer again, and the input features to build it for."""
    return described.describe(layer) | {"features": layer.features_in}


def make_layer(description: Mapping[str, Any]) -> Layer:
    """Return a new layer that is not built yet.

    Raises
    ------
    ModelFileError
        Neither this version nor the program that loads has such a kind of layer.
    """
    return described.make(description)


def describe_symbol(symbol: Symbol, name: str) -> dict[str, Any]:
    """Return what `make_input` needs to make this input again."""
    spec = symbol.spec
    return {"name": name, "features": spec.features, "steps": spec.steps, "ids": spec.ids}


def make_input(description: Mapping[str, Any]) -> Symbol:
    """Return a new input."""
    if description["ids"]:
        return Input((None,), name=description["name"])
    features = description["features"]
    return Input((None, features) if description["steps"] else (features,), name=description["name"])


def describe_compiled(compiled: Compiled) -> dict[str, Any] | None:
    """Return the keyword arguments of a `compile`; None, with a warning, where no other program could make them."""
    tasks, optimizer = compiled.tasks, compiled.optimizer
    try:
        description: dict[str, Any] = {
            "optimizer": _named(optimizer, "optimizer", type(optimizer).__name__.lower(), optimizers.known(optimizer)),
            "loss": [_named(task.loss, "loss", task.loss.name, losses.known(task.loss)) for task in tasks],
            "metrics": [[*map(metrics.describe, task.plain)] for task in tasks],
            "weighted_metrics": [[*map(metrics.describe, task.weighted)] for task in tasks],
        }
    except OptionError as error:
        warnings.warn(
            f"{error}. The model is saved without how it was compiled: call compile again after loading it",
            stacklevel=registry.depth_of_caller(),
        )
        return None
    if len(tasks) == 1:  # as before there were models of several outputs
        description |= {word: description[word][0] for word in ("loss", "metrics", "weighted_metrics")}
    if any(task.weight != 1.0 for task in tasks):
        description["loss_weights"] = [task.weight for task in tasks]
    return description


def _named(thing: Any, what: str, name: str, known: bool) -> list[Any]:
    """Return the name that a file gives a loss or optimizer, and its config."""
    if known:
        return [name, thing.config()]
    return [registry.name_to_save(thing, what), registry.checked_config(thing, what)]
