"""Traces: every gate, cell and hidden state of a model's recurrent layers over time, as `inspect` returns them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

__all__ = ["BidirectionalTrace", "LayerTrace", "Trace"]


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """What one recurrent layer computed, in the user's order of sequences and in the order of time of its input.

    Attributes
    ----------
    name, kind : str
        Of the layer: ``"lstm_1"``, ``"LSTM"``.
    gates : dict of str to ndarray, each (N, T, H)
        After their activations, in public order: LSTM i, f, g, o; GRU r, z, n; SimpleRNN has none.
    cell : ndarray (N, T, H), or None
        c after each step; None for a layer that has none.
    hidden : ndarray (N, T, P)
        h after each step: what the layer puts out. P is H, but for a projection.
    lengths : ndarray of int64, shape (N,)
        True steps of each sequence; all arrays are zeros from there on.
    options : mapping
        The layer's ``config()``.
    """

    name: str
    kind: str
    gates: dict[str, NDArray[Any]]
    cell: NDArray[Any] | None
    hidden: NDArray[Any]
    lengths: NDArray[np.int64]
    options: Mapping[str, Any] = field(repr=False)

    def __repr__(self) -> str:
        kept = [*self.gates, *(() if self.cell is None else ("cell",)), "hidden"]
        return f"<{self.name}: {', '.join(kept)} of {self.kind}, (N, T, P) = {self.hidden.shape}>"

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all arrays by name: ``gates.i`` and so on, ``cell``, ``hidden``, ``lengths``."""
        named = {f"gates.{gate}": values for gate, values in self.gates.items()}
        if self.cell is not None:
            named["cell"] = self.cell
        return named | {"hidden": self.hidden, "lengths": self.lengths}


@dataclass(frozen=True, eq=False)
class BidirectionalTrace:
    """What both directions of a Bidirectional computed; step t of either belongs to step t of the input.

    Attributes
    ----------
    name : str
    forward, backward : LayerTrace
    """

    name: str
    forward: LayerTrace
    backward: LayerTrace

    def __repr__(self) -> str:
        return f"<{self.name}: {self.forward!r}, {self.backward!r}>"

    @property
    def lengths(self) -> NDArray[np.int64]:
        """True steps of each sequence, (N,)."""
        return self.forward.lengths

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of both directions by name: ``forward.gates.i`` and so on."""
        both = {"forward": self.forward, "backward": self.backward}
        return {f"{word}.{name}": values for word, part in both.items() for name, values in part.arrays().items()}


AnyTrace: TypeAlias = LayerTrace | BidirectionalTrace


class Trace:
    """Every gate, cell and hidden state of a model's recurrent layers over time; `fastlstm.inspect` makes it.

    ``trace["lstm"]`` is what the layer of this name computed. Where the model has one recurrent layer, `gates`, `cell`,
    `hidden` and `lengths` are that layer's.

    Attributes
    ----------
    layers : dict of str to LayerTrace or BidirectionalTrace
        By name, in the order in which they ran. The second use of a shared layer is ``name#2``, and so on.
    labels : tuple of str, or None
        What stands at each step: of a language model the text's characters or words.

    Examples
    --------
    >>> import numpy as np, fastlstm as fl
    >>> trace = fl.inspect(fl.LSTM(4, name="memory"), np.ones((2, 6, 3)))
    >>> trace
    Trace(<memory: i, f, g, o, cell, hidden of LSTM, (N, T, P) = (2, 6, 4)>)
    >>> trace.gates["f"].shape, trace["memory"].cell.shape
    ((2, 6, 4), (2, 6, 4))
    >>> c, c_prev = trace.cell[:, 1:], trace.cell[:, :-1]
    >>> i, f, g = (trace.gates[gate][:, 1:] for gate in "ifg")
    >>> bool(np.allclose(c, f * c_prev + i * g, atol=1e-6))
    True
    """

    def __init__(self, layers: Mapping[str, AnyTrace], labels: Sequence[str] | None = None):
        self.layers = dict(layers)
        self.labels = None if labels is None else tuple(labels)

    def __repr__(self) -> str:
        return f"Trace({', '.join(map(repr, self.layers.values()))})"

    def __getitem__(self, name: str) -> AnyTrace:
        if name not in self.layers:
            raise OptionError(f"Trace: no recurrent layer {name!r}; there are {', '.join(map(repr, self.layers))}")
        return self.layers[name]

    def _only(self, word: str) -> LayerTrace:
        """Return the trace of the only layer, whose attribute `word` was asked for."""
        if len(self.layers) > 1:
            names = ", ".join(f"trace[{name!r}].{word}" for name in self.layers)
            raise OptionError(f"Trace: {word} of which layer? Write one of {names}")
        [only] = self.layers.values()
        if isinstance(only, BidirectionalTrace):
            where = f"trace[{only.name!r}]"
            raise OptionError(
                f"Trace: {word} of which direction? Write {where}.forward.{word} or {where}.backward.{word}"
            )
        return only

    @property
    def gates(self) -> dict[str, NDArray[Any]]:
        """The gates of the only recurrent layer."""
        return self._only("gates").gates

    @property
    def cell(self) -> NDArray[Any] | None:
        """The cell states of the only recurrent layer."""
        return self._only("cell").cell

    @property
    def hidden(self) -> NDArray[Any]:
        """The hidden states of the only recurrent layer."""
        return self._only("hidden").hidden

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The true steps of each sequence, in the only recurrent layer."""
        return self._only("lengths").lengths

    def plot(
        self,
        sequence: int = 0,
        layer: str | None = None,
        units: Sequence[int] | None = None,
        labels: Sequence[str] | None = None,
        figure: "FigureBase | None" = None,
    ) -> "FigureBase":
        """Draw one layer's gates, cell and hidden state over the steps of one sequence, each as a heatmap.

        Parameters
        ----------
        sequence : int
            Which of the batch.
        layer : str, optional
            Name of the layer; default: the first one.
        units : sequence of int, optional
            Which units to show, from top to bottom; default: all, or where they are many those that vary most.
        labels : sequence of str, optional
            What stands at each step, one label each; default: `labels` of this trace, else the steps' numbers.
        figure : matplotlib Figure or SubFigure, optional
            What to draw into; default: a new one. With ``plt.figure(layout="constrained")`` it can be shown by
            ``plt.show()``.

        Returns
        -------
        Figure or SubFigure
            For ``figure.savefig("gates.png")``; a notebook shows it.

        Raises
        ------
        MissingPackageError
            matplotlib is not installed: ``pip install 'fastlstm[plot]'``.
        OptionError
            There is no such sequence, layer or unit; there are not as many labels as steps.
        """
        from .trace_picture import draw

        return draw(self, sequence, layer, units, labels, figure)

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Return all arrays by name: ``lstm.gates.i``, ``lstm.cell``, ``lstm.hidden``, ``lstm.lengths``, ...

        Those of both directions are ``bidirectional.forward.gates.i`` and so on; ``labels`` is there where this trace
        has them.
        """
        named = {
            f"{name}.{word}": values for name, part in self.layers.items() for word, values in part.arrays().items()
        }
        return named if self.labels is None else named | {"labels": np.array(self.labels)}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_dict` to an ``.npz`` file, which ``numpy.load`` reads.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        with open(path, "wb") as file:
            np.savez_compressed(file, **self.to_dict())  # type: ignore[arg-type]
