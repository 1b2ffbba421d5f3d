"""The one data model for a batch of sequences: rows, time-major and packed.

``rows[offsets[t] + n]`` is step t of the n-th longest sequence; ``batch_sizes[t]`` says how many sequences are still
alive at step t (torch's PackedSequence layout). A dense batch is the case where all lengths are equal, and a batch of
plain feature vectors, one row a sample, the case of one step. Nothing is ever computed on padding, so masks do not
exist. Users never see this: `pack` takes what they pass and a `BatchFormat` gives it back the way it came.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError, OptionError, ShapeError
from ..kernels.embedding import gather
from ..runtime.pool import parallel_for
from .lengths import longest_first, same_length, take_lengths
from .numbers import as_numbers

__all__ = [
    "BatchFormat",
    "BatchLike",
    "EmbeddingGather",
    "Packed",
    "Strided",
    "is_ragged",
    "pack",
    "places",
    "writeable",
]

BatchLike: TypeAlias = ArrayLike | Sequence[ArrayLike]
"""What users pass: an array, or a list of arrays of different lengths."""


class Strided(NamedTuple):
    """Where the rows of a batch are in a 1-D array.

    Feature f of sequence n at step t is ``values[first + t * step + n * sequence + f]``. `step` is 0 where, and only
    where, sequences have different lengths: their rows follow each other.
    """

    values: NDArray[Any]
    first: int
    step: int
    sequence: int


class EmbeddingGather(NamedTuple):
    """Rows that are rows of a table: what an Embedding returns, which an LSTM may take as it is."""

    ids: NDArray[Any]  # (M,), 0 to V - 1
    table: NDArray[Any]  # (V, F)
    version: object  # another one whenever the table's values are others
    out: Callable[[tuple[int, int]], NDArray[Any]]
    """Gives the memory for the rows, of a shape (M, F), should they be wanted."""


class Packed:
    """A batch of sequences as rows.

    Parameters
    ----------
    rows : ndarray or EmbeddingGather
        ``(M, F)`` features, or ``(M,)`` integer ids; M is the sum of all lengths. Of a dense batch also a view
        ``(T, N, F)`` of memory that is laid out otherwise: it becomes rows when they are asked for, and a kernel that
        goes by `strided` reads it where it is. A `EmbeddingGather` becomes rows when they are asked for, too.
    batch_sizes : ndarray of int64, shape (T,)
        How many sequences are alive at each step; never rises, never 0.
    order : ndarray of int64, shape (N,), or None
        ``order[k]`` is the place in the user's batch of the k-th longest sequence; None where nothing was moved.
    steps : bool
        Whether the rows are steps of sequences. False: one row is one sample (T is 1).
    """

    __slots__ = ("_rows", "batch_sizes", "dense", "features", "lookup", "order", "sequences", "steps", "total")

    def __init__(
        self,
        rows: NDArray[Any] | EmbeddingGather,
        batch_sizes: NDArray[np.int64],
        order: NDArray[np.int64] | None = None,
        steps: bool = True,
    ) -> None:
        self.batch_sizes = batch_sizes
        self.order = order
        self.steps = steps
        self.sequences = int(batch_sizes[0])
        """N, the number of sequences."""
        self.dense = bool(batch_sizes[-1] == self.sequences)
        """Whether all sequences have the same length."""
        self.features: int
        """F, the features of a row; says nothing of ids."""
        self.total: int
        """M, the number of rows."""
        self.lookup: EmbeddingGather | None = None
        """What the rows are made of, until they are asked for."""
        if isinstance(rows, EmbeddingGather):
            self.lookup = rows
            self.features, self.total = rows.table.shape[1], len(rows.ids)
        else:
            self._rows = rows
            shape = rows.shape
            self.features, self.total = shape[-1], shape[0] * shape[1] if len(shape) == 3 else shape[0]

    @property
    def rows(self) -> NDArray[Any]:
        """The rows, time-major: (M, F) or (M,)."""
        self._look_up()
        if self._rows.ndim == 3:
            self._rows = self._rows.reshape(-1, self._rows.shape[2])
        return self._rows

    def _look_up(self) -> None:
        if self.lookup is not None:
            ids, table = self.lookup.ids, self.lookup.table
            self._rows = self.lookup.out((self.total, self.features))
            parallel_for(gather, table, ids, self._rows, count=self.total, cost=0.1 * self._rows.size)
            self.lookup = None

    @property
    def in_place(self) -> NDArray[Any]:
        """The rows as they are: (M, F), or of a dense batch perhaps a view (T, N, F)."""
        self._look_up()
        return self._rows

    def rows_in(self, memory: Callable[[tuple[int, int]], NDArray[Any]]) -> NDArray[Any]:
        """Return the rows contiguous, copied into what `memory` gives for a shape if they are not so yet."""
        self._look_up()
        if self._rows.ndim == 2:
            return np.ascontiguousarray(self._rows)
        rows = memory((self.total, self.features))
        np.copyto(rows.reshape(self._rows.shape), self._rows)
        return rows

    def strided(self) -> Strided:
        """Return where the features of each step are: copied only if not in one piece, or not writeable.

        Numba would compile everything once more for memory that must not be written to.
        """
        rows, features, count = self.in_place, self.features, self.sequences
        if rows.ndim == 3:
            # NumPy says anything of a single step, of x[:, None] 0
            step = rows.strides[0] // rows.itemsize if len(rows) > 1 else count * features
            sequence = rows.strides[1] // rows.itemsize if count > 1 else features
            piece = rows if step > 0 else rows[::-1]
            piece = piece if sequence < abs(step) else piece.swapaxes(0, 1)
            if piece.flags.c_contiguous:
                first = 0 if step > 0 else (1 - len(rows)) * step
                return Strided(writeable(piece.reshape(-1)), first, step, sequence)
        step = count * features if self.dense else 0
        return Strided(writeable(np.ascontiguousarray(self.rows).reshape(-1)), 0, step, features)

    def reversed(self) -> "Packed":
        """Return the batch with every sequence turned round; of a dense one nothing is moved."""
        if not self.dense:
            return self.with_rows(self.rows[self._turned_rows()])
        self._look_up()
        rows = self._rows
        if rows.ndim == 2:
            rows = rows.reshape(len(self.batch_sizes), self.sequences, self.features)
        return self if len(rows) == 1 else self.with_rows(rows[::-1])

    def _turned_rows(self) -> NDArray[np.int64]:
        """Return the row order that turns every sequence round; it is its own inverse."""
        sequence = self.sequence_of_row
        step = np.repeat(np.arange(len(self.batch_sizes)), self.batch_sizes)
        rows: NDArray[np.int64] = self.offsets[self.lengths[sequence] - 1 - step] + sequence
        return rows

    @property
    def sequence_of_row(self) -> NDArray[np.int64]:
        """Which sequence (in packed order) each row belongs to: shape (M,)."""
        sequence: NDArray[np.int64] = np.arange(self.total) - np.repeat(self.offsets[:-1], self.batch_sizes)
        return sequence

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Row of the first sequence at each step, and M at the end: shape (T + 1,)."""
        return np.concatenate(([0], np.cumsum(self.batch_sizes)))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Length of each sequence in packed order (longest first): shape (N,)."""
        if self.dense:
            return np.full(self.sequences, len(self.batch_sizes))
        return np.searchsorted(-self.batch_sizes, -np.arange(1, self.sequences + 1), side="right")

    @property
    def last_rows(self) -> NDArray[np.int64]:
        """Row of the last step of each sequence in packed order: shape (N,)."""
        if self.dense:
            return np.arange(self.total - self.sequences, self.total)
        return self.offsets[self.lengths - 1] + np.arange(self.sequences)

    def with_rows(self, rows: NDArray[Any] | EmbeddingGather) -> "Packed":
        """Return the same batch with other rows, one for each of these."""
        return Packed(rows, self.batch_sizes, self.order, self.steps)

    def last_of(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return, of `rows` like the batch's own, those of each sequence's last step: (N, ...), possibly a view."""
        return rows[len(rows) - self.sequences :] if self.dense else rows[self.last_rows]

    def one_row_each(self, rows: NDArray[Any]) -> "Packed":
        """Return a batch of one row for each sequence (N rows), such as its last step or its mean."""
        return Packed(rows, np.array([len(rows)], np.int64), self.order, steps=False)

    def to_packed_order(self, per_sequence: NDArray[Any]) -> NDArray[Any]:
        """Return an array of one entry for each sequence, given in the user's order, in packed order."""
        return per_sequence if self.order is None else per_sequence[self.order]

    def to_user_order(self, per_sequence: NDArray[Any]) -> NDArray[Any]:
        """Return an array of one entry for each sequence, given in packed order, in the user's order."""
        if self.order is None:
            return per_sequence
        back = np.empty_like(per_sequence)
        back[self.order] = per_sequence
        return back


@dataclass(frozen=True, slots=True)
class BatchFormat:
    """How a batch came in, so that the answer can go out alike."""

    kind: Literal["array", "padded", "list"]
    length: int  # steps of a padded array (else 0)

    def unpack(self, packed: Packed) -> Any:
        """Return `packed` as the user passed its batch.

        A batch of samples gives ``(N, F)``. A batch of sequences gives ``(N, T, F)``, zero from each sequence's
        length on, or a list of ``(T_n, F)`` arrays.
        """
        if not packed.steps:
            return packed.to_user_order(packed.rows)
        count = packed.sequences
        if self.kind == "array":  # all lengths are equal
            return packed.rows.reshape(len(packed.batch_sizes), count, *packed.rows.shape[1:]).swapaxes(0, 1)
        lengths = packed.lengths
        padded = np.zeros((count, max(self.length, int(lengths[0])), *packed.rows.shape[1:]), packed.rows.dtype)
        sequence, step = places(packed)
        padded[sequence, step] = packed.rows
        if self.kind == "padded":
            return padded
        lengths = packed.to_user_order(lengths)
        return [np.ascontiguousarray(row[:length]) for row, length in zip(padded, lengths, strict=True)]


_DENSE = BatchFormat("array", 0)


def places(packed: Packed) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for each packed row, the sequence (in the user's order) and the step that it is."""
    step = np.repeat(np.arange(len(packed.batch_sizes)), packed.batch_sizes)
    sequence = np.arange(len(step)) - packed.offsets[step]
    return (sequence if packed.order is None else packed.order[sequence]), step


def pack(
    x: BatchLike,
    lengths: ArrayLike | None = None,
    *,
    features: bool,
    dtype: Any = None,
    who: str = "pack",
    steps: bool = True,
) -> tuple[Packed, BatchFormat]:
    """Turn what a user passed into rows.

    Parameters
    ----------
    x : array or list of arrays
        ``(N, T, F)`` features or ``(N, T)`` ids; or a list of ``(T_n, F)`` or ``(T_n,)``. Any layout, any byte order.
    lengths : array of int, shape (N,), optional
        How many steps of each sequence are real; only with an array.
    features : bool
        Whether a step is a vector of features (else a scalar id).
    dtype : dtype, optional
        Wanted type of the rows; None keeps the native form of the input's.
    who : str
        Named in errors: the layer or call.
    steps : bool
        False: `x` is ``(N, F)`` (or ``(N,)``), one row a sample, without time.

    Returns
    -------
    packed : Packed
    form : BatchFormat

    Raises
    ------
    ShapeError
        Wrong rank, sequences of different feature counts, lengths that do not fit.
    DataError
        No sequence, or one without a step; values that are no numbers, or are masked.

    Examples
    --------
    >>> packed, form = pack([[1, 2, 3], [7]], features=False)
    >>> packed.rows, packed.batch_sizes
    (array([1, 7, 2, 3]), array([2, 1, 1]))
    >>> form.unpack(packed)
    [array([1, 2, 3]), array([7])]
    """
    if is_ragged(x):
        if lengths is not None:
            raise OptionError(f"{who}: lengths= goes with one padded array; a list of arrays has its own lengths")
        return _pack_list(x, features=features, dtype=dtype, who=who)  # type: ignore[arg-type]
    array = _numbers(cast(ArrayLike, x), dtype, who)
    rank = 1 + steps + features
    if array.ndim != rank:
        axes = ["samples"] + ["timesteps"] * steps + ["features"] * features
        raise ShapeError(
            f"{who}: x has shape {array.shape}, rank {array.ndim}; expected rank {rank}: ({', '.join(axes)})"
        )
    if array.shape[0] == 0:
        raise DataError(f"{who}: x has shape {array.shape}: no sequences; pass at least one")
    if features and array.shape[-1] == 0:
        raise DataError(f"{who}: x has shape {array.shape}: no features; pass at least one")
    if not steps:
        if lengths is not None:
            raise OptionError(f"{who}: lengths= needs sequences; x has one row a sample")
        return Packed(_rows(array), np.array([len(array)], np.int64), steps=False), _DENSE
    if array.shape[1] == 0:
        raise DataError(f"{who}: x has shape {array.shape}: no timesteps; pass at least one")
    if lengths is None:
        batch_sizes = same_length(array.shape[1], array.shape[0])
        by_step = array.swapaxes(0, 1)
        if not (features and array.flags.c_contiguous):  # no copy where the steps come first already
            by_step = _rows(by_step.reshape(-1, *array.shape[2:]))
        return Packed(by_step, batch_sizes), _DENSE
    true = take_lengths(lengths, array.shape[0], array.shape[1], who)
    order, batch_sizes = longest_first(true)
    packed = Packed(np.empty(0), batch_sizes, order)
    return packed.with_rows(_rows(array[places(packed)])), BatchFormat("padded", array.shape[1])


def is_ragged(x: BatchLike) -> bool:
    """Tell whether `x` is a list of arrays (or of lists), one for each sequence, rather than one array."""
    if not isinstance(x, list | tuple):
        return False
    if not x:
        return True
    if all(isinstance(item, np.ndarray) for item in x):
        return True
    return all(isinstance(item, list | tuple) for item in x) and len({len(item) for item in x}) > 1


def _pack_list(x: Sequence[ArrayLike], *, features: bool, dtype: Any, who: str) -> tuple[Packed, BatchFormat]:
    if not x:
        raise DataError(f"{who}: an empty list; pass at least one sequence")
    arrays = [_numbers(item, dtype, who) for item in x]
    rank = 1 + features
    for place, array in enumerate(arrays):
        if array.ndim != rank:
            raise ShapeError(
                f"{who}: sequence {place} has shape {array.shape}; expected "
                f"{'(timesteps, features)' if features else '(timesteps,)'}"
            )
        if array.shape[1:] != arrays[0].shape[1:]:
            raise ShapeError(
                f"{who}: sequence {place} has {array.shape[1]} features, sequence 0 has {arrays[0].shape[1]}"
            )
        if len(array) == 0:
            raise DataError(f"{who}: sequence {place} has length 0; every sequence needs at least one step")
    lengths = np.array([len(array) for array in arrays], np.int64)
    order, batch_sizes = longest_first(lengths)
    packed = Packed(np.empty(0), batch_sizes, order)
    sequence, step = places(packed)
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    rows = np.concatenate(arrays)[starts[sequence] + step]
    return packed.with_rows(_rows(rows)), BatchFormat("list", 0)


def _numbers(x: ArrayLike, dtype: Any, who: str) -> NDArray[Any]:
    """Return `x` as an array of native numbers, converted to `dtype` where one is wanted."""
    array = as_numbers(x, f"{who}: x")
    if dtype is not None and array.dtype == dtype:
        return array
    return array.astype(array.dtype.newbyteorder("=") if dtype is None else dtype, copy=False)


def _rows(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array)


def writeable(values: NDArray[Any]) -> NDArray[Any]:
    """Return an array that kernels take: for one that must not be written to Numba would compile them once more."""
    return values if values.flags.writeable else values.copy()
