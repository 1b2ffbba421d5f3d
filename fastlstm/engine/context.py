"""How one pass through layers is made, and what travels between them besides rows."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..runtime.workspace import Workspace

if TYPE_CHECKING:
    from .tracing import Traced

__all__ = ["Gradients", "PassContext", "TableGradient"]

Gradients = dict[str, NDArray[Any]]
"""Gradient of each parameter, by the parameter's name."""


class PassContext:
    """How one pass is made.

    Parameters
    ----------
    training : bool
        Whether dropout drops and caches are kept for ``backward``.
    rng : numpy.random.Generator, optional
        Where dropout draws its masks; default: one with a seed from the system, made when first asked for.
    workspace : Workspace, optional
        Where layers take their buffers when training: a fresh one allocates, the loop's is used again each step.
    traces : list, optional
        Where recurrent layers note, one after the other, what they compute: pairs of the layer and a `Traced`. For
        inference only.
    """

    __slots__ = ("_rng", "traces", "training", "workspace")

    def __init__(
        self,
        training: bool = False,
        rng: np.random.Generator | None = None,
        workspace: Workspace | None = None,
        traces: "list[tuple[Any, Traced]] | None" = None,
    ) -> None:
        self.training = training
        self.workspace = workspace or Workspace()
        self.traces = traces
        self._rng = rng

    @property
    def rng(self) -> np.random.Generator:
        """Where dropout draws its masks."""
        if self._rng is None:
            self._rng = np.random.default_rng()
        return self._rng


class TableGradient(NamedTuple):
    """The gradient of the table (V, F) of an `EmbeddingGather`, from a layer that never had its rows."""

    gradient: NDArray[Any]
