"""Attention: which steps of a memory each query step reads, by products (Luong) or by a tanh (Bahdanau).

``docs/attention.md`` has the equations. Memories may be ragged, and packed in another order than the queries.
"""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..engine.attention import RowGradients
from ..engine.products import padded_bias
from ..errors import OptionError, ShapeError
from ..runtime.workspace import Workspace
from .attending import Attending, Cache, Operands
from .base import Gradients, size
from .initializers import glorot_uniform

__all__ = ["AdditiveAttention", "Attention"]

Rows = NDArray[Any]
ScoreMode = Literal["dot", "general"]


class Attention(Attending):
    """Return for each query step the mean of the values, weighted by how well their keys match (Luong et al. 2015).

    Parameters
    ----------
    use_scale : bool
        Whether products are multiplied by a learnt number.
    score_mode : {"dot", "general"}
        "dot": the product of query and key, which need as many features. "general": the query is multiplied by a learnt
        matrix first. (Keras's "concat" is here `AdditiveAttention`.)
    dropout : float
        Fraction of the weights that training drops.
    return_attention_scores : bool
        Whether to return the weights too: ``(context, scores)``. Keras's way is an argument of the call, which serves
        as well.
    use_causal_mask : bool
        Whether query step t reads memory steps up to t alone, as a step of a sequence that attends to itself may. May
        be set in the first call as well.
    name, dtype
        See `Layer`.

    Raises
    ------
    OptionError
        An option that makes no sense.
    ShapeError
        Inputs that cannot be scored by each other, or a memory without steps.

    Notes
    -----
    Called on ``[query, value]`` or ``[query, value, key]``; without a key the values are the keys. Only true steps are
    read. A query may be one row a sequence, ``(N, F)``: one step of a decoder, which gets the same bits as within its
    sequence. Parameters: ``scale (1,)``, 1 at first, with `use_scale`; ``weight (F_key, F_query)``, Glorot uniform at
    first, with "general". As in Keras, what dropout has made of the weights is what training returns as scores.

    References
    ----------
    T. Luong, H. Pham, C. D. Manning. Effective approaches to attention-based neural machine translation. EMNLP 2015.

    Examples
    --------
    >>> import numpy as np, fastlstm as fl
    >>> query, value = np.array([[[0.0], [9.0]]]), np.array([[[1.0], [3.0]]])
    >>> context, scores = fl.Attention()([query, value], return_attention_scores=True)
    >>> context.round(3).tolist(), scores.round(3).tolist()
    ([[[2.0], [3.0]]], [[[0.5, 0.5], [0.0, 1.0]]])
    """

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: ScoreMode = "dot",
        dropout: float = 0.0,
        *,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
        name: str | None = None,
        dtype: DTypeLike = "float32",
    ):
        super().__init__(use_scale, dropout, return_attention_scores, use_causal_mask, name, dtype)
        if score_mode not in get_args(ScoreMode):
            other = "; use AdditiveAttention, which has a vector in place of Keras's number" * (
                str(score_mode) == "concat"
            )
            raise OptionError(f"Attention: score_mode={score_mode!r}; expected 'dot' or 'general'{other}")
        self.score_mode: ScoreMode = score_mode

    def config(self) -> dict[str, Any]:
        return {"score_mode": self.score_mode, **super().config()}

    def check_scored(self, query: int, key: int) -> None:
        if self.score_mode == "dot" and query != key:
            raise ShapeError(
                f"Attention: queries have {query} features, keys {key}; products need as many: set "
                "score_mode='general', or bring one to the size of the other with Dense"
            )

    def create(self, features: Any, rng: np.random.Generator | None) -> dict[str, Rows]:
        query, key = features[0], features[-1]
        self.check_scored(query, key)
        params: dict[str, Rows] = {}
        if self.score_mode == "general":
            params["weight"] = glorot_uniform(rng, (key, query), query, key)
        if self.use_scale:
            params["scale"] = np.ones(1)
        return params

    def operands(self, query: Rows, key: Rows, own_key: bool, memory: Any) -> Operands:
        if self.score_mode == "general":
            query = self.project(query, "weight", memory)
        if self.use_scale:
            query = np.multiply(query, self.arrays["scale"], out=memory("scaled", query.shape))
        return Operands(query, key if own_key else None, None)

    def operands_back(
        self, inner: RowGradients, cache: Cache, workspace: Workspace
    ) -> tuple[Rows, Rows | None, Gradients]:
        dquery, frame, gradients = inner.query, cache.frame, Gradients()
        general = self.score_mode == "general"
        if self.use_scale:
            shape = dquery.shape
            plain = frame.take("projected by weight", shape, self.dtype) if general else cache.query_rows
            products = np.multiply(plain, dquery, out=frame.take("products", shape, self.dtype))
            gradients["scale"] = products.sum(dtype=np.float64, keepdims=True).reshape(1).astype(self.dtype)
            dquery *= self.arrays["scale"]
        if general:
            dquery, gradients["weight"] = self.project_back(dquery, cache.query_rows, "weight", frame, workspace)
        return dquery, inner.key, gradients


class AdditiveAttention(Attending):
    """Return for each query step the mean of the values, weighted by a tanh of query and key (Bahdanau et al. 2015).

    Parameters
    ----------
    use_scale : bool
        Whether the tanh of each feature has a learnt factor in the sum over features; else all have 1.
    dropout : float
        Fraction of the weights that training drops.
    units : int, optional
        Project queries and keys to so many features by learnt matrices, as the paper does. None is Keras's layer, which
        adds queries and keys as they are: project them with `Dense`, once for all steps of a decoder.
    return_attention_scores, use_causal_mask, name, dtype
        See `Attention`.

    Raises
    ------
    OptionError
        An option that makes no sense.
    ShapeError
        Without `units`: queries and keys of other features; or a memory without steps.

    Notes
    -----
    Called as `Attention` is. Parameters, all Glorot uniform at first: ``query_weight (units, F_query)`` and
    ``key_weight (units, F_key)`` with `units`, and with `use_scale` ``scale (units,)``, or ``(F_query,)``.

    References
    ----------
    D. Bahdanau, K. Cho, Y. Bengio. Neural machine translation by jointly learning to align and translate. ICLR 2015.

    Examples
    --------
    >>> import numpy as np, fastlstm as fl
    >>> attention = fl.AdditiveAttention(units=4)
    >>> attention([np.zeros((2, 3, 5)), np.ones((2, 7, 6))]).shape
    (2, 3, 6)
    """

    def __init__(
        self,
        use_scale: bool = True,
        dropout: float = 0.0,
        *,
        units: int | None = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
        name: str | None = None,
        dtype: DTypeLike = "float32",
    ):
        super().__init__(use_scale, dropout, return_attention_scores, use_causal_mask, name, dtype)
        self.units = None if units is None else size("AdditiveAttention", "units", units)

    def config(self) -> dict[str, Any]:
        return {"units": self.units, **super().config()}

    def check_scored(self, query: int, key: int) -> None:
        if self.units is None and query != key:
            raise ShapeError(
                f"AdditiveAttention: queries have {query} features, keys {key}; a sum needs as many: set units= to "
                "project both, or bring one to the size of the other with Dense"
            )

    def create(self, features: Any, rng: np.random.Generator | None) -> dict[str, Rows]:
        query, key = features[0], features[-1]
        self.check_scored(query, key)
        params: dict[str, Rows] = {}
        units = self.units or query
        if self.units is not None:
            params["query_weight"] = glorot_uniform(rng, (units, query), query, units)
            params["key_weight"] = glorot_uniform(rng, (units, key), key, units)
        if self.use_scale:
            params["scale"] = glorot_uniform(rng, (units,), units, units)
        return params

    def operands(self, query: Rows, key: Rows, own_key: bool, memory: Any) -> Operands:
        if self.units is not None:
            query, key = self.project(query, "query_weight", memory), self.project(key, "key_weight", memory)
        units = query.shape[1]
        factors = self.arrays["scale"] if self.use_scale else np.ones(units, self.dtype)
        return Operands(
            query, key if own_key or self.units is not None else None, padded_bias(factors, units, self.dtype)
        )

    def operands_back(
        self, inner: RowGradients, cache: Cache, workspace: Workspace
    ) -> tuple[Rows, Rows | None, Gradients]:
        dquery, dkey, frame, gradients = inner.query, inner.key, cache.frame, Gradients()
        if self.use_scale:
            assert inner.u is not None  # of additive scores
            gradients["scale"] = inner.u.sum(axis=0, dtype=np.float64)[: dquery.shape[1]].astype(self.dtype)
        if self.units is not None:
            assert dkey is not None  # projected
            key = cache.of.value if cache.key_rows is None else cache.key_rows
            rows = cache.query_rows
            dquery, gradients["query_weight"] = self.project_back(dquery, rows, "query_weight", frame, workspace)
            dkey, gradients["key_weight"] = self.project_back(dkey, key, "key_weight", frame, workspace)
        return dquery, dkey, gradients
