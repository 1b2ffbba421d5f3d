"""Dense: a product with a weight matrix, a bias and an activation, row by row."""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..data.packed import Packed
from ..engine.products import gradient_of_weight, padded_bias, panels_of, panels_size, rows_of, times
from ..engine.rows import activate, through_activation
from ..errors import OptionError
from ..runtime.workspace import Frame
from .base import Gradients, Layer, PassContext, size
from .initializers import glorot_uniform

__all__ = ["Activation", "Dense"]

Activation = Literal["linear", "sigmoid", "tanh", "relu", "softmax"]
_ACTIVATIONS = ("linear", "sigmoid", "tanh", "relu", "softmax")


class _Cache(NamedTuple):
    x: NDArray[Any]
    y: NDArray[Any] | None  # None: the caller took the values before the activation
    frame: Frame


class _Weights(NamedTuple):
    """The weight packed for ``x W^T``, and the bias with zeros up to whole panels."""

    panels: NDArray[Any]
    bias: NDArray[Any]


class Dense(Layer):
    """Return ``activation(x W^T + b)`` of each row; steps of sequences are rows like any others.

    Parameters
    ----------
    units : int
        Features of the output.
    activation : {"linear", "sigmoid", "tanh", "relu", "softmax"} or None
        None is "linear".
    use_bias : bool
        Whether ``b`` is added.
    name, dtype
        See `Layer`.

    Notes
    -----
    Takes ``(N, T, F)`` or ``(N, F)``. Parameters: ``weight (units, F)``, Glorot uniform at first; ``bias (units,)``.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.Dense(3, activation="relu")([[0.0, 0.0]])
    array([[0., 0., 0.]], dtype=float32)
    """

    takes_samples = True
    by_row = True

    def __init__(
        self,
        units: int,
        activation: Activation | None = None,
        *,
        use_bias: bool = True,
        name: str | None = None,
        dtype: DTypeLike = "float32",
    ):
        super().__init__(name=name, dtype=dtype)
        if activation not in (None, *_ACTIVATIONS):
            raise OptionError(f"Dense: activation={activation!r}; expected one of {', '.join(_ACTIVATIONS)}")
        self.units = size("Dense", "units", units)
        self.activation: Activation = activation or "linear"
        self.use_bias = use_bias
        self._weights: list[_Weights] = []  # none, or the one that all calls use

    @property
    def features_out(self) -> int:
        return self.units

    def config(self) -> dict[str, Any]:
        return {
            "units": self.units,
            "activation": self.activation,
            "use_bias": self.use_bias,
            "name": self.name,
            "dtype": self.dtype.name,
        }

    def create(self, features: int, rng: np.random.Generator | None) -> dict[str, NDArray[Any]]:
        params: dict[str, NDArray[Any]] = {"weight": glorot_uniform(rng, (self.units, features), features, self.units)}
        if self.use_bias:
            params["bias"] = np.zeros(self.units)
        return params

    def features_from(self, tensors: dict[str, NDArray[Any]]) -> int:
        return int(tensors["weight"].shape[1]) if "weight" in tensors and tensors["weight"].ndim == 2 else 0

    def changed(self) -> None:
        self._weights = []  # who packs the old ones just now leaves them in the old list

    def packed(self) -> _Weights:
        kept = self._weights
        if not kept:
            weight = self.params["weight"]
            bias = self.params["bias"] if self.use_bias else None
            kept.append(_Weights(panels_of(weight.T), padded_bias(bias, self.units, self.dtype)))
        return kept[0]

    def forward(self, x: Packed, context: PassContext, *, linear: bool = False) -> tuple[Packed, _Cache | None]:
        """Return the output; with `linear`, the values before the activation, for a loss that fuses with it."""
        rows = np.ascontiguousarray(x.rows)
        weights = self.packed()
        shape = len(rows), self.units
        frame = context.workspace.frame(self) if context.training else None
        y = np.empty(shape, self.dtype) if frame is None else frame.take("y", shape, self.dtype)
        times(rows, weights.panels, weights.bias, y)
        if not linear:
            activate(y, self.activation)
        return x.with_rows(y), None if frame is None else _Cache(rows, None if linear else y, frame)

    def backward(
        self, dy: NDArray[Any], cache: _Cache, context: PassContext, *, add: bool = False
    ) -> tuple[NDArray[Any], Gradients]:
        """Return the gradients; with `add`, those of the parameters are added to those of the call before."""
        dz = np.ascontiguousarray(dy if cache.y is None else through_activation(dy, cache.y, self.activation))
        frame, rows, features = cache.frame, len(dz), cache.x.shape[1]
        dweight, dbias = gradient_of_weight(
            rows_of(dz), rows_of(cache.x), rows, frame, context.workspace, "weight", sums=self.use_bias, add=add
        )
        dx = frame.take("dx", cache.x.shape, self.dtype)
        panels = frame.take("panels", (panels_size(self.units, features, self.dtype),), self.dtype)
        if not add:
            panels_of(self.params["weight"], panels)
        times(dz, panels, padded_bias(None, features, self.dtype), dx)
        context.workspace.release(self, frame)
        return dx, {"weight": dweight, "bias": dbias} if self.use_bias else {"weight": dweight}
