"""Masking: which steps of a padded array are padding."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..data.numbers import real
from ..data.packed import Packed
from .base import Gradients, Layer, PassContext

__all__ = ["Masking"]


class Masking(Layer):
    """Say that steps whose features all have a certain value are padding.

    A model that begins with it takes the other steps for the true ones: padding may stand before them or after them.
    The layer itself passes rows on as they are; called on an array it looks for no padding.

    Parameters
    ----------
    mask_value : float
        What every feature of a padding step has.
    name, dtype
        See `Layer`.

    Raises
    ------
    OptionError
        `mask_value` is no finite number.

    Examples
    --------
    >>> import numpy as np, fastlstm as fl
    >>> fl.Masking().true_steps(np.array([[[1.0, 0.0], [0.0, 0.0]]]))
    array([[ True, False]])
    """

    takes_samples = True
    by_row = True

    def __init__(self, mask_value: float = 0.0, *, name: str | None = None, dtype: DTypeLike = "float32"):
        super().__init__(name=name, dtype=dtype)
        self.mask_value = real(mask_value, f"{self.kind}: mask_value")

    def config(self) -> dict[str, Any]:
        return {"mask_value": self.mask_value} | super().config()

    def true_steps(self, x: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which steps of an array (N, T, F) are no padding: (N, T)."""
        found: NDArray[np.bool_] = (x != self.mask_value).any(axis=-1)
        return found

    def forward(self, x: Packed, context: PassContext) -> tuple[Packed, None]:
        return x, None

    def backward(self, dy: NDArray[Any], cache: None, context: PassContext) -> tuple[NDArray[Any], Gradients]:
        return dy, {}
