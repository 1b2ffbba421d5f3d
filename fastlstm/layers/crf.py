"""CRF: a linear-chain conditional random field over the tags of each sequence."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..data.chain import CHAIN_PARAMETERS, Chain, ChainScores
from ..data.packed import Packed
from ..engine.chain import chain_marginals
from ..errors import DataError, OptionError
from ..runtime.workspace import Frame
from .base import Gradients, Layer, PassContext
from .initializers import uniform

__all__ = ["CRF"]

_START_LIMIT = 0.1
"""The parameters are uniform within +- this at first, as in pytorch-crf."""

Pair = tuple[int | None, int | None]


class _Cache(NamedTuple):
    gradients: dict[str, NDArray[Any]] | None  # what the loss fills; None: marginals went out
    frame: Frame


class CRF(Layer):
    """Score whole sequences of tags: emissions ``(N, T, K)`` come in, probabilities of the tags go out.

    A path of tags scores the sum of its emissions and of the transitions between neighbours; its probability is
    ``exp(score)`` over the sum of that over all paths [1]_. On top of a recurrent layer and a Dense without an
    activation it is the tagger of [2]_. It is trained with ``loss="crf"``, minus the log-probability of the right
    path. The layer's own output is each tag's probability at each step, given the whole sequence; the best path as a
    whole is found by `fastlstm.decode_tags`.

    Parameters
    ----------
    forbidden : list of pairs, or boolean array (K, K), optional
        ``(i, j)``, or true at ``[i, j]``: tag j never follows tag i. In a list, ``(None, j)`` says that no sequence
        begins with tag j, ``(i, None)`` that none ends with tag i. What is forbidden has probability 0.
    name, dtype
        See `Layer`.

    Raises
    ------
    OptionError
        `forbidden` is something else, or names a tag that there is not.

    Notes
    -----
    Parameters have the names of pytorch-crf: ``start_transitions (K,)``, ``end_transitions (K,)`` and
    ``transitions (K, K)``, ``[i, j]`` being that of tag j after tag i; uniform within +-0.1 at first.

    References
    ----------
    .. [1] Lafferty, McCallum, Pereira. Conditional random fields. ICML 2001.
    .. [2] Lample et al. Neural architectures for named entity recognition. NAACL 2016.

    Examples
    --------
    Tag 1 never follows itself, so that a clear tag 1 makes its neighbours tag 0:

    >>> import numpy as np, fastlstm as fl
    >>> crf = fl.CRF(forbidden=[(1, 1)])
    >>> emissions = np.array([[[0.0, 1.0], [0.0, 9.0], [0.0, 1.0]]])
    >>> crf.build(2, rng=0)
    >>> crf(emissions).argmax(axis=2)
    array([[0, 1, 0]])
    """

    def __init__(
        self,
        forbidden: Sequence[Pair] | ArrayLike | None = None,
        *,
        name: str | None = None,
        dtype: DTypeLike = "float32",
    ):
        super().__init__(name=name, dtype=dtype)
        self.forbidden, self._matrix_of = _pairs(forbidden)
        """Pairs (i, j), None standing for what is outside of the sequence."""
        self._masks: Chain | None = None  # the same as booleans, made when first needed

    @property
    def fused_by(self) -> str:
        return "crf"

    @property
    def features_out(self) -> int:
        return self.features_in or 0

    def config(self) -> dict[str, Any]:
        return {
            "forbidden": [list(pair) for pair in self.forbidden] or None,
            "name": self.name,
            "dtype": self.dtype.name,
        }

    def create(self, features: int, rng: np.random.Generator | None) -> dict[str, NDArray[Any]]:
        if self._matrix_of not in (None, features):
            shape = self._matrix_of, self._matrix_of
            raise OptionError(f"CRF: forbidden has shape {shape}, but there are {features} tags; expected one row each")
        for pair in self.forbidden:
            if not all(tag is None or tag < features for tag in pair):
                raise OptionError(f"CRF: forbidden={pair}, but there are {features} tags: 0 to {features - 1}")
        return {
            "start_transitions": uniform(rng, (features,), _START_LIMIT),
            "end_transitions": uniform(rng, (features,), _START_LIMIT),
            "transitions": uniform(rng, (features, features), _START_LIMIT),
        }

    def features_from(self, tensors: dict[str, NDArray[Any]]) -> int:
        return len(tensors["transitions"]) if "transitions" in tensors and tensors["transitions"].ndim == 2 else 0

    @property
    def chain(self) -> Chain:
        """What paths score beside their emissions: the parameters, -inf where something is forbidden."""
        own = Chain(*(self.arrays[name] for name in CHAIN_PARAMETERS))
        if not self.forbidden:
            return own
        if self._masks is None or len(self._masks.start) != len(own.start):
            self._masks = _masks(self.forbidden, len(own.start))
        return Chain(*(np.where(mask, -np.inf, scores) for mask, scores in zip(self._masks, own, strict=True)))

    def forward(self, x: Packed, context: PassContext, *, linear: bool = False) -> tuple[Packed, _Cache | None]:
        """Return the probabilities of the tags; with `linear`, `ChainScores` for the loss that fuses with them."""
        frame = context.workspace.frame(self) if context.training else None
        rows = np.empty(x.rows.shape, self.dtype) if frame is None else frame.take("y", x.rows.shape, self.dtype)
        if not linear:
            self._check_possible(x, chain_marginals(x, self.chain, rows))
            return x.with_rows(rows), None if frame is None else _Cache(None, frame)
        rows[...] = x.rows  # the loss writes over them
        scores = ChainScores(x.with_rows(rows), self.chain)
        return scores, None if frame is None else _Cache(scores.gradients, frame)

    def _check_possible(self, x: Packed, partitions: NDArray[np.float64]) -> None:
        """Raise DataError for a sequence all of whose paths are forbidden."""
        impossible = np.flatnonzero(partitions == -np.inf)
        if len(impossible):
            place = int(impossible[0])
            sequence = place if x.order is None else int(x.order[place])
            raise DataError(
                f"CRF: every path of sequence {sequence}, {x.lengths[place]} steps, is forbidden; "
                "allow at least one in forbidden="
            )

    def backward(self, dy: NDArray[Any], cache: _Cache, context: PassContext) -> tuple[NDArray[Any], Gradients]:
        context.workspace.release(self, cache.frame)
        if not cache.gradients:
            raise OptionError(
                f"CRF ({self.name}): a loss over the probabilities of its tags does not train it; use loss='crf'"
            )
        return dy, {name: cache.gradients[name] for name in self.arrays}


def _pairs(forbidden: Any) -> tuple[list[Pair], int | None]:
    """Return what is forbidden as pairs, and K where it came as a matrix (K, K)."""
    if forbidden is None:
        return [], None
    if _holds_only_booleans(forbidden):
        matrix = np.asarray(forbidden)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise OptionError(f"CRF: forbidden has shape {matrix.shape}; expected (K, K), a row and a column each tag")
        return [(int(i), int(j)) for i, j in np.argwhere(matrix)], len(matrix)
    pairs = forbidden.tolist() if isinstance(forbidden, np.ndarray) else forbidden
    if not isinstance(pairs, list | tuple) or not all(_is_pair(pair) for pair in pairs):
        raise OptionError(
            f"CRF: forbidden={forbidden!r}; expected pairs (tag, next tag) of numbers from 0 on, one of the two "
            "perhaps None, or a boolean array (K, K)"
        )
    return [(_tag(before), _tag(after)) for before, after in pairs], None


def _tag(given: Any) -> int | None:
    return None if given is None else int(given)


def _holds_only_booleans(given: Any) -> bool:
    try:
        return bool(np.asarray(given).dtype == bool)
    except ValueError:  # a ragged list
        return False


def _is_pair(pair: Any) -> bool:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return False
    tags = [tag for tag in pair if tag is not None]
    return bool(tags) and all(
        isinstance(tag, int | np.integer) and not isinstance(tag, bool) and tag >= 0 for tag in tags
    )


def _masks(forbidden: list[Pair], tags: int) -> Chain:
    """Return what is forbidden as booleans."""
    masks = Chain(np.zeros((tags, tags), bool), np.zeros(tags, bool), np.zeros(tags, bool))
    for before, after in forbidden:
        if before is None:
            masks.start[after] = True
        elif after is None:
            masks.end[before] = True
        else:
            masks.transitions[before, after] = True
    return masks
