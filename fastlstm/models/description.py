"""What a model file says about a Sequential: its layers and how it was compiled, as JSON; and the way back."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import OptionError
from ..layers import Layer, described, registry
from ..training import losses, metrics, optimizers

__all__ = ["describe_compiled", "describe_layer", "make_layer", "name_of_kind"]

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


def describe_compiled(
    loss: losses.Loss,
    optimizer: optimizers.Optimizer,
    plain: Sequence[metrics.Metric],
    weighted: Sequence[metrics.Metric],
) -> dict[str, Any] | None:
    """Return the keyword arguments of a `compile`; None, with a warning, where no other program could make them."""
    try:
        return {
            "optimizer": _named(optimizer, "optimizer", type(optimizer).__name__.lower(), optimizers.known(optimizer)),
            "loss": _named(loss, "loss", loss.name, losses.known(loss)),
            "metrics": [*map(metrics.describe, plain)],
            "weighted_metrics": [*map(metrics.describe, weighted)],
        }
    except OptionError as error:
        warnings.warn(
            f"{error}. The model is saved without how it was compiled: call compile again after loading it",
            stacklevel=registry.depth_of_caller(),
        )
        return None


def _named(thing: Any, what: str, name: str, known: bool) -> list[Any]:
    """Return the name that a file gives a loss or optimizer, and its config."""
    if known:
        return [name, thing.config()]
    return [registry.name_to_save(thing, what), registry.checked_config(thing, what)]
