"""What a file says of a layer, as JSON, and the way back: for models, and for layers that hold others."""

from collections.abc import Mapping
from typing import Any

from . import registry
from .base import Layer

__all__ = ["describe", "make"]


def describe(layer: Layer) -> dict[str, Any]:
    """Return the "kind" and "config" that `make` needs to make this layer again.

    Raises
    ------
    OptionError
        The class is the user's own, and no other program could make the layer again.
    """
    if _ours(layer.kind) is type(layer):
        return {"kind": layer.kind, "config": layer.config()}
    return {"kind": registry.name_to_save(layer, "layer"), "config": registry.checked_config(layer, "layer")}


def make(described: Mapping[str, Any]) -> Layer:
    """Return a new layer that is not built yet.

    Raises
    ------
    ModelFileError
        Neither this version nor the program that loads has such a kind of layer.
    """
    kind, config = described["kind"], dict(described["config"])
    cls: Any = _ours(kind)
    if cls is None:
        made: Layer = registry.make(kind, Layer, config)
        return made
    layer: Layer = cls.from_config(config) if hasattr(cls, "from_config") else cls(**config)
    return layer


def _ours(kind: str) -> type[Layer] | None:
    """Return the class of a kind of layer that the library has; None for others."""
    from .. import layers  # which imports the layers that import this

    cls = getattr(layers, kind, None) if kind in layers.__all__ else None
    return cls if isinstance(cls, type) and issubclass(cls, Layer) else None
