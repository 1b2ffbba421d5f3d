"""Constraints of beam search that are followed in Python: allowed ids, tries, phrases that must appear."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastlstm.decode.beam_options import Phrase, Plan, id_tuple
from fastlstm.errors import DataError

if TYPE_CHECKING:
    from fastlstm.decode._beam import BeamCore

Candidate = tuple[float, int, int]  # score, slot of the parent, id


class Trie:
    """A set of phrases that the output must be one of: an ``allowed`` callback.

    Parameters
    ----------
    phrases : iterable of id sequences
        What may be generated, without the end id.
    eos_id : int
        Allowed where a phrase ends.

    Examples
    --------
    >>> from fastlstm.decode.constraints import Trie
    >>> trie = Trie([[3, 1], [3, 2, 2]], eos_id=0)
    >>> trie(0, ()), trie(0, (3,)), trie(0, (3, 1))
    ([3], [1, 2], [0])
    """

    def __init__(self, phrases: Iterable[Sequence[int]], eos_id: int) -> None:
        self._root: dict[int, Any] = {}
        for phrase in phrases:
            node = self._root
            for i in (*id_tuple("Trie", "phrases", phrase), int(eos_id)):
                node = node.setdefault(i, {})

    def __call__(self, sequence: int, ids: Phrase) -> list[int]:
        """Return the ids that may follow ``ids``; the same for every sequence."""
        node = self._root
        for i in ids:
            if i not in node:
                return []
            node = node[i]
        return sorted(node)


class AllowedIds:
    """The forced prefixes and the ``allowed`` callback, as the table that the core reads."""

    def __init__(self, plan: Plan, callback: Callable[[int, Phrase], ArrayLike | None] | None) -> None:
        self._plan = plan
        self._callback = callback
        self._longest = max(map(len, plan.prefixes))

    def table(
        self, core: BeamCore, length: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None:
        """``(from, to, ids)``: row r may choose among ``ids[from[r]:to[r]]``, any id where ``from[r] < 0``."""
        if self._callback is None and length >= self._longest:
            return None
        first, last = np.full(core.rows, -1, np.int64), np.full(core.rows, -1, np.int64)
        parts: list[NDArray[np.int64]] = []
        used = 0
        for row in range(core.rows):
            ids = self._row(core, row, length)
            if ids is not None:
                first[row], last[row] = used, used + len(ids)
                parts.append(ids)
                used += len(ids)
        return first, last, np.concatenate(parts) if parts else np.empty(0, np.int64)

    def _row(self, core: BeamCore, row: int, length: int) -> NDArray[np.int64] | None:
        sequence = core.sequence_of(row)
        prefix = self._plan.prefixes[sequence]
        if length < len(prefix):
            return np.array(prefix[length : length + 1], np.int64)
        if self._callback is None:
            return None
        answer = self._callback(sequence, core.ids_of(row))
        if answer is None:
            return None
        ids = np.unique(np.asarray(answer))
        if ids.size and (ids.dtype.kind not in "iu" or ids[0] < 0 or ids[-1] >= core.vocab):
            raise DataError(
                f"{self._plan.caller}: allowed({sequence}, ...) returned {answer!r}; return integer ids from 0 to "
                f"{core.vocab - 1}, or None for all"
            )
        return ids.astype(np.int64)


class RequiredPhrases:
    """Dynamic beam allocation (Post and Vilar, 2018): the beam is shared among degrees of completion.

    The progress of a beam is, for each phrase, how many of its ids the output's end has matched (the longest such
    suffix, by Knuth, Morris and Pratt's failure function); a whole match stays. Its *bank* is the sum. Candidates of
    a lane are its best ``width``, the best of each live beam, and every id that advances a phrase. The banks, fullest
    first, take turns to put their best candidate into the next beam until it is full. Only complete beams may end,
    and an end counts as one of the best if fewer than ``width`` complete candidates score higher.
    """

    def __init__(self, phrases: tuple[Phrase, ...], sequences: int) -> None:
        self._phrases = phrases
        self._fallback = [_failure(phrase) for phrase in phrases]
        self._whole = tuple(map(len, phrases))
        self._progress: list[tuple[int, ...]] = [(0,) * len(phrases)] * sequences

    def complete(self) -> NDArray[np.uint8]:
        """For each row, whether its beam holds every phrase."""
        return np.array([progress == self._whole for progress in self._progress], np.uint8)

    def advance(self, core: BeamCore) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Choose the next beams of every lane, and collect them."""
        for lane in range(core.lanes):
            rows = core.slots_of(lane)
            if rows:
                core.choose(lane, *self._choose(core, lane, [self._progress[row] for row in rows]))
            core.charge(lane)
        tokens, parents = core.collect()
        pairs = zip(tokens.tolist(), parents.tolist(), strict=True)
        self._progress = [self._after(self._progress[parent], token) for token, parent in pairs]
        return tokens, parents

    def _choose(
        self, core: BeamCore, lane: int, before: list[tuple[int, ...]]
    ) -> tuple[list[Candidate], list[Candidate]]:
        continuing, ending = core.candidates_of(lane)
        pool = {(slot, i): score for score, slot, i in continuing}
        for slot, progress in enumerate(before):
            best = core.best_of_slot(lane, slot)
            if best is not None:
                pool[slot, best[2]] = best[0]
            for phrase, matched in zip(self._phrases, progress, strict=True):
                if matched < len(phrase):
                    pool[slot, phrase[matched]] = core.score_of(lane, slot, phrase[matched])
        ranked = sorted(((score, slot, i) for (slot, i), score in pool.items() if score > -np.inf), key=_best_first)
        banks: dict[int, list[Candidate]] = {}
        for candidate in ranked:
            banks.setdefault(sum(self._after(before[candidate[1]], candidate[2])), []).append(candidate)
        whole = banks.get(sum(self._whole), [])
        contest = sorted(whole + ending, key=_best_first)[: core.width]
        return sorted(_take_turns(banks, core.width), key=_best_first), [c for c in contest if c in ending]

    def _after(self, progress: tuple[int, ...], i: int) -> tuple[int, ...]:
        """Progress after one more id."""
        after = []
        for phrase, fallback, matched in zip(self._phrases, self._fallback, progress, strict=True):
            if matched < len(phrase):
                while matched and phrase[matched] != i:
                    matched = fallback[matched]
                matched += phrase[matched] == i
            after.append(matched)
        return tuple(after)


def _best_first(candidate: Candidate) -> tuple[float, int, int]:
    return -candidate[0], candidate[1], candidate[2]


def _take_turns(banks: dict[int, list[Candidate]], room: int) -> list[Candidate]:
    """Take the best of each bank, fullest bank first, then the second best of each, until there are ``room``."""
    taken: list[Candidate] = []
    for turn in range(max(map(len, banks.values()), default=0)):
        for bank in sorted(banks, reverse=True):
            if turn < len(banks[bank]) and len(taken) < room:
                taken.append(banks[bank][turn])
    return taken


def _failure(phrase: Phrase) -> list[int]:
    """``failure[m]``: length of the longest proper prefix of ``phrase`` that ends ``phrase[:m]``."""
    failure = [0, 0]
    for m in range(1, len(phrase)):
        k = failure[m]
        while k and phrase[k] != phrase[m]:
            k = failure[k]
        failure.append(k + (phrase[k] == phrase[m]))
    return failure
