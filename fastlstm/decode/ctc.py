"""CTC decoding: greedy, and prefix beam search with n-grams, hot words, lexicons and chunks.

CTC (Graves et al. 2006, ICML) gives each of T frames a distribution over labels and a blank. A path picks one label
a frame; runs of a label count once and blanks nothing; the probability of a label string is the sum over its paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastlstm.decode import _ctc
from fastlstm.decode.ctc_input import as_matrix, as_sequences, bad_value, check_int, check_values, map_sequences
from fastlstm.decode.ctc_options import CTCFusion, CTCHotWords, CTCLexicon, CTCPruning, CTCUnits
from fastlstm.decode.ctc_result import CTCHypothesis, CTCWord, describe
from fastlstm.decode.ctc_scorers import Scorers, compile_scorers
from fastlstm.errors import DataError, OptionError, ShapeError

__all__ = [
    "CTCDecoder",
    "CTCFusion",
    "CTCHotWords",
    "CTCHypothesis",
    "CTCLexicon",
    "CTCPruning",
    "CTCStream",
    "CTCUnits",
    "CTCWord",
    "ctc_beam_search",
    "ctc_greedy",
]

WIDEST = 1_000_000
"""Greatest beam width: what a mistyped width may cost in memory is bounded."""

_BAD_VALUE, _DEAD = -2, -3


class CTCDecoder:
    """A prefix beam search made ready once, for any number of inputs and threads.

    Making one compiles its lexicon, hot words and language model's vocabulary; decoding changes nothing in it.

    Parameters
    ----------
    beam_width : int
        Prefixes kept after each frame.
    blank : int
        Id of the blank label.
    units : CTCUnits, optional
        The labels' texts; gives ``text`` and ``words``, and is needed by the next three.
    pruning : CTCPruning
    fusion : CTCFusion, optional
        An n-gram model and its weights.
    hot_words : CTCHotWords, optional
    lexicon : CTCLexicon, optional
        The only words that may come out.

    Raises
    ------
    OptionError
        If an option has a value that the search does not accept, or options do not fit each other.

    Examples
    --------
    >>> import numpy as np
    >>> decoder = CTCDecoder(units=CTCUnits(["", "a", "b"]))
    >>> log_probs = np.log(np.array([[0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.2, 0.1, 0.7]]))
    >>> decoder.decode(log_probs)[0].text
    'ab'
    """

    def __init__(
        self,
        beam_width: int = 25,
        *,
        blank: int = 0,
        units: CTCUnits | None = None,
        pruning: CTCPruning | None = None,
        fusion: CTCFusion | None = None,
        hot_words: CTCHotWords | None = None,
        lexicon: CTCLexicon | None = None,
    ) -> None:
        for name, value, kind in (
            ("units", units, CTCUnits),
            ("pruning", pruning, CTCPruning),
            ("fusion", fusion, CTCFusion),
            ("hot_words", hot_words, CTCHotWords),
            ("lexicon", lexicon, CTCLexicon),
        ):
            if value is not None and not isinstance(value, kind):
                raise OptionError(f"CTC: {name} is a {type(value).__name__}; give {kind.__name__}(...) or None")
        self.beam_width = check_int("CTC", "beam_width", beam_width, 1, WIDEST)
        labels = len(units.labels) if units is not None else 2**31 - 1
        self.blank = check_int("CTC", "blank", blank, 0, labels - 1)
        self.units = units
        self.pruning = CTCPruning() if pruning is None else pruning
        self._scorers: Scorers | None = compile_scorers(units, self.blank, fusion, hot_words, lexicon)

    @overload
    def decode(
        self,
        log_probs: NDArray[Any],
        *,
        lengths: None = None,
        n_best: int = 1,
        workers: int | None = None,
    ) -> list[CTCHypothesis]: ...
    @overload
    def decode(
        self,
        log_probs: ArrayLike | Sequence[ArrayLike],
        *,
        lengths: ArrayLike | None = None,
        n_best: int = 1,
        workers: int | None = None,
    ) -> list[Any]: ...

    def decode(
        self,
        log_probs: ArrayLike | Sequence[ArrayLike],
        *,
        lengths: ArrayLike | None = None,
        n_best: int = 1,
        workers: int | None = None,
    ) -> list[Any]:
        """Decode one input, or many at once; arguments and results as in :func:`ctc_beam_search`."""
        n_best = check_int("CTC", "n_best", n_best, 1, self.beam_width)
        matrices, batch = as_sequences(log_probs, lengths, "CTC")

        def work(matrix: NDArray[Any]) -> list[CTCHypothesis]:
            stream = CTCStream(self, matrix.shape[1])
            stream.push(matrix)
            return stream.finish(n_best)

        if not batch:
            return work(matrices[0])
        return map_sequences(work, matrices, workers, "CTC", sum(matrix.size for matrix in matrices))

    def stream(self, labels: int | None = None) -> CTCStream:
        """Begin an input that comes in chunks.

        Parameters
        ----------
        labels : int, optional
            V; needed where the decoder has no units.
        """
        if labels is None:
            if self.units is None:
                raise OptionError("CTC: stream(labels=V) needs the number of labels where there are no units")
            labels = len(self.units.labels)
        return CTCStream(self, check_int("CTC", "labels", labels, 1, 2**31 - 1))


class CTCStream:
    """One input on its way through a :class:`CTCDecoder`.

    However the input is cut into chunks, the results are the same to the last bit: the beams are carried from call
    to call. Memory grows with the labels that the beams hold, not with the frames.

    Parameters
    ----------
    decoder : CTCDecoder
    labels : int
        V.

    Examples
    --------
    >>> import numpy as np
    >>> stream = CTCDecoder().stream(labels=3)
    >>> for row in np.log(np.array([[0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.2, 0.1, 0.7]])):
    ...     stream.push(row[None])
    >>> stream.finish()[0].ids
    (1, 2)
    """

    def __init__(self, decoder: CTCDecoder, labels: int, *, _beam: _ctc.Beam | None = None) -> None:
        if decoder.units is not None and len(decoder.units.labels) != labels:
            raise ShapeError(
                f"CTC: log_probs has {labels} labels, units has {len(decoder.units.labels)}; give a text for each"
            )
        if decoder.blank >= labels:
            raise OptionError(f"CTC: blank is {decoder.blank}, log_probs has labels 0 to {labels - 1}")
        self.decoder = decoder
        self._beam = _beam or _ctc.Beam(
            labels,
            decoder.beam_width,
            decoder.blank,
            decoder.pruning.token_min_logp,
            decoder.pruning.beam_min_logp,
            decoder._scorers,
        )

    @property
    def frames(self) -> int:
        """Frames read so far."""
        return self._beam.frames

    def push(self, log_probs: ArrayLike) -> None:
        """Read the next frames.

        Parameters
        ----------
        log_probs : (T, V) float
            T >= 0.

        Raises
        ------
        ShapeError
            If it is not (T, V) with this stream's V.
        DataError
            If a value is NaN, infinite upwards or above 0, or a frame leaves no prefix a probability. The frames
            before it have then been read, ``frames`` tells how many.
        """
        matrix = as_matrix(log_probs, "CTC")
        if matrix.shape[1] != self._beam.labels:
            raise ShapeError(f"CTC: log_probs has {matrix.shape[1]} labels, this stream reads {self._beam.labels}")
        if self.frames + len(matrix) >= 2**31:
            raise DataError("CTC: a stream reads less than 2**31 frames; finish it and begin another")
        push = self._beam.push_float32 if matrix.dtype == np.float32 else self._beam.push_float64
        first = self.frames
        status, row, label = push(matrix)
        if status == _BAD_VALUE:
            raise bad_value("CTC", first + row, label, float(matrix[row, label]))
        if status == _DEAD:
            raise DataError(
                f"CTC: frame {first + row} gives every prefix in the beam probability 0; "
                "mend the frame, or allow more (beam_width, lexicon, token_min_logp)"
            )

    def results(self, n_best: int = 1) -> list[CTCHypothesis]:
        """Return the best prefixes so far, unfinished words included; the stream may go on."""
        return self._collect(n_best, final=False)

    def finish(self, n_best: int = 1) -> list[CTCHypothesis]:
        """Return the best hypotheses if the input ends here: last word, end of sentence and hot words settled.

        With a lexicon the list is empty where no prefix ends in a whole word. The stream itself is left as it is.
        """
        return self._collect(n_best, final=True)

    def clone(self) -> CTCStream:
        """Return an independent copy that goes on from here."""
        return CTCStream(self.decoder, self._beam.labels, _beam=self._beam.clone())

    def reset(self) -> None:
        """Forget all frames."""
        self._beam.reset()

    def _collect(self, n_best: int, final: bool) -> list[CTCHypothesis]:
        n_best = check_int("CTC", "n_best", n_best, 1, self.decoder.beam_width)
        units, scorers = self.decoder.units, self.decoder._scorers
        rename = scorers.word_of if scorers is not None and scorers.constrained else None
        return [
            CTCHypothesis(
                score=score, logprob=logprob, finished=final, **describe(ids, starts, ends, peaks, units, rename)
            )
            for score, logprob, ids, starts, ends, peaks in self._beam.results(n_best, final)
        ]


def ctc_beam_search(
    log_probs: ArrayLike | Sequence[ArrayLike],
    beam_width: int = 25,
    *,
    lengths: ArrayLike | None = None,
    n_best: int = 1,
    blank: int = 0,
    units: CTCUnits | None = None,
    pruning: CTCPruning | None = None,
    fusion: CTCFusion | None = None,
    hot_words: CTCHotWords | None = None,
    lexicon: CTCLexicon | None = None,
    workers: int | None = None,
) -> list[Any]:
    """Find the label strings of greatest probability by prefix beam search.

    With fusion, hot words or a lexicon, make a :class:`CTCDecoder` once and call its ``decode``: this function
    compiles them again at every call.

    Parameters
    ----------
    log_probs : (T, V), (N, T, V) or sequence of (T, V), float
        Natural-log probabilities of the labels in each frame; they need not sum to 1. Any strides, any byte order.
    beam_width : int
        Prefixes kept after each frame.
    lengths : (N,) int, optional
        Frames of each sequence of a padded batch.
    n_best : int
        Hypotheses to return, at most ``beam_width``.
    blank : int
        Id of the blank label.
    units, pruning, fusion, hot_words, lexicon
        See :class:`CTCDecoder`.
    workers : int, optional
        Threads for a batch; by default as many as ``fl.set_num_threads`` allows, where it is large enough. Results do
        not depend on it.

    Returns
    -------
    list of CTCHypothesis, best first; for a batch, a list of such lists

    Raises
    ------
    ShapeError
        If a shape is not one of the above.
    OptionError
        If an option has a value that the search does not accept.
    DataError
        If a value is NaN, infinite upwards or above 0, or a frame gives every prefix probability 0.

    References
    ----------
    Graves et al. 2006, "Connectionist temporal classification", section 3.2. Hannun et al. 2014, "First-pass large
    vocabulary continuous speech recognition using bi-directional recurrent DNNs", algorithm 1.

    Examples
    --------
    Two frames of (blank, a): the string "a" has three paths, the empty string one.

    >>> import numpy as np
    >>> best, second = ctc_beam_search(np.log([[0.6, 0.4], [0.6, 0.4]]), n_best=2)
    >>> best.ids, round(float(np.exp(best.logprob)), 6), second.ids, round(float(np.exp(second.logprob)), 6)
    ((1,), 0.64, (), 0.36)
    """
    decoder = CTCDecoder(
        beam_width,
        blank=blank,
        units=units,
        pruning=pruning,
        fusion=fusion,
        hot_words=hot_words,
        lexicon=lexicon,
    )
    return decoder.decode(log_probs, lengths=lengths, n_best=n_best, workers=workers)


def ctc_greedy(
    log_probs: ArrayLike | Sequence[ArrayLike],
    *,
    lengths: ArrayLike | None = None,
    blank: int = 0,
    units: CTCUnits | None = None,
) -> Any:
    """Return the label string of the likeliest path: the best label of each frame, runs and blanks removed.

    Parameters
    ----------
    log_probs : (T, V), (N, T, V) or sequence of (T, V), float
        Natural-log probabilities.
    lengths : (N,) int, optional
        Frames of each sequence of a padded batch.
    blank : int
        Id of the blank label.
    units : CTCUnits, optional
        The labels' texts.

    Returns
    -------
    CTCHypothesis; for a batch, a list of them
        ``logprob`` is that of the one path. Of equal labels the lowest id wins.

    Raises
    ------
    ShapeError, OptionError, DataError
        As :func:`ctc_beam_search`.

    Examples
    --------
    >>> import numpy as np
    >>> path = np.log(np.array([[0.1, 0.9], [0.2, 0.8], [0.9, 0.1], [0.3, 0.7]]))
    >>> best = ctc_greedy(path)
    >>> best.ids, best.frames, best.ends
    ((1, 1), (0, 3), (2, 4))
    """
    matrices, batch = as_sequences(log_probs, lengths, "CTC")
    decoder = CTCDecoder(1, blank=blank, units=units)
    found = [_greedy(matrix, decoder) for matrix in matrices]
    return found if batch else found[0]


def _greedy(matrix: NDArray[Any], decoder: CTCDecoder) -> CTCHypothesis:
    CTCStream(decoder, matrix.shape[1])  # checks V against blank and units
    check_values(matrix, "CTC")
    path = matrix.argmax(axis=1) if len(matrix) else np.zeros(0, dtype=np.int64)
    best = matrix[np.arange(len(matrix)), path].astype(np.float64)
    if np.isneginf(best).any():
        raise DataError(f"CTC: frame {int(np.isneginf(best).argmax())} gives every label probability 0; mend the frame")
    first = np.flatnonzero(np.diff(path, prepend=-1))
    ends = np.append(first[1:], len(path))
    kept = path[first] != decoder.blank
    peaks = np.maximum.reduceat(best, first)[kept] if len(first) else best
    ids, starts, stops = path[first][kept].tolist(), first[kept].tolist(), ends[kept].tolist()
    total, found = float(best.sum()), describe(ids, starts, stops, peaks.tolist(), decoder.units)
    return CTCHypothesis(score=total, logprob=total, finished=True, **found)
