"""The best paths of tags under a CRF, found by the Viterbi decoder."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..data.packed import BatchFormat, Packed
from ..decode.hypothesis import Hypothesis
from ..decode.viterbi import viterbi
from ..errors import NotBuiltError, OptionError
from ..layers import PassContext
from ..layers.crf import CRF
from ..training.graph import Graph
from ..training.loop import batches_of
from .data import Unpacker, join
from .trainable import Trainable

__all__ = ["decode_tags"]

_BATCH = 32
"""Sequences that go through a model's layers at a time."""

_AS_LIST = BatchFormat("list", 0)


def decode_tags(model: Trainable | CRF, x: Any, lengths: Any = None) -> Any:
    """Return the path of tags that is the most probable as a whole, for each sequence (Viterbi 1967).

    The tag that is the most probable at each step alone, which ``predict(x).argmax(axis=-1)`` gives, may be another
    one, and the path of those may have a transition of probability 0.

    Parameters
    ----------
    model : Model, Sequential or CRF
        A model one of whose outputs is that of a CRF, or the layer itself.
    x : array or list of arrays
        What the model's `predict` takes; for a CRF the emissions, ``(N, T, K)`` or a list of ``(T_n, K)``.
    lengths : array of int, shape (N,), optional
        True steps of each sequence of a padded array.

    Returns
    -------
    array or list of arrays
        int64: ``(N, T)``, zeros where there is padding; for a list a list of ``(T_n,)``.

    Raises
    ------
    OptionError
        The model does not end with a CRF, or with several.
    NotBuiltError
        It has no weights yet.
    DataError
        NaN or +inf among the emissions; a sequence all of whose paths are forbidden.
    ShapeError
        `x` does not fit the model.

    Examples
    --------
    >>> import numpy as np, fastlstm as fl
    >>> crf = fl.CRF(forbidden=[(1, 1)])
    >>> crf.build(2, rng=0)
    >>> decode_tags(crf, np.array([[[0.0, 4.0], [0.0, 9.0], [0.0, 4.0]]]))
    array([[0, 1, 0]])
    """
    crf, parts, unpack = _emissions(model, x, lengths)
    chain = crf.chain
    sequences = [sequence for part in parts for sequence in _AS_LIST.unpack(part)]
    found = cast(list[list[Hypothesis]], viterbi(sequences, chain.transitions, start=chain.start, end=chain.end))
    paths = [np.array(best.ids, np.int64) for [best] in found]
    decoded, done = [], 0
    for part in parts:
        tags = np.empty(part.total, np.int64)
        offsets, packed_places = part.offsets, part.to_user_order(np.arange(part.sequences))
        for n, path in zip(packed_places, paths[done : done + part.sequences], strict=True):
            tags[offsets[: len(path)] + n] = path
        decoded.append(unpack(part.with_rows(tags), np.arange(done, done + part.sequences)))
        done += part.sequences
    return join(decoded)


def _emissions(
    model: Trainable | CRF, x: Any, lengths: Any
) -> tuple[CRF, Sequence[Packed], Callable[[Packed, NDArray[np.int64]], Any]]:
    """Return the CRF, its emissions batch by batch, and what gives a batch of those numbers the form of the input."""
    if isinstance(model, CRF):
        if not model.built:
            raise NotBuiltError("decode_tags: the CRF has no weights yet; train it, build(features), or load some")
        packed, form = model.take(x, lengths)
        return model, [packed], lambda tags, _: form.unpack(tags)
    if not isinstance(model, Trainable):
        raise OptionError(f"decode_tags: {type(model).__name__} is no model with a CRF; pass a Model, or the layer")
    model._need_built("decode_tags")
    data = model._set("decode_tags", x, lengths=lengths)
    graph = model._graph_for(data)
    ends = [symbol for symbol in graph.outputs if symbol.node is not None and isinstance(symbol.node.layer, CRF)]
    if len(ends) != 1:
        raise OptionError(f"decode_tags: {len(ends)} of the model's outputs come from a CRF; expected one")
    node = ends[0].node
    assert node is not None
    body = Graph(graph.inputs, node.inputs, "decode_tags")
    parts = []
    for which in batches_of(len(data), _BATCH):
        batch = data.take(which, model._dtype)
        model._check_inputs(batch, graph)
        parts += body.forward(batch.inputs, PassContext())[0]
    return cast(CRF, node.layer), parts, Unpacker(ends[0], graph, data)
