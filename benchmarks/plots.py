"""The plots of reports as PNGs: `draw(plot, path)`. Everything that is shown is in the plot.

One style: ours in colours that colour-blind people can tell apart, all else in grey, names and
values beside what they belong to instead of legends and grids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure
from PIL import Image

from benchmarks.report import Plot, Series, short

#: From the palette of Okabe and Ito, best seen first.
OURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
OTHERS: Final = ("#8C8C8C", "#B4B4B4", "#6A6A6A", "#CFCFCF")
#: Pale words are hard to read.
OTHER_NAME: Final = "#595959"
#: What tells grey lines apart.
MARKERS: Final = ("s", "^", "D", "v", "P", "X")

DPI: Final = 110
COLOURS: Final = 64
WIDTH: Final = 7.5
#: Inches of a bar with its share of the gap, and of what is above and below all bars.
BAR: Final = 0.27
FRAME: Final = 0.95
#: Inches of a picture of lines.
LINES_HEIGHT: Final = 3.8
#: The smallest distance of two names beside lines, as a part of the picture's height.
LABEL_GAP: Final = 0.055


def draw(plot: Plot, path: Path) -> None:
    """Write `path`, a PNG."""
    height = _bars_height(plot) if plot.kind == "bars" else LINES_HEIGHT
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    figure.suptitle(plot.title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    if plot.kind == "bars":
        _draw_bars(axes, plot)
    else:
        _draw_lines(axes, plot)
    figure.savefig(path, dpi=DPI)
    with Image.open(path) as image:
        # A few colours: a third of the size, and nobody sees it.
        image.convert("RGB").quantize(COLOURS).save(path, optimize=True)


def _bars_height(plot: Plot) -> float:
    gaps = len(plot.categories) if len(plot.series) > 1 else 0
    return FRAME + BAR * (len(plot.categories) * len(plot.series) + gaps)


def _draw_bars(axes: Any, plot: Plot) -> None:
    """Lying bars, whose names may be long; the first is on top."""
    thickness = 0.8 / len(plot.series)
    for place, (series, colours) in enumerate(zip(plot.series, _bar_colours(plot), strict=True)):
        shift = (place - (len(plot.series) - 1) / 2) * thickness
        positions = [category + shift for category in range(len(plot.categories))]
        drawn = axes.barh(positions, series.y, 0.95 * thickness, color=colours, label=series.name)
        axes.bar_label(drawn, [short(value) for value in series.y], padding=3, fontsize=9)
    axes.set_yticks(range(len(plot.categories)), plot.categories)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xscale(plot.y_scale)
    axes.margins(x=0.12, y=0.02)
    # The bars say their values: an axis would say them again.
    axes.set_xticks([], [])
    axes.set_xticks([], [], minor=True)
    axes.spines["bottom"].set_visible(False)
    axes.set_xlabel(f"{plot.y}, log scale" if plot.y_scale == "log" else plot.y, fontsize=9)
    if len(plot.series) > 1:
        axes.legend(frameon=False, fontsize=9, loc="best")


def _bar_colours(plot: Plot) -> list[list[str]]:
    """Of each series the colour of each of its bars."""
    if len(plot.series) > 1:
        return [[colour] * len(plot.categories) for colour in _series_colours(plot)]
    return [[OURS[0] if name in plot.ours else OTHERS[0] for name in plot.categories]]


def _series_colours(plot: Plot) -> Iterator[str]:
    ours, others = cycle(OURS), cycle(OTHERS)
    return (next(ours if series.name in plot.ours else others) for series in plot.series)


def _draw_lines(axes: Any, plot: Plot) -> None:
    """Ours on top of the others, with dots; the others' markers differ."""
    colours, markers = list(_series_colours(plot)), cycle(MARKERS)
    for series, colour in zip(plot.series, colours, strict=True):
        is_ours = series.name in plot.ours
        axes.plot(
            series.x, series.y, color=colour, marker="o" if is_ours else next(markers),
            markersize=4, linewidth=2 if is_ours else 1.3, zorder=3 if is_ours else 2,
        )  # fmt: skip
    axes.margins(x=0.02)
    axes.set_xscale(plot.x_scale)
    axes.set_yscale(plot.y_scale)
    if plot.y_scale == "linear":
        axes.set_ylim(bottom=0)
    for axis in (axes.xaxis, axes.yaxis):
        # Numbers as people write them, not powers of ten.
        axis.set_major_formatter(lambda value, _: f"{value:,g}" if value < 1e5 else f"{value:,.0f}")
    if plot.x_scale == "log":
        axes.set_xticks(sorted({x for series in plot.series for x in series.x}))
        axes.set_xticks([], minor=True)
    axes.set_xlabel(plot.x, fontsize=9)
    axes.set_ylabel(plot.y, fontsize=9)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    if len(plot.series) > 1 or plot.series[0].name:
        _name_lines(axes, plot.series, colours)


def _name_lines(axes: Any, series: Sequence[Series], colours: Sequence[str]) -> None:
    """Each name at the right of its line's last point, and none on another."""
    pairs = sorted(zip(series, colours, strict=True), key=lambda pair: pair[0].y[-1])
    to_part = axes.transData + axes.transAxes.inverted()
    lowest = -1.0
    for each, colour in pairs:
        wanted = float(to_part.transform((each.x[-1], each.y[-1]))[1])
        lowest = max(wanted, lowest + LABEL_GAP)
        axes.annotate(
            each.name, (1.01, lowest), xycoords="axes fraction", fontsize=9, va="center",
            color=OTHER_NAME if colour in OTHERS else colour, annotation_clip=False,
        )  # fmt: skip
