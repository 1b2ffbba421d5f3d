"""Stochastic beam search: sequences sampled without replacement, by Gumbel top-k."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastlstm.decode.beam_options import MAX_LENGTH, MAX_WIDTH, check_below, end_ids, integer
from fastlstm.decode.beam_step import StepFunction, call_step, log_probabilities, pick_rows, start_tokens
from fastlstm.decode.hypothesis import Hypothesis
from fastlstm.errors import DataError, OptionError

CALLER = "stochastic_beam_search"
Reorder = Callable[[Any, NDArray[np.int64]], Any]


@overload
def stochastic_beam_search(
    step: StepFunction,
    start: int,
    *,
    rng: np.random.Generator,
    state: Any = ...,
    beam_width: int = ...,
    max_length: int = ...,
    eos_id: int | Sequence[int] | None = ...,
    normalized: bool = ...,
    state_axis: int = ...,
    reorder: Reorder | None = ...,
) -> list[Hypothesis]: ...
@overload
def stochastic_beam_search(
    step: StepFunction,
    start: ArrayLike,
    *,
    rng: np.random.Generator,
    state: Any = ...,
    beam_width: int = ...,
    max_length: int = ...,
    eos_id: int | Sequence[int] | None = ...,
    normalized: bool = ...,
    state_axis: int = ...,
    reorder: Reorder | None = ...,
) -> list[list[Hypothesis]]: ...
def stochastic_beam_search(
    step: StepFunction,
    start: ArrayLike,
    *,
    rng: np.random.Generator,
    state: Any = None,
    beam_width: int = 8,
    max_length: int = 100,
    eos_id: int | Sequence[int] | None = None,
    normalized: bool = False,
    state_axis: int = 0,
    reorder: Reorder | None = None,
) -> list[Hypothesis] | list[list[Hypothesis]]:
    """Sample ``beam_width`` different sequences from the model.

    The result is a sample *without replacement* from the distribution over whole sequences, in the order of drawing:
    the first is an ordinary sample, the second a sample of what then remains, and so on. It is found by a beam search
    over log-probabilities plus Gumbel noise [1]_.

    Parameters
    ----------
    step, start, state, beam_width, max_length, eos_id
        As in :func:`~fastlstm.decode.beam.beam_search`.
    rng : numpy.random.Generator
        Source of the noise. One seed for each sequence is drawn from it at the start, so the sample of sequence n
        depends on the generator's state and on n only, not on how many sequences there are.
    normalized, state_axis, reorder
        As in :class:`~fastlstm.decode.beam_options.BeamOptions`.

    Returns
    -------
    list of Hypothesis
        In order of drawing; for an array of starts, one such list for each. ``score`` is the perturbed
        log-probability. Of k + 1 sequences, the last one's score is the threshold kappa of [1]_: an unbiased estimate
        of E[f] is the sum over the first k of ``exp(logprob) / (1 - exp(-exp(logprob - kappa))) * f(ids)``.

    Raises
    ------
    OptionError, ShapeError, DataError
        As in :func:`~fastlstm.decode.beam.beam_search`.

    References
    ----------
    .. [1] Kool, van Hoof and Welling, 2019, "Stochastic Beams and Where to Find Them", algorithm 1,
       https://arxiv.org/abs/1903.06059

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm.decode.beam_stochastic import stochastic_beam_search
    >>> log_p = np.log([[0.7, 0.2, 0.1]] * 3)
    >>> found = stochastic_beam_search(lambda t, s: (log_p[t], s), 0, rng=np.random.default_rng(0),
    ...                                beam_width=9, max_length=2)
    >>> len({h.ids for h in found}), round(float(sum(np.exp(h.logprob) for h in found)), 6)
    (9, 1.0)
    """
    if not isinstance(rng, np.random.Generator):
        raise OptionError(f"{CALLER}: rng is a {type(rng).__name__}; give a numpy.random.Generator")
    width = integer(CALLER, "beam_width", beam_width, 1, MAX_WIDTH)
    max_length = integer(CALLER, "max_length", max_length, 1, MAX_LENGTH)
    ends, _ = end_ids(CALLER, eos_id, ())
    tokens, single = start_tokens(CALLER, start)
    samples = [_Sample(width, ends, seed) for seed in rng.integers(2**63, size=len(tokens)).tolist()]
    vocab = None
    for length in range(max_length):
        rows = len(tokens)
        logits, state, *_ = call_step(CALLER, step, tokens, state)
        log_p = log_probabilities(CALLER, logits, rows, vocab, normalized)
        vocab = log_p.shape[1]
        check_below(CALLER, "end ids", ends, vocab)
        parents, tokens = _extend(samples, log_p, length)
        if len(tokens) == 0:
            break
        if length + 1 < max_length and state is not None:
            state = reorder(state, parents) if reorder else pick_rows(CALLER, state, parents, rows, state_axis)
    found = [sample.hypotheses() for sample in samples]
    return found[0] if single else found


def _extend(
    samples: list[_Sample], log_p: NDArray[np.float64], length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Let every sample choose among its own rows; parents and ids of the next batch."""
    parents, tokens, first = [], [], 0
    for n, sample in enumerate(samples):
        live = len(sample.logprob)
        if live:
            parent, token = sample.extend(log_p[first : first + live])
            parents.append(first + parent)
            tokens.append(token)
            first += live
            if len(token) == 0 and not sample.leaves:
                raise DataError(f"{CALLER}: sequence {n} has no possible next id at step {length}")
    return np.concatenate(parents), np.concatenate(tokens)


class _Sample:
    """The ``width`` sequences of largest perturbed log-probability: finished leaves and live beams together.

    Invariant: a leaf's or beam's perturbed value is its parent's at most, so what falls out of the best ``width``
    cannot come back.
    """

    def __init__(self, width: int, ends: tuple[int, ...], seed: int) -> None:
        self.leaves: list[Hypothesis] = []
        self.logprob = np.zeros(1)  # of the live beams
        self._perturbed = np.zeros(1)
        self._width = width
        self._ends = np.array(ends, np.int64)
        self._rng = np.random.default_rng(seed)
        self._steps: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []  # (parents, tokens) of every step

    def extend(self, log_p: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Take one step with the live beams' log-probabilities (live, V); parents and ids of the new ones."""
        child = self.logprob[:, None] + log_p
        draw = perturb(child, self._perturbed, self._rng)
        flat = draw.reshape(-1)
        best = (
            np.argpartition(-flat, self._width - 1)[: self._width] if self._width < flat.size else np.arange(flat.size)
        )
        best = best[np.argsort(-flat[best], kind="stable")]
        # Leaves and candidates compete for the same places: a candidate's is how many of either are larger.
        leaves = -np.array([leaf.score for leaf in self.leaves])
        larger = np.arange(len(best)) + np.searchsorted(leaves, -flat[best])
        best = best[(larger < self._width) & (flat[best] > -np.inf)]
        parents, tokens = np.divmod(best, log_p.shape[1])
        ending = np.isin(tokens, self._ends)
        for parent, token in zip(parents[ending], tokens[ending], strict=True):
            score, logprob = float(draw[parent, token]), float(child[parent, token])
            self.leaves.append(Hypothesis(self._ids(int(parent)), score, logprob, finished=True))
        self.leaves.sort(key=lambda leaf: -leaf.score)
        del self.leaves[self._width :]
        parents, tokens = parents[~ending], tokens[~ending]
        self.logprob, self._perturbed = child[parents, tokens], draw[parents, tokens]
        self._steps.append((parents, tokens))
        return parents, tokens

    def hypotheses(self) -> list[Hypothesis]:
        """Leaves and, cut off as they are, live beams, in order of drawing."""
        live = zip(self._perturbed.tolist(), self.logprob.tolist(), strict=True)
        cut = [Hypothesis(self._ids(row), score, logprob) for row, (score, logprob) in enumerate(live)]
        return sorted(self.leaves + cut, key=lambda leaf: -leaf.score)[: self._width]

    def _ids(self, row: int) -> tuple[int, ...]:
        ids = []
        for parents, tokens in reversed(self._steps):
            ids.append(int(tokens[row]))
            row = int(parents[row])
        return tuple(reversed(ids))


def perturb(child: NDArray[np.float64], parent: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Add Gumbel noise to log-probabilities (B, V), each row conditioned to have its maximum at ``parent`` (B,).

    Kool et al. 2019, appendix B.3: ``-log(exp(-parent) - exp(-max) + exp(-draw))``, written so that nothing overflows.
    """
    draw = child + rng.gumbel(size=child.shape)
    top = draw.max(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        v = parent[:, None] - draw + np.log1p(-np.exp(draw - top))
        moved = parent[:, None] - np.maximum(v, 0.0) - np.log1p(np.exp(-np.abs(v)))
    return np.where(np.isneginf(child), -np.inf, moved)
