"""Options of sampling: checked once, immutable, shared by every call."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from fastlstm.decode._sampling import Plan
from fastlstm.errors import OptionError

__all__ = ["SamplingOptions"]


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How the next id is chosen. The default draws from the model's own distribution.

    The options act in the order in which they stand here, whatever the order they are given in. First, on the
    logits, what rules single ids (and must not depend on the temperature); then the temperature; then the filters
    that cut the tail of the distribution, each on what the one before it left, as if its probabilities summed to one
    again. It is the order of Hugging Face's ``generate``, so that settings carry over.

    Parameters
    ----------
    logit_bias : mapping of id to float, default none
        Added to the logits of these ids; ``-inf`` bans.
    repetition_penalty : float > 0, default 1
        For ids in the history: a positive logit is divided by it, a negative one multiplied (Keskar et al., 2019).
    frequency_penalty : float, default 0
        Subtracted from the logit once for every time the id is in the history.
    presence_penalty : float, default 0
        Subtracted from the logit if the id is in the history at all.
    no_repeat_ngram : int >= 0, default 0 (off)
        Bans ids that would complete a run of this many ids which the history already has (Paulus et al., 2017).
    banned_ids : sequence of int, default none
        Never chosen.
    end_ids : int or sequence of int, default none
        The ids that end a sequence; `min_length` and `max_length` need them.
    min_length : int >= 0, default 0
        The end ids are banned while the history is shorter than this.
    max_length : int >= 1, default None (no limit)
        An end id is forced where the chosen id would be the `max_length`-th or a later one.
    forced_ids : int or sequence of int, default none
        The id to choose, whatever the logits: one for all rows, or one for each, negative for "not forced".
    temperature : float >= 0, default 1
        The logits are divided by it; 0 takes the largest logit and skips the filters.
    top_k : int >= 0, default 0 (off)
        Keeps the k largest, and all that equal the k-th (Fan et al., 2018).
    top_p : float in [0, 1], default 1 (off)
        Keeps the fewest ids, most probable first, that hold this share of the probability (nucleus sampling,
        Holtzman et al., 2020). Of equals at the cut the higher ids stay. 0 keeps one.
    min_p : float in [0, 1], default 0 (off)
        Keeps ids at least this times as probable as the most probable one (Nguyen et al., 2024).
    typical_p : float in (0, 1], default 1 (off)
        Keeps the fewest ids that hold this share, those first whose surprise is nearest to the entropy (locally
        typical sampling, Meister et al., 2023).
    epsilon_cutoff : float in [0, 1), default 0 (off)
        Keeps ids of at least this probability, or else the most probable (Hewitt et al., 2022).
    eta_cutoff : float in [0, 1), default 0 (off)
        The same with the bound ``min(eta, sqrt(eta) * exp(-entropy))`` (Hewitt et al., 2022).

    Raises
    ------
    OptionError
        A value is outside its range or of the wrong type; the message names it.

    Examples
    --------
    >>> from fastlstm.decode import SamplingOptions
    >>> options = SamplingOptions(temperature=0.8, top_p=0.9, banned_ids=[0])
    >>> options.banned_ids
    (0,)
    """

    logit_bias: Mapping[int, float] | tuple[tuple[int, float], ...] = ()
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    no_repeat_ngram: int = 0
    banned_ids: Iterable[int] = ()
    end_ids: int | Iterable[int] = ()
    min_length: int = 0
    max_length: int | None = None
    forced_ids: int | Iterable[int] = ()
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            "logit_bias": _biases(self.logit_bias),
            "repetition_penalty": _number("repetition_penalty", self.repetition_penalty, "above 0", above=0),
            "frequency_penalty": _number("frequency_penalty", self.frequency_penalty, "finite"),
            "presence_penalty": _number("presence_penalty", self.presence_penalty, "finite"),
            "no_repeat_ngram": _count("no_repeat_ngram", self.no_repeat_ngram),
            "banned_ids": _ids("banned_ids", self.banned_ids),
            "end_ids": _ids("end_ids", self.end_ids),
            "min_length": _count("min_length", self.min_length),
            "max_length": None if self.max_length is None else _count("max_length", self.max_length, least=1),
            "forced_ids": _ids("forced_ids", self.forced_ids, negative=True),
            "temperature": _number("temperature", self.temperature, "0 or above", least=0),
            "top_k": _count("top_k", self.top_k),
            "top_p": _number("top_p", self.top_p, "between 0 and 1", least=0, most=1),
            "min_p": _number("min_p", self.min_p, "between 0 and 1", least=0, most=1),
            "typical_p": _number("typical_p", self.typical_p, "above 0 and at most 1", above=0, most=1),
            "epsilon_cutoff": _number("epsilon_cutoff", self.epsilon_cutoff, "0 or above, below 1", least=0, below=1),
            "eta_cutoff": _number("eta_cutoff", self.eta_cutoff, "0 or above, below 1", least=0, below=1),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        for name in ("min_length", "max_length"):
            if checked[name] and not checked["end_ids"]:
                raise OptionError(f"{name}={checked[name]} needs to know what ends a sequence; give end_ids as well")

    @cached_property
    def plan(self) -> Plan:
        """The options in the form that the compiled core reads."""
        return Plan(**self._values())

    def replaced(self, changes: Mapping[str, Any]) -> SamplingOptions:
        """Return options with some fields changed, checked again.

        Raises
        ------
        OptionError
            A name is no option, or a value is out of range.
        """
        values = self._values()
        for name in changes:
            if name not in values:
                near = get_close_matches(name, values, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(values))}"
                raise OptionError(f"there is no sampling option {name!r}; {hint}")
        return SamplingOptions(**(values | dict(changes)))

    def _values(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (self._values(),)


def _remake(values: dict[str, Any]) -> SamplingOptions:
    return SamplingOptions(**values)


def _number(
    name: str,
    value: Any,
    expected: str,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise OptionError(f"{name} must be a number {expected}, got {value!r}") from None
    if not (math.isfinite(number) and above < number < below and least <= number <= most):
        raise OptionError(f"{name} must be {expected}, got {value!r}")
    return number


def _count(name: str, value: Any, least: int = 0) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        raise OptionError(f"{name} must be a whole number, {least} or above, got {value!r}") from None
    if not least <= count < 2**62:
        raise OptionError(f"{name} must be {least} or above (and below 2**62), got {value!r}")
    return count


def _ids(name: str, value: Any, *, negative: bool = False) -> tuple[int, ...]:
    try:
        ids = tuple(operator.index(id) for id in (value if isinstance(value, Iterable) else (value,)))
    except TypeError:
        raise OptionError(f"{name} must be an id or a sequence of ids, whole numbers, got {value!r}") from None
    wrong = next((id for id in ids if not (id >= 0 or negative) or abs(id) >= 2**31), None)
    if wrong is not None:
        raise OptionError(f"{name} holds {wrong}, which cannot be an id; ids are 0 to 2**31 - 1")
    return ids


def _biases(value: Any) -> tuple[tuple[int, float], ...]:
    try:
        pairs = [(operator.index(id), float(bias)) for id, bias in (dict(value).items())]
    except (TypeError, ValueError):
        raise OptionError(f"logit_bias must map ids to numbers, got {value!r}") from None
    for id, bias in pairs:
        _ids("logit_bias", id)
        if math.isnan(bias) or bias == math.inf:
            raise OptionError(f"logit_bias of id {id} must be finite or -inf, got {bias}; use forced_ids to force it")
    return tuple(pairs)
