"""A linear-chain CRF over a batch: losses, marginals and gradients, shared over cores by sequences."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.chain import Chain, ChainScores
from ..data.packed import Packed, writeable
from ..kernels.crf import crf_gradient, crf_losses, crf_marginals, padded_tags, scratch_size
from ..runtime.pool import num_chunks, parallel_for
from ..runtime.workspace import temporary

__all__ = ["chain_gradient", "chain_losses", "chain_marginals"]

_BLOCKS = 32
"""Into how many groups of sequences the gradient of the chain is summed, before these are. The sums' last bits depend
on it, so it must not depend on the number of threads; each takes a matrix of K x K."""

_FLOAT = np.dtype(np.float64)
"""What the kernels compute in."""

_STEP_NS, _FORWARD_NS, _BACK_NS = 120.0, 0.12, 0.15
"""What a step costs whatever it has to do, and what it costs for each of K x K transitions, on one core."""


def _table(chain: Chain) -> NDArray[np.float64]:
    """Return a chain as kernels take it: (K + 2, P)."""
    tags = len(chain.start)
    table = np.full((tags + 2, padded_tags(tags)), -np.inf)
    table[:tags, :tags] = chain.transitions
    table[tags, :tags] = chain.start
    table[tags + 1, :tags] = chain.end
    return table


def _share(kernel: Callable[..., Any], args: tuple[Any, ...], x: Packed, count: int, per_move: float) -> None:
    """Call a kernel for parts of range(count), groups of sequences, with scratch for each part.

    Sequence n is in group ``n % count``.
    """
    tags = x.features
    cost = x.total * (_STEP_NS + per_move * tags * tags)
    parts, size = num_chunks(cost, count), scratch_size(len(x.batch_sizes), tags)
    steps = None if x.dense or parts == 1 else np.bincount(np.arange(x.sequences) % count, x.lengths)
    with temporary(parts * size, _FLOAT) as memory:
        each = [memory[part * size : (part + 1) * size] for part in range(parts)]
        parallel_for(kernel, *args, count=count, cost=cost, each=each, weights=steps)


def chain_losses(scores: ChainScores, tags: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return ``-log p(tags)`` of each sequence (N,), in packed order; `tags` (M,) are one a row."""
    losses = np.empty(scores.sequences)
    rows, table = writeable(np.ascontiguousarray(scores.rows)), _table(scores.chain)
    args = rows, tags, scores.offsets, scores.lengths, table, losses
    _share(crf_losses, args, scores, scores.sequences, _FORWARD_NS)
    return losses


def chain_marginals(emissions: Packed, chain: Chain, out: NDArray[Any]) -> NDArray[np.float64]:
    """Write the probability of each tag at each step to `out` (M, K); return log Z of each sequence (N,)."""
    partitions = np.empty(emissions.sequences)
    rows = writeable(np.ascontiguousarray(emissions.rows))
    args = rows, emissions.offsets, emissions.lengths, _table(chain), out, partitions
    _share(crf_marginals, args, emissions, emissions.sequences, _FORWARD_NS + _BACK_NS)
    return partitions


def chain_gradient(
    scores: ChainScores, tags: NDArray[np.int64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], Chain]:
    """Overwrite the emissions with the gradient of ``sum(weights * losses)``; return the losses and the chain's.

    The rows must be contiguous. Losses of weight 0 are not computed, but 0 too.
    """
    losses, table, blocks = np.empty(scores.sequences), _table(scores.chain), min(_BLOCKS, scores.sequences)
    with temporary(blocks * table.size, _FLOAT) as memory:
        sums = memory[: blocks * table.size].reshape(blocks, *table.shape)
        args = scores.rows, tags, weights, scores.offsets, scores.lengths, table, losses, sums
        _share(crf_gradient, args, scores, blocks, _FORWARD_NS + _BACK_NS)
        total = sums.sum(axis=0)
    count = scores.features
    return losses, Chain(total[:count, :count], total[count, :count], total[count + 1, :count])
