"""The picture of a trace: gates, cell and hidden state of one layer as heatmaps over time, as textbooks sketch them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.numbers import whole
from ..errors import MissingPackageError, OptionError
from .trace_equations import Title, titles_of
from .traces import BidirectionalTrace, LayerTrace, Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

__all__ = ["draw"]

MOST_UNITS = 16
"""Units that are shown unless others are asked for."""
MOST_LABELS = 120
"""Steps up to which each one has its label; more have numbers."""
MOST_NUMBERS = 24
"""Units, and steps without labels, up to which each one has its number."""

STEP, WIDEST, NARROWEST = 0.12, 14.0, 4.5
"""Inches of a step, and of the widest and the narrowest heatmap."""
UNIT, TALLEST, LOWEST = 0.085, 1.8, 0.5
"""Inches of a unit, and of the tallest and the lowest heatmap."""
AROUND, BESIDE, BELOW = 0.42, 1.3, 0.8
"""Inches of what stands around a heatmap, its title; beside it, the colour bar; above and below all."""

AMOUNT, SIGNED = "Blues", "RdBu_r"
"""Colour maps of what is 0 or above, and of what has a sign. Both have white for 0: shut, or nothing."""

RANGES = {
    **dict.fromkeys(("sigmoid", "hard_sigmoid", "hard_sigmoid_keras2"), (0.0, 1.0)),
    **dict.fromkeys(("tanh", "softsign"), (-1.0, 1.0)),
}
"""Where the values of a bounded activation are."""

BLANK = "\N{OPEN BOX}"
BREAKS = {"\n": "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}", "\t": "\N{RIGHTWARDS ARROW}"}
"""How blanks and breaks are drawn."""
INVISIBLE = "\N{MIDDLE DOT}"
"""How other characters are drawn that leave no ink."""
NO_NUMBER = "0.5"
"""How NaN is drawn: grey, which no colour map has."""


class _Panel(NamedTuple):
    """One heatmap: a quantity of one layer."""

    title: Title
    values: NDArray[Any]  # (K, T): the units that are shown
    rows: NDArray[np.int64]  # which units these are, (K,)
    what: str  # of the rows: "unit", or "feature" of a projected h
    limits: tuple[float, float]


class _Column(NamedTuple):
    """The heatmaps of one layer or direction, from top to bottom."""

    heading: str
    some: str
    """Of the units, if not all are shown: a second line."""
    panels: list[_Panel]


def draw(
    trace: Trace,
    sequence: int,
    layer: str | None,
    units: Sequence[int] | None,
    labels: Sequence[str] | None,
    figure: "FigureBase | None",
) -> "FigureBase":
    """Draw one layer of a trace; see `Trace.plot`."""
    shown = trace[next(iter(trace.layers)) if layer is None else layer]
    sequence = whole(sequence, "plot: sequence", 0)
    count = len(shown.lengths)
    if sequence >= count:
        raise OptionError(f"plot: sequence={sequence}; the trace has {count}, 0 to {count - 1}")
    steps = int(shown.lengths[sequence])
    words = _labels(trace, labels, steps)
    columns = [_column(part, sequence, units, backwards) for part, backwards in _parts(shown)]
    if figure is None:
        figure = _new_figure(columns, steps)
    places = [figure]
    which = f", sequence {sequence}" if count > 1 else ""
    if len(columns) > 1:
        places = list(figure.subfigures(1, len(columns)))
        figure.suptitle(shown.name + which, fontsize=10)
        which = ""
    for place, column in zip(places, columns, strict=True):
        place.suptitle(column.heading + which + column.some, fontsize=10)
        heights = [_height(len(panel.rows)) for panel in column.panels]
        grid = place.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})
        for axes, panel in zip(grid[:, 0], column.panels, strict=True):
            _draw_panel(axes, panel)
        _label_steps(grid[-1, 0], words, steps)
    return figure


# --- what is shown ----------------------------------------------------------------------------------------------------


def _labels(trace: Trace, labels: Sequence[str] | None, steps: int) -> list[str] | None:
    """Return a label for each step, or None for numbers."""
    if labels is None:
        labels = trace.labels
        if labels is None or len(labels) != steps:  # a layer whose steps are others than the text's
            return None
    elif len(labels) != steps:
        raise OptionError(f"plot: {len(labels)} labels for {steps} steps; pass one for each step of the sequence")
    return [_visible(str(label)) for label in labels] if steps <= MOST_LABELS else None


def _visible(label: str) -> str:
    """Return a label that can be seen; the blank before a word is not part of it."""
    if not label.strip(" "):
        return BLANK * len(label)
    return "".join(letter if letter.isprintable() else BREAKS.get(letter, INVISIBLE) for letter in label.strip(" "))


def _parts(shown: LayerTrace | BidirectionalTrace) -> list[tuple[LayerTrace, bool]]:
    """Return the layer, or both directions, and whether it reads from the end."""
    if isinstance(shown, BidirectionalTrace):
        return [(shown.forward, False), (shown.backward, True)]
    return [(shown, bool(shown.options.get("go_backwards")))]


def _column(part: LayerTrace, sequence: int, units: Sequence[int] | None, backwards: bool) -> _Column:
    """Return what is drawn of a layer or a direction."""
    steps = part.lengths[sequence]
    quantities = part.gates if part.cell is None else part.gates | {"c": part.cell}
    values = {name: array[sequence, :steps].T for name, array in (quantities | {"h": part.hidden}).items()}
    state_word, state = ("hidden", values["h"]) if part.cell is None else ("cell", values["c"])
    rows = _varied(state) if units is None else _chosen(units, len(state), part.name)
    titles = titles_of(values, part.options, backwards=backwards)
    panels = []
    for name, array in values.items():
        projected = len(array) != len(state)
        some = _varied(array) if projected else rows
        what = "feature" if projected else "unit"
        limits = _limits(array[some], titles[name].activation)
        panels.append(_Panel(titles[name], array[some], some, what, limits))
    heading = f"{part.name} ({part.kind}, {len(state)} units{', read from right to left' if backwards else ''})"
    if len(rows) == len(state):
        return _Column(heading, "", panels)
    why = f": those whose {state_word} state varies most" if units is None else ""
    return _Column(heading, f"\n{len(rows)} of {len(state)} units{why}", panels)


def _varied(state: NDArray[Any]) -> NDArray[np.int64]:
    """Return the rows (K,) of a state (H, T) that vary most over time, in their own order; all if they are few."""
    if len(state) <= MOST_UNITS:
        return np.arange(len(state))
    return np.sort(np.argsort(-state.std(axis=1), kind="stable")[:MOST_UNITS])


def _chosen(units: Sequence[int], count: int, name: str) -> NDArray[np.int64]:
    rows = [whole(unit, "plot: units", 0) for unit in units]
    if not rows:
        raise OptionError("plot: units is empty; pass at least one, or None")
    if max(rows) >= count:
        raise OptionError(f"plot: unit {max(rows)}; {name} has {count}, 0 to {count - 1}")
    return np.array(rows, np.int64)


def _limits(values: NDArray[Any], activation: str | None) -> tuple[float, float]:
    """Return the values at both ends of the colour bar: 0 is at its start or in its middle."""
    if activation in RANGES:
        return RANGES[activation]
    finite = values[np.isfinite(values)]
    largest = float(np.abs(finite).max(initial=0.0)) or 1.0
    return (0.0 if finite.min(initial=0.0) >= 0.0 else -largest), largest


# --- how it is drawn ------------------------------------------------------------------------------------------------


def _new_figure(columns: list[_Column], steps: int) -> "FigureBase":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError(
            "plot needs matplotlib, which is not installed: pip install 'fastlstm[plot]' (or save the arrays: "
            "trace.save('trace.npz'))"
        ) from error
    width = min(max(STEP * steps, NARROWEST), WIDEST / len(columns)) + BESIDE
    height = max(sum(_height(len(panel.rows)) + AROUND for panel in column.panels) for column in columns) + BELOW
    return Figure(figsize=(len(columns) * width, height), layout="constrained", dpi=150)


def _height(units: int) -> float:
    return min(max(UNIT * units, LOWEST), TALLEST)


def _draw_panel(axes: "Axes", panel: _Panel) -> None:
    low, high = panel.limits
    ticks = low, (low + high) / 2, high
    colours = SIGNED if low < 0.0 else AMOUNT
    image = axes.imshow(
        panel.values, cmap=colours, vmin=low, vmax=high, aspect="auto", interpolation="nearest", origin="upper"
    )
    axes.set_facecolor(NO_NUMBER)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.01, fraction=0.03, aspect=12, ticks=ticks)
    bar.ax.set_yticklabels([f"{tick:.3g}" for tick in ticks])
    bar.ax.tick_params(labelsize=6, length=2)
    bar.outline.set_linewidth(0.4)
    axes.set_title(panel.title.text, loc="left", fontsize=8.5, pad=3)
    axes.set_title(panel.title.number, loc="right", fontsize=8.5, pad=3)
    axes.tick_params(length=0, labelsize=6, labelbottom=False)
    every = -(-len(panel.rows) // MOST_NUMBERS)
    axes.set_yticks(range(0, len(panel.rows), every), [str(row) for row in panel.rows[::every]])
    axes.set_ylabel(panel.what, fontsize=7)
    for spine in axes.spines.values():
        spine.set_linewidth(0.4)


def _label_steps(axes: "Axes", labels: list[str] | None, steps: int) -> None:
    """Write below a heatmap what stands at each step."""
    axes.tick_params(axis="x", labelbottom=True, labelsize=7)
    if labels is None:
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(MOST_NUMBERS, integer=True, min_n_ticks=1))
        axes.set_xlabel("step", fontsize=7)
        return
    axes.set_xticks(range(steps), labels)
    for tick in axes.get_xticklabels():
        tick.set(
            family="monospace",
            fontsize=7 if steps > 40 else 9,
            parse_math=False,
            rotation=90 if max(map(len, labels)) > 2 else 0,
        )
