"""The best paths of tags under a CRF, found by the Viterbi decoder."""

from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.packed import BatchFormat, BatchLike
from ..data.sequences import SequenceSet
from ..decode.hypothesis import Hypothesis
from ..decode.viterbi import viterbi
from ..errors import NotBuiltError, OptionError
from ..layers import PassContext
from ..layers.crf import CRF
from ..training.loop import batches_of
from .stack import Stack

__all__ = ["decode_tags"]

_BATCH = 32
"""Sequences that go through a model's layers at a time."""

_AS_LIST = BatchFormat("list", 0)


def decode_tags(model: Stack | CRF, x: BatchLike, lengths: ArrayLike | None = None) -> Any:
    """Return the path of tags that is the most probable as a whole, for each sequence (Viterbi 1967).

    The tag that is the most probable at each step alone, which ``predict(x).argmax(axis=-1)`` gives, may be another
    one, and the path of those may have a transition of probability 0.

    Parameters
    ----------
    model : Sequential or CRF
        A chain of layers that ends with a CRF, or the layer itself.
    x : array or list of arrays
        What the model takes; for a CRF the emissions, ``(N, T, K)`` or a list of ``(T_n, K)``.
    lengths : array of int, shape (N,), optional
        True steps of each sequence of a padded array.

    Returns
    -------
    array or list of arrays
        int64: ``(N, T)``, zeros from each sequence's length on; for a list a list of ``(T_n,)``.

    Raises
    ------
    OptionError
        The model does not end with a CRF.
    NotBuiltError
        It has no weights yet.
    DataError
        NaN or +inf among the emissions; a sequence all of whose paths are forbidden.
    ShapeError
        `x` does not fit the model.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm.layers.crf import CRF
    >>> crf = CRF(forbidden=[(1, 1)])
    >>> crf.build(2, rng=0)
    >>> decode_tags(crf, np.array([[[0.0, 4.0], [0.0, 9.0], [0.0, 4.0]]]))
    array([[0, 1, 0]])
    """
    crf, form, emissions = _emissions(model, x, lengths)
    chain = crf.chain
    found = cast(list[list[Hypothesis]], viterbi(emissions, chain.transitions, start=chain.start, end=chain.end))
    paths = [np.array(best.ids, np.int64) for [best] in found]
    if form.kind == "list":
        return paths
    tags = np.zeros((len(paths), max(form.length, *map(len, paths))), np.int64)
    for row, path in zip(tags, paths, strict=True):
        row[: len(path)] = path
    return tags


def _emissions(
    model: Stack | CRF, x: BatchLike, lengths: ArrayLike | None
) -> tuple[CRF, BatchFormat, list[NDArray[Any]]]:
    """Return the CRF, the form of the input, and the emissions (T_n, K) of each sequence as the user numbers them."""
    if isinstance(model, CRF):
        if not model.built:
            raise NotBuiltError("decode_tags: the CRF has no weights yet; train it, build(features), or load some")
        packed, form = model.take(x, lengths)
        return model, form, _AS_LIST.unpack(packed)
    crf = model.layers[-1] if isinstance(model, Stack) and model.layers else None
    if not isinstance(crf, CRF):
        raise OptionError("decode_tags: this is no model that ends with a CRF; expected a Sequential, or a CRF layer")
    if not model.built:
        raise NotBuiltError("decode_tags: the model has no weights yet; call fit, or build(features), or load one")
    first = model.layers[0]
    data = SequenceSet(
        x, lengths=lengths, ids=first.takes_ids, by_step=True, samples=first.takes_samples, who="decode_tags"
    )
    found: list[NDArray[Any]] = []
    for which in batches_of(len(data), _BATCH):
        rows = data.take(which, first.dtype).x
        if not first.takes_ids:
            first.check_features(rows.features)
        for layer in model.layers[:-1]:
            rows, _ = layer.forward(rows, PassContext())
        found += _AS_LIST.unpack(rows)
    return crf, data.form, found
