"""What a benchmark found: named figures, as a table and as JSON."""

from __future__ import annotations

import os
import platform

import msgspec
from rich.table import Table


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured number."""

    name: str
    value: float
    unit: str
    #: What the number has to reach, in words; empty when it is only for comparison.
    goal: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of one run."""

    benchmark: str
    #: What was run, in a sentence.
    setting: str
    figures: list[Figure]
    machine: str = msgspec.field(
        default_factory=lambda: f"{os.cpu_count()} cores, {platform.machine()}"
    )

    def table(self) -> Table:
        table = Table("", "measured", "goal", title=self.benchmark, caption=self.setting)
        table.columns[1].justify = "right"
        for figure in self.figures:
            table.add_row(figure.name, f"{_short(figure.value)} {figure.unit}", figure.goal)
        return table

    def markdown(self) -> str:
        """The same table for a page."""
        rows = [f"| {f.name} | {_short(f.value)} {f.unit} | {f.goal} |" for f in self.figures]
        head = [f"## {self.benchmark}", "", f"{self.setting}. {self.machine}.", ""]
        return "\n".join([*head, "| | measured | goal |", "| --- | --- | --- |", *rows, ""])


def _short(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.4f}" if value < 1 else f"{value:.2f}"
