"""A set of sequences with targets and weights, from which batches are taken by number."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError, OptionError, ShapeError
from .numbers import as_numbers
from .packed import BatchFormat, BatchLike, Packed, is_ragged, pack

__all__ = ["Batch", "SequenceSet"]


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch: packed input, and one target and weight for each row that the model puts out (None: not given)."""

    x: Packed
    y: NDArray[Any] | None
    weights: NDArray[np.float64] | None


class SequenceSet:
    """Input sequences, and on request targets and weights, as the user passed them.

    Parameters
    ----------
    x : array or list of arrays
        ``(N, T, D)`` features or ``(N, T)`` ids, a list of ``(T_n, D)`` or ``(T_n,)``; without time ``(N, D)``.
    y : array or list of arrays, optional
        One target a sequence, ``(N,)`` or ``(N, K)``; or one a step, ``(N, T)``, ``(N, T, K)`` or a list.
    weights : array or list of arrays, optional
        ``(N,)``; or one a step for targets by step, ``(N, T)`` or a list of ``(T_n,)``.
    lengths : array of int, shape (N,), optional
        True steps of each sequence of padded arrays.
    ids : bool
        Whether a step is an id (else a vector of features).
    by_step : bool
        Whether targets belong to steps (else to sequences).
    samples : bool
        Whether `x` may also be ``(N, D)``, one row a sample, without time.
    who : str
        Named in errors.

    Raises
    ------
    DataError
        Nothing in `x`; values that are no numbers, or are masked; weights that are not finite; lengths out of range.
    ShapeError, OptionError
        Arguments that do not go together.
    """

    def __init__(
        self,
        x: BatchLike,
        y: BatchLike | None = None,
        weights: BatchLike | None = None,
        lengths: ArrayLike | None = None,
        *,
        ids: bool,
        by_step: bool,
        samples: bool = False,
        who: str,
    ):
        self.ids, self.by_step, self.samples, self.who = ids, by_step, samples, who
        self.x = self._keep(x, "x")
        if len(self.x) == 0:
            raise DataError(f"{who}: x is empty; pass at least one sequence")
        self.lengths = None if lengths is None else np.atleast_1d(as_numbers(lengths, f"{who}: lengths"))
        self.y = None if y is None else self._keep(y, "y")
        self.weights = None if weights is None else self._keep(weights, "sample_weight")
        for word, given in (("y", self.y), ("sample_weight", self.weights), ("lengths", self.lengths)):
            if given is not None and len(given) != len(self.x):
                raise ShapeError(f"{who}: x holds {len(self.x)} sequences, {word} {len(given)}; expected as many")
        if self.lengths is not None and isinstance(self.x, list):
            raise OptionError(f"{who}: lengths= goes with one padded array; a list of arrays has its own lengths")
        self._check()

    def _check(self) -> None:
        """Raise what packing a batch would raise, while places are still those that the user knows."""
        if isinstance(self.x, list):
            for place, item in enumerate(self.x):
                if item.ndim > 0 and not len(item):
                    raise DataError(f"{self.who}: x: sequence {place} has length 0; expected at least one step")
                if item.ndim != self.x[0].ndim or item.shape[1:] != self.x[0].shape[1:]:
                    raise ShapeError(
                        f"{self.who}: x: sequence {place} has shape {item.shape}, sequence 0 {self.x[0].shape}; "
                        "expected the same, but for the number of steps"
                    )
        elif self.lengths is not None and self.x.ndim > 1 and self.lengths.dtype.kind in "iu":
            wrong = np.flatnonzero((self.lengths < 1) | (self.lengths > self.x.shape[1]))
            if len(wrong):
                raise DataError(
                    f"{self.who}: lengths[{wrong[0]}] is {self.lengths[wrong[0]]}; "
                    f"expected 1 to {self.x.shape[1]}, the steps of x"
                )
        for place, weight in enumerate(() if self.weights is None else self.weights):
            if not np.isfinite(weight).all():
                raise DataError(f"{self.who}: sample_weight of sequence {place} is {weight}; expected finite numbers")

    def _keep(self, given: BatchLike, word: str) -> NDArray[Any] | list[Any]:
        what = f"{self.who}: {word}"
        if is_ragged(given):
            return [as_numbers(item, f"{what}: sequence {n}") for n, item in enumerate(cast(list[Any], given))]
        return np.atleast_1d(as_numbers(cast(ArrayLike, given), what))

    def __len__(self) -> int:
        return len(self.x)

    @property
    def form(self) -> BatchFormat:
        """How the input came in, so that answers can go out alike."""
        if isinstance(self.x, list):
            return BatchFormat("list", 0)
        return BatchFormat("array" if self.lengths is None else "padded", self.x.shape[1] if self.x.ndim > 1 else 1)

    def split(self, count: int) -> tuple["SequenceSet", "SequenceSet"]:
        """Return the first `count` sequences and the others."""
        return self._some(slice(None, count)), self._some(slice(count, None))

    def _some(self, which: slice) -> "SequenceSet":
        def part(given: Any) -> Any:
            return None if given is None else given[which]

        return SequenceSet(
            part(self.x),
            part(self.y),
            part(self.weights),
            part(self.lengths),
            ids=self.ids,
            by_step=self.by_step,
            samples=self.samples,
            who=self.who,
        )

    def take(self, which: NDArray[np.int64], dtype: Any = None) -> Batch:
        """Return the sequences of these numbers as a batch; `dtype` is what features become."""
        lengths = None if self.lengths is None else self.lengths[which]
        dtype = None if self.ids else dtype
        x = self._pack(self.x, which, lengths, features=not self.ids, dtype=dtype, word="x", samples=self.samples)
        return Batch(x, self._targets(which, x, lengths), self._weights(which, x, lengths))

    def _pack(
        self,
        given: NDArray[Any] | list[Any],
        which: NDArray[np.int64],
        lengths: NDArray[Any] | None,
        *,
        features: bool,
        dtype: Any,
        word: str,
        samples: bool = False,
    ) -> Packed:
        if isinstance(given, list):
            some: BatchLike = [given[i] for i in which]
            steps, lengths = True, None  # which a list has of its own
        else:
            some = given[which]
            steps = not (samples and given.ndim == 2)
        return pack(some, lengths, features=features, dtype=dtype, who=f"{self.who}: {word}", steps=steps)[0]

    def _targets(self, which: NDArray[np.int64], x: Packed, lengths: NDArray[Any] | None) -> NDArray[Any] | None:
        if self.y is None:
            return None
        if not (self.by_step and x.steps):
            if isinstance(self.y, list):
                raise ShapeError(f"{self.who}: y has one array a sequence, but the model puts out one row a sequence")
            return x.to_packed_order(self.y[which])
        first = self.y[0]
        vectors = np.ndim(first) == 2
        if np.ndim(first) == 0:
            raise ShapeError(
                f"{self.who}: y has one target a sequence, but the model puts out one row a step; "
                "set return_sequences=False on the last LSTM, or pass a target for each step"
            )
        y = self._pack(self.y, which, lengths, features=vectors, dtype=None, word="y")
        if not np.array_equal(y.batch_sizes, x.batch_sizes):
            raise ShapeError(f"{self.who}: y has other numbers of steps than x; expected a target for each step")
        return y.rows

    def _weights(self, which: NDArray[np.int64], x: Packed, lengths: NDArray[Any] | None) -> NDArray[np.float64] | None:
        if self.weights is None:
            return None
        by_step = self.by_step and x.steps
        if by_step and (isinstance(self.weights, list) or self.weights.ndim == 2):
            weights = self._pack(self.weights, which, lengths, features=False, dtype=np.float64, word="sample_weight")
            if not np.array_equal(weights.batch_sizes, x.batch_sizes):
                raise ShapeError(f"{self.who}: sample_weight has other numbers of steps than x; expected one each")
            return weights.rows
        if isinstance(self.weights, list) or self.weights.ndim != 1:
            shape = "one array a sequence" if isinstance(self.weights, list) else f"shape {self.weights.shape}"
            raise ShapeError(
                f"{self.who}: sample_weight has {shape}; expected (N,)" + (" or (N, T)" if by_step else "")
            )
        per_sequence = x.to_packed_order(self.weights[which].astype(np.float64))
        if not by_step:
            return per_sequence
        return np.concatenate([per_sequence[:alive] for alive in x.batch_sizes])
