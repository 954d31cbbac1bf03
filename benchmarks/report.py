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


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value < 1 else f"{value:.2f}"
