"""Contrastive search: probable ids whose hidden state repeats nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastlstm.decode.beam_options import MAX_LENGTH, MAX_WIDTH, check_below, end_ids, integer, real
from fastlstm.decode.beam_step import (
    StepFunction,
    call_step,
    float_matrix,
    log_probabilities,
    pick_rows,
    start_tokens,
)
from fastlstm.decode.hypothesis import Hypothesis
from fastlstm.errors import DataError, OptionError

CALLER = "contrastive_search"


@overload
def contrastive_search(
    step: StepFunction,
    start: int,
    *,
    state: Any = ...,
    top_k: int = ...,
    alpha: float = ...,
    max_length: int = ...,
    eos_id: int | Sequence[int] | None = ...,
    state_axis: int = ...,
    reorder: Callable[[Any, NDArray[np.int64]], Any] | None = ...,
) -> Hypothesis: ...
@overload
def contrastive_search(
    step: StepFunction,
    start: ArrayLike,
    *,
    state: Any = ...,
    top_k: int = ...,
    alpha: float = ...,
    max_length: int = ...,
    eos_id: int | Sequence[int] | None = ...,
    state_axis: int = ...,
    reorder: Callable[[Any, NDArray[np.int64]], Any] | None = ...,
) -> list[Hypothesis]: ...
def contrastive_search(
    step: StepFunction,
    start: ArrayLike,
    *,
    state: Any = None,
    top_k: int = 4,
    alpha: float = 0.6,
    max_length: int = 100,
    eos_id: int | Sequence[int] | None = None,
    state_axis: int = 0,
    reorder: Callable[[Any, NDArray[np.int64]], Any] | None = None,
) -> Hypothesis | list[Hypothesis]:
    """Choose, at each step, the id that is probable and whose hidden state is unlike all before it.

    Among the ``top_k`` most probable ids v, the one of largest
    ``(1 - alpha) * p(v) - alpha * max_j cos(h_v, h_j)`` is taken, h_v being the hidden state after v and h_j those
    after the start id and every id chosen so far (Su et al. 2022 [1]_, eq. 5). Deterministic; ties fall to the more
    probable id, then to the lower one.

    Parameters
    ----------
    step : callable
        ``step(tokens, state) -> (logits, state, hidden)``; ``hidden`` (B, D) is the representation of ``tokens`` that
        the logits were computed from. It is called with one row for each live sequence first, then with ``top_k``
        rows for each.
    start, state, max_length, eos_id
        As in :func:`~fastlstm.decode.beam.beam_search`.
    top_k : int
        Candidates at each step; 1 is greedy search.
    alpha : float
        Degeneration penalty from 0 (greedy search) to 1.
    state_axis, reorder
        As in :class:`~fastlstm.decode.beam_options.BeamOptions`.

    Returns
    -------
    Hypothesis, or a list of them for an array of starts
        ``score`` is the mean of the chosen ids' values.

    Raises
    ------
    OptionError, ShapeError, DataError
        As in :func:`~fastlstm.decode.beam.beam_search`.

    References
    ----------
    .. [1] Su et al., 2022, "A Contrastive Framework for Neural Text Generation", https://arxiv.org/abs/2202.06417

    Examples
    --------
    Greedy search would stay at id 0; its hidden state then repeats:

    >>> import numpy as np
    >>> from fastlstm.decode.contrastive import contrastive_search
    >>> def step(tokens, state):
    ...     return np.log([[0.5, 0.3, 0.2]] * len(tokens)), state, np.eye(3)[tokens]
    >>> contrastive_search(step, 0, top_k=3, max_length=2).ids
    (1, 2)
    """
    top_k = integer(CALLER, "top_k", top_k, 1, MAX_WIDTH)
    max_length = integer(CALLER, "max_length", max_length, 1, MAX_LENGTH)
    alpha = real(CALLER, "alpha", alpha, 0.0)
    if alpha > 1.0:
        raise OptionError(f"{CALLER}: alpha={alpha}; give a number from 0 to 1")
    ends, _ = end_ids(CALLER, eos_id, ())
    tokens, single = start_tokens(CALLER, start)

    log_p, state, hidden = _step(step, tokens, state, None, None)
    check_below(CALLER, "end ids", ends, log_p.shape[1])
    runs = [_Run(row) for row in hidden]
    live = list(range(len(runs)))  # the run of each row of log_p and state
    width = min(top_k, log_p.shape[1])
    for length in range(max_length):
        if np.isneginf(log_p.max(axis=1)).any():
            row = int(np.isneginf(log_p.max(axis=1)).argmax())
            raise DataError(f"{CALLER}: sequence {live[row]} has no possible next id at step {length}")
        ranked = np.stack([_best_ids(row, width) for row in log_p])
        parents = np.arange(len(live)).repeat(width)
        state = _reorder(reorder, state, parents, len(live), state_axis)
        ahead_log_p, state, hidden = _step(step, ranked.reshape(-1), state, log_p.shape[1], runs[0].dimension)
        winners = []
        for row, n in enumerate(live):
            candidates = hidden[row * width : (row + 1) * width]
            best = runs[n].choose(ranked[row], log_p[row, ranked[row]], candidates, alpha)
            if int(ranked[row, best]) in ends:
                runs[n].end()
            else:
                winners.append(row * width + best)
        live = [n for n in live if not runs[n].finished]
        if not live:
            break
        winner_rows = np.array(winners, np.int64)
        state = _reorder(reorder, state, winner_rows, len(ahead_log_p), state_axis)
        log_p = ahead_log_p[winner_rows]
    found = [run.hypothesis() for run in runs]
    return found[0] if single else found


def _step(
    step: StepFunction, tokens: NDArray[np.int64], state: Any, vocab: int | None, dimension: int | None
) -> tuple[NDArray[np.float64], Any, NDArray[np.float64]]:
    """Call the model; log-probabilities, state, and hidden states of length 1 (0 where they are all zeros)."""
    logits, state, hidden, *_ = call_step(CALLER, step, tokens, state, "hidden")
    hidden = float_matrix(CALLER, "hidden states", hidden, len(tokens), dimension).astype(np.float64)
    if not np.isfinite(hidden).all():
        raise DataError(f"{CALLER}: the step function returned hidden states that are not finite")
    hidden /= np.abs(hidden).max(axis=1, keepdims=True).clip(np.finfo(np.float64).tiny)  # squares must not overflow
    hidden /= np.linalg.norm(hidden, axis=1, keepdims=True).clip(np.finfo(np.float64).tiny)
    return log_probabilities(CALLER, logits, len(tokens), vocab, False), state, hidden


def _best_ids(log_p: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Return the k most probable ids, best first, ties by lower id."""
    least = np.partition(log_p, len(log_p) - k)[len(log_p) - k]
    ids = np.flatnonzero(log_p >= least)
    return ids[np.argsort(-log_p[ids], kind="stable")][:k]


def _reorder(
    reorder: Callable[[Any, NDArray[np.int64]], Any] | None,
    state: Any,
    parents: NDArray[np.int64],
    rows: int,
    axis: int,
) -> Any:
    if reorder is not None:
        return reorder(state, parents)
    return pick_rows(CALLER, state, parents, rows, axis)


class _Run:
    """One sequence: its ids and the normalised hidden states of all it has read."""

    def __init__(self, hidden: NDArray[np.float64]) -> None:
        self.finished = False
        self.dimension = len(hidden)
        self._ids: list[int] = []
        self._seen = hidden[None].copy()  # grown by doubling; the first len(ids) + 1 rows are filled
        self._logprob = 0.0
        self._total = 0.0
        self._steps = 0

    def choose(
        self, ids: NDArray[np.int64], log_p: NDArray[np.float64], hidden: NDArray[np.float64], alpha: float
    ) -> int:
        """Take the best of candidates given most probable first; its place among them."""
        used = len(self._ids) + 1
        value = (1.0 - alpha) * np.exp(log_p) - alpha * (hidden @ self._seen[:used].T).max(axis=1)
        value[np.isneginf(log_p)] = -np.inf
        best = int(value.argmax())
        if used == len(self._seen):
            self._seen = np.concatenate([self._seen, np.empty_like(self._seen)])
        self._seen[used] = hidden[best]
        self._ids.append(int(ids[best]))
        self._logprob += float(log_p[best])
        self._total += float(value[best])
        self._steps += 1
        return best

    def end(self) -> None:
        """Take back the id just chosen, an end id."""
        self._ids.pop()
        self.finished = True

    def hypothesis(self) -> Hypothesis:
        return Hypothesis(tuple(self._ids), self._total / self._steps, self._logprob, self.finished)
