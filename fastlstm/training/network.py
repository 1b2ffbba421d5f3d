"""A chain of layers, and what the fit loop asks of it: forward, backward, and all parameters in one order."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.packed import Packed
from ..errors import OptionError
from ..layers import Dense, Layer, PassContext
from ..layers.base import Gradients
from .losses import Loss
from .optimizers import global_norm

__all__ = ["Network"]

_NO_PROBABILITIES = ("linear", "tanh", "relu")


class Network:
    """Layers one after the other.

    Parameters
    ----------
    layers : sequence of Layer
        Built, and fitting each other.
    """

    def __init__(self, layers: Sequence[Layer]):
        self.layers = list(layers)
        self.params = [value for layer in self.layers for value in layer.params.values()]

    def fuses(self, loss: Loss) -> bool:
        """Tell whether the loss takes the values before the last activation.

        Raises
        ------
        OptionError
            The loss needs probabilities and the last layer gives none, or the other way round.
        """
        last = self.layers[-1]
        activation = last.activation if isinstance(last, Dense) else None
        if loss.from_logits:
            if activation in ("sigmoid", "softmax"):
                raise OptionError(
                    f"{loss.name}: from_logits=True, but {last.name} ends with {activation}; drop one of the two"
                )
            return True
        if loss.fuses is not None and activation in _NO_PROBABILITIES:
            raise OptionError(
                f"{loss.name} needs probabilities, but {last.name} ends with activation={activation!r}; "
                f"write activation={loss.fuses!r}, or take the loss with from_logits=True"
            )
        return loss.fuses is not None and activation == loss.fuses

    def gives_away_output(self, fused: bool) -> bool:
        """Tell whether no cache holds the output of `forward`, so that a gradient may be written over it."""
        return fused and isinstance(self.layers[-1], Dense)

    def forward(self, x: Packed, context: PassContext, fused: bool = False) -> tuple[Packed, list[Any]]:
        """Return the output and every layer's cache; with `fused`, the values before the last activation."""
        caches = []
        for layer in self.layers[:-1]:
            x, cache = layer.forward(x, context)
            caches.append(cache)
        last = self.layers[-1]
        x, cache = (
            last.forward(x, context, linear=True) if fused and isinstance(last, Dense) else last.forward(x, context)
        )
        return x, [*caches, cache]

    def backward(self, dy: NDArray[Any], caches: list[Any], context: PassContext) -> list[NDArray[Any]]:
        """Return the gradient of every parameter, in the order of ``params``."""
        gradients = []
        gradient: Any = dy
        for layer, cache in zip(reversed(self.layers), reversed(caches), strict=True):
            assert gradient is not None  # only the first layer takes ids
            gradient, own = layer.backward(gradient, cache, context)
            _add_penalties(layer, own, context)
            gradients.append([own[name] for name in layer.params])
        return [value for own in reversed(gradients) for value in own]

    def penalty(self) -> float:
        """Return what the regularizers of all layers add to the loss: ``sum(factor * sum(w ** 2))``."""
        total = 0.0
        for layer in self.layers:
            for name, factor in layer.penalties.items():
                norm = global_norm([layer.params[name]])
                total += factor * norm * norm
        return total

    def changed(self) -> None:
        """Tell the layers that their parameters have new values."""
        for layer in self.layers:
            layer.changed()


def _add_penalties(layer: Layer, gradients: Gradients, context: PassContext) -> None:
    """Add ``2 * factor * w`` to the gradient of each parameter that has a penalty.

    The sum is an array of its own: both biases of a recurrent layer may share one gradient, and only one is penalised.
    """
    for name, factor in layer.penalties.items():
        param = layer.params[name]
        total = context.workspace.shared((layer, name), param.shape, param.dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # overflow is told as divergence
            np.multiply(param, 2.0 * factor, out=total)
            total += gradients[name]
        gradients[name] = total
