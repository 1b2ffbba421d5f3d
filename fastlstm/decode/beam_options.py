"""Options of beam search, checked once before the search starts."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastlstm.errors import OptionError

MAX_WIDTH = 1 << 20
MAX_LENGTH = 1 << 40
EarlyStopping = bool | Literal["never"]
Phrase = tuple[int, ...]


@dataclass(frozen=True)
class Constraints:
    """What the sequences of a beam search may, must and must not hold.

    They bind the generated ids only: the start id is no part of them. Forbidden ids are taken out of the choice and
    nothing is renormalised, so that ``logprob`` remains the model's own joint log-probability.

    Attributes
    ----------
    min_length : int
        Number of ids before the end id may come.
    no_repeat_ngram : int
        No n ids in a row occur twice; 0 switches it off.
    prefix : sequence of int, or one such sequence for each sequence of the batch
        Ids that the output must begin with.
    banned : sequence of id sequences
        Phrases that must not appear anywhere, an end id as a phrase's last id included.
    required : sequence of id sequences
        Phrases that must all appear, in any order; they may overlap. Searched by dynamic beam allocation [1]_.
    allowed : callable, optional
        ``allowed(sequence, ids) -> ids`` is given the number of the sequence and the tuple of ids so far, and returns
        the ids that may come next (end ids among them if it may end), or None for all. A :class:`Trie` is one.

    References
    ----------
    .. [1] Post and Vilar, 2018, "Fast Lexically Constrained Decoding with Dynamic Beam Allocation for Neural
       Machine Translation", https://arxiv.org/abs/1804.06609

    Examples
    --------
    >>> from fastlstm.decode.beam_options import Constraints
    >>> Constraints(min_length=3, no_repeat_ngram=2, banned=[[4, 4]]).min_length
    3
    """

    min_length: int = 0
    no_repeat_ngram: int = 0
    prefix: Sequence[int] | Sequence[Sequence[int]] = ()
    banned: Sequence[Sequence[int]] = ()
    required: Sequence[Sequence[int]] = ()
    allowed: Callable[[int, Phrase], ArrayLike | None] | None = None


@dataclass(frozen=True)
class BeamOptions:
    """The less common options of a beam search.

    Attributes
    ----------
    stop_ids : sequence of int
        Ids that end a hypothesis as the end id does, but stay in its ``ids`` (the full stop of a sentence).
    length_formula : {"gnmt", "power"}
        Length penalty ``((5 + length) / 6) ** alpha`` [1]_, or ``length ** alpha`` as in Hugging Face's ``generate``.
    coverage_penalty : float
        beta >= 0 of ``beta * sum_i log(min(sum_t attention[t, i], 1))`` [1]_, added to the score of a hypothesis when
        it ends; the step function must return attention as a third value. A source position that got no attention
        at all counts as 1e-9.
    groups : int
        Diverse beam search [2]_: ``beam_width`` is dealt to this many groups, which must divide it.
    diversity : float
        Taken off the score of an id for each beam of an earlier group that chose it at the same step.
    normalized : bool
        The step function returns log-probabilities: no log-softmax.
    state_axis : int
        Axis of the state's arrays that counts live beams.
    reorder : callable, optional
        ``reorder(state, parents) -> state``: picks rows ``parents`` (int64 array) of a state that is not made of
        tuples, lists and dicts of NumPy arrays.

    References
    ----------
    .. [1] Wu et al., 2016, "Google's Neural Machine Translation System", eq. 14, https://arxiv.org/abs/1609.08144
    .. [2] Vijayakumar et al., 2016, "Diverse Beam Search", https://arxiv.org/abs/1610.02424

    Examples
    --------
    >>> from fastlstm.decode.beam_options import BeamOptions
    >>> BeamOptions(groups=4, diversity=0.5).length_formula
    'gnmt'
    """

    stop_ids: Sequence[int] = ()
    length_formula: Literal["gnmt", "power"] = "gnmt"
    coverage_penalty: float = 0.0
    groups: int = 1
    diversity: float = 0.0
    normalized: bool = False
    state_axis: int = 0
    reorder: Callable[[Any, NDArray[np.int64]], Any] | None = None


@dataclass(frozen=True)
class Plan:
    """Checked options in the form the core reads; ``width`` is that of one group."""

    caller: str
    width: int
    groups: int
    n_best: int
    max_length: int
    min_length: int
    ends: tuple[int, ...]
    kept_ends: frozenset[int]
    length_penalty: float
    power_length: bool
    stopping: int
    coverage_penalty: float
    diversity: float
    ngram: int
    banned: tuple[Phrase, ...]
    required: tuple[Phrase, ...]
    prefixes: tuple[Phrase, ...]
    normalized: bool

    def check_ids(self, vocab: int) -> None:
        """Raise OptionError unless every id of the options is below ``vocab``."""
        named: list[tuple[str, Iterable[int]]] = [("end and stop ids", self.ends)]
        named += [("banned", phrase) for phrase in self.banned]
        named += [("required", phrase) for phrase in self.required]
        named += [("prefix", phrase) for phrase in self.prefixes]
        for name, ids in named:
            check_below(self.caller, name, ids, vocab)


def check_below(caller: str, name: str, ids: Iterable[int], vocab: int) -> None:
    """Raise OptionError unless every id is below ``vocab``."""
    for i in ids:
        if i >= vocab:
            raise OptionError(
                f"{caller}: {name} hold id {i}, but the step function returned logits of {vocab} ids; use ids from 0 "
                f"to {vocab - 1}"
            )


def integer(caller: str, name: str, value: object, low: int, high: int) -> int:
    """``value`` as an int within [low, high], or OptionError."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise OptionError(f"{caller}: {name}={value!r} is no integer; give one from {low} to {high}") from None
    if not low <= number <= high:
        raise OptionError(f"{caller}: {name}={number}; give an integer from {low} to {high}")
    return number


def real(caller: str, name: str, value: object, low: float = -np.inf) -> float:
    """``value`` as a finite float >= low, or OptionError."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise OptionError(f"{caller}: {name}={value!r} is no number") from None
    if not (np.isfinite(number) and number >= low):
        wanted = "a finite number" if low == -np.inf else f"a finite number >= {low:g}"
        raise OptionError(f"{caller}: {name}={number}; give {wanted}")
    return number


def id_tuple(caller: str, name: str, ids: object) -> Phrase:
    """``ids`` as a tuple of ints >= 0, or OptionError."""
    try:
        items: tuple[object, ...] = tuple(ids)  # type: ignore[arg-type]
    except TypeError:
        raise OptionError(f"{caller}: {name}={ids!r}; give a sequence of ids") from None
    return tuple(integer(caller, f"an id of {name}", i, 0, np.iinfo(np.int64).max) for i in items)


def phrase_tuple(caller: str, name: str, phrases: object) -> tuple[Phrase, ...]:
    """``phrases`` as distinct non-empty id tuples, or OptionError."""
    try:
        items: tuple[object, ...] = tuple(phrases)  # type: ignore[arg-type]
    except TypeError:
        raise OptionError(f"{caller}: {name}={phrases!r}; give a sequence of id sequences") from None
    checked = tuple(dict.fromkeys(id_tuple(caller, name, phrase) for phrase in items))
    if () in checked:
        raise OptionError(f"{caller}: {name} holds an empty phrase; every phrase needs at least one id")
    return checked


def end_ids(caller: str, eos_id: object, stop_ids: object) -> tuple[tuple[int, ...], frozenset[int]]:
    """All ids that end a hypothesis, ascending, and those of them that stay in its ids."""
    if eos_id is None:
        eos: Phrase = ()
    elif isinstance(eos_id, Sequence | np.ndarray) and np.ndim(eos_id) > 0:
        eos = id_tuple(caller, "eos_id", eos_id)
    else:
        eos = (integer(caller, "eos_id", eos_id, 0, np.iinfo(np.int64).max),)
    stops = id_tuple(caller, "stop_ids", stop_ids)
    return tuple(sorted({*eos, *stops})), frozenset(stops) - frozenset(eos)


def _prefixes(caller: str, prefix: Any, sequences: int, max_length: int) -> tuple[Phrase, ...]:
    """One forced prefix for each sequence."""
    try:
        items = list(prefix)
    except TypeError:
        raise OptionError(f"{caller}: prefix={prefix!r}; give a sequence of ids, or one for each sequence") from None
    if all(np.ndim(item) == 0 for item in items):
        checked = [id_tuple(caller, "prefix", items)] * sequences
    elif len(items) != sequences:
        raise OptionError(f"{caller}: {len(items)} prefixes for {sequences} sequences; give one for each")
    else:
        checked = [id_tuple(caller, "prefix", item) for item in items]
    longest = max(map(len, checked))
    if longest > max_length:
        raise OptionError(
            f"{caller}: a prefix of {longest} ids is longer than max_length={max_length}; raise max_length"
        )
    return tuple(checked)


def make_plan(
    caller: str,
    sequences: int,
    search: dict[str, Any],
    constraints: Constraints,
    options: BeamOptions,
) -> Plan:
    """Check every option; ``search`` holds the arguments of the call by name."""
    for name, value, kind in (("constraints", constraints, Constraints), ("options", options, BeamOptions)):
        if not isinstance(value, kind):
            raise OptionError(f"{caller}: {name} is a {type(value).__name__}; give a {kind.__name__}")
    beam_width = integer(caller, "beam_width", search["beam_width"], 1, MAX_WIDTH)
    max_length = integer(caller, "max_length", search["max_length"], 1, MAX_LENGTH)
    min_length = integer(caller, "min_length", constraints.min_length, 0, max_length)
    groups = integer(caller, "groups", options.groups, 1, beam_width)
    if beam_width % groups:
        raise OptionError(f"{caller}: {groups} groups do not divide beam_width={beam_width}; make it a multiple")
    early = search["early_stopping"]
    if not (isinstance(early, bool) or (isinstance(early, str) and early == "never")):
        raise OptionError(f'{caller}: early_stopping={early!r}; give False, True or "never"')
    if options.length_formula not in ("gnmt", "power"):
        raise OptionError(f'{caller}: length_formula={options.length_formula!r}; give "gnmt" or "power"')
    if options.reorder is not None and not callable(options.reorder):
        raise OptionError(f"{caller}: reorder={options.reorder!r} is not callable; give reorder(state, parents)")
    if constraints.allowed is not None and not callable(constraints.allowed):
        raise OptionError(f"{caller}: allowed={constraints.allowed!r} is not callable; give allowed(sequence, ids)")
    ends, kept = end_ids(caller, search["eos_id"], options.stop_ids)
    return Plan(
        caller=caller,
        width=beam_width // groups,
        groups=groups,
        n_best=integer(caller, "n_best", search["n_best"], 1, beam_width),
        max_length=max_length,
        min_length=min_length,
        ends=ends,
        kept_ends=kept,
        length_penalty=real(caller, "length_penalty", search["length_penalty"]),
        power_length=options.length_formula == "power",
        stopping=2 if early == "never" else int(early),
        coverage_penalty=real(caller, "coverage_penalty", options.coverage_penalty, 0.0),
        diversity=real(caller, "diversity", options.diversity, 0.0),
        ngram=integer(caller, "no_repeat_ngram", constraints.no_repeat_ngram, 0, MAX_LENGTH),
        banned=phrase_tuple(caller, "banned", constraints.banned),
        required=phrase_tuple(caller, "required", constraints.required),
        prefixes=_prefixes(caller, constraints.prefix, sequences, max_length),
        normalized=bool(options.normalized),
    )
