"""Activation: a function of each value of a row, or of the whole row; and Softmax."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..data.packed import Packed
from ..engine.rows import ACTIVATION_NAMES, activate, needs_input, through_activation
from ..errors import OptionError
from ..runtime.workspace import Frame
from .base import Gradients, Layer, PassContext

__all__ = ["Activation", "Softmax", "checked_activation", "checked_axis"]


def checked_activation(kind: str, name: object) -> str:
    """Return an activation's name, "linear" for None; raise OptionError for one that is not known."""
    if name is None:
        return "linear"
    if not isinstance(name, str) or name not in ACTIVATION_NAMES:
        raise OptionError(f"{kind}: activation={name!r}; expected one of {', '.join(ACTIVATION_NAMES)}")
    return name


def checked_axis(kind: str, axis: object) -> int:
    """Return -1, the axis of features; raise OptionError for any other."""
    if axis != -1 or isinstance(axis, bool):
        raise OptionError(f"{kind}: axis={axis!r}; expected -1: the features of a step, the last axis")
    return -1


class _Cache(NamedTuple):
    kept: NDArray[Any] | None  # for the way back; None: the caller took the values before the activation
    frame: Frame


class Activation(Layer):
    """Apply an activation to every row.

    Parameters
    ----------
    activation : str or None
        "linear" (also None), "relu", "relu6", "leaky_relu" (0.2 below 0), "elu", "selu", "gelu" (exact), "silu" or
        "swish", "hard_silu" or "hard_swish", "mish", "softplus", "softsign", "exponential", "tanh", "hard_tanh",
        "sigmoid", "log_sigmoid", "hard_sigmoid", "hard_sigmoid_keras2" (Keras 2's slope 0.2), "softmax" or
        "log_softmax". ``docs/activations.md`` has the equations.
    name, dtype
        See `Layer`.

    Raises
    ------
    OptionError
        No such activation is known.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.Activation("relu")([[-1.0, 2.0]])
    array([[0., 2.]], dtype=float32)
    """

    takes_samples = True
    by_row = True

    def __init__(self, activation: str | None, *, name: str | None = None, dtype: DTypeLike = "float32"):
        super().__init__(name=name, dtype=dtype)
        self.activation = checked_activation(self.kind, activation)

    @property
    def fused_by(self) -> str:
        return self.activation

    def config(self) -> dict[str, Any]:
        return {"activation": self.activation} | super().config()

    def forward(self, x: Packed, context: PassContext, *, linear: bool = False) -> tuple[Packed, _Cache | None]:
        """Return the output; with `linear`, a copy of the input, for a loss that fuses with the activation."""
        rows = np.ascontiguousarray(x.rows, self.dtype)
        frame = context.workspace.frame(self) if context.training else None
        y = np.empty(rows.shape, self.dtype) if frame is None else frame.take("y", rows.shape, self.dtype)
        np.copyto(y, rows)
        if not linear:
            activate(y, self.activation)
        if frame is None:
            return x.with_rows(y), None
        kept = None if linear else rows if needs_input(self.activation) else y
        return x.with_rows(y), _Cache(kept, frame)

    def backward(self, dy: NDArray[Any], cache: _Cache, context: PassContext) -> tuple[NDArray[Any], Gradients]:
        dx = dy if cache.kept is None else through_activation(dy, cache.kept, self.activation)
        context.workspace.release(self, cache.frame)
        return dx, {}


class Softmax(Activation):
    """Turn each row into probabilities: ``exp(x) / sum(exp(x))`` over its features.

    Parameters
    ----------
    axis : int
        -1: the features.
    name, dtype
        See `Layer`.

    Raises
    ------
    OptionError
        Another axis.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.Softmax()([[1.0, 1.0]])
    array([[0.5, 0.5]], dtype=float32)
    """

    def __init__(self, axis: int = -1, *, name: str | None = None, dtype: DTypeLike = "float32"):
        super().__init__("softmax", name=name, dtype=dtype)
        self.axis = checked_axis(self.kind, axis)

    def config(self) -> dict[str, Any]:
        return {"axis": self.axis, "name": self.name, "dtype": self.dtype.name}
