"""What a language model is made of and how it is trained: one frozen value, checked when it is made."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from ..data.vocabulary import Level, check_level
from ..errors import OptionError

__all__ = ["LanguageModelOptions", "Schedule"]

Schedule: TypeAlias = Literal["constant", "linear", "cosine"]
"""How the learning rate falls over a training: not at all, or to nothing at its end."""

_SCHEDULES = ("constant", "linear", "cosine")
_OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd")
_MAY_BE_NONE = ("min_count", "max_vocabulary", "clip", "epochs", "seconds", "patience")


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageModelOptions:
    """Options of `LanguageModel`, in the groups text, model, training.

    Attributes
    ----------
    level : {"char", "word"}
        What a token is.
    min_count : int
        Tokens that the text has less often become the unknown token. None: 1 for characters, 2 for words.
    max_vocabulary : int
        The most tokens to keep; None: all.
    held_out : float
        Share of the text, at its end, that is never trained on and that the result is measured on.
    embedding : int
        E, features of a token's vector.
    hidden : int
        H, units of each LSTM layer.
    layers : int
        LSTM layers, one on the other.
    dropout : float
        Share of the values dropped after the embedding, between the layers and before the output (Zaremba, Sutskever
        and Vinyals, 2014).
    tied : bool
        Whether the output layer uses the embedding's weights (Press and Wolf, 2017); needs E = H.
    window : int
        T, steps that gradients flow back through.
    streams : int
        N, pieces of the text that are read side by side; fewer where the text is too short for as many.
    optimizer : {"adam", "adamw", "rmsprop", "sgd"}
        What takes the steps.
    learning_rate : float
        The largest.
    schedule : {"constant", "linear", "cosine"}
        How it falls.
    warmup : float
        Share of the training in which the learning rate rises from 0.
    clip : float
        Largest global norm of a step's gradients; None: any.
    epochs : int
        The most passes over the text. None: 10, or as many as `seconds` allows where that is given.
    seconds : float
        Time for training, from the end of the first step on (which may have to compile the kernels); None: no limit.
    patience : int
        Stop when that many epochs in a row have not lowered the held-out loss, and keep the best epoch's weights;
        None: never.
    seed : int
        Of the initial weights and of dropout. The same seed and options give the same weights bit for bit, unless
        `seconds` decided the end.

    Raises
    ------
    OptionError
        A value that no model or training can have.

    Examples
    --------
    >>> LanguageModelOptions(hidden=128).most_epochs
    10
    >>> LanguageModelOptions(hidden=128).replaced({"level": "word"}).least_count
    2
    """

    level: Level = "char"
    min_count: int | None = None
    max_vocabulary: int | None = None
    held_out: float = 0.1

    embedding: int = 64
    hidden: int = 256
    layers: int = 1
    dropout: float = 0.0
    tied: bool = False

    window: int = 64
    streams: int = 32
    optimizer: str = "adam"
    learning_rate: float = 0.005
    schedule: Schedule = "cosine"
    warmup: float = 0.0
    clip: float | None = 1.0
    epochs: int | None = None
    seconds: float | None = None
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_level(self.level)
        for name in ("min_count", "embedding", "hidden", "layers", "window", "streams", "epochs", "patience"):
            self._check(name, int, 1, None, "a whole number, at least 1")
        self._check("max_vocabulary", int, 2, None, "a whole number, at least 2")
        self._check("seed", int, 0, None, "a whole number, 0 or more")
        for name in ("held_out", "dropout", "warmup"):
            self._check(name, (int, float), 0, 1, "0 or more, less than 1")
        for name in ("learning_rate", "clip", "seconds"):
            self._check(name, (int, float), math.ulp(0), math.inf, "more than 0")
        for name, choices in (("schedule", _SCHEDULES), ("optimizer", _OPTIMIZERS)):
            if not isinstance(getattr(self, name), str) or getattr(self, name) not in choices:
                self._complain(name, f"one of {', '.join(choices)}")
        if self.tied not in (False, True):
            self._complain("tied", "True or False")
        object.__setattr__(self, "tied", bool(self.tied))
        if self.tied and self.embedding != self.hidden:
            raise OptionError(
                f"LanguageModel: tied=True needs embedding = hidden, given {self.embedding} and {self.hidden}; "
                "make them equal, or do not tie"
            )
        if self.patience is not None and self.held_out == 0:
            raise OptionError("LanguageModel: patience needs a held-out part to watch; held_out is 0")

    def _check(self, name: str, kind: Any, least: float, below: float | None, expected: str) -> None:
        value = getattr(self, name)
        if isinstance(value, np.generic):
            value = value.item()  # a number of Python's: JSON knows no others
            object.__setattr__(self, name, value)
        if value is None and name in _MAY_BE_NONE:
            return
        right = isinstance(value, kind) and not isinstance(value, bool)
        if not (right and least <= value and (below is None or value < below)):
            self._complain(name, expected)

    def _complain(self, name: str, expected: str) -> None:
        raise OptionError(f"LanguageModel: {name} is {getattr(self, name)!r}; expected {expected}")

    @property
    def least_count(self) -> int:
        """Return `min_count`, or its default for the level."""
        return self.min_count or (1 if self.level == "char" else 2)

    @property
    def most_epochs(self) -> int | None:
        """Return `epochs`, or its default; None where only the seconds decide."""
        return 10 if self.epochs is None and self.seconds is None else self.epochs

    def replaced(self, changes: Mapping[str, Any]) -> "LanguageModelOptions":
        """Return these options with some changed.

        Raises
        ------
        OptionError
            There is no such option, or not with such a value.
        """
        known = [field.name for field in fields(self)]
        if unknown := sorted(changes.keys() - set(known)):
            raise OptionError(f"LanguageModel: no option {', '.join(unknown)}; there are {', '.join(known)}")
        return replace(self, **changes)

    def config(self) -> dict[str, Any]:
        """Return the options as JSON can hold them."""
        return asdict(self)
