"""The scores of a linear chain: what a CRF layer hands to its loss, beside the emissions."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .packed import EmbeddingGather, Packed

__all__ = ["CHAIN_PARAMETERS", "Chain", "ChainScores"]

CHAIN_PARAMETERS = ("transitions", "start_transitions", "end_transitions")
"""The names that a CRF layer's parameters have, in the order of a `Chain`; they are those of pytorch-crf."""


class Chain(NamedTuple):
    """What a path of tags scores beside its emissions; -inf forbids.

    Attributes
    ----------
    transitions : ndarray, shape (K, K)
        ``[i, j]``: of tag j after tag i.
    start, end : ndarray, shape (K,)
        Of the first and of the last tag.
    """

    transitions: NDArray[Any]
    start: NDArray[Any]
    end: NDArray[Any]


class ChainScores(Packed):
    """A batch of emissions (M, K), one for each step and tag, with the chain that they belong to.

    Parameters
    ----------
    emissions : Packed
        The batch.
    chain : Chain
    gradients : dict of str to ndarray, optional
        Where a loss leaves the gradients of the chain, by the names in `CHAIN_PARAMETERS`.
    """

    __slots__ = ("chain", "gradients")

    def __init__(self, emissions: Packed, chain: Chain, gradients: dict[str, NDArray[Any]] | None = None) -> None:
        super().__init__(emissions.rows, emissions.batch_sizes, emissions.order, emissions.steps)
        self.chain = chain
        self.gradients: dict[str, NDArray[Any]] = {} if gradients is None else gradients

    def with_rows(self, rows: NDArray[Any] | EmbeddingGather) -> "ChainScores":
        """Return the same batch and chain with other emissions; gradients go to the same place."""
        return ChainScores(super().with_rows(rows), self.chain, self.gradients)

    def user_place(self, sequence: int) -> int:
        """Return the place in the user's batch of a sequence in packed order."""
        return sequence if self.order is None else int(self.order[sequence])

    def forbidden_step(self, sequence: int, tags: NDArray[np.int64]) -> str | None:
        """Say what the chain forbids on the path of a sequence (in packed order); None: nothing.

        `tags` (M,) are those of all rows.
        """
        rows = self.offsets[: int(self.lengths[sequence])] + sequence
        path = tags[rows]
        if self.chain.start[path[0]] == -np.inf:
            return f"it begins with tag {path[0]}"
        wrong = np.flatnonzero(self.chain.transitions[path[:-1], path[1:]] == -np.inf)
        if len(wrong):
            step = int(wrong[0])
            return f"tag {path[step + 1]} follows tag {path[step]} at step {step + 1}"
        return f"it ends with tag {path[-1]}" if self.chain.end[path[-1]] == -np.inf else None
