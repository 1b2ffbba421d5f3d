"""The options of CTC decoding: frozen values, checked when made, shared by any number of decoders."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fastlstm.decode.ngram import NGramModel
from fastlstm.errors import OptionError


def _finite(owner: str, name: str, value: float) -> None:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise OptionError(f"{owner}: {name} is {value!r}; give a finite number")


@dataclass(frozen=True)
class CTCPruning:
    """What the beam may skip. The defaults skip nothing that the beam width does not.

    Attributes
    ----------
    token_min_logp : float
        A label less likely than this in a frame is taken for impossible there, unless it is the likeliest.
    beam_min_logp : float
        A prefix whose score lies further than this below the best is dropped.

    Raises
    ------
    OptionError
        If a threshold is positive or NaN.

    Examples
    --------
    >>> CTCPruning(token_min_logp=-5.0, beam_min_logp=-10.0)   # pyctcdecode's defaults
    CTCPruning(token_min_logp=-5.0, beam_min_logp=-10.0)
    """

    token_min_logp: float = -math.inf
    beam_min_logp: float = -math.inf

    def __post_init__(self) -> None:
        for name in ("token_min_logp", "beam_min_logp"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not value <= 0.0:
                raise OptionError(f"CTCPruning: {name} is {value!r}; give a log-probability, at most 0")


@dataclass(frozen=True)
class CTCUnits:
    """What the labels mean as text.

    Attributes
    ----------
    labels : tuple of str
        One text for each label id. The blank's is ignored.
    delimiter : str or None
        The label that stands between words, such as ``" "`` or ``"|"``; for character models.
    word_start : str or None
        The mark at the head of every label that begins a word, such as ``"\u2581"``; for BPE models.

    Raises
    ------
    OptionError
        If both kinds of word boundary are given, or no label bears the one given.

    Examples
    --------
    >>> CTCUnits(["", " ", "a", "b"], delimiter=" ").text([2, 1, 3])
    'a b'
    >>> CTCUnits(["", "▁he", "llo", "▁you"], word_start="▁").text([1, 2, 3])
    'hello you'
    """

    labels: Sequence[str]
    delimiter: str | None = None
    word_start: str | None = None

    def __post_init__(self) -> None:
        labels = tuple(self.labels)
        if not labels or not all(isinstance(label, str) for label in labels):
            raise OptionError("CTCUnits: labels must be a non-empty sequence of str, one for each label id")
        object.__setattr__(self, "labels", labels)
        if self.delimiter is not None and self.word_start is not None:
            raise OptionError("CTCUnits: delimiter and word_start exclude each other; give the one the model uses")
        if self.delimiter is not None and self.delimiter not in labels:
            raise OptionError(f"CTCUnits: no label is the delimiter {self.delimiter!r}; give one of the labels")
        if self.word_start is not None and (
            not self.word_start or not any(label.startswith(self.word_start) for label in labels)
        ):
            raise OptionError(f"CTCUnits: no label begins with word_start={self.word_start!r}")

    @property
    def has_words(self) -> bool:
        """Whether the units have word boundaries."""
        return self.delimiter is not None or self.word_start is not None

    def starts_word(self, label: int) -> bool:
        """Whether this label begins a new word by itself."""
        return self.word_start is not None and self.labels[label].startswith(self.word_start)

    def is_delimiter(self, label: int) -> bool:
        """Whether this label only stands between words."""
        return self.delimiter is not None and self.labels[label] == self.delimiter

    def spelling(self, label: int) -> str:
        """Return the characters that this label adds to its word."""
        if self.is_delimiter(label):
            return ""
        text = self.labels[label]
        return text[len(self.word_start) :] if self.word_start and self.starts_word(label) else text

    def split(self, ids: Sequence[int]) -> list[list[int]]:
        """Return, for each word, the places in ``ids`` of its labels."""
        words: list[list[int]] = []
        open_word = False
        for place, label in enumerate(ids):
            if self.is_delimiter(label):
                open_word = False
                continue
            if not open_word or self.starts_word(label):
                words.append([])
                open_word = True
            words[-1].append(place)
        return words

    def text(self, ids: Sequence[int]) -> str:
        """Return the labels as text, words separated by one space."""
        if not self.has_words:
            return "".join(self.labels[label] for label in ids)
        words = ("".join(self.spelling(ids[place]) for place in places) for places in self.split(ids))
        return " ".join(word for word in words if word)


@dataclass(frozen=True, eq=False)
class CTCFusion:
    """Shallow fusion with an n-gram model: ``score = logprob + sum over words (alpha ln p(word | before) + beta)``.

    Attributes
    ----------
    model : NGramModel
    alpha : float
        Weight of the model, at least 0.
    beta : float
        Reward for each word.
    unk_score : float
        Natural-log penalty, at most 0, of a word that the model lacks, on top of what the model gives ``<unk>``.
        It is paid as soon as no known word begins with what has been read.
    level : {"word", "label"}
        Whether the model's words are words, or the labels themselves (a character or BPE model).
    begin, end : bool
        Whether the input begins after ``<s>`` and its end is scored as ``</s>``.

    Raises
    ------
    OptionError
    """

    model: NGramModel
    alpha: float = 0.5
    beta: float = 1.5
    unk_score: float = -10.0
    level: Literal["word", "label"] = "word"
    begin: bool = True
    end: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.model, NGramModel):
            raise OptionError(f"CTCFusion: model is a {type(self.model).__name__}; give read_arpa(path)")
        for name in ("alpha", "beta", "unk_score"):
            _finite("CTCFusion", name, getattr(self, name))
        if self.alpha < 0.0 or self.unk_score > 0.0 or abs(self.beta) > 100.0:
            raise OptionError(
                f"CTCFusion: alpha={self.alpha}, beta={self.beta}, unk_score={self.unk_score}; "
                "give alpha >= 0, -100 <= beta <= 100 and unk_score <= 0"
            )
        if self.level not in ("word", "label"):
            raise OptionError(f'CTCFusion: level is {self.level!r}; give "word" or "label"')


@dataclass(frozen=True, eq=False)
class CTCHotWords:
    """Words and phrases to listen for.

    A hypothesis earns a phrase's weight label by label while it spells it, and pays all back where it breaks off
    (an Aho-Corasick automaton, Aho & Corasick 1975). Where the units have words, phrases match whole words.

    Attributes
    ----------
    phrases : mapping of str to float, or sequence of str
        Phrases, words separated by one space, with their own weights or the common one.
    weight : float
        Natural-log reward of a whole phrase.

    Raises
    ------
    OptionError
    """

    phrases: Mapping[str, float] | Iterable[str]
    weight: float = 10.0
    weights: Mapping[str, float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _finite("CTCHotWords", "weight", self.weight)
        if isinstance(self.phrases, str):
            raise OptionError("CTCHotWords: phrases is one str; give a list of str, or a mapping to weights")
        given = self.phrases
        if not isinstance(given, Mapping):
            given = dict.fromkeys(given, self.weight)
        weights: dict[str, float] = {}
        for phrase, weight in given.items():
            if not isinstance(phrase, str) or not phrase.strip():
                raise OptionError(f"CTCHotWords: {phrase!r} is no phrase; give non-empty str")
            _finite("CTCHotWords", f"the weight of {phrase!r}", weight)
            if not 0.0 <= weight <= 100.0:
                raise OptionError(f"CTCHotWords: the weight of {phrase!r} is {weight}; give one from 0 to 100")
            weights[phrase] = float(weight)
        object.__setattr__(self, "phrases", tuple(weights))
        object.__setattr__(self, "weights", weights)


@dataclass(frozen=True, eq=False)
class CTCLexicon:
    """The only words that may come out.

    Attributes
    ----------
    words : sequence of str, or mapping of str to sequences of str
        The words, spelled by the characters of the labels; or each word with its pronunciations' labels, say
        ``{"cat": ["K", "AE", "T"]}``. Of words pronounced alike the one that the language model likes best is
        reported, or else the first.

    Raises
    ------
    OptionError
    """

    words: Mapping[str, Sequence[str]] | Iterable[str]

    def __post_init__(self) -> None:
        if isinstance(self.words, str):
            raise OptionError("CTCLexicon: words is one str; give a list of words, or a mapping to their labels")
        kept = dict(self.words) if isinstance(self.words, Mapping) else tuple(dict.fromkeys(self.words))
        if not kept or not all(isinstance(word, str) and word for word in kept):
            raise OptionError("CTCLexicon: words must hold at least one word, all of them non-empty str")
        object.__setattr__(self, "words", kept)
