"""Draw the ratios of all cells as one picture; the same results give the same bytes."""

import textwrap
from collections.abc import Mapping
from pathlib import Path

__all__ = ["draw"]

Ratios = Mapping[str, Mapping[int, tuple[float, float, float]]]
"""By label and threads: lower quartile, median and upper quartile of the best peer's time over ours."""

ROW, TITLE, FOOT = 0.16, 0.36, 0.6
"""Inches of a line, of a suite's title, and of what stands below all."""
MARKS = (("o", "#0072B2"), ("^", "#D55E00"), ("s", "#009E73"))
"""For each thread count: form and colour, told apart by those who see fewer colours (Okabe and Ito)."""
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)


def draw(suites: Mapping[str, Ratios], path: Path) -> None:
    """Write an SVG with a part for each suite, titled by its key.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator

    drawn = {title: ratios for title, ratios in suites.items() if ratios}
    heights = [TITLE + ROW * len(ratios) for ratios in drawn.values()]
    height = sum(heights) + FOOT
    rows = [row for ratios in drawn.values() for row in ratios.values()]
    counts = sorted({threads for row in rows for threads in row})
    values = [value for row in rows for three in row.values() for value in three]
    low, high = min([0.8, *values]) / 1.1, max([1.25, *values]) * 1.1
    with rc_context({"svg.hashsalt": "fastlstm", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(7.5, height))
        top = height
        for (title, ratios), part in zip(drawn.items(), heights, strict=True):
            lines = len(ratios)
            axes = figure.add_axes((0.37, (top - part) / height, 0.61, ROW * lines / height))
            top -= part
            axes.set_title(title, loc="left", fontsize=8, fontweight="bold", pad=3)
            axes.axvspan(low, 1.0, color="0.93", zorder=0)
            axes.axvline(1.0, color="black", linewidth=0.8, zorder=1)
            for threads, (form, colour) in zip(counts, MARKS, strict=False):
                places = [place for place, row in enumerate(ratios.values()) if threads in row]
                threes = [row[threads] for row in ratios.values() if threads in row]
                shifted = [place + 0.3 * (counts.index(threads) - (len(counts) - 1) / 2) for place in places]
                axes.hlines(shifted, [t[0] for t in threes], [t[2] for t in threes], color=colour, linewidth=1)
                axes.plot([t[1] for t in threes], shifted, form, color=colour, markersize=3.5)
            axes.set_xscale("log")
            axes.set_xlim(low, high)
            axes.set_ylim(lines - 0.5, -0.5)
            axes.set_yticks(range(lines), [textwrap.shorten(label, 38, placeholder=" ...") for label in ratios])
            axes.xaxis.set_major_locator(FixedLocator(TICKS))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter("{x:g}")
            axes.tick_params(length=0, labelbottom=False)
            axes.grid(axis="x", color="0.85", linewidth=0.5)
            axes.set_axisbelow(True)
            axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("best peer's time / ours; grey: a peer is faster. Bars: quartiles of the rounds")
        for threads, (form, colour) in zip(counts, MARKS, strict=False):
            axes.plot([], [], form, color=colour, markersize=3.5, label=f"{threads} core{'s' * (threads > 1)}")
        figure.legend(loc="upper right", ncols=len(counts), frameon=False, fontsize=8, borderaxespad=0.1)
        figure.savefig(path, format="svg", metadata={"Date": None})
