"""What a benchmark found, as data: tables and Markdown are made of it, and PNGs by `plots`.

A benchmark returns a `Report`; JSON keeps all of it, so that the page and the pictures can be made
again without measuring.

    Report(
        benchmark="ordering",
        setting="what was run, in a sentence without a full stop",
        figures=[Figure(name="fifo / srtf, mean wait", value=7.1, unit="", at_least=5)],
        tables=[Grid(title="Mean wait, ms", columns=["", "load 0.5", "load 0.9"],
                     rows=[["fifo", 12, 96.5], ["srtf", 8, 13.2]])],
        plots=[
            bars("Calls a second", "calls/s", {"LMaaS": 35_000, "Celery": 900}, ours=["LMaaS"]),
            lines("Mean wait", "load", "ms", {"fifo": [(0.5, 12), (0.9, 96)]}, name="wait",
                  y_scale="log"),
        ],
    )

`at_least` and `at_most` are goals; a figure that misses its goal says so. A plot's file is the
benchmark's name and, where a report has several, the plot's own. Names in `ours` are drawn in
colour, all others in grey. `Plot` itself also has grouped bars: several series over `categories`.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Literal

import msgspec
from rich.table import Table

Cell = str | int | float
Scale = Literal["linear", "log"]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured number, and what it has to reach if it has a goal."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool:
        """Whether the goal is reached; without one nothing is missed."""
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)

    @property
    def goal(self) -> str:
        """The goal in signs, and whether it is met; empty without one."""
        bounds = (("≥", self.at_least), ("≤", self.at_most))
        signs = [f"{sign} {bound:,g}" for sign, bound in bounds if bound is not None]
        return f"{', '.join(signs)}: {'met' if self.met else 'missed'}" if signs else ""


def none(counts: Mapping[str, float], unit: str = "") -> list[Figure]:
    """What must not happen at all, and how often it did."""
    return [Figure(name=name, value=n, unit=unit, at_most=0) for name, n in counts.items()]


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """A table of several columns, the first of which names the rows."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]

    def table(self) -> Table:
        table = Table(*self.columns, title=self.title)
        for column in table.columns[1:]:
            column.justify = "right"
        for row in self.rows:
            table.add_row(*map(_shown, row))
        return table

    def markdown(self) -> str:
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        rows = [self.columns, rule, *([_shown(cell) for cell in row] for row in self.rows)]
        return f"{self.title}:\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def listed(lines: Mapping[str, Sequence[str]]) -> list[Grid]:
    """Lines of words under their titles; nothing under a title that has none."""
    return [
        Grid(title=title, columns=[""], rows=[[line] for line in some])
        for title, some in lines.items()
        if some
    ]


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Values with a name: of lines at each `x`, of bars in each category."""

    name: str
    y: list[float]
    x: list[float] = []


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """What a picture shows. Labels have units; see `bars` and `lines`."""

    title: str
    kind: Literal["bars", "lines"]
    #: Label of the values.
    y: str
    series: list[Series]
    #: Label of what lines go along; bars have categories instead.
    x: str = ""
    categories: list[str] = []
    x_scale: Scale = "linear"
    y_scale: Scale = "linear"
    #: Series, or categories of bars of one series, that are drawn in colour.
    ours: list[str] = []
    #: Part of the file's name; a report's only plot needs none.
    name: str = ""


def bars(
    title: str,
    y: str,
    values: Mapping[str, float],
    *,
    ours: Iterable[str] = (),
    name: str = "",
    y_scale: Scale = "linear",
) -> Plot:
    """A bar for each of `values`, in their order."""
    return Plot(
        title=title,
        kind="bars",
        y=y,
        series=[Series(name="", y=list(values.values()))],
        categories=list(values),
        y_scale=y_scale,
        ours=list(ours),
        name=name,
    )


def lines(
    title: str,
    x: str,
    y: str,
    points: Mapping[str, Iterable[tuple[float, float]]],
    *,
    ours: Iterable[str] = (),
    name: str = "",
    x_scale: Scale = "linear",
    y_scale: Scale = "linear",
) -> Plot:
    """A line through the (x, y) of each series."""
    pairs = {series: list(found) for series, found in points.items()}
    return Plot(
        title=title,
        kind="lines",
        x=x,
        y=y,
        series=[
            Series(name=series, x=[x for x, _ in found], y=[y for _, y in found])
            for series, found in pairs.items()
        ],
        x_scale=x_scale,
        y_scale=y_scale,
        ours=list(ours),
        name=name,
    )


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that one benchmark found in one run."""

    benchmark: str
    #: What was run, in a sentence without its full stop.
    setting: str
    figures: list[Figure]
    tables: list[Grid] = []
    plots: list[Plot] = []
    machine: str = msgspec.field(
        default_factory=lambda: f"{os.cpu_count()} cores, {platform.machine()}"
    )

    @property
    def met(self) -> bool:
        """Whether every goal is reached."""
        return all(figure.met for figure in self.figures)

    def shown(self) -> list[Table]:
        """For a terminal: the figures, then the tables."""
        table = Table("", "measured", "goal", title=self.benchmark, caption=self.setting)
        table.columns[1].justify = "right"
        for figure in self.figures:
            style = None if figure.met else "red"
            table.add_row(figure.name, _measured(figure), figure.goal, style=style)
        return [table, *(grid.table() for grid in self.tables)]

    def pictures(self) -> dict[str, Plot]:
        """The plots by their file names."""
        parts = ((self.benchmark, plot.name) for plot in self.plots)
        names = ("-".join(filter(None, part)) + ".png" for part in parts)
        return dict(zip(names, self.plots, strict=True))

    def markdown(self, folder: str) -> str:
        """A section of a page that has the pictures in `folder` beside it."""
        rows = [f"| {f.name} | {_measured(f)} | {_marked(f)} |\n" for f in self.figures]
        figures = "".join(["| | measured | goal |\n| --- | ---: | --- |\n", *rows])
        pictures = [f"![{p.title}]({folder}/{file})\n" for file, p in self.pictures().items()]
        head = [f"## {self.benchmark}\n", f"{self.setting}. {self.machine}.\n"]
        return "\n".join([*head, figures, *(grid.markdown() for grid in self.tables), *pictures])


def _measured(figure: Figure) -> str:
    # Counts are whole; no measured time or ratio is.
    whole = f"{figure.value:,.0f}" if float(figure.value).is_integer() else short(figure.value)
    return f"{whole} {figure.unit}".rstrip()


def _marked(figure: Figure) -> str:
    return figure.goal if figure.met else f"**{figure.goal}**"


def _shown(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    return short(cell) if isinstance(cell, float) else f"{cell:,}"


def spread(seconds: Sequence[float]) -> str:
    """The median and the longest."""
    return f"{median(seconds):.2f} / {max(seconds):.2f}"


def short(value: float) -> str:
    """Three or four digits, for people."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.4f}"
