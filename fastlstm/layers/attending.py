"""What Attention and AdditiveAttention have in common: all but how queries and keys make scores."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..data.packed import Packed, writeable
from ..data.pairs import align, align_back, check_partners, rows_in
from ..engine.attention import Attended, RowGradients, attend, attend_backward, pairs_of
from ..engine.products import gradient_of_weight, padded_bias, panels_of, panels_size, rows_of, times
from ..errors import NotBuiltError, OptionError, ShapeError
from ..runtime.workspace import Frame, Workspace
from .base import Gradients, PassContext, dropped
from .several import SeveralInputs
from .symbol import Spec

__all__ = ["Attending", "flag"]

Rows = NDArray[Any]


class Operands(NamedTuple):
    """What scores are made of; see `Attended`."""

    query: Rows
    key: Rows | None
    u: Rows | None


class Cache(NamedTuple):
    """What backward needs."""

    of: Attended
    query: Packed
    query_rows: Rows
    key_rows: Rows | None  # of a third input, in the value's order
    key_places: NDArray[np.int64] | None
    weights: Rows
    frame: Frame


def flag(kind: str, word: str, value: object) -> bool:
    """Return the truth value that was passed as `word`; raise OptionError for anything else."""
    if not isinstance(value, bool | np.bool_):
        raise OptionError(f"{kind}: {word}={value!r}; expected True or False")
    return bool(value)


class Attending(SeveralInputs):
    """Base of the attention layers. A subclass says what is scored: `operands` and `operands_back`.

    Outputs are the context and the weights, both of the query's steps: those of the weights are read where scores are
    asked for.
    """

    inputs: ClassVar[tuple[int, int]] = (2, 3)

    def __init__(
        self,
        use_scale: bool,
        dropout: float,
        return_attention_scores: bool,
        use_causal_mask: bool,
        name: str | None,
        dtype: DTypeLike,
    ):
        super().__init__(name=name, dtype=dtype)
        self.use_scale = flag(self.kind, "use_scale", use_scale)
        self.dropout = dropped(self.kind, "dropout", dropout)
        self.return_attention_scores = flag(self.kind, "return_attention_scores", return_attention_scores)
        self.use_causal_mask = flag(self.kind, "use_causal_mask", use_causal_mask)
        self._called = False
        self._panels: dict[str, Rows] = {}  # of weights by name, packed to multiply by their transposes

    # --- what a subclass defines ----------------------------------------------------------------------------------

    def operands(self, query: Rows, key: Rows, own_key: bool, memory: Any) -> Operands:
        """Return what is scored, given the rows of queries and of keys, which are also the values unless `own_key`.

        ``memory(name, shape)`` gives an array.
        """
        raise NotImplementedError

    def operands_back(
        self, inner: RowGradients, cache: Cache, workspace: Workspace
    ) -> tuple[Rows, Rows | None, Gradients]:
        """Return the gradients of the rows of queries, of the keys (None: none beside the values'), of parameters."""
        raise NotImplementedError

    # --- sizes ----------------------------------------------------------------------------------------------------

    @property
    def features_out(self) -> int:
        return int(self.features_in[1]) if self.built else 0

    def features_for(self, features: Any) -> int | None:
        """Return the features of the context: those of the values."""
        return None if features[1] is None else int(features[1])

    def config(self) -> dict[str, Any]:
        return {
            "use_scale": self.use_scale,
            "dropout": self.dropout,
            "return_attention_scores": self.return_attention_scores,
            "use_causal_mask": self.use_causal_mask,
            "name": self.name,
            "dtype": self.dtype.name,
        }

    def check_scored(self, query: int, key: int) -> None:
        """Raise ShapeError unless queries and keys of so many features can be scored."""

    def specs(self, inputs: tuple[Spec, ...]) -> tuple[Spec, ...]:
        self.check_count(len(inputs))
        features = tuple(one.features for one in inputs)
        if any(one is None for one in features):
            raise ShapeError(
                f"{self.kind}: inputs of shapes {[one.shape for one in inputs]}; their features must be known"
            )
        self._check(tuple(one.steps for one in inputs))
        self.check_scored(features[0] or 0, features[-1] or 0)
        if self.built and features != self.features_in:
            raise ShapeError(
                f"{self.kind}: inputs of {features} features, this layer was built for {self.features_in}; "
                "pass the same features, or build a new layer"
            )
        axis = inputs[0].axis
        return Spec(features[1], axis), Spec(None, axis)

    def _check(self, steps: tuple[bool, ...]) -> None:
        """Raise ShapeError unless the values have steps, and the query where it matters which."""
        if not all(steps[1:]):
            raise ShapeError(
                f"{self.kind}: the {'key' if steps[1] else 'value'} has one row a sequence; expected steps to attend "
                "to: set return_sequences=True in the layer that makes it"
            )
        if self.use_causal_mask and not steps[0]:
            raise ShapeError(
                f"{self.kind}: use_causal_mask=True, but the query has one row a sequence: its step is not known"
            )

    def features_from(self, tensors: dict[str, Rows]) -> Any:
        raise NotBuiltError(
            f"{self.kind}: how many features its inputs have does not follow from its parameters; call it on data "
            "or build((query's, value's)) first"
        )

    def changed(self) -> None:
        self._panels = {}  # who packs the old ones just now leaves them in the old dict

    # --- passes ---------------------------------------------------------------------------------------------------

    def __call__(  # type: ignore[override]
        self,
        x: Any,
        *,
        lengths: Sequence[ArrayLike | None] | None = None,
        return_attention_scores: bool | None = None,
        use_causal_mask: bool | None = None,
    ) -> Any:
        """Apply the layer to arrays, for inference, or to symbols.

        Parameters
        ----------
        x : list of arrays, or of lists of arrays
            ``[query, value]`` or ``[query, value, key]``: a query ``(N, Tq, F)``, or ``(N, F)``, one row a sequence,
            and memories ``(N, Tv, F)``; or lists of ``(T_n, F)``.
        lengths : sequence of (array of int or None), optional
            For each input, the true steps of its sequences. Keys have the value's.
        return_attention_scores : bool, optional
            Whether the weights are returned too; default: as the layer was made.
        use_causal_mask : bool, optional
            Default: as the layer was made. The first call decides for all.

        Returns
        -------
        array or list of arrays, or a pair of them
            The context in the form of the query; ``(context, scores)`` if asked for: the weights of each memory step,
            ``(N, Tq, Tv)``, zeros beyond the true ones.

        Raises
        ------
        ShapeError
            Inputs that do not go together.
        OptionError
            A causal call of a layer whose calls before were not, or the other way round.
        """
        if use_causal_mask is not None and flag(self.kind, "use_causal_mask", use_causal_mask) != self.use_causal_mask:
            if self._called:
                raise OptionError(
                    f"{self.kind}: use_causal_mask={use_causal_mask}, but calls before had {self.use_causal_mask}; "
                    "make another layer for this one"
                )
            self.use_causal_mask = bool(use_causal_mask)
        context, scores = super().__call__(x, lengths=lengths)
        self._called = True
        wanted = self.return_attention_scores
        if return_attention_scores is not None:
            wanted = flag(self.kind, "return_attention_scores", return_attention_scores)
        return (context, scores) if wanted else context

    def run(self, inputs: tuple[Packed, ...], context: PassContext) -> tuple[tuple[Packed, ...], Cache | None]:
        query, value = inputs[:2]
        self._check(tuple(one.steps for one in inputs))
        check_partners(value, query, self.kind)
        frame = context.workspace.frame(self) if context.training else None

        def memory(name: str, shape: tuple[int, ...]) -> Rows:
            return np.empty(shape, self.dtype) if frame is None else frame.take(name, shape, self.dtype)

        places, key_rows = None, None
        if len(inputs) == 3:
            places = rows_in(inputs[2], value, self.kind)
            key_rows = _contiguous(align(inputs[2].rows, places))
        query_rows, values = _contiguous(query.rows), _contiguous(value.rows)
        shape = len(query_rows), len(value.batch_sizes)
        scored = self.operands(query_rows, values if key_rows is None else key_rows, key_rows is not None, memory)
        mask = self._mask(shape, frame, context) if frame is not None and self.dropout else None
        of = Attended(pairs_of(query, value), scored.query, scored.key, values, scored.u, mask, self.use_causal_mask)
        weights, out = memory("weights", shape), memory("context", (len(query_rows), values.shape[1]))
        attend(of, weights, out, context.workspace)
        scores = weights if mask is None else np.multiply(weights, mask, out=memory("scores", shape))
        cache = None if frame is None else Cache(of, query, query_rows, key_rows, places, weights, frame)
        return (query.with_rows(out), query.with_rows(scores)), cache

    def _mask(self, shape: tuple[int, int], frame: Frame, context: PassContext) -> Rows:
        mask, drawn = frame.take("mask", shape, self.dtype), frame.take("drawn", shape, np.float32)
        context.rng.random(dtype=np.float32, out=drawn)
        kept: Rows = np.multiply(drawn >= self.dropout, self.dtype.type(1.0 / (1.0 - self.dropout)), out=mask)
        return kept

    def run_back(
        self, dys: tuple[Rows | None, ...], cache: Cache, context: PassContext
    ) -> tuple[tuple[Rows, ...], Gradients]:
        of, frame = cache.of, cache.frame

        def like(name: str, rows: Rows) -> Rows:
            return frame.take(name, rows.shape, self.dtype)

        dcontext, dweights = dys
        if dcontext is None:
            dcontext = frame.take("no dcontext", (len(of.query), of.value.shape[1]), self.dtype)
            dcontext[...] = 0.0
        du = None if of.u is None else frame.take("du", (len(of.pairs.partners), len(of.u)), self.dtype)
        dkey = None if of.key is None else like("dkey", of.key)
        inner = RowGradients(like("dquery", of.query), dkey, like("dvalue", of.value), du)
        outer = _contiguous(dcontext), None if dweights is None else _contiguous(dweights)
        attend_backward(of, cache.weights, outer, inner, context.workspace)
        dquery, dkey, gradients = self.operands_back(inner, cache, context.workspace)
        context.workspace.release(self, frame)
        if cache.key_rows is not None:
            assert dkey is not None  # keys of their own
            return (dquery, inner.value, align_back(dkey, cache.key_places)), gradients
        dvalue = inner.value
        if dkey is not None:  # of the values, projected
            dvalue += dkey
        return (dquery, dvalue), gradients

    # --- products with a weight of this layer ---------------------------------------------------------------------

    def project(self, rows: Rows, name: str, memory: Any) -> Rows:
        """Return ``rows W^T`` for the parameter of this name."""
        weight, kept = self.arrays[name], self._panels
        if name not in kept:
            kept[name] = panels_of(weight.T)
        out: Rows = memory(f"projected by {name}", (len(rows), len(weight)))
        return times(rows, kept[name], padded_bias(None, len(weight), self.dtype), out)

    def project_back(self, dy: Rows, rows: Rows, name: str, frame: Frame, workspace: Workspace) -> tuple[Rows, Rows]:
        """Return the gradients of `rows` and of the parameter, given that of `project`."""
        weight = self.arrays[name]
        units, features = weight.shape
        dweight, _ = gradient_of_weight(rows_of(dy), rows_of(rows), len(rows), frame, workspace, name, sums=False)
        size = panels_size(units, features, self.dtype)
        panels = panels_of(weight, frame.take(f"panels of {name}", (size,), self.dtype))
        dx = frame.take(f"through {name}", rows.shape, self.dtype)
        return times(dy, panels, padded_bias(None, features, self.dtype), dx), dweight


def _contiguous(rows: Rows) -> Rows:
    return writeable(np.ascontiguousarray(rows))
