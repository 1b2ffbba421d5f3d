"""Compile the options of a CTC search into the arrays that the Cython core reads: automata over characters.

The lexicon and the hot words are matched character by character, and each label has a spelling; so a word is found
however a BPE model cuts it. Symbol 0 is the word boundary, characters (or labels, for a lexicon that spells words by
labels) are numbered from 1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fastlstm.decode import _ngram
from fastlstm.decode.ctc_options import CTCFusion, CTCHotWords, CTCLexicon, CTCUnits
from fastlstm.decode.ngram import Automaton, NGramModel
from fastlstm.errors import OptionError

BOUNDARY = 0
NOWHERE = -1
INSIDE, DELIMITER, STARTS = 0, 1, 2
NO_LM, LM_WORDS, LM_LABELS = 0, 1, 2
NO_UNKNOWN = -2
MOST_GAIN = 600.0
"""Natural log of the greatest factor that one label may earn; beyond, probabilities would leave float64."""

_SENTENCE_MARKS = frozenset({"<s>", "</s>", "<unk>", "<UNK>"})
_Int32 = NDArray[np.int32]


def _empty() -> _Int32:
    return np.zeros(0, dtype=np.int32)


@dataclass(frozen=True, eq=False)
class Scorers:
    """All that the core reads besides the probabilities; see ``Scorers`` in ``src_cython/ctc/scorers.pxd``."""

    kind: NDArray[np.uint8]
    lm_unit: int = NO_LM
    lm: Automaton | None = None
    lm_start: int = 0
    label_symbol: _Int32 = field(default_factory=_empty)
    unknown: int = NO_UNKNOWN
    end_of_sentence: int = NOWHERE
    alpha: float = 0.0
    beta: float = 0.0
    unk_score: float = 0.0
    trie: Automaton | None = None
    constrained: bool = False
    word_symbol: _Int32 = field(default_factory=_empty)
    word_text: tuple[str, ...] = ()
    spell_start: _Int32 = field(default_factory=_empty)
    spell: _Int32 = field(default_factory=_empty)
    hot: Automaton | None = None
    hot_start_state: int = 0
    hot_end: int = NOWHERE
    hot_start: _Int32 = field(default_factory=_empty)
    hot_spell: _Int32 = field(default_factory=_empty)
    max_gain: float = 0.0

    def word_of(self, labels: Sequence[int]) -> str | None:
        """Return the lexicon's word that these labels spell, None where they spell none."""
        if self.trie is None:
            return None
        state = 0
        for label in labels:
            for symbol in self.spell[self.spell_start[label] : self.spell_start[label + 1]]:
                state = _ngram.child(self.trie.slots, state, int(symbol))
                if state == NOWHERE:
                    return None
        return self.word_text[state] or None


class _Trie:
    """A trie in Python dicts, while it grows."""

    def __init__(self) -> None:
        self.children: list[dict[int, int]] = [{}]

    def insert(self, symbols: Iterable[int]) -> list[int]:
        """Return the states along ``symbols``, new ones made as needed."""
        state, path = 0, []
        for symbol in symbols:
            after = self.children[state].get(symbol)
            if after is None:
                after = len(self.children)
                self.children[state][symbol] = after
                self.children.append({})
            state = after
            path.append(state)
        return path

    def arcs(self) -> tuple[_Int32, _Int32, _Int32]:
        """Return (state, symbol, target) of all arcs."""
        flat = [(s, symbol, t) for s, below in enumerate(self.children) for symbol, t in below.items()]
        state, symbol, target = np.array(flat, dtype=np.int32).reshape(-1, 3).T.copy()
        return state, symbol, target


def _flatten(rows: Sequence[Sequence[int]]) -> tuple[_Int32, _Int32]:
    """Return (starts, values) of rows laid end to end."""
    starts = np.zeros(len(rows) + 1, dtype=np.int32)
    np.cumsum([len(row) for row in rows], out=starts[1:])
    return starts, np.array([value for row in rows for value in row], dtype=np.int32)


class _Spelling:
    """How labels spell: characters numbered from 1."""

    def __init__(self, units: CTCUnits, blank: int) -> None:
        self.units = units
        self.blank = blank
        texts = [units.spelling(label) if label != blank else "" for label in range(len(units.labels))]
        self.symbols = {character: 1 + i for i, character in enumerate(sorted(set("".join(texts))))}
        self.texts = texts

    def of_labels(self, boundaries: bool) -> tuple[_Int32, _Int32]:
        """Return the flat symbols of each label, word boundaries among them or not."""
        rows = []
        for label, text in enumerate(self.texts):
            edge = label != self.blank and (self.units.is_delimiter(label) or self.units.starts_word(label))
            rows.append([BOUNDARY] * (boundaries and edge) + [self.symbols[character] for character in text])
        return _flatten(rows)

    def of_word(self, word: str) -> list[int] | None:
        """Return the symbols of a word, None where no label has one of its characters."""
        found = [self.symbols.get(character) for character in word]
        return None if None in found else [symbol for symbol in found if symbol is not None]


def _lexicon_words(
    lexicon: CTCLexicon, spelling: _Spelling
) -> tuple[list[tuple[str, list[int]]], tuple[_Int32, _Int32]]:
    """Return the (word, symbols) of a lexicon and how labels spell in it."""
    words: list[tuple[str, list[int]]] = []
    if isinstance(lexicon.words, Mapping):
        ids = {text: label for label, text in enumerate(spelling.units.labels) if label != spelling.blank}
        for word, labels in lexicon.words.items():
            unknown = [label for label in labels if label not in ids]
            if unknown or not labels:
                raise OptionError(f"CTCLexicon: {word!r} is spelled {list(labels)!r}; spell it by labels of the units")
            words.append((word, [1 + ids[label] for label in labels]))
        return words, _flatten([[1 + label] for label in range(len(spelling.units.labels))])
    for word in lexicon.words:
        symbols = spelling.of_word(word)
        if symbols is None:
            raise OptionError(f"CTCLexicon: {word!r} has characters that no label has; leave it out")
        words.append((word, symbols))
    return words, spelling.of_labels(boundaries=False)


def _compile_words(
    words: list[tuple[str, list[int]]], model: NGramModel | None
) -> tuple[Automaton, _Int32, tuple[str, ...]]:
    """Return the trie, and for each state the language-model symbol and the text of the word that ends there."""
    trie = _Trie()
    ends: dict[int, tuple[float, int, str]] = {}
    for word, symbols in words:
        state = trie.insert(symbols)[-1]
        symbol = model.word_id(word) if model is not None else 0
        liking = float(model.automaton.walk(0, [symbol])[1][0]) if model is not None else 0.0
        if state not in ends or liking > ends[state][0]:
            ends[state] = (liking, symbol, word)
    state_count = len(trie.children)
    word_symbol = np.full(state_count, NOWHERE, dtype=np.int32)
    texts = [""] * state_count
    for state, (_, symbol, word) in ends.items():
        word_symbol[state] = symbol
        texts[state] = word
    state_of, symbol_of, target = trie.arcs()
    zeros = np.zeros(len(state_of), dtype=np.float32)
    automaton = Automaton(
        slots=_ngram.pack_arcs(state_of, symbol_of, zeros, target),
        backoff=np.zeros(state_count, dtype=np.float32),
        suffix=np.zeros(state_count, dtype=np.int32),
        miss=0.0,
    )
    return automaton, word_symbol, tuple(texts)


def _compile_hot(hot: CTCHotWords, spelling: _Spelling) -> tuple[Automaton, int, float]:
    """Return the Aho-Corasick automaton, its start state, and the most that one symbol can earn.

    ``lent[s]`` is what a hypothesis in state s has been lent for phrases not yet complete, ``earned[s]`` what the
    phrases that end in s (or in a suffix of s) earn for good. An arc weighs what it lends and earns; backing off
    takes back what the longer context was lent.
    """
    edge = [BOUNDARY] if spelling.units.has_words else []
    trie = _Trie()
    start = trie.insert(edge)[-1] if edge else 0
    lent: dict[int, float] = {0: 0.0}
    ending: dict[int, float] = {}
    for phrase, weight in hot.weights.items():
        symbols = list(edge)
        for word in phrase.split() if edge else [phrase]:
            spelled = spelling.of_word(word)
            if spelled is None:
                raise OptionError(f"CTCHotWords: {phrase!r} has characters that no label has; leave it out")
            symbols += spelled + edge
        path = trie.insert(symbols)
        for place, state in enumerate(path):
            share = weight * place / len(path) if place + 1 < len(path) else 0.0
            lent[state] = max(lent.get(state, 0.0), share)
        ending[path[-1]] = ending.get(path[-1], 0.0) + weight
    count = len(trie.children)
    suffix = np.zeros(count, dtype=np.int32)
    earned = [ending.get(state, 0.0) for state in range(count)]
    weight_of = np.zeros(count, dtype=np.float64)
    queue = deque([0])
    while queue:
        state = queue.popleft()
        for symbol, after in trie.children[state].items():
            back = int(suffix[state])
            while state != 0 and symbol not in trie.children[back] and back != 0:
                back = int(suffix[back])
            suffix[after] = trie.children[back].get(symbol, 0) if state != 0 else 0
            earned[after] += earned[suffix[after]]
            weight_of[after] = lent.get(after, 0.0) + earned[after] - lent.get(state, 0.0)
            queue.append(after)
    owed = np.array([lent.get(state, 0.0) for state in range(count)])
    state_of, symbol_of, target = trie.arcs()
    automaton = Automaton(
        slots=_ngram.pack_arcs(state_of, symbol_of, weight_of[target].astype(np.float32), target),
        backoff=(owed[suffix] - owed).astype(np.float32),
        suffix=suffix,
        miss=0.0,
    )
    # Backing off from s and then taking an arc into t changes what is lent by at most lent[t], and earns earned[t].
    most = max((owed[state] + earned[state] for state in range(count)), default=0.0)
    return automaton, start, float(most)


def compile_scorers(
    units: CTCUnits | None,
    blank: int,
    fusion: CTCFusion | None,
    hot_words: CTCHotWords | None,
    lexicon: CTCLexicon | None,
) -> Scorers | None:
    """Return what the core needs for these options, None where it needs nothing.

    Raises
    ------
    OptionError
        If options do not fit each other: words asked of units without word boundaries, words that no label spells.
    """
    if fusion is None and hot_words is None and lexicon is None:
        return None
    if units is None:
        raise OptionError("CTC: fusion, hot_words and lexicon need units=CTCUnits(...), the labels' texts")
    by_words = fusion is not None and fusion.level == "word"
    if (by_words or lexicon is not None) and not units.has_words:
        raise OptionError(
            "CTC: word-level fusion and lexicons need word boundaries; "
            "give CTCUnits a delimiter or word_start, or use CTCFusion(level='label')"
        )
    spelling = _Spelling(units, blank)
    parts: dict[str, object] = {}
    gain = 0.0
    if fusion is not None:
        model = fusion.model
        labels = [model.word_id(text) for text in units.labels]
        parts |= {
            "lm_unit": LM_WORDS if by_words else LM_LABELS,
            "lm": model.automaton,
            "lm_start": model.start(fusion.begin),
            "label_symbol": np.array(labels, dtype=np.int32),
            "unknown": model.unknown if by_words else NO_UNKNOWN,
            "end_of_sentence": model.ids.get("</s>", NOWHERE) if fusion.end else NOWHERE,
            "alpha": float(fusion.alpha),
            "beta": float(fusion.beta),
            "unk_score": float(fusion.unk_score),
        }
        gain += max(fusion.beta, 0.0)
    if lexicon is not None or by_words:
        model_words = fusion.model if fusion is not None and by_words else None
        if lexicon is not None:
            words, (spell_start, spell) = _lexicon_words(lexicon, spelling)
        else:
            assert fusion is not None
            known = ((word, spelling.of_word(word)) for word in fusion.model.ids if word not in _SENTENCE_MARKS)
            words = [(word, symbols) for word, symbols in known if symbols]
            spell_start, spell = spelling.of_labels(boundaries=False)
            if not words:
                raise OptionError("CTCFusion: the labels spell no word of the model; do their cases differ?")
        trie, word_symbol, word_text = _compile_words(words, model_words)
        parts |= {
            "trie": trie,
            "constrained": lexicon is not None,
            "word_symbol": word_symbol,
            "word_text": word_text,
            "spell_start": spell_start,
            "spell": spell,
        }
    if hot_words is not None:
        hot, start, most = _compile_hot(hot_words, spelling)
        hot_start, hot_spell = spelling.of_labels(boundaries=units.has_words)
        parts |= {
            "hot": hot,
            "hot_start_state": start,
            "hot_end": BOUNDARY if units.has_words else NOWHERE,
            "hot_start": hot_start,
            "hot_spell": hot_spell,
        }
        gain += most * max(1, int(np.diff(hot_start).max()))
    if gain > MOST_GAIN:
        raise OptionError(f"CTC: one label could earn {gain:.0f} (natural log); lower beta or the hot words' weights")
    kinds = [
        DELIMITER if units.is_delimiter(label) else STARTS if units.starts_word(label) else INSIDE
        for label in range(len(units.labels))
    ]
    return Scorers(kind=np.array(kinds, dtype=np.uint8), max_gain=gain, **parts)  # type: ignore[arg-type]
