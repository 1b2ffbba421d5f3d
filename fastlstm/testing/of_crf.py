"""A CRF that puts out its loss: its own output, the probabilities of tags, is not what trains it."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.chain import ChainScores
from ..data.packed import Packed
from ..engine.context import Gradients, PassContext
from ..layers.crf import CRF
from ..training.losses import CRFLoss

__all__ = ["with_its_loss"]


class _Cache(NamedTuple):
    scores: ChainScores
    tags: NDArray[np.int64]
    of_layer: Any


class _WithLoss(CRF):
    """Put out the loss of each sequence (N, 1), for a path of tags that the layer allows."""

    kind = "CRF"

    @property
    def features_out(self) -> int:
        return 1

    @property
    def returns_steps(self) -> bool:
        return False

    def _tags(self, x: Packed) -> NDArray[np.int64]:
        """Return tags (M,), the same for any parameters: those of the best paths where all that is allowed is alike."""
        from ..decode.viterbi import viterbi  # compiled; who checks another layer does without

        transitions, start, end = (np.where(scores == -np.inf, -np.inf, 0.0) for scores in self.chain)
        tags = np.empty(x.total, np.int64)
        for n, length in enumerate(x.lengths):
            numbers = np.random.default_rng(n).standard_normal((length, x.features))
            tags[x.offsets[:length] + n] = viterbi(numbers, transitions, start=start, end=end)[0].ids  # type: ignore[union-attr]
        return tags

    def forward(self, x: Packed, context: PassContext, *, linear: bool = False) -> tuple[Packed, Any]:
        """Return the losses."""
        scores, of_layer = super().forward(x, context, linear=True)
        assert isinstance(scores, ChainScores)
        tags = self._tags(x)
        losses = CRFLoss().sequences(scores, tags)
        return x.one_row_each(losses[:, None].astype(self.dtype)), _Cache(scores, tags, of_layer)

    def backward(self, dy: NDArray[Any], cache: _Cache, context: PassContext) -> tuple[NDArray[Any], Gradients]:  # type: ignore[override]
        """Return the gradients of ``sum(dy * losses)``."""
        weights = dy[:, 0].astype(np.float64) * len(dy)
        CRFLoss().gradient(cache.scores, cache.tags, weights)
        return super().backward(cache.scores.rows, cache.of_layer, context)


def with_its_loss(layer: CRF) -> CRF:
    """Return a copy of the layer that puts out its loss instead of probabilities."""
    copy = _WithLoss(**layer.config())
    if layer.built:
        copy.load_state_dict(layer.state_dict())  # type: ignore[arg-type]
    return copy
