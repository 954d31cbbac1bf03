"""How good a classifier is: figures, a table for a terminal, a picture.

All of it is computed from the predicted probabilities, so that it holds for any model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from rich.table import Table

Scores = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]

#: Equal-width bins of confidence, as in Guo et al.
BINS = 15
#: More classes than this are too many to write numbers into the matrix.
_READABLE = 12


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
    #: Row: true class, column: predicted class.
    confusion: list[list[int]]
    reliability: list[Bin]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a manifest."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def as_table(self) -> Table:
        """One row a class, the totals in the caption."""
        caption = (
            f"accuracy {self.accuracy:.4f} · macro F1 {self.macro_f1:.4f} · "
            f"calibration error {self.calibration_error:.4f} · {self.examples:,} examples"
        )
        table = Table("class", "precision", "recall", "examples", caption=caption)
        for column in table.columns[1:]:
            column.justify = "right"
        for name, figures in self.classes.items():
            row = f"{figures.precision:.4f}", f"{figures.recall:.4f}", f"{figures.examples:,}"
            table.add_row(name, *row)
        return table


def evaluate(scores: Scores, truth: Labels, labels: Sequence[str]) -> Evaluation:
    """Compare probabilities [examples, classes] with the true class indices [examples]."""
    predicted = scores.argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    right = confusion.diagonal()
    precision = right / np.maximum(confusion.sum(axis=0), 1)
    recall = right / np.maximum(confusion.sum(axis=1), 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    likelihood = scores[np.arange(len(truth)), truth].astype(np.float64)
    bins = reliability(scores, truth)
    return Evaluation(
        examples=len(truth),
        accuracy=float(right.sum() / len(truth)),
        macro_f1=float(f1.mean()),
        log_loss=float(-np.log(np.maximum(likelihood, 1e-12)).mean()),
        calibration_error=calibration_error(bins),
        classes={
            label: ClassFigures(
                precision=float(precision[i]),
                recall=float(recall[i]),
                examples=int(confusion[i].sum()),
            )
            for i, label in enumerate(labels)
        },
        confusion=confusion.tolist(),
        reliability=bins,
    )


def reliability(scores: Scores, truth: Labels) -> list[Bin]:
    """Confidence (the highest probability) against accuracy, in BINS intervals (low, high]."""
    confidence = scores.max(axis=1).astype(np.float64)
    right = scores.argmax(axis=1) == truth
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


def draw(evaluation: Evaluation, path: Path, title: str) -> None:
    """A PNG: the confusion matrix, and the reliability diagram beside it."""
    from matplotlib.figure import Figure  # half a second to import

    figure = Figure(figsize=(11, 5), layout="constrained")
    figure.suptitle(f"{title} — accuracy {evaluation.accuracy:.2%}")
    left, right = figure.subplots(1, 2)
    _draw_confusion(left, evaluation)
    _draw_reliability(right, evaluation)
    figure.savefig(path, dpi=110)


def _draw_confusion(axes: Any, evaluation: Evaluation) -> None:
    counts = np.array(evaluation.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(title="Confusion (share of the true class)", xlabel="predicted", ylabel="true")
    names = list(evaluation.classes)
    if len(names) > _READABLE:
        return
    axes.set_xticks(range(len(names)), names, rotation=30 if len(names) > 3 else 0)
    axes.set_yticks(range(len(names)), names)
    for (row, column), count in np.ndenumerate(counts):
        text = f"{count:,}\n{shares[row, column]:.1%}" if len(names) <= 4 else f"{count}"
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour)


def _draw_reliability(axes: Any, evaluation: Evaluation) -> None:
    edges = np.arange(BINS) / BINS
    bins = evaluation.reliability
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
        title=f"Reliability (calibration error {evaluation.calibration_error:.3f})",
        xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1),
    )  # fmt: skip
    axes.legend(loc="upper left")
