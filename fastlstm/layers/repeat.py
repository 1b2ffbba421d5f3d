"""RepeatVector: one row a sequence becomes so many equal steps."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..data.lengths import same_length
from ..data.packed import Packed
from ..errors import ShapeError
from ..runtime.workspace import Frame
from .base import Gradients, Layer, PassContext, size
from .symbol import Spec, TimeAxis

__all__ = ["RepeatVector"]


class _Cache(NamedTuple):
    sequences: int
    frame: Frame


class RepeatVector(Layer):
    """Make `n` equal steps of each row: ``(N, F)`` to ``(N, n, F)``, as the decoder of an autoencoder wants it.

    Parameters
    ----------
    n : int
        Steps.
    name, dtype
        See `Layer`.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.RepeatVector(3)([[1.0, 2.0]]).tolist()
    [[[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]]
    """

    takes_samples = True
    makes_steps = True

    def __init__(self, n: int, *, name: str | None = None, dtype: DTypeLike = "float32"):
        super().__init__(name=name, dtype=dtype)
        self.n = size("RepeatVector", "n", n)

    @property
    def features_out(self) -> int:
        return self.features_in or 0

    def config(self) -> dict[str, Any]:
        return {"n": self.n, "name": self.name, "dtype": self.dtype.name}

    def specs(self, inputs: tuple[Spec, ...]) -> tuple[Spec, ...]:
        [x] = super().specs(inputs)
        if inputs[0].steps:
            raise ShapeError(
                "RepeatVector: the input has steps; expected one row a sequence: leave return_sequences False before it"
            )
        return (Spec(x.features, TimeAxis(self.n)),)

    def forward(self, x: Packed, context: PassContext) -> tuple[Packed, _Cache | None]:
        if x.steps:
            raise ShapeError("RepeatVector: x has steps; expected one row a sequence, (N, F)")
        rows = x.rows
        shape = (self.n, *rows.shape)
        frame = context.workspace.frame(self) if context.training else None
        out = np.empty(shape, self.dtype) if frame is None else frame.take("out", shape, self.dtype)
        out[...] = rows
        steps = Packed(out.reshape(-1, rows.shape[1]), same_length(self.n, len(rows)), x.order)
        return steps, None if frame is None else _Cache(len(rows), frame)

    def backward(self, dy: NDArray[Any], cache: _Cache, context: PassContext) -> tuple[NDArray[Any], Gradients]:
        by_step = dy.reshape(self.n, cache.sequences, -1)
        dx = cache.frame.take("dx", by_step.shape[1:], self.dtype)
        dx[...] = by_step[0]
        for step in by_step[1:]:
            dx += step
        context.workspace.release(self, cache.frame)
        return dx, {}
