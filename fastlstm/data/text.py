"""Texts: reading them block by block in any encoding, and making a corpus of them in one pass.

A corpus holds ids in the smallest type, one byte a character for most languages; the text itself is never held whole.
"""

import codecs
import io
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, OptionError
from .vocabulary import EncodedText, Level, Text, Vocabulary, number, smallest_ids

__all__ = ["Corpus", "Readable", "TextSource", "default_text", "read_blocks"]


@runtime_checkable
class Readable(Protocol):
    """A file that was opened for reading bytes."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; none at the end."""


TextSource: TypeAlias = str | os.PathLike[str] | Readable | Iterable[str | os.PathLike[str] | Readable]
"""A text, the path of a text file, an open binary file, or several paths and files."""

_BLOCK_BYTES = 1 << 16
_LONGEST_PATH = 1024


def default_text() -> str:
    """Return the language reference that every CPython has in `pydoc_data.topics`: about 465,000 characters.

    The topics come in the order of their names; what they say differs a little from one Python version to the next.
    """
    from pydoc_data.topics import topics  # type: ignore[import-not-found, unused-ignore]

    return "\n\n".join(topics[name] for name in sorted(topics))


def read_blocks(source: TextSource, encoding: str = "utf-8") -> Iterator[str]:
    r"""Yield a text block by block.

    Parameters
    ----------
    source : str, path, binary file, or an iterable of paths and binary files
        A str that is the path of a file is read; any other is the text itself. In an iterable each str is a path.
        Several files are read as one text, one after the other, as they are.
    encoding : str
        Of the files: any text encoding that Python knows. A byte order mark at the start is no part of the text.
        ``\r\n`` and ``\r`` become ``\n``.

    Raises
    ------
    DataError
        The bytes of a file are not in this encoding; the message names the file and the place.
    OptionError
        Python knows no such text encoding; or `source` is none of these: bytes, None, a file opened as text.
    OSError
        A file cannot be opened or read.
    """
    if isinstance(source, str) and not _is_file(source):
        yield source
        return
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            yield from _decoded(file, encoding, os.fspath(source))
    elif isinstance(source, Readable):
        yield from _decoded(source, encoding, str(getattr(source, "name", "input")))
    elif isinstance(source, bytes | bytearray | memoryview):
        raise OptionError(f"the text is {type(source).__name__}; expected a str: decode it, as .decode('utf-8') does")
    elif not isinstance(source, Iterable):
        raise OptionError(
            f"the text is {type(source).__name__}; expected a str, a path, an open binary file, or several of these two"
        )
    else:
        for item in source:
            yield from read_blocks(Path(item) if isinstance(item, str) else item, encoding)


def _is_file(text: str) -> bool:
    return len(text) <= _LONGEST_PATH and "\n" not in text and "\0" not in text and os.path.isfile(text)


def _decoded(file: Readable, encoding: str, name: str) -> Iterator[str]:
    decoder = io.IncrementalNewlineDecoder(_decoder(encoding), translate=True)
    read = 0
    while True:
        chunk = file.read(_BLOCK_BYTES)
        if not isinstance(chunk, bytes):
            raise OptionError(f"{name} gives {type(chunk).__name__}; expected bytes: open it with mode 'rb'")
        try:
            block = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            # What the decoder was given ends where the file was read to; it may start in an earlier chunk.
            place = read + len(chunk) - len(error.object) + error.start
            raise DataError(
                f"{name} is not {encoding}: byte 0x{error.object[error.start]:02x} at {place} ({error.reason}); "
                "name the encoding that the file has, such as latin-1, cp1252 or utf-16"
            ) from None
        except UnicodeError as error:  # without a place: a byte order mark that is missing
            raise DataError(f"{name} is not {encoding}: {error}; name the encoding that the file has") from None
        if block:
            yield block
        if not chunk:
            return
        read += len(chunk)


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    try:
        "".encode(encoding)  # a LookupError too where the codec is not one of text
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError, TypeError):
        raise OptionError(f"encoding is {encoding!r}; expected a text encoding that Python knows") from None
    return codecs.getincrementaldecoder("utf-8-sig" if name == "utf-8" else name)()


@dataclass(frozen=True, slots=True)
class Corpus:
    """A text as ids, its end held out, and the vocabulary that was made for it.

    Attributes
    ----------
    vocabulary : Vocabulary
        Every character of the whole text; or, where it has an unknown token, the tokens of the training part alone.
    train, held_out : EncodedText
        The text up to the cut, and from there on.
    """

    vocabulary: Vocabulary
    train: EncodedText
    held_out: EncodedText

    @classmethod
    def of(
        cls,
        text: Text,
        level: Level = "char",
        *,
        held_out: float = 0.1,
        min_count: int = 1,
        max_size: int | None = None,
    ) -> "Corpus":
        """Read a text once, make its vocabulary and encode it.

        Parameters
        ----------
        text : str or iterable of str
            The text, whole or in blocks; where the blocks are cut does not matter.
        level : {"char", "word"}
            What a token is.
        held_out : float
            Share of the tokens, at the end of the text, that is held out: 0 or more, less than 1.
        min_count, max_size
            As for `Vocabulary.of_counts`.

        Raises
        ------
        DataError
            The text is empty.
        OptionError
            It is no text; or an option has a value that cannot be.

        Examples
        --------
        >>> corpus = Corpus.of(["to be or not ", "to be"], held_out=0.28)
        >>> corpus.vocabulary.decode(corpus.train.ids), corpus.vocabulary.decode(corpus.held_out.ids)
        ('to be or not ', 'to be')
        """
        if isinstance(held_out, bool) or not isinstance(held_out, float | int | np.number) or not 0 <= held_out < 1:
            raise OptionError(f"held_out is {held_out!r}; expected 0 or more, less than 1")
        first_seen: defaultdict[str, int] = defaultdict()
        first_seen.default_factory = first_seen.__len__  # each new token gets the next number
        blocks = [ids.astype(smallest_ids(len(first_seen))) for ids, _ in number(text, level, first_seen.__getitem__)]
        total = sum(map(len, blocks))
        if not total:
            raise DataError("the text is empty; expected at least one character")
        cut = total - round(held_out * total)
        parts = _cut(blocks, cut)
        tokens = list(first_seen)
        counts = [_count(part, len(tokens)) for part in parts]

        whole = dict(zip(tokens, (counts[0] + counts[1]).tolist(), strict=True))
        vocabulary = Vocabulary.of_counts(whole, level, min_count=min_count, max_size=max_size)
        if vocabulary.unknown is not None:  # nothing is known of the held-out part
            seen = {token: int(count) for token, count in zip(tokens, counts[0], strict=True) if count}
            vocabulary = Vocabulary.of_counts(seen, level, min_count=min_count, max_size=max_size)
        places = {token: place for place, token in enumerate(vocabulary.tokens)}
        renumber = np.array([places.get(token, vocabulary.unknown or 0) for token in tokens], smallest_ids(len(places)))
        lengths = np.array([len(token) for token in tokens])
        encoded = []
        for part, count in zip(parts, counts, strict=True):
            ids = np.concatenate([renumber[block] for block in part]) if part else renumber[:0]
            unknown = 0 if vocabulary.unknown is None else int(count[renumber == vocabulary.unknown].sum())
            encoded.append(EncodedText(ids, int(count @ lengths), unknown))
        return cls(vocabulary, *encoded)


def _cut(blocks: list[NDArray[Any]], cut: int) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Return the blocks up to the token `cut`, and those from there on."""
    before: list[NDArray[Any]] = []
    after: list[NDArray[Any]] = []
    start = 0
    for block in blocks:
        inside = min(max(cut - start, 0), len(block))
        if inside:
            before.append(block[:inside])
        if inside < len(block):
            after.append(block[inside:])
        start += len(block)
    return before, after


def _count(blocks: list[NDArray[Any]], size: int) -> NDArray[np.int64]:
    """Return how often each of `size` numbers occurs."""
    total = np.zeros(size, np.int64)
    for block in blocks:
        total += np.bincount(block, minlength=size)
    return total
