"""The figures of a run as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from lmaas.bench.figures import Latency, Phase, Report

#: Field of Latency -> marker and colour.
_MARKS: Final = {
    "p50": ("o", "#1b7837"),
    "p95": ("D", "#e08214"),
    "p99": ("s", "#b2182b"),
    "max": ("|", "#555555"),
}
_BLUE: Final = "#4575b4"


def draw(report: Report, path: Path) -> None:
    """Answer times on the left, throughput on the right.

    Raises OSError; an older picture then stays as it is.
    """
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    began = report.began[:16].replace("T", " ")
    figure.suptitle(
        f"{report.model} {report.version or ''} at {report.broker}, {began} UTC; "
        f"{report.texts_used:,} texts of {report.mean_text_bytes:,.0f} bytes"
    )
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    timed = {name: each for name, each in report.phases.items() if each.latency_seconds}
    _draw_latency(left, timed)
    _draw_throughput(right, report)
    part = path.with_name(f".{path.name}.part")
    try:
        figure.savefig(part, dpi=120, format=path.suffix[1:])
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _draw_latency(axes: Any, phases: dict[str, Phase]) -> None:
    latencies = [each.latency_seconds for each in phases.values() if each.latency_seconds]
    for place, latency in enumerate(latencies):
        values = [value for name in _MARKS if (value := getattr(latency, name)) is not None]
        axes.plot([min(values), max(values)], [place, place], color="#cccccc", zorder=1)
    for order, (name, (marker, colour)) in enumerate(_MARKS.items()):
        places, values = _known(latencies, name)
        label, size = ("longest", 160) if name == "max" else (name, 60)
        axes.scatter(
            values, places, marker=marker, color=colour, label=label, s=size, zorder=2 + order
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(_duration))
    axes.xaxis.set_minor_formatter(FuncFormatter(_duration_of_few))
    axes.tick_params(axis="x", which="both", length=4, pad=4)
    axes.set_yticks(range(len(phases)), phases)
    axes.set_ylim(len(phases) - 0.5, -0.5)
    axes.grid(axis="x", which="both", color="#eeeeee")
    axes.set_axisbelow(True)
    axes.set_title("answer time")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=len(_MARKS), frameon=False)


def _known(latencies: list[Latency], name: str) -> tuple[list[int], list[float]]:
    """Places and values of those that were measured often enough to have this percentile."""
    pairs = [
        (place, value)
        for place, latency in enumerate(latencies)
        if (value := getattr(latency, name)) is not None
    ]
    return [place for place, _ in pairs], [value for _, value in pairs]


def _duration(seconds: float, _: int | None = None) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1e3:g} ms"


def _duration_of_few(seconds: float, place: int | None = None) -> str:
    """Between the powers of ten, where there is room: at 2 and 5."""
    return _duration(seconds) if f"{seconds:e}"[0] in "25" else ""


def _draw_throughput(axes: Any, report: Report) -> None:
    phases = [report.unloaded, report.concurrent, report.bulk]
    names = list(report.phases)[: len(phases)]
    bars = axes.barh(names, [each.items_per_second for each in phases], color=_BLUE, height=0.5)
    axes.bar_label(bars, fmt="{:,.0f}", padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_title("answers a second")
