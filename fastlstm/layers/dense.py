"""Dense: a product with a weight matrix, a bias and an activation, row by row."""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..data.packed import Packed
from ..errors import OptionError
from ..kernels import team
from ..kernels.activations import sigmoid_rows, tanh_rows
from ..kernels.softmax import softmax_rows
from .base import Gradients, Layer, Run, size
from .initializers import glorot_uniform
from .products import SAME_ROWS, gradient_of_weight, padded_bias, panels_of, panels_size, times

__all__ = ["Activation", "Dense"]

Activation = Literal["linear", "sigmoid", "tanh", "relu", "softmax"]
_ACTIVATIONS = ("linear", "sigmoid", "tanh", "relu", "softmax")


class _Cache(NamedTuple):
    x: NDArray[Any]
    y: NDArray[Any] | None  # None: the caller took the values before the activation


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

    def forward(self, x: Packed, run: Run, *, linear: bool = False) -> tuple[Packed, _Cache | None]:
        """Return the output; with `linear`, the values before the activation, for a loss that fuses with it."""
        rows = np.ascontiguousarray(x.rows)
        weights = self.packed()
        if run.training:
            y = run.scratch.take(self, "y", shape=(len(rows), self.units), dtype=self.dtype)
        else:
            y = np.empty((len(rows), self.units), self.dtype)
        times(rows, weights.panels, weights.bias, y)
        if not linear:
            self._activate(y)
        return x.with_rows(y), _Cache(rows, None if linear else y) if run.training else None

    def _activate(self, y: NDArray[Any]) -> None:
        """Overwrite `y` (M, units) with its activation."""
        flat = y.reshape(-1)
        if self.activation == "sigmoid":
            team.share(sigmoid_rows, flat, count=flat.size, cost=0.4 * flat.size)
        elif self.activation == "tanh":
            team.share(tanh_rows, flat, count=flat.size, cost=0.4 * flat.size)
        elif self.activation == "relu":
            np.maximum(y, 0, out=y)
        elif self.activation == "softmax":
            team.share(softmax_rows, y, count=len(y), cost=0.6 * flat.size)

    def _through_activation(self, dy: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Return the gradient before the activation, given that of its value `y`; overwrites `dy`."""
        if self.activation == "sigmoid":
            dy *= y * (1 - y)
        elif self.activation == "tanh":
            dy *= 1 - y * y
        elif self.activation == "relu":
            dy *= y > 0
        elif self.activation == "softmax":
            dy -= (dy * y).sum(axis=1, keepdims=True)
            dy *= y
        return dy

    def backward(
        self, dy: NDArray[Any], cache: _Cache, run: Run, *, add: bool = False
    ) -> tuple[NDArray[Any], Gradients]:
        """Return the gradients; with `add`, those of the parameters are added to those of the call before."""
        dz = np.ascontiguousarray(dy if cache.y is None else self._through_activation(dy, cache.y))
        dweight, dbias = gradient_of_weight(dz, cache.x, SAME_ROWS, run, self, sums=self.use_bias, add=add)
        dx = run.scratch.take(self, "dx", shape=cache.x.shape, dtype=self.dtype)
        weight = self.params["weight"]
        panels = run.scratch.take(
            self, "panels", shape=(panels_size(self.units, dx.shape[1], self.dtype),), dtype=self.dtype
        )
        if not add:
            panels_of(weight, panels)
        times(dz, panels, padded_bias(None, dx.shape[1], self.dtype), dx)
        return dx, {"weight": dweight, "bias": dbias} if self.use_bias else {"weight": dweight}
