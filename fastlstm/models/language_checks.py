"""What callers pass to a language model, held to what it takes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.numbers import as_numbers
from ..errors import DataError, OptionError, ShapeError
from .language_network import NetworkState
from .language_options import LanguageModelOptions

__all__ = ["checked_ids", "checked_options", "checked_state", "expect"]


def expect(what: str, given: object, kind: type, hint: str) -> None:
    """Raise OptionError unless `given` is of this kind; it is not shown, as it may be a whole text."""
    if not isinstance(given, kind):
        raise OptionError(f"{what} is of type {type(given).__name__}; expected {kind.__name__}, {hint}")


def checked_options(options: LanguageModelOptions | None, changes: Mapping[str, Any]) -> LanguageModelOptions:
    """Return the options, or the defaults for None, with some changed by name."""
    if options is None:
        options = LanguageModelOptions()
    expect("options", options, LanguageModelOptions, "or options by name: hidden=512")
    return options.replaced(changes)


def checked_ids(tokens: ArrayLike) -> NDArray[np.int64]:
    """Return the ids that a step reads, (B,); raise DataError unless they are integers."""
    ids = as_numbers(tokens, "step: tokens").reshape(-1)
    if ids.dtype.kind not in "iu":
        raise DataError(f"step: tokens has dtype {ids.dtype}; expected integers, the ids of the vocabulary")
    return ids.astype(np.int64, copy=False)


def checked_state(state: NetworkState, count: int, options: LanguageModelOptions) -> NetworkState:
    """Return the state; raise ShapeError unless it is one of `count` sequences in a model with these options."""
    try:
        given = [(np.shape(part.h), np.shape(part.c)) for part in state]
    except (TypeError, AttributeError):
        given = None
    shape = count, options.hidden
    if given != [(shape, shape)] * options.layers:
        raise ShapeError(
            f"step: state is {type(state).__name__ if given is None else given}; expected h and c of shape {shape} "
            f"for each of {options.layers} layers: what start({count}), or step with as many tokens, returned"
        )
    return state
