"""What every search of this room returns: one finished (or cut off) sequence and what it scored."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hypothesis:
    """One decoded sequence.

    A value: it compares, hashes and pickles by its content. ``numpy.asarray(hypothesis.ids, dtype=numpy.int64)``
    gives the ids as an array.

    Attributes
    ----------
    ids : tuple of int
        The decoded ids, oldest first, without the start id and without the end id.
    score : float
        What the hypothesis was ranked by: ``logprob`` after every penalty and bonus of the search.
    logprob : float
        Joint natural log-probability of the sequence under the model, its end id included where it has one.
    finished : bool
        Whether it ended by an end id, a stop id or the end of its input; False where it was cut off at the
        maximum length.
    frames : tuple of int or None
        For decoders of a time axis (CTC): the input frame of each id, ``len(frames) == len(ids)``.

    Examples
    --------
    >>> from fastlstm.decode.hypothesis import Hypothesis
    >>> best = Hypothesis(ids=(7, 2), score=-0.5, logprob=-1.5, finished=True)
    >>> best.ids, best.score
    ((7, 2), -0.5)
    """

    ids: tuple[int, ...]
    score: float
    logprob: float
    finished: bool = False
    frames: tuple[int, ...] | None = None
