r"""Read n-gram models from ARPA files, plain or gzipped.

The format is that of Doug Paul (MIT Lincoln Laboratory), as SRILM and KenLM write it::

    \data\
    ngram 1=3

    \1-grams:
    -0.5 <s> -0.3
    -0.4 </s>
    -0.7 word -0.2

    \end\
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np

from fastlstm.decode import _ngram
from fastlstm.decode.ngram import UNSEEN, Automaton, NGramModel
from fastlstm.errors import DataError, ModelFileError

_GZIP_MAGIC = b"\x1f\x8b"


class _Lines:
    """The lines of a file, their number always known, blank ones skipped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        try:
            with path.open("rb") as probe:
                zipped = probe.read(2) == _GZIP_MAGIC
            self.stream = gzip.open(path, "rb") if zipped else path.open("rb")  # noqa: SIM115, read_arpa closes it
        except OSError as error:
            raise ModelFileError(f"{path}: cannot be opened ({error.strerror or error}); give an ARPA file") from error

    def __iter__(self) -> Iterator[bytes]:
        try:
            for line in self.stream:
                self.number += 1
                line = line.strip()
                if line:
                    yield line
        except (EOFError, OSError, zlib.error) as error:
            raise ModelFileError(
                f"{self.path}: damaged after line {self.number} ({error}); copy or make the file again"
            ) from error

    def fail(self, found: str, expected: str) -> NoReturn:
        raise DataError(f"{self.path}, line {self.number}: {found}; {expected}")


def _shown(line: bytes) -> str:
    text = line[:60].decode("utf-8", "replace")
    return repr(text + "..." if len(line) > 60 else text)


def _read_counts(lines: Iterator[bytes], at: _Lines) -> tuple[list[int], bytes]:
    r"""Read up to the first ``\1-grams:``; return the number of n-grams of each order and that line."""
    for line in lines:
        if line == b"\\data\\":
            break
    else:
        at.fail("the file ends without a \\data\\ line", "give an n-gram model in ARPA format")
    counts: list[int] = []
    for line in lines:
        if line.startswith(b"\\"):
            if not counts:
                at.fail(f"{_shown(line)} before any count", "expected a line such as 'ngram 1=20000'")
            return counts, line
        name, _, count = line.partition(b"=")
        if name.split() != [b"ngram", str(len(counts) + 1).encode()] or not count.strip().isdigit():
            at.fail(f"found {_shown(line)}", f"expected the count of {len(counts) + 1}-grams as 'ngram N=COUNT'")
        counts.append(int(count))
    at.fail("the file ends among its counts", "it was cut off: copy or make it again")


def _number(field: bytes, what: str, at: _Lines) -> float:
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not abs(value) < 1e30 or b"_" in field:
        at.fail(f"{_shown(field)} is no {what}", "expected a finite decimal number")
    return value


class _Section:
    """The n-grams of one order as they are read: flat arrays, and the line of each for error messages."""

    def __init__(self, order: int) -> None:
        self.order = order
        self.ids = array("i")
        self.weight = array("f")
        self.backoff = array("f")
        self.line = array("q")

    def read(self, lines: Iterator[bytes], at: _Lines, count: int, vocabulary: dict[bytes, int]) -> bytes:
        """Read ``count`` n-grams; return the line that ends the section."""
        order = self.order
        for line in lines:
            if line.startswith(b"\\") and (line == b"\\end\\" or line.endswith(b"-grams:")):
                if len(self.weight) != count:
                    at.fail(f"the section has {len(self.weight)} {order}-grams", f"the header announced {count}")
                return line
            fields = line.split()
            if not order + 1 <= len(fields) <= order + 2:
                at.fail(f"found {_shown(line)}", f"expected log10 probability, {order} words and perhaps a back-off")
            weight = _number(fields[0], "log10 probability", at)
            if weight > 0.0:
                at.fail(f"the log10 probability is {weight}", "expected at most 0")
            if order == 1:
                if fields[1] in vocabulary:
                    at.fail(f"the unigram {_shown(fields[1])} stands here again", "expected each word once")
                vocabulary[fields[1]] = len(vocabulary)
            try:
                self.ids.extend([vocabulary[word] for word in fields[1 : order + 1]])
            except KeyError as missing:
                at.fail(f"{_shown(missing.args[0])} is no unigram", "expected words of the \\1-grams: section only")
            self.weight.append(weight)
            self.backoff.append(_number(fields[-1], "back-off weight", at) if len(fields) == order + 2 else 0.0)
            self.line.append(at.number)
        at.fail(f"the file ends among its {order}-grams", "it was cut off: copy or make it again")


def read_arpa(path: str | os.PathLike[str]) -> NGramModel:
    r"""Read an n-gram model from an ARPA file.

    Parameters
    ----------
    path : path
        Plain or gzipped, recognised by content; UTF-8.

    Returns
    -------
    NGramModel

    Raises
    ------
    DataError
        If the text is not a whole, consistent ARPA file; the message names the line.
    ModelFileError
        If the file cannot be opened, or its compressed data are damaged.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "tiny.arpa")
    >>> text = "\\data\\\nngram 1=3\n\n\\1-grams:\n-1 <s>\n-0.5 </s>\n-0.25 hi\n\n\\end\\\n"
    >>> _ = path.write_text(text)
    >>> read_arpa(path).score("hi hi")
    -1.0
    """
    at = _Lines(Path(path))
    with at.stream:
        lines = iter(at)
        counts, line = _read_counts(lines, at)
        vocabulary: dict[bytes, int] = {}
        sections = []
        for order, count in enumerate(counts, start=1):
            if line != f"\\{order}-grams:".encode():
                at.fail(f"found {_shown(line)}", f"expected \\{order}-grams:")
            section = _Section(order)
            line = section.read(lines, at, count, vocabulary)
            sections.append(section)
        if line != b"\\end\\":
            at.fail(f"found {_shown(line)}", "expected \\end\\ after the announced sections")
    if not vocabulary:
        at.fail("the model has no unigrams", "give a model of at least one word")
    words = {_decode(word, at, sections[0].line[number]): number for word, number in vocabulary.items()}
    return NGramModel(order=len(counts), ids=words, automaton=_build(sections, at))


def _decode(word: bytes, at: _Lines, line: int) -> str:
    try:
        return word.decode("utf-8")
    except UnicodeDecodeError:
        at.number = line
        at.fail(f"the word {word!r} is not UTF-8", "convert the file to UTF-8")


def _build(sections: list[_Section], at: _Lines) -> Automaton:
    builder = _ngram.NGramBuilder(len(sections))
    for section in sections:
        ids = np.asarray(section.ids, dtype=np.int32).reshape(-1, section.order)
        weight = np.asarray(section.weight, dtype=np.float32)
        backoff = np.asarray(section.backoff, dtype=np.float32)
        twice = builder.add(ids, weight, backoff, UNSEEN)
        if twice >= 0:
            at.number = section.line[twice]
            at.fail(f"this {section.order}-gram stands in the file twice", "expected each n-gram once")
    slots, backoff, suffix = builder.finish()
    return Automaton(slots=slots, backoff=backoff, suffix=suffix, miss=UNSEEN)
