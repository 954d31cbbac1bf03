"""The evaluation as one HTML file, which needs nothing beside it: `evaluation.html` of a version.

Names and items are those of whoever made the data: all of them are escaped, and the page's policy
lets nothing in it run or load.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Final

from lmaas.training.evaluate import BINS, Evaluation, f1
from lmaas.training.evaluate_labels import LabelsEvaluation
from lmaas.training.judging import Figures
from lmaas.training.mistakes import Mistake
from lmaas.workers.manifest import Manifest

#: With more classes the most confused pairs are shown, and no matrix.
MATRIX: Final = 20
#: Names of so many classes have room beside each other above the matrix.
_ACROSS: Final = 4
#: Classes of the table; of more the worst.
CLASSES: Final = 1_000
#: Pixels of the reliability diagram's square, and left of and below it.
_SIDE: Final = 260
_MARGIN: Final = 40
_TEMPLATE: Final = Path(__file__).with_suffix(".html")


def written(
    manifest: Manifest,
    evaluation: Figures,
    mistakes: Sequence[Mistake] = (),
    command: str = "",
    learning: bytes | None = None,
) -> str:
    """The page; `learning` is a PNG of the learning curves."""
    title = f"{manifest.name} {manifest.version}"
    sections = [
        _section("Reliability", _reliability(evaluation)),
        *_own(evaluation),
        _section("Model", _facts(manifest, command)),
        _section("Learning", _picture(learning)) if learning else "",
        _section("The surest mistakes", _mistakes(mistakes), wide=True) if mistakes else "",
    ]
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        examples=f"{evaluation.examples:,}",
        totals=_totals(evaluation),
        sections="\n".join(filter(None, sections)),
    )


def _own(evaluation: Figures) -> list[str]:
    """What is different where an example may have several labels."""
    if isinstance(evaluation, LabelsEvaluation):
        return [
            _section("Labels above a score", _label_thresholds(evaluation)),
            _section("Missed labels", _missed(evaluation)),
            _section("Labels", _classes(evaluation)),
        ]
    return [
        _section("Answers above a score", _thresholds(evaluation)),
        _section("Confusion", _confusion(evaluation), wide=len(evaluation.confusion) > _ACROSS),
        _section("Classes", _classes(evaluation)),
    ]


def _section(heading: str, content: str, *, wide: bool = False) -> str:
    kind = ' class="wide"' if wide else ""
    return f"<section{kind}>\n<h2>{heading}</h2>\n{content}\n</section>"


def _name(name: str) -> str:
    """In a direction of its own, whatever script it is in."""
    return f"<bdi>{escape(name)}</bdi>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], names: int = 1) -> str:
    """Of cells that are HTML; the first `names` columns are no numbers."""

    def cells(tag: str, row: Sequence[str]) -> str:
        classes = (' class="number"' if place >= names else "" for place in range(len(row)))
        return "".join(f"<{tag}{of}>{cell}</{tag}>" for of, cell in zip(classes, row, strict=True))

    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    head = f"<thead><tr>{cells('th', heads)}</tr></thead>"
    return f'<div class="scroll"><table>\n{head}\n<tbody>\n{body}\n</tbody></table></div>'


def _percent(share: float) -> str:
    return f"{share:.1%}"


# --- figures -------------------------------------------------------------------------------------


def _totals(evaluation: Figures) -> str:
    what, first = "classes", {"accuracy": f"{evaluation.accuracy:.2%}"}
    if isinstance(evaluation, LabelsEvaluation):
        micro, exactly = f"{evaluation.micro_f1:.4f}", f"{evaluation.accuracy:.2%}"
        what, first = "labels", {"micro F1": micro, "exactly right": exactly}
    totals = {
        **first,
        "macro F1": f"{evaluation.macro_f1:.4f}",
        "log loss": f"{evaluation.log_loss:.4f}",
        "calibration error": f"{evaluation.calibration_error:.4f}",
        what: f"{len(evaluation.classes):,}",
    }
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in totals.items())


def _thresholds(evaluation: Evaluation) -> str:
    rows = [
        (f"{each.min_score:g}", _percent(each.coverage), _percent(each.accuracy))
        for each in evaluation.thresholds
    ]
    return (
        "<p>With <code>--min-score</code>, what has a lower score gets the label "
        "<code>unsure</code>.</p>\n"
        + _table(("min-score", "answered", "right of those"), rows, names=0)
    )


def _label_thresholds(evaluation: LabelsEvaluation) -> str:
    rows = [(f"{each.min_score:g}", *map(_percent, each.shares)) for each in evaluation.thresholds]
    heads = "min-score", "precision", "recall", "F1", "exactly right"
    return (
        "<p>An item gets the labels that have this score "
        f"({evaluation.threshold:g} in the figures of this page). "
        "<code>--min-score</code> changes it.</p>\n" + _table(heads, rows, names=0)
    )


def _missed(evaluation: LabelsEvaluation) -> str:
    rows = [
        (_name(each.label), f"{each.missed:,}", f"{each.wrongly_given:,}", f"{each.examples:,}")
        for each in evaluation.missed
    ]
    if not rows:
        return "<p>No label was missed.</p>"
    told = "<p>Those that the most examples have and did not get.</p>\n"
    return told + _table(("label", "missed", "wrongly given", "examples"), rows)


def _classes(evaluation: Figures) -> str:
    rows = [
        (name, each, float(f1(each.precision, each.recall)))
        for name, each in evaluation.classes.items()
    ]
    note = ""
    if len(rows) > CLASSES:
        note = f'<p class="faint">The {CLASSES:,} of {len(rows):,} with the lowest F1.</p>\n'
        rows = sorted(rows, key=lambda row: row[2])[:CLASSES]
    cells = [
        (_name(name), *map(_percent, (of.precision, of.recall, both)), f"{of.examples:,}")
        for name, of, both in rows
    ]
    return note + _table(("class", "precision", "recall", "F1", "examples"), cells)


# --- confusion -----------------------------------------------------------------------------------


def _confusion(evaluation: Evaluation) -> str:
    if 0 < len(evaluation.confusion) <= MATRIX:
        return _matrix(list(evaluation.classes), evaluation.confusion)
    rows = [
        (_name(pair.true), _name(pair.predicted), f"{pair.count:,}") for pair in evaluation.confused
    ]
    if not rows:
        return "<p>No class was taken for another one.</p>"
    return "<p>The most confused pairs.</p>\n" + _table(
        ("true", "predicted", "examples"), rows, names=2
    )


def _matrix(names: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    many = " many" if len(names) > _ACROSS else ""
    heads = "".join(f'<th scope="col">{_name(name)}</th>' for name in names)
    rows = "\n".join(
        f'<tr><th scope="row">{_name(name)}</th>{_cells(place, row)}</tr>'
        for place, (name, row) in enumerate(zip(names, counts, strict=True))
    )
    return (
        '<p class="faint">A row is a true class, a column what it was called.</p>\n'
        f'<div class="scroll"><table class="matrix{many}">\n'
        f"<thead><tr><th></th>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


def _cells(own: int, row: Sequence[int]) -> str:
    """Shaded by the share of the true class."""
    whole = max(sum(row), 1)
    cells = []
    for place, count in enumerate(row):
        kind = ' class="right"' if place == own else ""
        shade = f"color-mix(in srgb,var(--accent) {60 * count / whole:.0f}%,transparent)"
        cells.append(f'<td{kind} style="background:{shade}">{count or ""}</td>')
    return "".join(cells)


# --- reliability ---------------------------------------------------------------------------------


def _reliability(evaluation: Figures) -> str:
    """Bars of accuracy by score; perfect ones end at the diagonal."""
    total = max(sum(each.count for each in evaluation.reliability), 1)
    width = _SIDE / BINS
    bars = "\n".join(
        _bar("bar", place * width, width - 1, each.accuracy)
        + _bar("share", place * width + width / 4, width / 2 - 1, each.count / total)
        for place, each in enumerate(evaluation.reliability)
        if each.count
    )
    middle = _SIDE / 2
    box = f"{-_MARGIN} -8 {_SIDE + _MARGIN + 8} {_SIDE + _MARGIN + 8}"
    before = evaluation.uncalibrated
    told = f" It was {before.calibration_error:.4f} before." if before else ""
    return (
        '<p><span class="key" style="background:var(--accent)"></span>accuracy by score, '
        '<span class="key" style="background:var(--second)"></span>share of the examples. '
        "A score is a good probability where the bars end at the dashed line.</p>\n"
        f'<svg viewBox="{box}" role="img" aria-label="Accuracy by score">\n{bars}\n'
        f'<path class="axis" d="M0 0V{_SIDE}H{_SIDE}"/>\n'
        f'<path class="perfect" d="M0 {_SIDE}L{_SIDE} 0"/>\n'
        f"{''.join(map(_tick, (0, 0.5, 1)))}\n"
        f'<text x="{middle}" y="{_SIDE + 34}" text-anchor="middle">score</text>\n'
        f'<text transform="translate(-30 {middle}) rotate(-90)" text-anchor="middle">accuracy'
        "</text>\n</svg>\n"
        f'<p class="faint">Calibration error {evaluation.calibration_error:.4f}.{told}</p>'
    )


def _bar(kind: str, left: float, width: float, share: float) -> str:
    high = share * _SIDE
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{_SIDE - high:.1f}" width="{width:.1f}" '
        f'height="{high:.1f}"/>'
    )


def _tick(at: float) -> str:
    return (
        f'<text x="{at * _SIDE}" y="{_SIDE + 16}" text-anchor="middle">{at:g}</text>'
        f'<text x="-6" y="{_SIDE * (1 - at) + 4}" text-anchor="end">{at:g}</text>'
    )


# --- the rest ------------------------------------------------------------------------------------


def _facts(manifest: Manifest, command: str) -> str:
    data = manifest.dataset
    sizes = [
        f"{data[split]:,} {split}" for split in ("train", "validation", "test") if split in data
    ]
    versions = {"lmaas": manifest.code_version, **manifest.training.get("versions", {})}
    facts = {
        "architecture": _name(manifest.architecture),
        "data": _name(f"{data.get('name', '')} ({', '.join(sizes)})"),
        "sha256 of it": escape(str(data.get("sha256", ""))),
        "temperature": f"{manifest.head.get('temperature', 1):g}",
        "min-score": f"{manifest.min_score:g}" if manifest.min_score else "none",
        "command": f"<code>{escape(command)}</code>" if command else "",
        "made": escape(manifest.created),
        "with": ", ".join(f"{escape(name)} {escape(of)}" for name, of in versions.items()),
        "seconds": escape(str(manifest.training.get("seconds", ""))),
    }
    listed = "\n".join(f"<dt>{name}</dt><dd>{told}</dd>" for name, told in facts.items() if told)
    return f'<dl class="facts">\n{listed}\n</dl>'


def _picture(png: bytes) -> str:
    data = base64.b64encode(png).decode()
    return f'<img alt="Learning curves" src="data:image/png;base64,{data}">'


def _mistakes(mistakes: Sequence[Mistake]) -> str:
    listed = "\n".join(
        f'<li><p dir="auto">{escape(each.shown)}</p>\n<p class="faint">'
        f"{_name(each.true)} was called <b>{_name(each.predicted)}</b>, {each.score:.3f}</p></li>"
        for each in mistakes
    )
    return (
        f'<p class="faint">The {len(mistakes)} with the highest score. Some may have a wrong label '
        f'in the data.</p>\n<ul class="mistakes">\n{listed}\n</ul>'
    )
