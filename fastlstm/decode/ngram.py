"""An n-gram language model in memory: Katz back-off over words, scored as KenLM scores it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastlstm.decode import _ngram

UNSEEN = -100.0
"""log10 probability of an unknown word where the model has no ``<unk>``; KenLM's default."""


@dataclass(frozen=True, eq=False)
class Automaton:
    """The arrays of a back-off automaton (``src_cython/ctc/ngram_automaton.pxd``).

    Attributes
    ----------
    slots : (power of two,) structured
        Hash table of the arcs.
    backoff : (S,) float32
    suffix : (S,) int32
    miss : float
        Weight of a symbol that the root has no arc for.
    """

    slots: NDArray[np.void]
    backoff: NDArray[np.float32]
    suffix: NDArray[np.int32]
    miss: float

    def walk(self, state: int, symbols: Sequence[int]) -> tuple[int, NDArray[np.float64]]:
        """Return the state reached and the weight of each symbol."""
        weights = np.empty(len(symbols), dtype=np.float64)
        ids = np.asarray(symbols, dtype=np.int32)
        return _ngram.score(self.slots, self.backoff, self.suffix, self.miss, state, ids, weights), weights


@dataclass(frozen=True, eq=False)
class NGramModel:
    """An n-gram model; :func:`read_arpa` makes one.

    Attributes
    ----------
    order : int
        Length of the longest n-gram.
    ids : mapping of str to int
        The vocabulary, ``<s>``, ``</s>`` and ``<unk>`` included where the file has them.
    automaton : Automaton
        Weights are log10 probabilities.
    """

    order: int
    ids: Mapping[str, int]
    automaton: Automaton

    def __contains__(self, word: object) -> bool:
        return word in self.ids

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def unknown(self) -> int:
        """Id that stands for every word that the model lacks: ``<unk>``, or one that has no unigram."""
        return self.ids.get("<unk>", self.ids.get("<UNK>", len(self.ids)))

    def word_id(self, word: str) -> int:
        """Return the id of a word, ``unknown`` where the model lacks it."""
        return self.ids.get(word, self.unknown)

    def start(self, begin: bool = True) -> int:
        """Return the state after ``<s>``, or the empty state."""
        if not begin or "<s>" not in self.ids:
            return 0
        return self.automaton.walk(0, [self.ids["<s>"]])[0]

    def word_scores(self, sentence: str | Sequence[str], begin: bool = True, end: bool = True) -> NDArray[np.float64]:
        """Return the log10 probability of each word given those before it.

        Parameters
        ----------
        sentence : str or sequence of str
            Words; a str is cut at white space.
        begin, end : bool
            Whether the sentence begins after ``<s>``, and whether ``</s>`` is scored as its last word.

        Returns
        -------
        (T,) or, with ``end``, (T + 1,) float64
        """
        words = sentence.split() if isinstance(sentence, str) else list(sentence)
        if end:
            words.append("</s>")
        return self.automaton.walk(self.start(begin), [self.word_id(word) for word in words])[1]

    def score(self, sentence: str | Sequence[str], begin: bool = True, end: bool = True) -> float:
        """Return the log10 probability of a sentence: the sum of :meth:`word_scores`, ``kenlm.Model.score``."""
        return float(self.word_scores(sentence, begin, end).sum())
