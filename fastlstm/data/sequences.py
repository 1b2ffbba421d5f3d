"""Sets of sequences, with targets and weights, as users pass them; batches are taken from them by number."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError, OptionError, ShapeError
from .labels import Labels, pack_labels
from .masking import lengths_of_mask, rolled
from .numbers import as_numbers
from .packed import BatchFormat, BatchLike, Packed, is_ragged, pack
from .pairs import steps_of_rows

__all__ = ["Batch", "DataSet", "Sequences", "Targets"]

Numbers = NDArray[np.int64]


def _keep(given: BatchLike, what: str) -> NDArray[Any] | list[Any]:
    """Return what was passed as an array, or as a list of them, one a sequence."""
    if is_ragged(given):
        return [as_numbers(item, f"{what}: sequence {n}") for n, item in enumerate(cast(list[Any], given))]
    return np.atleast_1d(as_numbers(cast(ArrayLike, given), what))


def _part(given: Any, which: slice) -> Any:
    return None if given is None else given[which]


class Sequences:
    """What one input of a model takes: so many sequences.

    Parameters
    ----------
    given : array or list of arrays
        ``(N, T, D)`` features or ``(N, T)`` ids, a list of ``(T_n, D)`` or ``(T_n,)``; without time ``(N, D)``.
    lengths : array of int, shape (N,), optional
        True steps of each sequence of a padded array.
    ids : bool
        Whether a step is an id (else a vector of features).
    samples : bool
        Whether it may also be ``(N, D)``, one row a sample, without time.
    who, word : str
        Named in errors: the call, and the argument.

    Raises
    ------
    DataError
        Nothing in it; values that are no numbers, or are masked; lengths out of range.
    ShapeError, OptionError
        Arguments that do not go together.
    """

    def __init__(
        self,
        given: BatchLike,
        lengths: ArrayLike | None = None,
        *,
        ids: bool,
        samples: bool = False,
        who: str,
        word: str = "x",
    ):
        self.ids, self.samples, self.who, self.word = ids, samples, who, word
        self.given = _keep(given, f"{who}: {word}")
        self.starts: Numbers | None = None
        """Of a padded array, the first true step of each sequence, where that is not 0."""
        if len(self.given) == 0:
            raise DataError(f"{who}: {word} is empty; pass at least one sequence")
        self.lengths = None if lengths is None else np.atleast_1d(as_numbers(lengths, f"{who}: lengths"))
        if self.lengths is not None:
            if len(self.lengths) != len(self.given):
                raise ShapeError(
                    f"{who}: {word} holds {len(self.given)} sequences, lengths {len(self.lengths)}; expected as many"
                )
            if isinstance(self.given, list):
                raise OptionError(f"{who}: lengths= goes with one padded array; a list of arrays has its own lengths")
        self._check()

    def _check(self) -> None:
        """Raise what packing a batch would raise, while places are still those that the user knows."""
        given, lengths = self.given, self.lengths
        if isinstance(given, list):
            for place, item in enumerate(given):
                if item.ndim > 0 and not len(item):
                    raise DataError(
                        f"{self.who}: {self.word}: sequence {place} has length 0; expected at least one step"
                    )
                if item.ndim != given[0].ndim or item.shape[1:] != given[0].shape[1:]:
                    raise ShapeError(
                        f"{self.who}: {self.word}: sequence {place} has shape {item.shape}, sequence 0 "
                        f"{given[0].shape}; expected the same, but for the number of steps"
                    )
        elif lengths is not None and given.ndim > 1 and lengths.dtype.kind in "iu":
            wrong = np.flatnonzero((lengths < 1) | (lengths > given.shape[1]))
            if len(wrong):
                raise DataError(
                    f"{self.who}: lengths[{wrong[0]}] is {lengths[wrong[0]]}; "
                    f"expected 1 to {given.shape[1]}, the steps of {self.word}"
                )

    def mask(self, true_steps: Callable[[NDArray[Any]], NDArray[np.bool_]]) -> None:
        """Take the steps of an array that a layer says are none for padding: before a sequence's true ones, or after.

        Raises
        ------
        DataError
            A masked step stands between true ones, or a sequence has no true one.
        """
        given = self.given
        if self.lengths is not None or isinstance(given, list) or given.ndim != (2 if self.ids else 3):
            return
        mask = true_steps(given)
        if not mask.all():
            self.lengths, self.starts = lengths_of_mask(mask, f"{self.who}: {self.word}")

    def __len__(self) -> int:
        return len(self.given)

    @property
    def form(self) -> BatchFormat:
        """How the input came in, so that answers can go out alike."""
        if isinstance(self.given, list):
            return BatchFormat("list", 0)
        return BatchFormat(
            "array" if self.lengths is None else "padded", self.given.shape[1] if self.given.ndim > 1 else 1
        )

    @property
    def first_steps(self) -> Numbers | None:
        """The first true step of each sequence; None for sequences that are not padded."""
        if self.starts is None and self.lengths is not None:
            return np.zeros(len(self), np.int64)
        return self.starts

    def part(self, which: slice) -> "Sequences":
        """Return some of the sequences."""
        part = Sequences(
            self.given[which],
            _part(self.lengths, which),
            ids=self.ids,
            samples=self.samples,
            who=self.who,
            word=self.word,
        )
        part.starts = _part(self.starts, which)
        return part

    def take(self, which: Numbers, dtype: Any = None) -> Packed:
        """Return the sequences of these numbers as a batch; `dtype` is what features become."""
        given, lengths = self.given, self.lengths
        if isinstance(given, list):
            some: BatchLike = [given[i] for i in which]
            steps, own = True, None  # which a list has of its own
        else:
            some = given[which]
            steps = not (self.samples and given.ndim == 2)
            own = None if lengths is None else lengths[which]
            if self.starts is not None:
                some = rolled(some, self.starts[which])
        return pack(
            some,
            own,
            features=not self.ids,
            dtype=None if self.ids else dtype,
            who=f"{self.who}: {self.word}",
            steps=steps,
        )[0]


class Targets:
    """What one output of a model shall be, and what each row counts.

    Parameters
    ----------
    given : array or list of arrays
        One target a sequence, ``(N,)`` or ``(N, K)``; or one a step, ``(N, T)``, ``(N, T, K)`` or a list.
    weights : array or list of arrays, optional
        ``(N,)``; or one a step for targets by step, ``(N, T)`` or a list of ``(T_n,)``.
    who, word : str
        Named in errors: the call, and the argument.

    Raises
    ------
    DataError, ShapeError
        Values that are no numbers, or are masked; weights that are not finite, or not as many as targets.
    """

    def __init__(self, given: BatchLike, weights: BatchLike | None = None, *, who: str, word: str = "y"):
        self.who, self.word = who, word
        self.given = _keep(given, f"{who}: {word}")
        self.weights = None if weights is None else _keep(weights, f"{who}: sample_weight")
        if self.weights is None:
            return
        for place, weight in enumerate(self.weights):
            if not np.isfinite(weight).all():
                raise DataError(f"{who}: sample_weight of sequence {place} is {weight}; expected finite numbers")

    def __len__(self) -> int:
        return len(self.given)

    def part(self, which: slice) -> "Targets":
        """Return some of the targets."""
        return Targets(self.given[which], _part(self.weights, which), who=self.who, word=self.word)

    def take(
        self,
        which: Numbers,
        like: Packed,
        starts: Numbers | None = None,
        by_sequence: bool = False,
        own_lengths: bool = False,
    ) -> tuple[Any, NDArray[np.float64] | None]:
        """Return a target for each row of an output, and what it counts (None: 1).

        Parameters
        ----------
        which : ndarray of int64
            The numbers of the sequences of the batch.
        like : Packed
            The output.
        starts : ndarray of int64, optional
            First true step of each sequence of the set, where it is padded.
        by_sequence : bool
            Whether a weight belongs to a sequence though targets belong to steps.
        own_lengths : bool
            Whether targets are `Labels`, as many for each sequence as there are.

        Raises
        ------
        ShapeError
            Not one for each row.
        """
        if own_lengths:
            return self._labels(which, like), self._weights(which, like, None, True)
        starts = None if starts is None else starts[which]
        return self._targets(which, like, starts), self._weights(which, like, starts, by_sequence)

    def _labels(self, which: Numbers, like: Packed) -> Labels:
        given = [self.given[n] for n in which] if isinstance(self.given, list) else self.given[which]
        return pack_labels(given, like.order, like.sequences, f"{self.who}: {self.word}", numbers=which)

    def _targets(self, which: Numbers, like: Packed, starts: Numbers | None) -> NDArray[Any]:
        given = self.given
        if not like.steps:
            if isinstance(given, list):
                raise ShapeError(
                    f"{self.who}: {self.word} has one array a sequence, but the model puts out one row a sequence"
                )
            return like.to_packed_order(given[which])
        if np.ndim(given[0]) == 0:
            raise ShapeError(
                f"{self.who}: {self.word} has one target a sequence, but the model puts out one row a step; "
                "set return_sequences=False on the last LSTM, or pass a target for each step"
            )
        problem = f"{self.who}: {self.word} has other numbers of steps than x; expected a target for each step"
        return steps_of_rows(given, which, like, starts, problem)

    def _weights(
        self, which: Numbers, like: Packed, starts: Numbers | None, by_sequence: bool
    ) -> NDArray[np.float64] | None:
        weights = self.weights
        if weights is None:
            return None
        by_step = like.steps and not by_sequence
        if by_step and (isinstance(weights, list) or weights.ndim == 2):
            problem = f"{self.who}: sample_weight has other numbers of steps than x; expected one each"
            return steps_of_rows(weights, which, like, starts, problem).astype(np.float64, copy=False)
        if isinstance(weights, list) or weights.ndim != 1:
            shape = "one array a sequence" if isinstance(weights, list) else f"shape {weights.shape}"
            raise ShapeError(
                f"{self.who}: sample_weight has {shape}; expected (N,)" + (" or (N, T)" if by_step else "")
            )
        per_sequence = like.to_packed_order(weights[which].astype(np.float64))
        return per_sequence[like.sequence_of_row] if by_step else per_sequence


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of a set: packed inputs, and the targets of its sequences.

    Attributes
    ----------
    inputs : list of Packed
    data : DataSet
        The set, whose targets are taken when the outputs are there.
    which : ndarray of int64
        The numbers of the batch's sequences.
    class_weight : mapping of int to float, optional
        What rows count by the class of their target; classes that are not named count 1.
    """

    inputs: list[Packed]
    data: "DataSet"
    which: Numbers
    class_weight: Mapping[int, float] | None = None

    def target(self, place: int, like: Packed, loss: Any) -> tuple[Any, NDArray[np.float64] | None]:
        """Return the targets of an output as its loss wants them, and their weights (None: all 1)."""
        own_lengths = loss.by_sequence and loss.own_lengths
        y, weights = self.data.targets[place].take(
            self.which, like, self.data.starts[place], loss.by_sequence, own_lengths
        )
        if self.class_weight is None:
            return y, weights
        columns = y.reshape(len(y), -1)
        classes = columns[:, 0] if columns.shape[1] == 1 else columns.argmax(axis=1)
        of_class = np.ones(len(y))
        for number, weight in self.class_weight.items():
            of_class[classes == number] = weight
        return y, of_class if weights is None else weights * of_class


class DataSet:
    """Inputs, and on request targets, of the same sequences.

    Parameters
    ----------
    inputs : sequence of Sequences
    targets : sequence of Targets
        One for each output, or none.
    follows : sequence of (int or None)
        For each output, the input whose padding its targets share.

    Raises
    ------
    ShapeError
        They are not all as many.
    """

    def __init__(
        self, inputs: Sequence[Sequences], targets: Sequence[Targets] = (), follows: Sequence[int | None] = ()
    ):
        self.inputs, self.targets, self.follows = list(inputs), list(targets), list(follows)
        first = self.inputs[0]
        for word, given in [
            *((one.word, one) for one in self.inputs[1:]),
            *((one.word, one) for one in self.targets),
            *(("sample_weight", one.weights) for one in self.targets if one.weights is not None),
        ]:
            if len(given) != len(first):  # type: ignore[arg-type]
                raise ShapeError(
                    f"{first.who}: {first.word} holds {len(first)} sequences, {word} {len(given)}; "  # type: ignore[arg-type]
                    "expected as many"
                )
        self.starts = [None if place is None else self.inputs[place].first_steps for place in self.follows]
        self.starts += [None] * (len(self.targets) - len(self.starts))

    def __len__(self) -> int:
        return len(self.inputs[0])

    def split(self, count: int) -> tuple["DataSet", "DataSet"]:
        """Return the first `count` sequences and the others."""
        parts = slice(None, count), slice(count, None)
        one, other = (
            DataSet([x.part(part) for x in self.inputs], [y.part(part) for y in self.targets], self.follows)
            for part in parts
        )
        return one, other

    def take(self, which: Numbers, dtype: Any = None, class_weight: Mapping[int, float] | None = None) -> Batch:
        """Return the sequences of these numbers as a batch; `dtype` is what features become."""
        return Batch([x.take(which, dtype) for x in self.inputs], self, which, class_weight)
