"""Layers that make one batch of several: Add, Subtract, Multiply, Average, Maximum, Minimum, Concatenate, Dot.

The inputs are of the same sequences, with the same lengths; where they are packed in different orders, those of the
others are brought into the first one's. A row of each goes with a row of the others.
"""

from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..data.packed import Packed
from ..data.pairs import align, align_back, rows_in
from ..errors import OptionError, ShapeError
from ..runtime.workspace import Frame
from .base import Gradients, PassContext
from .several import SeveralInputs
from .symbol import Spec

__all__ = ["Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract"]

Rows = NDArray[Any]


class _Cache(NamedTuple):
    rows: tuple[Rows, ...]  # of each input, in the first one's order
    places: tuple[NDArray[np.int64] | None, ...]
    frame: Frame


class _RowMerge(SeveralInputs):
    """What they have in common: rows of all inputs, aligned, become rows of one output."""

    by_row = True

    def __init__(self, *, name: str | None = None, dtype: DTypeLike = "float32"):
        super().__init__(name=name, dtype=dtype)

    def config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype.name}

    @property
    def features_out(self) -> int:
        return self.features_for(self.features_in) if self.built else 0

    def features_for(self, features: tuple[int | None, ...]) -> Any:
        """Return the features of the output for inputs of these."""
        if len(set(features)) > 1:
            raise ShapeError(f"{self.kind}: inputs of {', '.join(map(str, features))} features; expected the same")
        return features[0]

    def specs(self, inputs: tuple[Spec, ...]) -> tuple[Spec, ...]:
        self.check_count(len(inputs))
        if len({spec.steps for spec in inputs}) > 1:
            raise ShapeError(
                f"{self.kind}: some inputs have steps, others one row a sequence; RepeatVector makes steps of a row"
            )
        return (Spec(self.features_for(tuple(spec.features for spec in inputs)), inputs[0].axis),)

    def run(self, inputs: tuple[Packed, ...], context: PassContext) -> tuple[tuple[Packed, ...], Any]:
        first = inputs[0]
        places = (None, *(rows_in(x, first, self.kind) for x in inputs[1:]))
        rows = tuple(align(x.rows, place) for x, place in zip(inputs, places, strict=True))
        frame = context.workspace.frame(self) if context.training else None
        shape = len(rows[0]), self.features_out
        out = np.empty(shape, self.dtype) if frame is None else frame.take("out", shape, self.dtype)
        self.merge(rows, out)
        return (first.with_rows(out),), None if frame is None else _Cache(rows, places, frame)

    def run_back(
        self, dys: tuple[Rows | None, ...], cache: Any, context: PassContext
    ) -> tuple[tuple[Rows, ...], Gradients]:
        [dy] = dys
        assert dy is not None  # the only output
        parts = []
        for place, rows in enumerate(cache.rows):
            part = cache.frame.take(("dx", place), rows.shape, self.dtype)
            self.part_back(dy, cache.rows, place, part)
            parts.append(align_back(part, cache.places[place]))
        context.workspace.release(self, cache.frame)
        return tuple(parts), {}

    def merge(self, rows: tuple[Rows, ...], out: Rows) -> None:
        """Write the merged rows (M, F) to `out`."""
        raise NotImplementedError

    def part_back(self, dy: Rows, rows: tuple[Rows, ...], place: int, out: Rows) -> None:
        """Write the gradient of the rows of the input `place` to `out`."""
        raise NotImplementedError


class Add(_RowMerge):
    """Return the sum of the inputs, value by value.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.Add()([[[1.0, 2.0]], [[10.0, 20.0]]])
    array([[11., 22.]], dtype=float32)
    """

    def merge(self, rows: tuple[Rows, ...], out: Rows) -> None:
        """Write the sum."""
        np.add(rows[0], rows[1], out=out)
        for other in rows[2:]:
            out += other

    def part_back(self, dy: Rows, rows: tuple[Rows, ...], place: int, out: Rows) -> None:
        """Pass the gradient on."""
        out[...] = dy


class Subtract(_RowMerge):
    """Return the first input less the second.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.Subtract()([[[3.0, 2.0]], [[1.0, 4.0]]])
    array([[ 2., -2.]], dtype=float32)
    """

    inputs: ClassVar[tuple[int, int]] = (2, 2)

    def merge(self, rows: tuple[Rows, ...], out: Rows) -> None:
        """Write the difference."""
        np.subtract(rows[0], rows[1], out=out)

    def part_back(self, dy: Rows, rows: tuple[Rows, ...], place: int, out: Rows) -> None:
        """Pass the gradient on, with the sign of the input."""
        np.negative(dy, out=out) if place else np.copyto(out, dy)


class Multiply(_RowMerge):
    """Return the product of the inputs, value by value.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.Multiply()([[[1.0, 2.0]], [[10.0, 20.0]]])
    array([[10., 40.]], dtype=float32)
    """

    def merge(self, rows: tuple[Rows, ...], out: Rows) -> None:
        """Write the product."""
        np.multiply(rows[0], rows[1], out=out)
        for other in rows[2:]:
            out *= other

    def part_back(self, dy: Rows, rows: tuple[Rows, ...], place: int, out: Rows) -> None:
        """Write the gradient times all other inputs."""
        out[...] = dy
        for other, value in enumerate(rows):
            if other != place:
                out *= value


class Average(_RowMerge):
    """Return the mean of the inputs, value by value.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.Average()([[[1.0, 2.0]], [[3.0, 6.0]]])
    array([[2., 4.]], dtype=float32)
    """

    def merge(self, rows: tuple[Rows, ...], out: Rows) -> None:
        """Write the mean."""
        np.add(rows[0], rows[1], out=out)
        for other in rows[2:]:
            out += other
        out /= len(rows)

    def part_back(self, dy: Rows, rows: tuple[Rows, ...], place: int, out: Rows) -> None:
        """Write this input's share of the gradient."""
        np.divide(dy, len(rows), out=out)


class _Extreme(_RowMerge):
    """The largest or the smallest: among equal values the first input counts, and gets the gradient."""

    def merge(self, rows: tuple[Rows, ...], out: Rows) -> None:
        """Write the extreme of each place."""
        out[...] = rows[0]
        for other in rows[1:]:
            self.extreme(out, other, out=out)

    def part_back(self, dy: Rows, rows: tuple[Rows, ...], place: int, out: Rows) -> None:
        """Write the gradient where this input is the one that counts."""
        best = rows[0].copy()
        for other in rows[1:]:
            self.extreme(best, other, out=best)
        counts = rows[place] == best
        for earlier in rows[:place]:
            counts &= earlier != best
        np.multiply(dy, counts, out=out)

    extreme: ClassVar[Any]


class Maximum(_Extreme):
    """Return the largest of the inputs, value by value; among equal ones the first gets the gradient.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.Maximum()([[[1.0, 4.0]], [[3.0, 2.0]]])
    array([[3., 4.]], dtype=float32)
    """

    extreme = np.maximum


class Minimum(_Extreme):
    """Return the smallest of the inputs, value by value; among equal ones the first gets the gradient.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.Minimum()([[[1.0, 4.0]], [[3.0, 2.0]]])
    array([[1., 2.]], dtype=float32)
    """

    extreme = np.minimum


class Concatenate(_RowMerge):
    """Return the features of all inputs, one after the other.

    Parameters
    ----------
    axis : int
        -1, the features. (Sequences are not joined in time.)
    name, dtype
        See `Layer`.

    Raises
    ------
    OptionError
        Another axis.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.Concatenate()([[[1.0, 2.0]], [[3.0]]])
    array([[1., 2., 3.]], dtype=float32)
    """

    def __init__(self, axis: int = -1, *, name: str | None = None, dtype: DTypeLike = "float32"):
        super().__init__(name=name, dtype=dtype)
        if axis not in (-1, 2):
            raise OptionError(
                f"Concatenate: axis={axis!r}; expected -1, the features: sequences are not joined in time"
            )

    def features_for(self, features: tuple[int | None, ...]) -> Any:
        """Return the sum of the features of the inputs."""
        return None if any(one is None for one in features) else sum(one or 0 for one in features)

    def _columns(self, rows: tuple[Rows, ...]) -> list[slice]:
        ends = np.cumsum([one.shape[1] for one in rows])
        return [slice(end - one.shape[1], end) for one, end in zip(rows, ends, strict=True)]

    def merge(self, rows: tuple[Rows, ...], out: Rows) -> None:
        """Write each input to its columns."""
        for columns, one in zip(self._columns(rows), rows, strict=True):
            out[:, columns] = one

    def part_back(self, dy: Rows, rows: tuple[Rows, ...], place: int, out: Rows) -> None:
        """Write the gradient of this input's columns."""
        out[...] = dy[:, self._columns(rows)[place]]


class Dot(_RowMerge):
    """Return the inner product of two inputs, row by row: one feature.

    Parameters
    ----------
    axes : int
        -1, the features.
    normalize : bool
        Divide by the lengths of both vectors: the cosine of the angle between them.
    name, dtype
        See `Layer`.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.Dot()([[[3.0, 4.0]], [[6.0, 8.0]]])
    array([[50.]], dtype=float32)
    """

    inputs: ClassVar[tuple[int, int]] = (2, 2)

    def __init__(
        self, axes: int = -1, normalize: bool = False, *, name: str | None = None, dtype: DTypeLike = "float32"
    ):
        super().__init__(name=name, dtype=dtype)
        if axes not in (-1, 1, 2):
            raise OptionError(f"Dot: axes={axes!r}; expected -1, the features")
        self.normalize = bool(normalize)

    def config(self) -> dict[str, Any]:
        return {"normalize": self.normalize, **super().config()}

    def features_for(self, features: tuple[int | None, ...]) -> Any:
        """Return 1, for inputs of equal features."""
        super().features_for(features)
        return 1

    def _scales(self, rows: tuple[Rows, ...]) -> list[Rows]:
        """Return 1 over the length of each row, finite for rows of zeros."""
        squares = (np.einsum("mf,mf->m", one, one)[:, None] for one in rows)
        return [1.0 / np.sqrt(np.maximum(square, 1e-12)) for square in squares]

    def merge(self, rows: tuple[Rows, ...], out: Rows) -> None:
        """Write the products."""
        out[:, 0] = np.einsum("mf,mf->m", *rows)
        if self.normalize:
            one, other = self._scales(rows)
            out *= one * other

    def part_back(self, dy: Rows, rows: tuple[Rows, ...], place: int, out: Rows) -> None:
        """Write the gradient: the other row, less what is along this one where both are normalised."""
        own, other = rows[place], rows[1 - place]
        np.multiply(other, dy, out=out)
        if self.normalize:
            scales = self._scales(rows)
            along = np.einsum("mf,mf->m", own, out)[:, None] * scales[place] ** 2
            out -= own * along
            out *= scales[0] * scales[1]
