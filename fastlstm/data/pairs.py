"""Batches that belong together: the same sequences, or partners of them, each batch packed in an order of its own.

Every `Packed` puts its longest sequence first, so the n-th sequence of a batch and the n-th of another are partners
only where both have one order.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError
from .lengths import longest_first
from .packed import Packed, places

__all__ = ["align", "align_back", "check_partners", "places_in", "rows_in", "select", "steps_of_rows"]


def check_partners(x: Packed, like: Packed, who: str) -> None:
    """Raise ShapeError unless both batches have as many sequences."""
    if x.sequences != like.sequences:
        raise ShapeError(f"{who}: inputs of {like.sequences} and {x.sequences} sequences; expected as many in each")


def places_in(x: Packed, like: Packed) -> NDArray[np.int64] | None:
    """Return where in `x` the partner of each sequence of `like` is, both in packed order; None: at the same place.

    Examples
    --------
    >>> from fastlstm.data.packed import pack
    >>> x, like = pack([[1], [2, 3]], features=False)[0], pack([[4, 5], [6]], features=False)[0]
    >>> places_in(x, like)
    array([1, 0])
    """
    if x.order is None and like.order is None:
        return None
    every = np.arange(x.sequences)
    place = np.empty(x.sequences, np.int64)
    place[every if x.order is None else x.order] = every
    places = place if like.order is None else place[like.order]
    return None if np.array_equal(places, every) else places


def rows_in(x: Packed, like: Packed, who: str) -> NDArray[np.int64] | None:
    """Return which row of `x` goes with each row of `like`, which has the same lengths; None: the same one.

    Raises
    ------
    ShapeError
        The lengths differ, or one batch has steps and the other has none.
    """
    check_partners(x, like, who)
    if x.steps != like.steps:
        raise ShapeError(
            f"{who}: one input has steps, the other has one row a sequence; RepeatVector makes steps of it"
        )
    places = places_in(x, like)
    if not np.array_equal(x.batch_sizes, like.batch_sizes) or (
        places is not None and not np.array_equal(x.lengths[places], like.lengths)
    ):
        raise ShapeError(
            f"{who}: the inputs have sequences of other lengths, {_lengths_of(like)} and {_lengths_of(x)}; "
            "expected the same lengths"
        )
    if places is None:
        return None
    rows: NDArray[np.int64] = np.repeat(x.offsets[:-1], x.batch_sizes) + places[like.sequence_of_row]
    return rows


def _lengths_of(x: Packed) -> str:
    lengths = x.to_user_order(x.lengths)
    shown = ", ".join(map(str, lengths[:8]))
    return f"[{shown}{', ...' if len(lengths) > 8 else ''}]"


def align(rows: NDArray[Any], places: NDArray[np.int64] | None) -> NDArray[Any]:
    """Return the rows at these places; the rows themselves for None."""
    return rows if places is None else rows[places]


def align_back(rows: NDArray[Any], places: NDArray[np.int64] | None) -> NDArray[Any]:
    """Undo `align`: return each row at the place it was taken from. It is also the way of gradients."""
    if places is None:
        return rows
    back = np.empty_like(rows)
    back[places] = rows
    return back


def steps_of_rows(
    given: NDArray[Any] | list[NDArray[Any]],
    which: NDArray[np.int64],
    like: Packed,
    starts: NDArray[np.int64] | None,
    problem: str,
) -> NDArray[Any]:
    """Return what was passed by step, such as targets, for each row of a batch.

    Parameters
    ----------
    given : array or list of arrays
        ``(N, T, ...)``, where a sequence may be padded, or a list of ``(T_n, ...)``.
    which : ndarray of int64
        The numbers of the batch's sequences in `given`.
    like : Packed
        The batch.
    starts : ndarray of int64, optional
        First step of each sequence of the batch in a padded array; default 0.
    problem : str
        Said where the steps are others.

    Raises
    ------
    ShapeError
        `problem`.
    """
    lengths = like.to_user_order(like.lengths)
    if isinstance(given, list):
        some = [given[i] for i in which]
        own = np.array([len(one) for one in some])
        if not np.array_equal(own, lengths):
            raise ShapeError(problem)
        begins = np.concatenate(([0], np.cumsum(own)[:-1]))
        sequence, step = places(like)
        rows: NDArray[Any] = np.concatenate(some)[begins[sequence] + step]
        return rows
    longest = int(lengths.max())
    if given.ndim < 2 or (given.shape[1] != longest if like.dense and starts is None else given.shape[1] < longest):
        raise ShapeError(problem)
    if like.dense and like.order is None and starts is None:
        by_step = given[which].swapaxes(0, 1)
        return np.ascontiguousarray(by_step.reshape(-1, *given.shape[2:]))
    sequence, step = places(like)
    rows = given[which[sequence], step if starts is None else step + starts[sequence]]
    return rows


def select(x: Packed, which: NDArray[np.int64]) -> Packed:
    """Return a batch of some of the sequences of `x`, by their numbers in the user's order, each perhaps many times.

    Examples
    --------
    >>> from fastlstm.data.packed import pack
    >>> x, form = pack([[1], [2, 3]], features=False)
    >>> form.unpack(select(x, np.array([1, 0, 1])))
    [array([2, 3]), array([1]), array([2, 3])]
    """
    place = np.empty(x.sequences, np.int64)
    place[np.arange(x.sequences) if x.order is None else x.order] = np.arange(x.sequences)
    if not x.steps:
        return Packed(x.rows[place[which]], np.array([len(which)]), steps=False)
    order, batch_sizes = longest_first(x.lengths[place[which]])
    chosen = Packed(np.empty(0), batch_sizes, order)
    sequence, step = places(chosen)
    return chosen.with_rows(x.rows[x.offsets[step] + place[which[sequence]]])
