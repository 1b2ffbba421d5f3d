"""Text to ids and back: a vocabulary of characters or of words.

A word token is a word or a punctuation mark together with the one blank before it (``" the"``, ``","``), or a newline,
or blanks left over. Every character of a text is in exactly one token and no token spans a line, so joining the tokens
gives the text back unchanged, and a text can be cut into tokens block by block.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError, OptionError, VocabularyError
from .numbers import as_numbers, whole

__all__ = ["EncodedText", "Level", "Text", "Vocabulary", "number", "smallest_ids", "split_words"]

Level: TypeAlias = Literal["char", "word"]
"""What a token is."""

Text: TypeAlias = str | Iterable[str]
"""A text, whole or in blocks."""

UNKNOWN: dict[Level, str] = {"char": "\N{REPLACEMENT CHARACTER}", "word": "<unk>"}
"""How the token that stands for all others is written; no text is ever cut into a token ``<unk>``."""

BLOCK = 1 << 16
"""Characters that are looked at in one go."""

_WORD = re.compile(r" ?\w+(?:['’]\w+)*| ?[^\w\s]|\n| +(?= )|\s")
_LOOK_AHEAD = 2  # characters past its end that decide where a token of _WORD ends: an apostrophe and a letter


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A text as ids.

    Attributes
    ----------
    ids : ndarray of unsigned int, shape (M,)
        In the smallest type that holds the vocabulary.
    characters : int
        Length of the text that the ids were made of.
    unknown : int
        How many of the ids stand for a token that the vocabulary lacks.
    """

    ids: NDArray[Any]
    characters: int
    unknown: int = 0


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that a model knows; a token's place is its id.

    Parameters
    ----------
    tokens : tuple of str
        All different.
    level : {"char", "word"}
        What a token is.
    unknown : int, optional
        The id that stands for every token that is not in `tokens`; None makes such tokens an error.

    Raises
    ------
    OptionError
        No tokens, the same token twice, an unknown level, or `unknown` not an id.

    Examples
    --------
    >>> vocabulary = Vocabulary(tuple("abc"), level="char")
    >>> vocabulary.encode("cab")
    array([2, 0, 1], dtype=uint8)
    >>> vocabulary.decode([0, 1, 1, 0])
    'abba'
    """

    tokens: tuple[str, ...]
    level: Level = "char"
    unknown: int | None = None

    def __post_init__(self) -> None:
        check_level(self.level)
        tokens = tuple(self.tokens) if isinstance(self.tokens, Iterable) else (self.tokens,)
        if wrong := [token for token in tokens if not isinstance(token, str)]:
            raise OptionError(f"Vocabulary: tokens holds {wrong[0]!r}; expected strings")
        object.__setattr__(self, "tokens", tokens)  # frozen: a list given here would not equal a tuple read from a file
        if not self.tokens:
            raise OptionError("Vocabulary: no tokens; expected at least one")
        if len(self._ids) != len(self.tokens):
            raise OptionError("Vocabulary: tokens has the same token more than once; each must be there once")
        if self.unknown is not None and whole(self.unknown, "Vocabulary: unknown", 0) >= len(self.tokens):
            raise OptionError(f"Vocabulary: unknown is {self.unknown}; expected an id, 0 to {len(self.tokens) - 1}")

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: place for place, token in enumerate(self.tokens)}

    @classmethod
    def of_counts(
        cls,
        counts: dict[str, int],
        level: Level = "char",
        *,
        min_count: int = 1,
        max_size: int | None = None,
    ) -> "Vocabulary":
        """Make the vocabulary of the most frequent tokens, the most frequent first.

        A vocabulary of words always has an unknown token, id 0; one of characters has it only where `min_count` or
        `max_size` leaves characters out.

        Parameters
        ----------
        counts : dict of str to int
            How often each token occurs.
        level : {"char", "word"}
            What a token is.
        min_count : int
            Tokens that occur less often are left out.
        max_size : int, optional
            The most tokens to keep, the unknown token included.

        Raises
        ------
        DataError
            No token occurs `min_count` times.
        OptionError
            An option has a value that cannot be.

        Examples
        --------
        >>> Vocabulary.of_counts({"a": 1, "b": 3, "c": 1}).tokens
        ('b', 'a', 'c')
        >>> Vocabulary.of_counts({" it": 5, " was": 1}, "word", min_count=2).tokens
        ('<unk>', ' it')
        """
        check_level(level)
        whole(min_count, "Vocabulary: min_count")
        if max_size is not None:
            whole(max_size, "Vocabulary: max_size", 2)
        kept = sorted((t for t, count in counts.items() if count >= min_count), key=lambda t: (-counts[t], t))
        if counts and not kept:
            most, times = max(counts.items(), key=lambda item: item[1])
            raise DataError(
                f"Vocabulary: min_count is {min_count}, but no token occurs as often: {most!r} occurs {times} times; "
                "lower min_count, or give more text"
            )
        spare = UNKNOWN[level]
        nothing_left_out = len(kept) == len(counts) and (max_size is None or len(kept) <= max_size)
        if level == "char" and nothing_left_out:
            return cls(tuple(kept), level)
        kept = [token for token in kept if token != spare]
        return cls((spare, *kept[: None if max_size is None else max_size - 1]), level, unknown=0)

    def encode(self, text: Text) -> NDArray[Any]:
        """Return the ids of a text: shape (M,), in the smallest unsigned type that holds the vocabulary.

        Raises
        ------
        VocabularyError
            The text has tokens that the vocabulary lacks, and there is no unknown token to stand for them.
        OptionError
            It is no text.
        """
        return self.encode_text(text).ids

    def encode_text(self, text: Text) -> EncodedText:
        """Return the ids of a text, its length, and how many of its tokens the vocabulary lacks.

        A text in blocks gives the same as the blocks joined; only the ids are ever held whole.

        Raises
        ------
        VocabularyError
            As for `encode`.
        """
        lacking: dict[str, None] = {}
        blocks: list[NDArray[Any]] = []
        characters = unknown = 0
        stand_in = -1 if self.unknown is None else self.unknown

        def lookup(token: str) -> int:
            place = self._ids.get(token)
            if place is not None:
                return place
            if self.unknown is None:
                lacking[token] = None
            return stand_in

        dtype = smallest_ids(len(self))
        for ids, length in number(text, self.level, lookup):
            if lacking:
                raise VocabularyError(self._lacks(list(lacking)))
            if self.unknown is not None:
                unknown += int(np.count_nonzero(ids == self.unknown))
            blocks.append(ids.astype(dtype))
            characters += length
        return EncodedText(np.concatenate(blocks) if blocks else np.empty(0, dtype), characters, unknown)

    def _lacks(self, lacking: list[str]) -> str:
        named = ", ".join(repr(token) for token in sorted(lacking)[:20])
        more = f" and {len(lacking) - 20} more" if len(lacking) > 20 else ""
        kind = "character" if self.level == "char" else "word"
        return (
            f"the text has {len(lacking)} {kind}{'s' * (len(lacking) > 1)} that the vocabulary lacks: {named}{more}; "
            f"the model knows only the {len(self)} {kind}s of the text it was trained on: leave the others out"
        )

    def decode(self, ids: ArrayLike) -> str:
        """Return the text of ids.

        Parameters
        ----------
        ids : array of int, shape (M,)

        Raises
        ------
        DataError
            An id is not in the vocabulary, or masked.
        """
        places = as_numbers(ids, "decode: ids").reshape(-1)
        if not len(places):
            return ""
        if places.dtype.kind not in "iu":
            raise DataError(f"decode: ids have dtype {places.dtype}; expected integers")
        if places.min() < 0 or places.max() >= len(self):
            raise DataError(
                f"decode: ids are {places.min()} to {places.max()}; the vocabulary has 0 to {len(self) - 1}"
            )
        return "".join([self.tokens[place] for place in places.tolist()])

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them."""
        return {"tokens": list(self.tokens), "level": self.level, "unknown": self.unknown}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Vocabulary":
        """Return the vocabulary that `config` described."""
        return cls(tuple(config["tokens"]), config["level"], config["unknown"])


def check_level(level: str) -> None:
    """Raise OptionError unless `level` is one."""
    if not isinstance(level, str) or level not in ("char", "word"):
        raise OptionError(f"level is {level!r}; expected 'char' or 'word'")


def smallest_ids(size: int) -> np.dtype[Any]:
    """Return the smallest unsigned type that holds the ids of a vocabulary of `size` tokens."""
    return np.min_scalar_type(max(size - 1, 0))


def split_words(text: Text) -> Iterator[list[str]]:
    """Cut a text into word tokens, a list for each block; where the blocks are cut does not matter.

    Examples
    --------
    >>> [*split_words(["It was", "n't me,  she said."])]
    [['It'], [" wasn't", ' me', ',', ' ', ' she'], [' said', '.']]
    """
    held = ""
    for block in _blocks(text):
        held += block
        # A token is settled once enough of what follows it is known.
        settled, end = [], 0
        for match in _WORD.finditer(held):
            if match.end() > len(held) - _LOOK_AHEAD:
                break
            settled.append(match.group())
            end = match.end()
        held = held[end:]
        yield settled
    yield _WORD.findall(held)


def _blocks(text: Text) -> Iterable[str]:
    """Return a text in blocks, so that what is made of a block is never as large as a whole text."""
    if not isinstance(text, str):
        if not isinstance(text, Iterable):
            raise OptionError(f"the text is {type(text).__name__}; expected a str, or several of them")
        return map(_checked, text)
    return (text[start : start + BLOCK] for start in range(0, len(text), BLOCK))


def _checked(block: object) -> str:
    if not isinstance(block, str):
        raise OptionError(f"the text holds {type(block).__name__}; expected a str, or several of them (decode bytes)")
    return block


def number(text: Text, level: Level, lookup: Callable[[str], int]) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Yield, block by block, the number that `lookup` gives each token, and the block's length in characters.

    `lookup` is called once for each different character of a block, or once for each word.
    """
    if level == "word":
        for words in split_words(text):
            yield np.fromiter(map(lookup, words), np.int64, len(words)), sum(map(len, words))
        return
    for block in _blocks(text):
        points = np.frombuffer(block.encode("utf-32-le", "surrogatepass"), np.uint32)
        different, places = np.unique(points, return_inverse=True)
        numbers = np.array([lookup(chr(point)) for point in different.tolist()], np.int64)
        yield numbers[places.reshape(-1)], len(block)
