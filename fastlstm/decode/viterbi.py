"""Viterbi decoding of a linear chain: the best label sequences of a tagger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastlstm.decode import _viterbi
from fastlstm.decode.beam_options import integer
from fastlstm.decode.hypothesis import Hypothesis
from fastlstm.decode.masks import refuse_masked
from fastlstm.errors import DataError, OptionError, ShapeError

CALLER = "viterbi"
MAX_PATHS = 1 << 20
Matrix = NDArray[np.float64]


def viterbi(
    scores: ArrayLike | Sequence[ArrayLike],
    transitions: ArrayLike,
    *,
    start: ArrayLike | None = None,
    end: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    n_best: int = 1,
    normalize: bool = False,
) -> list[Hypothesis] | list[list[Hypothesis]]:
    """Find the label sequences of highest score under a linear chain (a CRF's or HMM's).

    A path y scores ``start[y_1] + sum_t scores[t, y_t] + sum_t transitions[y_t-1, y_t] + end[y_T]`` [1]_. Everything
    is computed in float64; the GIL is released.

    Parameters
    ----------
    scores : (T, L) numbers, or (N, T, L), or a list of (T_n, L)
        Score of each label at each step: one sequence, a batch (see ``lengths``), or sequences of different lengths.
        -inf forbids.
    transitions : (L, L) numbers
        Score of going from the row's label to the column's. -inf forbids.
    start, end : (L,) numbers, optional
        Score of beginning and of ending with a label; 0 if not given.
    lengths : (N,) integers, optional
        Steps of each sequence of a (N, T, L) batch, 1 to T; the rest of it is not read.
    n_best : int
        Paths to return for each sequence; fewer come if fewer are possible.
    normalize : bool
        Divide by the sum over all paths (forward algorithm), as a CRF's probability is: ``logprob`` is then
        ``score - log Z``. Otherwise it equals ``score``, right where the scores are log-probabilities.

    Returns
    -------
    list of Hypothesis
        Best first, ``ids`` being the T labels; for several sequences, one such list for each.

    Raises
    ------
    ShapeError
        An array of the wrong rank or size, an empty sequence, a length outside 1 to T.
    DataError
        NaN or +inf; a sequence all of whose paths are forbidden.
    OptionError
        ``n_best`` out of range; ``lengths`` where they do not apply.

    Notes
    -----
    Among equal scores the path of the lower last label comes first, then of the lower label before it, and so on.

    References
    ----------
    .. [1] Lafferty, McCallum and Pereira, 2001, "Conditional Random Fields"; Forney, 1973, "The Viterbi Algorithm".

    Examples
    --------
    Label 1 must not follow label 1:

    >>> import numpy as np
    >>> from fastlstm.decode.viterbi import viterbi
    >>> scores = np.array([[0.0, 2.0], [0.0, 1.5], [0.0, 1.0]])
    >>> [best, second] = viterbi(scores, [[0.0, 0.0], [0.0, -np.inf]], n_best=2)
    >>> best.ids, best.score, second.ids, second.score
    ((1, 0, 1), 3.0, (1, 0, 0), 2.0)
    """
    n_best = integer(CALLER, "n_best", n_best, 1, MAX_PATHS)
    sequences, single = _sequences(scores, lengths)
    labels = sequences[0].shape[1]
    moves = _numbers("transitions", transitions, (labels, labels))
    first = np.zeros(labels) if start is None else _numbers("start", start, (labels,))
    last = np.zeros(labels) if end is None else _numbers("end", end, (labels,))
    found = []
    for n, sequence in enumerate(sequences):
        if sequence.shape[1] != labels:
            raise ShapeError(f"{CALLER}: sequence {n} has {sequence.shape[1]} labels, sequence 0 has {labels}")
        table = _finite(f"scores of sequence {n}", sequence)
        found.append(_decode(n, table, moves, first, last, n_best, normalize))
    return found[0] if single else found


def _decode(
    n: int, scores: Matrix, moves: Matrix, first: Matrix, last: Matrix, n_best: int, normalize: bool
) -> list[Hypothesis]:
    """Decode one sequence of checked arrays."""
    if n_best == 1:
        score, path = _viterbi.best_path(scores, moves, first, last)
        best = [(score, path)] if score > -np.inf else []
    else:
        room = _paths(scores.shape[0], scores.shape[1], n_best)
        best = list(zip(*_viterbi.n_best_paths(scores, moves, first, last, room), strict=True))
    if not best:
        raise DataError(f"{CALLER}: every path of sequence {n} is forbidden by a score of -inf; allow at least one")
    if best[0][0] == np.inf:
        raise DataError(f"{CALLER}: the scores of sequence {n} are so large that their sum overflows; scale them down")
    log_z = _viterbi.log_partition(scores, moves, first, last) if normalize else 0.0
    return [Hypothesis(tuple(path.tolist()), float(score), float(score) - log_z, finished=True) for score, path in best]


def _paths(length: int, labels: int, n_best: int) -> int:
    """Cut ``n_best`` to the number of paths there are, labels ** length."""
    reach = 1
    for _ in range(length if labels > 1 else 0):
        reach *= labels
        if reach >= n_best:
            return n_best
    return reach


def _sequences(scores: Any, lengths: ArrayLike | None) -> tuple[list[Matrix], bool]:
    """Split the input into (T_n, L) arrays; whether it was a single one."""
    ragged = isinstance(scores, list | tuple) and len({np.shape(item) for item in scores}) > 1
    if ragged or (isinstance(scores, list | tuple) and scores and np.ndim(scores[0]) == 2):
        if lengths is not None:
            raise OptionError(f"{CALLER}: lengths are given with a list; the arrays of a list have their own")
        return [_scores(item, f"scores of sequence {n}") for n, item in enumerate(scores)], False
    refuse_masked(scores, f"{CALLER}: scores")
    array = np.asarray(scores)
    if array.ndim == 2:
        if lengths is not None:
            raise OptionError(f"{CALLER}: lengths are given with one sequence (T, L); cut it, or give (N, T, L)")
        return [_scores(array, "scores")], True
    if array.ndim != 3 or array.shape[0] == 0:
        raise ShapeError(f"{CALLER}: scores have shape {array.shape}; give (T, L), (N, T, L) or a list of (T, L)")
    steps = _lengths(lengths, array.shape[0], array.shape[1])
    return [_scores(item[:length], "scores") for item, length in zip(array, steps, strict=True)], False


def _lengths(lengths: ArrayLike | None, sequences: int, longest: int) -> Iterator[int]:
    if lengths is None:
        return iter([longest] * sequences)
    refuse_masked(lengths, f"{CALLER}: lengths")
    steps = np.asarray(lengths)
    if steps.shape != (sequences,) or steps.dtype.kind not in "iu":
        raise ShapeError(
            f"{CALLER}: lengths have shape {steps.shape} and dtype {steps.dtype}; give {sequences} integers"
        )
    if steps.min() < 1 or steps.max() > longest:
        bad = int(np.flatnonzero((steps < 1) | (steps > longest))[0])
        raise ShapeError(f"{CALLER}: lengths[{bad}]={steps[bad]}; a length is from 1 to T={longest}")
    return iter(steps.tolist())


def _scores(array: ArrayLike, name: str) -> Matrix:
    table = _real(name, array)
    if table.ndim != 2 or 0 in table.shape:
        raise ShapeError(f"{CALLER}: {name} have shape {table.shape}; give (T, L) with at least one step and label")
    return table


def _numbers(name: str, array: ArrayLike, shape: tuple[int, ...]) -> Matrix:
    table = _real(name, array)
    if table.shape != shape:
        raise ShapeError(f"{CALLER}: {name} has shape {table.shape}; the scores have {shape[0]} labels: give {shape}")
    return _finite(name, table)


def _real(name: str, array: ArrayLike) -> Matrix:
    """``array`` as native, aligned, contiguous float64."""
    refuse_masked(array, f"{CALLER}: {name}")
    try:
        table = np.asarray(array)
    except ValueError:
        raise ShapeError(f"{CALLER}: {name} is ragged; give an array") from None
    if table.dtype.kind not in "fiub":
        raise DataError(f"{CALLER}: {name} has dtype {table.dtype}; give real numbers")
    with np.errstate(over="ignore"):
        return np.require(table, np.float64, ["C", "A"])


def _finite(name: str, table: Matrix) -> Matrix:
    """``table`` if it has no NaN and no +inf; -inf is a rule, not a fault."""
    top = table.max()
    if np.isnan(top) or top == np.inf:
        raise DataError(f"{CALLER}: {name} holds {'NaN' if np.isnan(top) else '+inf'}; give finite numbers or -inf")
    return table
