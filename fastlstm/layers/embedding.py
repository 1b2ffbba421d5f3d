"""Embedding: a vector for each id."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..data.packed import EmbeddingGather, Packed
from ..engine.rows import add_to_rows, range_of
from ..errors import DataError
from ..runtime.workspace import Frame, aligned
from .base import Gradients, Layer, PassContext, TableGradient, size
from .initializers import uniform

__all__ = ["Embedding"]


class _Cache(NamedTuple):
    ids: NDArray[Any]
    frame: Frame


class Embedding(Layer):
    """Turn ids into vectors, one row of a table each.

    Parameters
    ----------
    input_dim : int
        V, the size of the vocabulary: ids go from 0 to V - 1.
    output_dim : int
        E, the features of a vector.
    mask_zero : bool
        Whether id 0 is padding: a model that begins with the layer then takes the other ids for the true steps, with
        padding before or after them. The layer itself, called on an array, makes a vector of every id.
    name, dtype
        See `Layer`.

    Notes
    -----
    Takes ids ``(N, T)``, returns ``(N, T, E)``. Parameter: ``weight (V, E)``, uniform within +-0.05 at first.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.Embedding(10, 4)([[1, 2, 3]]).shape
    (1, 3, 4)
    """

    takes_ids = True
    by_row = True

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        mask_zero: bool = False,
        name: str | None = None,
        dtype: DTypeLike = "float32",
    ):
        super().__init__(name=name, dtype=dtype)
        self.input_dim = size("Embedding", "input_dim", input_dim)
        self.output_dim = size("Embedding", "output_dim", output_dim)
        self.mask_zero = bool(mask_zero)
        self.version = object()
        """Another one whenever the weights are others."""

    @property
    def features_out(self) -> int:
        return self.output_dim

    def config(self) -> dict[str, Any]:
        return {
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "mask_zero": self.mask_zero,
            "name": self.name,
            "dtype": self.dtype.name,
        }

    def create(self, features: int, rng: np.random.Generator | None) -> dict[str, NDArray[Any]]:
        return {"weight": uniform(rng, (self.input_dim, self.output_dim))}

    def true_steps(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which ids are no padding: all but 0."""
        found: NDArray[np.bool_] = ids != 0
        return found

    def check_ids(self, ids: NDArray[Any]) -> NDArray[Any]:
        """Return `ids` as integers; raise DataError for any that is no whole number from 0 to V - 1."""
        if ids.dtype.kind == "b":
            ids = ids.view(np.uint8)
        if ids.dtype.kind == "f":
            whole = ids.astype(np.int64) if np.isfinite(ids).all() else None
            if whole is None or (whole != ids).any():
                raise DataError(f"Embedding: ids have dtype {ids.dtype} and are not whole numbers; pass integers")
            ids = whole
        lowest, highest = range_of(ids)
        if lowest < 0 or highest >= self.input_dim:
            wrong = ids[(ids < 0) | (ids >= self.input_dim)][0]
            raise DataError(
                f"Embedding: id {wrong} is outside the vocabulary; expected 0 to {self.input_dim - 1} "
                f"(input_dim={self.input_dim})"
            )
        return ids

    def take_ids(self, ids: NDArray[Any]) -> NDArray[np.int64]:
        """Return `ids`, checked, as kernels take them: for other arrays Numba would compile everything once more."""
        ids = self.check_ids(ids)
        return ids if ids.dtype == np.int64 and ids.flags.carray else ids.astype(np.int64)

    def changed(self) -> None:
        self.version = object()

    def forward(self, x: Packed, context: PassContext) -> tuple[Packed, _Cache | None]:
        ids = self.take_ids(x.rows)
        frame = context.workspace.frame(self) if context.training else None

        def out(shape: tuple[int, int]) -> NDArray[Any]:
            return aligned(shape, self.dtype) if frame is None else frame.take("out", shape, self.dtype)

        rows = EmbeddingGather(ids, self.arrays["weight"], self.version, out)
        return x.with_rows(rows), None if frame is None else _Cache(ids, frame)

    def backward(self, dy: NDArray[Any] | TableGradient, cache: _Cache, context: PassContext) -> tuple[None, Gradients]:
        context.workspace.release(self, cache.frame)
        if isinstance(dy, TableGradient):
            return None, {"weight": dy.gradient}
        weight = self.arrays["weight"]
        gradient = cache.frame.take("gradient", weight.shape, self.dtype)
        return None, {"weight": add_to_rows(dy, cache.ids, gradient)}
