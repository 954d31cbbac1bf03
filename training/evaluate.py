"""How good a classifier is: figures, a table for a terminal, a picture.

All of it is computed from the predicted probabilities, so that it holds for any model.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Scores = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]

#: Equal-width bins of confidence, as in Guo et al.
BINS: Final = 15
#: Scores below which a model might answer `unsure`.
THRESHOLDS: Final = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
#: With more classes there is no matrix, in the figures and in the picture, and a table has the
#: worst: the most confused pairs say more.
NAMED: Final = 100
#: So many pairs of classes are the most confused ones.
CONFUSED: Final = 20
#: In a matrix of more classes than this a cell has room for one number, if it is no zero.
_READABLE: Final = 12
#: Characters of a class's name in the picture.
_NAME: Final = 40
#: Inches of the picture that one of many classes has, and that the reliability diagram has.
_CELL: Final = 0.17
_DIAGRAM: Final = 5.0


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """The predictions whose confidence falls into one interval."""

    count: int
    confidence: float
    accuracy: float


class ClassFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One class: of what was called so, and of what is so, the share that was right."""

    precision: float
    recall: float
    examples: int


class Confused(msgspec.Struct, frozen=True, kw_only=True):
    """Two classes, and how many examples of the one were called the other."""

    true: str
    predicted: str
    count: int


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """What comes of answering `unsure` below a score."""

    min_score: float
    #: The share of the examples that get a label, and of those the share that is right.
    coverage: float
    accuracy: float


class Uncalibrated(msgspec.Struct, frozen=True, kw_only=True):
    """The same figures of the scores before they were calibrated."""

    calibration_error: float
    log_loss: float


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured on one split."""

    examples: int
    accuracy: float
    #: Mean of the classes' F1.
    macro_f1: float
    #: Mean negative natural logarithm of the right class's probability.
    log_loss: float
    #: Expected calibration error: see `calibration_error`.
    calibration_error: float
    classes: dict[str, ClassFigures]
    #: The CONFUSED most confused pairs, the most frequent first.
    confused: list[Confused] = []
    #: Row: true class, column: predicted class. Empty with more than NAMED classes.
    confusion: list[list[int]]
    reliability: list[Bin]
    #: Of THRESHOLDS, from the last one that all examples reach to the last one that any does.
    thresholds: list[Threshold] = []
    #: None where the scores are as the network gives them.
    uncalibrated: Uncalibrated | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a manifest."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def as_table(self) -> Table:
        """One row a class (the worst NAMED of more), the totals in the caption."""
        before = self.uncalibrated
        caption = (
            f"accuracy {self.accuracy:.4f} · macro F1 {self.macro_f1:.4f} · "
            f"calibration error {self.calibration_error:.4f}"
            f"{f' (uncalibrated {before.calibration_error:.4f})' if before else ''}"
            f" · {self.examples:,} examples"
        )
        return classes_table("class", self.classes, caption)

    def as_thresholds_table(self) -> Table:
        """One row a threshold."""
        made = table("min-score", "answered", "right of those", caption=None)
        for each in self.thresholds:
            made.add_row(f"{each.min_score:g}", f"{each.coverage:.1%}", f"{each.accuracy:.1%}")
        return made

    def as_confused_table(self) -> Table:
        """One row a pair of the most confused classes."""
        made = table("most confused: true", "predicted", "examples", caption=None)
        for pair in self.confused:
            made.add_row(Text(pair.true), Text(pair.predicted), f"{pair.count:,}")
        return made

    def tables(self) -> list[Table]:
        """Of the classes, of more than two the most confused ones, and of thresholds."""
        confused = [self.as_confused_table()] if len(self.classes) > 2 and self.confused else []
        return [self.as_table(), *confused, self.as_thresholds_table()]

    def figure(self, title: str) -> Figure:
        """See `figure`."""
        return figure(self, title)


#: Headers of columns with numbers.
_NUMBERS: Final = {
    *("precision", "recall", "F1", "examples", "answered", "right of those"),
    *("missed", "wrongly given", "exactly right"),
}


def table(*columns: str, caption: str | None) -> Table:
    """Numbers, in the columns that are no names, to the right."""
    made = Table(*columns, caption=caption)
    for column in made.columns:
        if column.header in _NUMBERS:
            column.justify = "right"
    return made


def classes_table(what: str, classes: Mapping[str, ClassFigures], caption: str) -> Table:
    """A row a class, the worst NAMED of more."""
    rows = list(classes.items())
    if len(rows) > NAMED:
        caption += f" · the {NAMED} classes of {len(rows):,} with the lowest F1"
        rows = sorted(rows, key=lambda row: f1(row[1].precision, row[1].recall))[:NAMED]
    made = table(what, "precision", "recall", "examples", caption=caption)
    for name, figures in rows:
        row = f"{figures.precision:.4f}", f"{figures.recall:.4f}", f"{figures.examples:,}"
        made.add_row(Text(name), *row)
    return made


def f1(precision: Any, recall: Any) -> Any:
    """Harmonic mean of numbers or arrays; 0 where both are."""
    return 2 * precision * recall / np.maximum(precision + recall, 1e-12)


def evaluate(scores: Scores, truth: Labels, labels: Sequence[str]) -> Evaluation:
    """Compare probabilities [examples, classes] with the true class indices [examples]."""
    predicted = scores.argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    right = confusion.diagonal()
    precision = right / np.maximum(confusion.sum(axis=0), 1)
    recall = right / np.maximum(confusion.sum(axis=1), 1)
    bins = reliability(scores, truth)
    return Evaluation(
        examples=len(truth),
        accuracy=float(right.sum() / len(truth)),
        macro_f1=float(f1(precision, recall).mean()),
        log_loss=log_loss(scores, truth),
        calibration_error=calibration_error(bins),
        classes={
            label: ClassFigures(
                precision=float(precision[i]),
                recall=float(recall[i]),
                examples=int(confusion[i].sum()),
            )
            for i, label in enumerate(labels)
        },
        confused=_most_confused(confusion, labels),
        confusion=confusion.tolist() if len(labels) <= NAMED else [],
        reliability=bins,
        thresholds=thresholds(scores, truth),
    )


def uncalibrated(scores: Scores, truth: Labels) -> Uncalibrated:
    """Of scores as the network gives them."""
    return Uncalibrated(
        calibration_error=calibration_error(reliability(scores, truth)),
        log_loss=log_loss(scores, truth),
    )


def log_loss(scores: Scores, truth: Labels) -> float:
    """See `Evaluation.log_loss`; a probability of 0 counts as 1e-12."""
    likelihood = scores[np.arange(len(truth)), truth].astype(np.float64)
    return float(-np.log(np.maximum(likelihood, 1e-12)).mean())


def thresholds(scores: Scores, truth: Labels) -> list[Threshold]:
    """See `Evaluation.thresholds`."""
    confidence = scores.max(axis=1)
    right = scores.argmax(axis=1) == truth
    found: list[Threshold] = []
    for least in THRESHOLDS:
        answered = confidence >= np.float32(least)
        if not answered.any():
            break
        share = Threshold(
            min_score=least,
            coverage=float(answered.mean()),
            accuracy=float(right[answered].mean()),
        )
        # Of those that all examples reach the last one is enough.
        found = [share] if answered.all() else [*found, share]
    return found


def _most_confused(confusion: npt.NDArray[np.int64], labels: Sequence[str]) -> list[Confused]:
    """Pairs of the same count are in the order of the labels."""
    true, predicted = np.nonzero(confusion * (1 - np.eye(len(labels), dtype=np.int64)))
    counts = confusion[true, predicted]
    first = np.argsort(-counts, kind="stable")[:CONFUSED]
    return [
        Confused(true=labels[true[i]], predicted=labels[predicted[i]], count=int(counts[i]))
        for i in first
    ]


def reliability(scores: Scores, truth: Labels) -> list[Bin]:
    """Confidence (the highest probability) against accuracy, in BINS intervals (low, high]."""
    return binned(scores.max(axis=1), scores.argmax(axis=1) == truth)


def binned(scores: Scores, right: npt.NDArray[Any]) -> list[Bin]:
    """Scores [n] against the share of those that are right, in BINS intervals (low, high]."""
    confidence = scores.astype(np.float64)
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    count = np.bincount(place, minlength=BINS)
    mean = np.maximum(count, 1)
    confidences = np.bincount(place, weights=confidence, minlength=BINS) / mean
    accuracies = np.bincount(place, weights=right, minlength=BINS) / mean
    return [
        Bin(count=int(n), confidence=float(c), accuracy=float(a))
        for n, c, a in zip(count, confidences, accuracies, strict=True)
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: sum over bins of count / total * |accuracy - confidence|.

    Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015;
    with 15 bins as in equation 3 of Guo et al., "On Calibration of Modern Neural Networks", 2017.
    """
    total = sum(each.count for each in bins)
    return sum(each.count / total * abs(each.accuracy - each.confidence) for each in bins)


class Drawn(Protocol):
    """What can be drawn."""

    def figure(self, title: str) -> Figure: ...


def draw(evaluation: Drawn, path: Path, title: str) -> None:
    """Its figure as a PNG."""
    with warnings.catch_warnings():
        # Fonts have not every letter of a class's name: a box stands for it.
        warnings.filterwarnings("ignore", "Glyph|Matplotlib currently does not support")
        evaluation.figure(title).savefig(path, dpi=110)


def figure(evaluation: Evaluation, title: str) -> Figure:
    """The confusion matrix, or the most confused pairs, and the reliability diagram beside it."""
    from matplotlib.figure import Figure  # half a second to import

    classes = len(evaluation.confusion)
    side = max(5.0, _CELL * classes)
    # Names of many classes stand upright.
    room = 2.5 if classes > _READABLE else 1.0
    size = side + room + _DIAGRAM, side + room / 2
    drawn = Figure(figsize=size, layout="constrained")
    drawn.suptitle(f"{title} — accuracy {evaluation.accuracy:.2%}", parse_math=False)
    left, right = drawn.subplots(1, 2, width_ratios=(side + room, _DIAGRAM))
    if classes:
        _draw_confusion(left, evaluation)
    else:
        _draw_confused(left, evaluation)
    draw_reliability(right, evaluation.reliability, evaluation.calibration_error)
    return drawn


def _draw_confusion(axes: Any, evaluation: Evaluation) -> None:
    counts = np.array(evaluation.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(title="Confusion (share of the true class)", xlabel="predicted", ylabel="true")
    names = [cut(name) for name in evaluation.classes]
    many = len(names) > _READABLE
    across = 90 if many else 30 if len(names) > 3 else 0
    style = {"parse_math": False, "fontsize": 7 if many else None}
    axes.set_xticks(range(len(names)), names, rotation=across, **style)
    axes.set_yticks(range(len(names)), names, **style)
    for (row, column), count in np.ndenumerate(counts):
        if many and not count:
            continue
        text = f"{count:,}\n{shares[row, column]:.1%}" if len(names) <= 4 else f"{count}"
        colour = "white" if shares[row, column] > 0.5 else "black"
        size = 5 if many else None
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


def _draw_confused(axes: Any, evaluation: Evaluation) -> None:
    """The most confused pairs, the most frequent on top."""
    pairs = evaluation.confused
    names = [f"{cut(pair.true)} → {cut(pair.predicted)}" for pair in pairs]
    axes.barh(range(len(pairs)), [pair.count for pair in pairs])
    axes.set_yticks(range(len(pairs)), names, parse_math=False, fontsize=7)
    axes.invert_yaxis()
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(
        title=f"Most confused of {len(evaluation.classes):,} classes (true → predicted)",
        xlabel="examples",
    )


def cut(name: str) -> str:
    """A name on one line, and not too long."""
    line = " ".join(name.split())
    return line if len(line) <= _NAME else f"{line[: _NAME - 1]}…"


def draw_reliability(axes: Any, bins: Sequence[Bin], error: float) -> None:
    """Bars of accuracy by score, and of the share of the predictions."""
    edges = np.arange(BINS) / BINS
    total = sum(each.count for each in bins)
    axes.bar(
        edges, [each.accuracy for each in bins], 1 / BINS, align="edge", edgecolor="white",
        label="accuracy",
    )  # fmt: skip
    axes.bar(
        edges, [each.count / total for each in bins], 1 / BINS, align="edge", color="orange",
        alpha=0.6, label="share of predictions",
    )  # fmt: skip
    axes.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="perfect")
    axes.set(
        title=f"Reliability (calibration error {error:.3f})",
        xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1),
    )  # fmt: skip
    axes.set_box_aspect(1)
    axes.legend(loc="upper left")
