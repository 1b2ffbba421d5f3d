"""Forced alignment: where in time the labels of a known transcript lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastlstm.decode import _ctc_align
from fastlstm.decode.ctc_input import as_sequences, check_int, check_values, map_sequences
from fastlstm.decode.ctc_options import CTCUnits
from fastlstm.decode.ctc_result import CTCHypothesis, describe
from fastlstm.decode.masks import refuse_masked
from fastlstm.errors import DataError, ShapeError


@dataclass(frozen=True)
class CTCAlignment(CTCHypothesis):
    """The likeliest path of a transcript; ``logprob`` and ``score`` are that path's, not the transcript's.

    Attributes
    ----------
    path : tuple of int
        The label or blank that each frame is aligned with.
    """

    path: tuple[int, ...] = ()


def ctc_align(
    log_probs: ArrayLike | Sequence[ArrayLike],
    ids: ArrayLike | Sequence[ArrayLike],
    *,
    lengths: ArrayLike | None = None,
    blank: int = 0,
    units: CTCUnits | None = None,
    workers: int | None = None,
) -> Any:
    """Align a known label string with its frames: the likeliest of all CTC paths that spell it.

    Parameters
    ----------
    log_probs : (T, V), (N, T, V) or sequence of (T, V), float
        Natural-log probabilities of the labels in each frame.
    ids : (L,) int; for a batch a sequence of N of them
        The labels, without blanks.
    lengths : (N,) int, optional
        Frames of each sequence of a padded batch.
    blank : int
        Id of the blank label.
    units : CTCUnits, optional
        The labels' texts; gives ``text`` and ``words``.
    workers : int, optional
        Threads for a batch; by default as many as ``fl.set_num_threads`` allows, where it is large enough.

    Returns
    -------
    CTCAlignment; for a batch, a list of them

    Raises
    ------
    ShapeError, OptionError
        If shapes or options do not fit each other.
    DataError
        If an id is no label or the blank, there are too few frames for the labels, a value is no log-probability, or
        every path has probability 0.

    References
    ----------
    Viterbi 1967, IEEE IT 13(2); Graves et al. 2006, ICML, section 4.1 (the state graph).

    Examples
    --------
    >>> import numpy as np
    >>> log_probs = np.log(np.array([[0.8, 0.2], [0.3, 0.7], [0.4, 0.6], [0.9, 0.1]]))
    >>> found = ctc_align(log_probs, [1])
    >>> found.path, found.frames, found.ends
    ((0, 1, 1, 0), (1,), (3,))
    """
    matrices, batch = as_sequences(log_probs, lengths, "CTC align")
    given: list[Any] = list(cast(Any, ids)) if batch else [ids]
    if len(given) != len(matrices):
        raise ShapeError(f"CTC align: {len(given)} label strings for {len(matrices)} sequences; give one for each")
    strings = [_as_ids(one) for one in given]
    pairs = list(zip(matrices, strings, strict=True))

    def work(pair: tuple[NDArray[Any], NDArray[np.int32]]) -> CTCAlignment:
        return _align(pair[0], pair[1], blank, units)

    if not batch:
        return work(pairs[0])
    return map_sequences(work, pairs, workers, "CTC align", sum(matrix.size for matrix in matrices))


def _as_ids(given: ArrayLike) -> NDArray[np.int32]:
    """Return a label string as (L,) int32."""
    refuse_masked(given, "CTC align: ids")
    try:
        labels = np.asarray(given)
    except ValueError as error:
        raise ShapeError(f"CTC align: ids is no array ({error}); give (L,) integers") from error
    if labels.ndim != 1:
        raise ShapeError(f"CTC align: ids has shape {labels.shape}; give (L,) integers")
    if labels.size and labels.dtype.kind not in "iu":
        raise DataError(f"CTC align: ids has dtype {labels.dtype}; give integers")
    if labels.size and (int(labels.min()) < 0 or int(labels.max()) >= 2**31):
        raise DataError(f"CTC align: ids lie from {labels.min()} to {labels.max()}; give label ids, at least 0")
    return np.ascontiguousarray(labels, dtype=np.int32)


def _align(matrix: NDArray[Any], ids: NDArray[np.int32], blank: int, units: CTCUnits | None) -> CTCAlignment:
    frames, labels = matrix.shape
    blank = check_int("CTC align", "blank", blank, 0, labels - 1)
    if units is not None and len(units.labels) != labels:
        raise ShapeError(f"CTC align: log_probs has {labels} labels, units has {len(units.labels)}")
    wrong = (ids >= labels) | (ids == blank)
    if wrong.any():
        place = int(wrong.argmax())
        raise DataError(
            f"CTC align: ids[{place}] is {ids[place]}; expected a label from 0 to {labels - 1} that is not the "
            f"blank {blank}"
        )
    needed = len(ids) + int((ids[1:] == ids[:-1]).sum())
    if frames < needed:
        raise DataError(
            f"CTC align: {len(ids)} labels with their repeats need {needed} frames, log_probs has {frames}; "
            "shorten the labels or give more frames"
        )
    check_values(matrix, "CTC align")
    states = np.zeros(frames, dtype=np.int32)
    score = float(_ctc_align.viterbi(matrix, ids, blank, states)) if frames else 0.0
    if score == -np.inf:
        raise DataError("CTC align: every path of these labels has probability 0; check labels, blank and log_probs")
    path = np.full(frames, blank, dtype=np.int32)
    speaking = states % 2 == 1
    places = states[speaking] // 2
    path[speaking] = ids[places]
    spoken = np.flatnonzero(speaking)
    # Every label owns at least one frame, and its frames are one run.
    begins = np.searchsorted(places, np.arange(len(ids)))
    starts = spoken[begins]
    counts = np.diff(np.append(begins, len(places)))
    peaks = np.maximum.reduceat(matrix[spoken, path[spoken]].astype(np.float64), begins) if len(ids) else np.zeros(0)
    return CTCAlignment(
        score=score,
        logprob=score,
        finished=True,
        path=tuple(path.tolist()),
        **describe(ids.tolist(), starts.tolist(), (starts + counts).tolist(), peaks.tolist(), units),
    )
