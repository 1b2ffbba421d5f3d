"""Beam search over a step function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastlstm.decode import _beam
from fastlstm.decode.beam_options import BeamOptions, Constraints, EarlyStopping, Plan, make_plan
from fastlstm.decode.beam_step import StepFunction, call_step, float_matrix, pick_rows, start_tokens
from fastlstm.decode.constraints import AllowedIds, RequiredPhrases
from fastlstm.decode.hypothesis import Hypothesis
from fastlstm.errors import DataError

CALLER = "beam_search"
UNATTENDED = 1e-9


@overload
def beam_search(
    step: StepFunction,
    start: int,
    *,
    state: Any = ...,
    beam_width: int = ...,
    max_length: int = ...,
    eos_id: int | Sequence[int] | None = ...,
    n_best: int = ...,
    length_penalty: float = ...,
    early_stopping: EarlyStopping = ...,
    constraints: Constraints | None = ...,
    options: BeamOptions | None = ...,
) -> list[Hypothesis]: ...
@overload
def beam_search(
    step: StepFunction,
    start: ArrayLike,
    *,
    state: Any = ...,
    beam_width: int = ...,
    max_length: int = ...,
    eos_id: int | Sequence[int] | None = ...,
    n_best: int = ...,
    length_penalty: float = ...,
    early_stopping: EarlyStopping = ...,
    constraints: Constraints | None = ...,
    options: BeamOptions | None = ...,
) -> list[list[Hypothesis]]: ...
def beam_search(
    step: StepFunction,
    start: ArrayLike,
    *,
    state: Any = None,
    beam_width: int = 8,
    max_length: int = 100,
    eos_id: int | Sequence[int] | None = None,
    n_best: int = 1,
    length_penalty: float = 0.0,
    early_stopping: EarlyStopping = False,
    constraints: Constraints | None = None,
    options: BeamOptions | None = None,
) -> list[Hypothesis] | list[list[Hypothesis]]:
    """Find the most probable id sequences of a model that predicts the next id.

    Each step extends the ``beam_width`` best unfinished sequences by every id and keeps the best of them. Exact if
    the beam is as wide as there are sequences; greedy search if it is 1 wide.

    Parameters
    ----------
    step : callable
        The model: ``step(tokens, state) -> (logits, state)``, or ``(logits, state, attention)``. ``tokens`` is (B,)
        int64, the last id of each of the B live beams of all sequences; ``logits`` is (B, V); ``attention`` is
        (B, S), read only for a coverage penalty. The first call has one row for each sequence. Rows of finished
        beams leave the batch, so B changes from call to call.
    start : int or (N,) integers
        Id that the model is given first, for one sequence or for each of N.
    state : nested tuples, lists, dicts of NumPy arrays, optional
        Given to the first call. After each step, rows of every array are picked along axis 0
        (``options.state_axis``) so that row b belongs to ``tokens[b]``.
    beam_width : int
        Live beams for each sequence.
    max_length : int
        Largest number of ids of a hypothesis, its end id counted. One that reaches it is cut off
        (``finished=False``) and competes with the finished ones.
    eos_id : int or sequence of int, optional
        Ids that end a hypothesis and are left out of its ``ids``.
    n_best : int
        Hypotheses to return for each sequence, at most ``beam_width``; fewer come if fewer were found.
    length_penalty : float
        alpha: hypotheses are ranked by ``logprob / ((5 + length) / 6) ** alpha``, the end id counted [1]_. 0 ranks
        by joint probability, more favours longer ones.
    early_stopping : bool or "never"
        When a sequence is done, as Hugging Face defines it. True: with ``beam_width`` finished hypotheses. False:
        when also the best live beam, ended now, would not enter them. "never": when no live beam can enter them
        at any length.
    constraints : Constraints, optional
        Minimum length, n-grams, prefix, banned and required phrases, allowed ids.
    options : BeamOptions, optional
        Stop ids, coverage penalty, diverse groups, log-probabilities as input, how states are reordered.

    Returns
    -------
    list of Hypothesis
        Best first; for an array of starts, one such list for each.

    Raises
    ------
    OptionError
        An option out of its range, an id outside the vocabulary, a state that cannot be reordered.
    ShapeError
        The step function returned something else than (B, V) logits and a state of B rows.
    DataError
        NaN or +inf in the logits; log-probabilities above 0; constraints that leave a sequence no hypothesis.

    Notes
    -----
    Ties are broken by higher score, then lower parent (its rank in the beam), then lower id; hypotheses of equal
    score are ranked as they were found. An end id finishes a hypothesis if it ranks among the ``beam_width`` best
    extensions. An id of logit -inf is never chosen.

    References
    ----------
    .. [1] Wu et al., 2016, "Google's Neural Machine Translation System", eq. 14, https://arxiv.org/abs/1609.08144

    Examples
    --------
    A chain in which the most probable first id is a trap:

    >>> import numpy as np
    >>> import fastlstm.decode.beam as beam
    >>> p = np.array([[0.6, 0.4, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0]])
    >>> with np.errstate(divide="ignore"):
    ...     log_p = np.log(p)
    >>> def step(tokens, state):
    ...     return log_p[tokens], state
    >>> [best] = beam.beam_search(step, 0, beam_width=2, max_length=2)
    >>> best.ids, round(float(np.exp(best.logprob)), 2)
    ((1, 2), 0.4)
    """
    constraints = Constraints() if constraints is None else constraints
    options = BeamOptions() if options is None else options
    search = {
        "beam_width": beam_width,
        "max_length": max_length,
        "eos_id": eos_id,
        "n_best": n_best,
        "length_penalty": length_penalty,
        "early_stopping": early_stopping,
    }
    _beam.begin_search()
    try:
        tokens, single = start_tokens(CALLER, start)
        plan = make_plan(CALLER, len(tokens), search, constraints, options)
        core = _search(step, tokens, state, plan, constraints, options)
        found = [_hypotheses(core, plan, n) for n in range(len(tokens))]
    finally:
        _beam.end_search()
    return found[0] if single else found


def _search(
    step: StepFunction,
    tokens: NDArray[np.int64],
    state: Any,
    plan: Plan,
    constraints: Constraints,
    options: BeamOptions,
) -> _beam.BeamCore:
    """Run the search; the core that comes back holds the finished hypotheses."""
    core: _beam.BeamCore | None = None
    coverage: NDArray[np.float64] | None = None
    required = RequiredPhrases(plan.required, len(tokens)) if plan.required else None
    allowed = AllowedIds(plan, constraints.allowed)
    for length in range(plan.max_length):
        rows = len(tokens)
        _beam.begin_model()
        logits, state, *more = call_step(CALLER, step, tokens, state, "attention" if plan.coverage_penalty else "")
        _beam.end_model()
        logits = float_matrix(CALLER, "logits", logits, rows, core.vocab if core is not None else None)
        if core is None:
            vocab = logits.shape[1]
            plan.check_ids(vocab)
            width = useful_width(plan, vocab)
            core = _beam.BeamCore(rows, vocab, plan if width == plan.width else replace(plan, width=width))
        bonus = None
        if plan.coverage_penalty:
            coverage = _covered(coverage, float_matrix(CALLER, "attention", more[0], rows, None))
            bonus = plan.coverage_penalty * np.log(np.clip(coverage, UNATTENDED, 1.0)).sum(axis=1)
        may_end = None if required is None else required.complete()
        fault, row = core.measure(logits, may_end, bonus, allowed.table(core, length), required is None)
        if fault:
            raise _fault_error(core, fault, row, length)
        tokens, parents = core.collect() if required is None else required.advance(core)
        if (sequence := core.starved()) >= 0:
            raise DataError(
                f"{CALLER}: sequence {sequence} has no possible next id at step {length} and no finished hypothesis: "
                "constraints and logits of -inf left nothing; loosen the constraints or widen the beam"
            )
        if len(tokens) == 0:
            return core
        if coverage is not None:
            coverage = coverage[parents]
        if length + 1 < plan.max_length and state is not None:
            if options.reorder is not None:
                state = options.reorder(state, parents)
            else:
                state = pick_rows(CALLER, state, parents, rows, options.state_axis)
    assert core is not None  # max_length >= 1
    core.cut(None if required is None else required.complete())
    if (sequence := core.starved()) >= 0:
        raise DataError(
            f"{CALLER}: no hypothesis of sequence {sequence} holds every required phrase within "
            f"max_length={plan.max_length}; raise max_length or widen the beam"
        )
    return core


def useful_width(plan: Plan, vocab: int) -> int:
    """Cut the width to V^T: a beam wider than there are sequences only costs memory."""
    reach = 1
    for _ in range(plan.max_length):
        reach *= vocab
        if reach >= plan.width or vocab == 1:
            break
    return min(plan.width, reach)


def _covered(coverage: NDArray[np.float64] | None, attention: NDArray[Any]) -> NDArray[np.float64]:
    """Attention summed over the steps so far, (B, S)."""
    if not (np.isfinite(attention).all() and (attention >= 0).all()):
        raise DataError(f"{CALLER}: the step function returned attention that is negative or not finite")
    if coverage is None:
        return attention.astype(np.float64)
    if coverage.shape != attention.shape:
        raise DataError(
            f"{CALLER}: attention changed from {coverage.shape[1]} to {attention.shape[1]} source positions; keep S"
        )
    coverage += attention
    return coverage


def _fault_error(core: _beam.BeamCore, fault: int, row: int, length: int) -> DataError:
    """Describe a row of logits that cannot be used."""
    what = {
        _beam.Fault.NOT_A_NUMBER: "NaN logits; find where the model becomes NaN",
        _beam.Fault.PLUS_INFINITY: "a logit of +inf; return finite logits, -inf for what must not be chosen",
        _beam.Fault.ABOVE_ONE: "log-probabilities above 0 though normalized=True; leave it False for raw logits",
    }[_beam.Fault(fault)]
    return DataError(f"{CALLER}: at step {length}, row {row} (sequence {core.sequence_of(row)}) has {what}")


def _hypotheses(core: _beam.BeamCore, plan: Plan, sequence: int) -> list[Hypothesis]:
    """Return the n best of a sequence over its groups; what two groups both found, once."""
    lanes = range(sequence * plan.groups, (sequence + 1) * plan.groups)
    entries = sorted(
        (entry for lane in lanes for entry in core.finished(lane, plan.n_best)), key=lambda entry: -entry[0]
    )
    found: dict[tuple[tuple[int, ...], int], Hypothesis] = {}
    for score, logprob, ids, end in entries:
        kept = (*ids, end) if end in plan.kept_ends else ids
        found.setdefault((ids, end), Hypothesis(kept, score, logprob, finished=end >= 0))
        if len(found) == plan.n_best:
            break
    return list(found.values())
