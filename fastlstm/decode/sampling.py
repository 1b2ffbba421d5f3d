"""Choosing the next id from a row of logits: greedy, or drawn from a distribution that options shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastlstm.decode import _sampling
from fastlstm.decode.masks import refuse_masked
from fastlstm.decode.sampling_options import SamplingOptions
from fastlstm.errors import DataError, OptionError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Unpack

__all__ = ["Sampled", "greedy", "log_probabilities", "sample", "sample_scored"]

SHORTCUTS = ("temperature", "top_k", "top_p", "min_p")  # what `sample` names in its signature
History = ArrayLike | Sequence[ArrayLike]


class OptionFields(TypedDict, total=False):
    """The fields of `SamplingOptions` that `sample` also takes by keyword."""

    logit_bias: Mapping[int, float]
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    no_repeat_ngram: int
    banned_ids: Iterable[int]
    end_ids: int | Iterable[int]
    min_length: int
    max_length: int | None
    forced_ids: int | Iterable[int]
    typical_p: float
    epsilon_cutoff: float
    eta_cutoff: float


class Sampled(NamedTuple):
    """What `sample_scored` returns; for 1-D logits the first axis is missing.

    Attributes
    ----------
    ids : ndarray, shape (N,), int64
        The chosen ids.
    log_probs : ndarray, shape (N,), float64
        Their log-probabilities in nats.
    top_ids, top_log_probs : ndarray, shape (N, min(top, V)), int64 and float64
        The most probable ids, best first, among equals the lower id first, and their log-probabilities.
    """

    ids: Any
    log_probs: Any
    top_ids: NDArray[np.int64]
    top_log_probs: NDArray[np.float64]


def greedy(logits: ArrayLike) -> Any:
    """Take the id of the largest logit of each row, the lowest among equals.

    Parameters
    ----------
    logits : array_like, shape (N, V) or (V,)
        float32 and float64 are read in place; other real types are converted.

    Returns
    -------
    ndarray, shape (N,), int64, or int for 1-D logits

    Raises
    ------
    DataError
        A row holds NaN or is -inf everywhere; the message names the row.
    ShapeError
        Not one or two axes, or no columns.

    Examples
    --------
    >>> from fastlstm.decode import greedy
    >>> greedy([[0.1, 2.0, 0.3], [5.0, 1.0, 5.0]])
    array([1, 0])
    """
    return _sampling.greedy(logits)


def sample(
    logits: ArrayLike,
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    rng: np.random.Generator | int | None = None,
    history: History | None = None,
    options: SamplingOptions | None = None,
    **more: Unpack[OptionFields],
) -> Any:
    """Draw one id for each row of logits.

    The options act in one fixed order: logit bias; repetition, frequency and presence penalty; no-repeat-ngram;
    banned ids; minimum length; maximum length; forced ids; temperature; top-k; top-p; min-p; typical; epsilon; eta.
    What rules single ids comes before the temperature, so that a penalty means the same at every temperature; the
    filters come after it because they cut the distribution that is drawn from, the cheapest and coarsest first. It
    is the order of Hugging Face's ``generate``. `SamplingOptions` describes each.

    Then one uniform number u in [0, 1) picks the first id, in the order of ids, at which the cumulative probability
    exceeds u (times the rounded total).

    Parameters
    ----------
    logits : array_like, shape (N, V) or (V,)
        Unnormalised log-probabilities; -inf means impossible. float32 and float64 are read in place and computed in
        their own precision; other real types are converted.
    temperature, top_k, top_p, min_p : float, int, float, float, optional
        See `SamplingOptions`. ``temperature=0`` takes the largest logit, as `greedy`.
    rng : numpy.random.Generator, int or None
        The source of chance, or a seed for a new one; None: a new one seeded by the system. **Each call takes exactly
        one uniform double for each row, in the order of rows**, whatever the options and V (temperature 0 included):
        a row gets the same id alone and in a batch.
    history : array_like of int, shape (N, L) or (L,) for 1-D logits, or one 1-D sequence for each row
        The ids so far, prompt included. The penalties, `no_repeat_ngram` and the lengths need it.
    options : SamplingOptions
        Options made earlier, which saves checking them at each call. Any given by keyword replace its own.
    **more
        The other fields of `SamplingOptions`.

    Returns
    -------
    ndarray, shape (N,), int64, or int for 1-D logits

    Raises
    ------
    OptionError
        A value is out of range, unknown, or names an id that the logits do not have.
    ShapeError
        The logits have not one or two axes or no columns, or the history does not fit them.
    DataError
        A row holds NaN or +inf, or no id is left in it; the message names the row. The generator has moved on then.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm.decode import sample
    >>> logits = np.log([[0.5, 0.3, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7]])
    >>> sample(logits, temperature=0.8, top_k=2, rng=np.random.default_rng(7))
    array([0, 3])
    >>> sample(logits[0], repetition_penalty=1.3, banned_ids=[0], history=[1, 1], rng=3)
    1
    """
    plan = _plan(temperature, top_k, top_p, min_p, options, more)
    bits = rng.bit_generator if type(rng) is np.random.Generator else _bit_generator(rng)
    if history is None and not plan.needs_history:
        return _sampling.draw(logits, plan, bits)
    rows = _sampling.rows(logits)
    return _sampling.draw(rows, plan, bits, *_flat_history(history, rows))


def sample_scored(
    logits: ArrayLike,
    *,
    top: int = 0,
    filtered: bool = False,
    rng: np.random.Generator | int | None = None,
    history: History | None = None,
    options: SamplingOptions | None = None,
    **fields: Any,
) -> Sampled:
    """Draw as `sample` does, and tell the log-probabilities of the chosen and of the most probable ids.

    Parameters
    ----------
    logits, rng, history, options, **fields
        As for `sample`.
    top : int, default 0
        How many of the most probable ids to return for each row, at most V.
    filtered : bool, default False
        False: log-probabilities of the model, ``log_softmax(logits)``, before any option. True: of the distribution
        that was drawn from, -inf for the ids that the options took out.

    Returns
    -------
    Sampled
        ``(ids, log_probs, top_ids, top_log_probs)``

    Raises
    ------
    OptionError, ShapeError, DataError
        As `sample`; and for a negative `top`.

    Examples
    --------
    >>> import numpy as np
    >>> drawn = sample_scored(np.log([[0.2, 0.8]]), top=2, rng=1)
    >>> drawn.ids, np.exp(drawn.log_probs), drawn.top_ids
    (array([1]), array([0.8]), array([[1, 0]]))
    """
    if not isinstance(top, (int, np.integer)) or top < 0:
        raise OptionError(f"top must be a whole number, 0 or above, got {top!r}")
    ids = sample(logits, rng=rng, history=history, options=options, **fields)
    if filtered:
        logits = log_probabilities(logits, history=history, options=options, **fields)
    log_probs, top_ids, top_log_probs = _sampling.score(logits, np.atleast_1d(np.asarray(ids)), int(top))
    if isinstance(ids, int):
        return Sampled(ids, float(log_probs[0]), top_ids[0], top_log_probs[0])
    return Sampled(ids, log_probs, top_ids, top_log_probs)


def log_probabilities(
    logits: ArrayLike,
    *,
    history: History | None = None,
    options: SamplingOptions | None = None,
    **fields: Any,
) -> NDArray[np.floating[Any]]:
    """Return the log of the probabilities that `sample` draws with; -inf for the ids that the options take out.

    Parameters
    ----------
    logits, history, options, **fields
        As for `sample`.

    Returns
    -------
    ndarray, the shape of the logits, float32 or float64

    Raises
    ------
    OptionError, ShapeError, DataError
        As `sample`.

    Examples
    --------
    >>> import numpy as np
    >>> np.exp(log_probabilities(np.log([0.5, 0.3, 0.2]), top_p=0.7)).round(3)
    array([0.625, 0.375, 0.   ])
    """
    temperature, top_k, top_p, min_p = (fields.pop(name, None) for name in SHORTCUTS)
    plan = _plan(temperature, top_k, top_p, min_p, options, fields)
    if history is None and not plan.needs_history:
        return _sampling.log_probabilities(logits, plan)
    rows = _sampling.rows(logits)
    return _sampling.log_probabilities(rows, plan, *_flat_history(history, rows))


@lru_cache(maxsize=256, typed=True)
def _plan_of(temperature: Any, top_k: Any, top_p: Any, min_p: Any, **more: Any) -> _sampling.Plan:
    """Check options given by keyword, once for each set of values."""
    return SamplingOptions().replaced(_given(temperature, top_k, top_p, min_p, more)).plan


def _given(temperature: Any, top_k: Any, top_p: Any, min_p: Any, more: Mapping[str, Any]) -> dict[str, Any]:
    values = zip(SHORTCUTS, (temperature, top_k, top_p, min_p), strict=True)
    return dict(more) | {name: value for name, value in values if value is not None}


def _plan(
    temperature: Any, top_k: Any, top_p: Any, min_p: Any, options: SamplingOptions | None, more: Mapping[str, Any]
) -> _sampling.Plan:
    if options is None:
        try:
            return _plan_of(temperature, top_k, top_p, min_p, **more)
        except TypeError:  # something unhashable among the values: a list of ids, say
            return _plan_of.__wrapped__(temperature, top_k, top_p, min_p, **more)
    if not isinstance(options, SamplingOptions):
        raise OptionError(f"options must be SamplingOptions, got {type(options).__name__}; build one, or use keywords")
    if temperature is top_k is top_p is min_p is None and not more:
        return options.plan
    changes = _given(temperature, top_k, top_p, min_p, more)
    return options.replaced(changes).plan


def _bit_generator(rng: Any) -> np.random.BitGenerator:
    if isinstance(rng, np.random.Generator):
        return rng.bit_generator
    if rng is None or (isinstance(rng, (int, np.integer)) and not isinstance(rng, bool) and rng >= 0):
        return np.random.default_rng(rng).bit_generator
    raise OptionError(
        f"rng must be a numpy.random.Generator, a seed (a whole number, 0 or above) or None, got {rng!r}; "
        "make one with numpy.random.default_rng(seed)"
    )


def _flat_history(history: Any, logits: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All rows' ids one after the other, and where each row's begin and the last one's end."""
    if history is None:
        raise OptionError(
            "the penalties, no_repeat_ngram, min_length and max_length look at the ids so far; pass them as history="
        )
    try:
        rows = [history] if logits.ndim == 1 else list(history)
    except TypeError:
        raise ShapeError(f"history must be one sequence of ids for each row of logits, got {history!r}") from None
    if logits.ndim == 2 and len(rows) != len(logits):
        raise ShapeError(f"history has {len(rows)} rows, the logits have {len(logits)}; give ids for each row")
    for part in (history, *rows):
        refuse_masked(part, "history")
    arrays = [np.asarray(row) for row in rows]
    for number, row in enumerate(arrays):
        if row.ndim != 1:
            raise ShapeError(f"history of row {number} must be one-dimensional, got shape {row.shape}")
        if row.size and row.dtype.kind not in "iu":
            raise DataError(f"history of row {number} must hold integer ids, got dtype {row.dtype}; convert it")
    offsets = np.zeros(len(arrays) + 1, np.int64)
    np.cumsum([row.size for row in arrays], out=offsets[1:])
    ids = np.concatenate([row.astype(np.int64) for row in arrays]) if arrays else np.zeros(0, np.int64)
    return ids, offsets
