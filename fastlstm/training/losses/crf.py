"""The loss of a linear-chain CRF: minus the log-probability of the right path of tags."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data.chain import CHAIN_PARAMETERS, ChainScores
from ...data.packed import Packed
from ...engine.chain import chain_gradient, chain_losses, chain_marginals
from ...errors import DataError, OptionError, ShapeError
from .base import Rows, SequenceLoss, class_numbers

__all__ = ["CRFLoss"]


class CRFLoss(SequenceLoss):
    """``-log p(tags | x)`` of each sequence, for a model that ends with a `CRF` layer (Lafferty et al. 2001).

    Targets are one tag a step. The value of a batch is the mean over its sequences, however long they are, as
    pytorch-crf's ``reduction="mean"`` has it.

    Examples
    --------
    Four paths of two steps that all score alike:

    >>> import numpy as np
    >>> from fastlstm.data.chain import Chain, ChainScores
    >>> from fastlstm.data.packed import pack
    >>> emissions, _ = pack(np.zeros((1, 2, 2)), features=True)
    >>> scores = ChainScores(emissions, Chain(np.zeros((2, 2)), np.zeros(2), np.zeros(2)))
    >>> float(np.exp(-CRFLoss().value(scores, np.array([0, 1]))).__round__(6))
    0.25
    """

    name = "crf"
    fuses = "crf"
    takes_classes = True

    def check_targets(self, target: Rows, output: Rows | Packed) -> Rows:
        """Return the tags as int64, one for each of the output's rows (M, K); see `Loss.check_targets`."""
        return class_numbers(self.name, target, output.rows if isinstance(output, Packed) else output)

    def sequences(self, output: Packed, target: Any, fused: bool = False) -> NDArray[np.float64]:
        """Return the loss of each sequence (N,), in packed order; `output` stays as it is.

        Raises
        ------
        OptionError
            The model does not end with a CRF.
        DataError
            The tags take a transition that the CRF forbids.
        """
        scores = _scores(output)
        losses = chain_losses(scores, target)
        _check_allowed(scores, target, losses)
        return losses

    def value(  # type: ignore[override]
        self, output: Packed, target: Any, weights: NDArray[np.float64] | None = None, fused: bool = False
    ) -> float:
        """Return ``sum(weights * losses) / N`` of checked targets; `output` stays as it is."""
        scores = _scores(output)
        each = _each(weights, scores.sequences)
        losses = np.where(each != 0.0, chain_losses(scores, target), 0.0)
        _check_allowed(scores, target, losses)
        return float((losses * each).sum())

    def gradient(  # type: ignore[override]
        self, output: Packed, target: Any, weights: NDArray[np.float64] | None = None, fused: bool = False
    ) -> float:
        """Return the loss, overwrite the emissions with their gradient, and fill ``output.gradients``.

        A sequence of weight 0 costs nothing. Raises as `sequences` does.
        """
        scores = _scores(output)
        each = _each(weights, scores.sequences)
        losses, chain = chain_gradient(scores, target, each)
        _check_allowed(scores, target, losses)
        for name, value in zip(CHAIN_PARAMETERS, chain, strict=True):
            scores.gradients[name] = value.astype(scores.rows.dtype)
        return float((losses * each).sum())

    def marginals(self, output: Packed) -> Rows:
        """Return the probability of each tag at each step (M, K), for metrics; `output` stays as it is."""
        scores = _scores(output)
        rows = np.empty_like(scores.rows, order="C")
        chain_marginals(scores, scores.chain, rows)
        return rows


def _scores(output: Any) -> ChainScores:
    if not isinstance(output, ChainScores):
        raise OptionError(
            "crf: this loss needs the scores of a CRF layer: end the model with Dense(tags), CRF(), and let nothing "
            "else read what the CRF puts out"
        )
    return output


def _each(weights: NDArray[np.float64] | None, count: int) -> NDArray[np.float64]:
    """Return what each sequence's loss counts in the value."""
    if weights is None:
        return np.full(count, 1.0 / count)
    if weights.shape != (count,):
        raise ShapeError(f"crf: weights have shape {weights.shape}; expected ({count},): one for each sequence")
    return np.asarray(weights / count, np.float64)


def _check_allowed(scores: ChainScores, tags: NDArray[np.int64], losses: NDArray[np.float64]) -> None:
    """Raise DataError where a loss is not finite because the tags take what the chain forbids."""
    for sequence in np.flatnonzero(~np.isfinite(losses)):
        what = scores.forbidden_step(int(sequence), tags)
        if what is not None:
            place = scores.user_place(int(sequence))
            raise DataError(f"crf: targets of sequence {place} of the batch: {what}, which the CRF layer forbids")
