"""What CTC decoding returns: hypotheses with the span, the confidence and the word of every label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastlstm.decode.ctc_options import CTCUnits
from fastlstm.decode.hypothesis import Hypothesis


@dataclass(frozen=True)
class CTCWord:
    """One word of a hypothesis.

    Attributes
    ----------
    text : str
    start, end : int
        Frame at which its first label begins, and the frame after its last label.
    confidence : float
        Geometric mean of the confidences of its labels, from 0 to 1.
    """

    text: str
    start: int
    end: int
    confidence: float


@dataclass(frozen=True)
class CTCHypothesis(Hypothesis):
    """A :class:`Hypothesis` whose labels lie in time.

    ``logprob`` is the natural-log probability of the label string summed over all its paths that the beam kept;
    ``score`` adds the language model, hot words and lexicon. ``frames`` holds the frame at which each label begins.

    Attributes
    ----------
    ends : tuple of int
        The frame after the last frame of each label: label i lies in ``frames[i] <= t < ends[i]``.
    confidences : tuple of float
        Greatest probability that the input gives each label within its span.
    text : str or None
        The labels as text; None where the search was given no :class:`CTCUnits`.
    words : tuple of CTCWord
        Empty where the units have no word boundaries.
    """

    ends: tuple[int, ...] = ()
    confidences: tuple[float, ...] = ()
    text: str | None = None
    words: tuple[CTCWord, ...] = ()

    def times(self, seconds_per_frame: float, offset: float = 0.0) -> list[tuple[float, float]]:
        """Return the (start, end) of each label in seconds.

        Parameters
        ----------
        seconds_per_frame : float
            The hop of the features times the stride of the model, say 0.02.
        offset : float
            Time of frame 0.

        Examples
        --------
        >>> best = CTCHypothesis(ids=(3,), score=-0.1, logprob=-0.1, frames=(5,), ends=(8,))
        >>> best.times(0.5)
        [(2.5, 4.0)]
        """
        starts = self.frames or ()
        return [
            (offset + start * seconds_per_frame, offset + end * seconds_per_frame)
            for start, end in zip(starts, self.ends, strict=True)
        ]


def describe(
    ids: Sequence[int],
    starts: Sequence[int],
    ends: Sequence[int],
    peaks: Sequence[float],
    units: CTCUnits | None,
    rename: Callable[[Sequence[int]], str | None] | None = None,
) -> dict[str, Any]:
    """Return the fields of a :class:`CTCHypothesis` that tell of its labels, times and words.

    Parameters
    ----------
    ids, starts, ends : (L,) int
    peaks : (L,) float
        Natural-log confidence of each label.
    units : CTCUnits or None
    rename : callable, optional
        Gives a word's name by its labels, where it differs from their text (a pronunciation lexicon).
    """
    # Log-probabilities may lie above 0 by a rounding error; a confidence may not lie above 1.
    confidences = np.exp(np.minimum(np.asarray(peaks, dtype=np.float64), 0.0))
    fields: dict[str, Any] = {
        "ids": tuple(ids),
        "frames": tuple(starts),
        "ends": tuple(ends),
        "confidences": tuple(confidences.tolist()),
    }
    if units is None:
        return fields
    if not units.has_words:
        return fields | {"text": units.text(ids)}
    words = []
    for places in units.split(ids):
        text = "".join(units.spelling(ids[place]) for place in places)
        if rename is not None:
            text = rename([ids[place] for place in places]) or text
        if text:
            mean = sum(peaks[place] for place in places) / len(places)
            words.append(CTCWord(text, starts[places[0]], ends[places[-1]], min(1.0, float(np.exp(mean)))))
    return fields | {"text": " ".join(word.text for word in words), "words": tuple(words)}
