"""Dense: a product with a weight matrix, a bias and an activation, row by row."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..data.packed import Packed
from ..engine.products import gradient_of_weight, padded_bias, panels_of, panels_size, rows_of, times
from ..engine.rows import activate, activate_and_keep, through_activation
from ..runtime.workspace import Frame
from .activation import checked_activation
from .base import Gradients, Layer, PassContext, size
from .initializers import checked_initializer, initial
from .regularizers import L2, checked_regularizer

__all__ = ["Dense"]


class _Cache(NamedTuple):
    x: NDArray[Any]
    kept: NDArray[Any] | None  # for the way back through the activation; None: the caller took the values before it
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
    activation : str or None
        One of those that `Activation` takes; None is "linear".
    use_bias : bool
        Whether ``b`` is added.
    kernel_initializer, bias_initializer : str
        Start values by Keras's names: "glorot_uniform", "he_normal", "zeros", ...
    kernel_regularizer, bias_regularizer : L2, float, "l2" or None
        A penalty on the weight, on the bias; see `L2`.
    name, dtype
        See `Layer`.

    Notes
    -----
    Takes ``(N, T, F)`` or ``(N, F)``. Parameters, as torch's ``Linear`` names them: ``weight (units, F)``, ``bias
    (units,)``.

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
        activation: str | None = None,
        *,
        use_bias: bool = True,
        kernel_initializer: str = "glorot_uniform",
        bias_initializer: str = "zeros",
        kernel_regularizer: L2 | float | str | None = None,
        bias_regularizer: L2 | float | str | None = None,
        name: str | None = None,
        dtype: DTypeLike = "float32",
    ):
        super().__init__(name=name, dtype=dtype)
        self.units = size(self.kind, "units", units)
        self.activation = checked_activation(self.kind, activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = checked_initializer(self.kind, "kernel_initializer", kernel_initializer)
        self.bias_initializer = checked_initializer(self.kind, "bias_initializer", bias_initializer)
        self.kernel_regularizer = checked_regularizer(self.kind, "kernel_regularizer", kernel_regularizer)
        self.bias_regularizer = checked_regularizer(self.kind, "bias_regularizer", bias_regularizer)
        if self.kernel_regularizer is not None:
            self.penalties["weight"] = self.kernel_regularizer.l2
        if self.bias_regularizer is not None and self.use_bias:
            self.penalties["bias"] = self.bias_regularizer.l2
        self._weights: list[_Weights] = []  # none, or the one that all calls use

    @property
    def fused_by(self) -> str:
        return self.activation

    @property
    def features_out(self) -> int:
        return self.units

    def config(self) -> dict[str, Any]:
        kernel, bias = self.kernel_regularizer, self.bias_regularizer
        return {
            "units": self.units,
            "activation": self.activation,
            "use_bias": self.use_bias,
            "kernel_initializer": self.kernel_initializer,
            "bias_initializer": self.bias_initializer,
            "kernel_regularizer": None if kernel is None else kernel.l2,
            "bias_regularizer": None if bias is None else bias.l2,
            "name": self.name,
            "dtype": self.dtype.name,
        }

    def create(self, features: int, rng: np.random.Generator | None) -> dict[str, NDArray[Any]]:
        params: dict[str, NDArray[Any]] = {"weight": initial(self.kernel_initializer, rng, (self.units, features))}
        if self.use_bias:
            params["bias"] = initial(self.bias_initializer, rng, (self.units,))
        return params

    def features_from(self, tensors: dict[str, NDArray[Any]]) -> int:
        return int(tensors["weight"].shape[1]) if "weight" in tensors and tensors["weight"].ndim == 2 else 0

    def changed(self) -> None:
        self._weights = []  # who packs the old ones just now leaves them in the old list

    def packed(self) -> _Weights:
        kept = self._weights
        if not kept:
            weight = self.arrays["weight"]
            bias = self.arrays["bias"] if self.use_bias else None
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
        if frame is None:
            if not linear:
                activate(y, self.activation)
            return x.with_rows(y), None
        kept = None if linear else activate_and_keep(y, self.activation, frame)
        return x.with_rows(y), _Cache(rows, kept, frame)

    def backward(
        self, dy: NDArray[Any], cache: _Cache, context: PassContext, *, add: bool = False
    ) -> tuple[NDArray[Any], Gradients]:
        """Return the gradients; with `add`, those of the parameters are added to those of the call before."""
        kept = cache.kept
        dz = np.ascontiguousarray(dy if kept is None else through_activation(dy, kept, self.activation))
        frame, rows, features = cache.frame, len(dz), cache.x.shape[1]
        dweight, dbias = gradient_of_weight(
            rows_of(dz), rows_of(cache.x), rows, frame, context.workspace, "weight", sums=self.use_bias, add=add
        )
        dx = frame.take("dx", cache.x.shape, self.dtype)
        panels = frame.take("panels", (panels_size(self.units, features, self.dtype),), self.dtype)
        if not add:
            panels_of(self.arrays["weight"], panels)
        times(dz, panels, padded_bias(None, features, self.dtype), dx)
        context.workspace.release(self, frame)
        return dx, {"weight": dweight, "bias": dbias} if self.use_bias else {"weight": dweight}
