"""SeveralInputs: what layers that are called on a list of inputs have in common."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ..data.packed import BatchLike, Packed, is_ragged, pack
from ..errors import ShapeError
from .base import Layer, PassContext
from .symbol import connect, is_symbolic, symbols_in

__all__ = ["SeveralInputs"]


class SeveralInputs(Layer):
    """Base of layers that take several inputs, such as `Add` or `Attention`.

    A subclass defines `specs`, `run` and `run_back`; `features_in` is a tuple of the features of each input.
    """

    takes_several = True
    takes_samples = True
    inputs: ClassVar[tuple[int, int]] = (2, 1 << 30)
    """The fewest and the most inputs that it takes."""

    def check_count(self, count: int) -> None:
        """Raise ShapeError unless the layer takes so many inputs."""
        fewest, most = self.inputs
        if not fewest <= count <= most:
            wanted = f"{fewest}" if fewest == most else f"{fewest} or more" if most > 1000 else f"{fewest} to {most}"
            raise ShapeError(f"{self.kind}: called on {count} inputs; expected a list of {wanted}")

    def __call__(  # type: ignore[override]
        self, x: Any, *, lengths: Sequence[ArrayLike | None] | None = None
    ) -> Any:
        """Apply the layer to arrays, for inference, or to symbols.

        Parameters
        ----------
        x : list of arrays, or of lists of arrays
            The inputs, each as any layer takes one: ``(N, T, F)``, ``(N, F)``, or a list of ``(T_n, F)``.
        lengths : sequence of (array of int or None), optional
            For each input, the true steps of its sequences.

        Returns
        -------
        array or list of arrays
            In the form of the first input; a tuple where the layer returns several.
        """
        if is_symbolic(x):
            symbols = symbols_in(x, self.kind)
            self.check_count(len(symbols))
            made = connect(self, symbols)
            return made[0] if len(made) == 1 else made
        if not isinstance(x, list | tuple):
            raise ShapeError(f"{self.kind}: called on {type(x).__name__}; expected a list of its inputs")
        self.check_count(len(x))
        each = [None] * len(x) if lengths is None else list(lengths)
        if len(each) != len(x):
            raise ShapeError(f"{self.kind}: {len(x)} inputs, but lengths for {len(each)}; pass one (or None) for each")
        taken = [self._take_one(one, own) for one, own in zip(x, each, strict=True)]
        inputs = tuple(packed for packed, _ in taken)
        features = tuple(packed.features for packed in inputs)
        if not self.built:
            self.build(features)
        elif features != self.features_in:
            raise ShapeError(
                f"{self.kind}: inputs of {features} features, this layer was built for {self.features_in}; "
                "pass the same features, or build a new layer"
            )
        outputs, _ = self.run(inputs, PassContext())
        made = tuple(taken[0][1].unpack(output) for output in outputs)
        return made[0] if len(made) == 1 else made

    def _take_one(self, x: BatchLike, lengths: ArrayLike | None) -> tuple[Packed, Any]:
        steps = is_ragged(x) or np.ndim(x) != 2  # type: ignore[arg-type]
        return pack(x, lengths, features=True, dtype=self.dtype, who=self.kind, steps=steps)
