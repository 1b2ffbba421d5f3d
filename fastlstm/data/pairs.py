"""Batches that belong together: the same sequences, or partners of them, each batch packed in an order of its own.

Every `Packed` puts its longest sequence first, so the n-th sequence of a batch and the n-th of another are partners
only where both have one order.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError
from .packed import Packed

__all__ = ["align", "align_back", "check_partners", "places_in", "rows_in"]


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
