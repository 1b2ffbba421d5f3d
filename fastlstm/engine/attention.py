"""One call of attention: which rows of two packed batches belong together, scratch, and the share of each core."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.packed import Packed
from ..data.pairs import places_in
from ..kernels import attention as kernels
from ..runtime import config
from ..runtime.pool import num_chunks, parallel_for
from ..runtime.workspace import Workspace

__all__ = ["Attended", "RowGradients", "attend", "attend_backward", "pairs_of"]


class Attended(NamedTuple):
    """What attends to what. Arrays are contiguous and of one float type.

    Attributes
    ----------
    pairs : Pairs
        Which rows belong together.
    query : ndarray, shape (M, E)
        A row for each query step.
    key : ndarray, shape (rows of the memory, E), or None
        A row for each memory step; None: the values are the keys.
    value : ndarray, shape (rows of the memory, F)
        A row for each memory step.
    u : ndarray or None
        The vector of additive scores, with zeros up to whole panels (`products.padded_bias`); None: dot products.
    mask : ndarray, shape (M, longest memory), or None
        Factors of the weights: what dropout left of them.
    causal : bool
        Whether a query step sees the memory steps up to its own alone.
    """

    pairs: kernels.Pairs
    query: NDArray[Any]
    key: NDArray[Any] | None
    value: NDArray[Any]
    u: NDArray[Any] | None
    mask: NDArray[Any] | None
    causal: bool


class RowGradients(NamedTuple):
    """Memory for gradients, of the shapes of what they belong to.

    ``key`` is None where the values are the keys: ``value`` is then the gradient as both. ``u`` has a row for each
    pair, as long as the padded u, and is None where scores are dot products.
    """

    query: NDArray[Any]
    key: NDArray[Any] | None
    value: NDArray[Any]
    u: NDArray[Any] | None


def pairs_of(query: Packed, memory: Packed) -> kernels.Pairs:
    """Return where the rows of each sequence of `query` and of its partner in `memory` are."""
    partners = places_in(memory, query)
    return kernels.Pairs(
        query.offsets,
        query.lengths,
        memory.offsets,
        memory.lengths,
        np.arange(query.sequences) if partners is None else partners,
    )


def attend(of: Attended, weights: NDArray[Any], context: NDArray[Any], workspace: Workspace) -> None:
    """Write the weights (M, longest memory), zeros beyond each memory, and the context (M, F) of each query row."""
    empty = np.empty(0, of.value.dtype)
    _share(
        kernels.attend,
        *(of.pairs, of.causal, *_operands(of, empty), weights, context),
        of=of,
        workspace=workspace,
        backward=False,
    )


def attend_backward(
    of: Attended,
    weights: NDArray[Any],
    outer: tuple[NDArray[Any], NDArray[Any] | None],
    inner: RowGradients,
    workspace: Workspace,
) -> None:
    """Write the gradients `inner`, given those of the context and of the weights (after dropout) and these weights."""
    empty = np.empty((0, 0), of.value.dtype)
    dcontext, dweights = outer
    _share(
        kernels.attend_backward,
        *(of.pairs, *_operands(of, empty.reshape(-1)), weights, (dcontext, empty if dweights is None else dweights)),
        tuple(empty if one is None else one for one in inner),
        of=of,
        workspace=workspace,
        backward=True,
    )


def _operands(of: Attended, empty: NDArray[Any]) -> tuple[Any, ...]:
    """Return query, key, value, u and mask as kernels take them."""
    return (
        (of.query.reshape(-1), of.query.shape[1]),
        (empty if of.key is None else of.key.reshape(-1), of.query.shape[1]),
        (of.value.reshape(-1), of.value.shape[1]),
        empty if of.u is None else of.u,
        empty.reshape(0, 0) if of.mask is None else of.mask,
    )


def _share(kernel: Any, *arguments: Any, of: Attended, workspace: Workspace, backward: bool) -> None:
    """Run a kernel on the pairs, shared over cores by what each costs."""
    pairs, (wide, features), tuned = of.pairs, (of.query.shape[1], of.value.shape[1]), config.TUNED
    steps = pairs.memory_steps[pairs.partners]
    each_score = 2 * tuned.ns_per_flop * (features + wide * (1 if of.u is None else tuned.tanh_flops))
    each = pairs.query_steps * steps * each_score + (pairs.query_steps + steps) * (wide + features) * tuned.ns_per_moved
    cost = float(each.sum()) * (2 if backward else 1)
    longest = int(pairs.query_steps[0]), int(pairs.memory_steps[0])
    sizes = kernels.scratch_for(longest, (wide, features), of.value.dtype, backward=backward)
    kind = kernels.BackwardScratch if backward else kernels.Scratch
    scratch = [
        kind(
            *(
                workspace.shared(("attention scratch", part, name), (size,), of.value.dtype)
                for name, size in zip(kind._fields, sizes, strict=True)
            )
        )
        for part in range(num_chunks(cost, len(steps)))
    ]
    for own in scratch:
        own.zeros[...] = 0.0
    parallel_for(kernel, *arguments, count=len(steps), cost=cost, each=scratch, weights=each)
