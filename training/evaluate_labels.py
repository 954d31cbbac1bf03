"""How good a classifier is that may give an example several labels, or none: each label is right or
wrong by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from rich.table import Table
from rich.text import Text

from lmaas.training import evaluate
from lmaas.training.evaluate import Bin, ClassFigures, Scores, Uncalibrated, f1, table
from lmaas.training.label_sets import Truth, decisions
from lmaas.workers.heads import DECIMALS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Scores that labels might have to reach.
THRESHOLDS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
#: So many labels are the most missed ones.
MISSED: Final = 20

_Flags = npt.NDArray[np.bool_]


class Missed(msgspec.Struct, frozen=True, kw_only=True):
    """One label: how many examples have it and did not get it, and got it and do not have it."""

    label: str
    missed: int
    wrongly_given: int
    examples: int


class LabelThreshold(msgspec.Struct, frozen=True, kw_only=True):
    """What comes of giving the labels that have a score: of all of them together."""

    min_score: float
    precision: float
    recall: float
    f1: float
    #: The share of the examples that get exactly the right labels.
    accuracy: float

    @property
    def shares(self) -> tuple[float, float, float, float]:
        """All of them, in this order."""
        return self.precision, self.recall, self.f1, self.accuracy


class LabelsEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured on one split."""

    examples: int
    #: Labels with this score were given.
    threshold: float
    #: The share of the examples that get exactly the right labels.
    accuracy: float
    #: Of all labels that were given or should have been, and the mean of the labels' own.
    micro_f1: float
    macro_f1: float
    #: Mean negative natural logarithm of what each label's score gives to what is so.
    log_loss: float
    #: Of the scores of all labels, against the share of examples that have the label.
    calibration_error: float
    classes: dict[str, ClassFigures]
    #: The MISSED most missed labels, the most missed first.
    missed: list[Missed]
    reliability: list[Bin]
    thresholds: list[LabelThreshold]
    #: None where the scores are as the network gives them.
    uncalibrated: Uncalibrated | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a manifest."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def tables(self) -> list[Table]:
        """Of the labels, of the most missed ones, and of thresholds."""
        before = self.uncalibrated
        caption = (
            f"exactly right {self.accuracy:.4f} · micro F1 {self.micro_f1:.4f} · "
            f"macro F1 {self.macro_f1:.4f} · calibration error {self.calibration_error:.4f}"
            f"{f' (uncalibrated {before.calibration_error:.4f})' if before else ''}"
            f" · {self.examples:,} examples, labels from a score of {self.threshold:g}"
        )
        labels = evaluate.classes_table("label", self.classes, caption)
        found = [labels, *([self._missed_table()] if self.missed else [])]
        return [*found, self._thresholds_table()]

    def _missed_table(self) -> Table:
        made = table("most missed", "missed", "wrongly given", "examples", caption=None)
        for each in self.missed:
            counts = each.missed, each.wrongly_given, each.examples
            made.add_row(Text(each.label), *(f"{count:,}" for count in counts))
        return made

    def _thresholds_table(self) -> Table:
        made = table("min-score", "precision", "recall", "F1", "exactly right", caption=None)
        for each in self.thresholds:
            made.add_row(f"{each.min_score:g}", *(f"{share:.1%}" for share in each.shares))
        return made

    def figure(self, title: str) -> Figure:
        """The most missed labels, and the reliability diagram beside them."""
        from matplotlib.figure import Figure  # half a second to import

        drawn = Figure(figsize=(12, 6), layout="constrained")
        drawn.suptitle(f"{title} — micro F1 {self.micro_f1:.4f}", parse_math=False)
        left, right = drawn.subplots(1, 2)
        names = [evaluate.cut(each.label) for each in self.missed]
        left.barh(range(len(names)), [each.missed for each in self.missed], label="missed")
        left.barh(
            range(len(names)), [-each.wrongly_given for each in self.missed], label="wrongly given"
        )
        left.set_yticks(range(len(names)), names, parse_math=False, fontsize=7)
        left.invert_yaxis()
        left.set(title="Most missed labels", xlabel="examples")
        left.legend()
        evaluate.draw_reliability(right, self.reliability, self.calibration_error)
        return drawn


def evaluate_labels(
    scores: Scores, truth: Truth, labels: Sequence[str], threshold: float
) -> LabelsEvaluation:
    """Compare probabilities [examples, labels] with what each example has, 0 or 1 a label."""
    wanted = truth.astype(bool)
    given = reached(scores, threshold)
    right, called, true = (flags.sum(axis=0) for flags in (given & wanted, given, wanted))
    precision, recall = right / np.maximum(called, 1), right / np.maximum(true, 1)
    bins = evaluate.binned(scores.reshape(-1), truth.reshape(-1))
    return LabelsEvaluation(
        examples=len(truth),
        threshold=threshold,
        accuracy=exactly_right(given, wanted),
        micro_f1=micro_f1(given, wanted),
        macro_f1=float(f1(precision, recall).mean()),
        log_loss=evaluate.log_loss(*decisions(scores, truth)),
        calibration_error=evaluate.calibration_error(bins),
        classes={
            label: ClassFigures(
                precision=float(precision[i]), recall=float(recall[i]), examples=int(true[i])
            )
            for i, label in enumerate(labels)
        },
        missed=_most_missed(true - right, called - right, true, labels),
        reliability=bins,
        thresholds=[_at(least, scores, wanted) for least in THRESHOLDS],
    )


def uncalibrated(scores: Scores, truth: Truth) -> Uncalibrated:
    """Of scores as the network gives them."""
    bins = evaluate.binned(scores.reshape(-1), truth.reshape(-1))
    return Uncalibrated(
        calibration_error=evaluate.calibration_error(bins),
        log_loss=evaluate.log_loss(*decisions(scores, truth)),
    )


def reached(scores: Scores, threshold: float) -> _Flags:
    """[examples, labels] which labels are given, by the decimals that an answer has."""
    found: _Flags = np.round(scores.astype(np.float64), DECIMALS) >= threshold
    return found


def micro_f1(given: _Flags, wanted: _Flags) -> float:
    """F1 of all labels of all examples together."""
    return float(2 * (given & wanted).sum() / max(given.sum() + wanted.sum(), 1))


def exactly_right(given: _Flags, wanted: _Flags) -> float:
    """The share of the examples with all of their labels and no other."""
    return float((given == wanted).all(axis=1).mean())


def _at(least: float, scores: Scores, wanted: _Flags) -> LabelThreshold:
    given = reached(scores, least)
    right = (given & wanted).sum()
    return LabelThreshold(
        min_score=least,
        precision=float(right / max(given.sum(), 1)),
        recall=float(right / max(wanted.sum(), 1)),
        f1=micro_f1(given, wanted),
        accuracy=exactly_right(given, wanted),
    )


def _most_missed(missed: Any, wrongly: Any, true: Any, labels: Sequence[str]) -> list[Missed]:
    """Those that are missed at all; of the same count in the order of the labels."""
    first = np.argsort(-missed, kind="stable")[:MISSED]
    return [
        Missed(
            label=labels[i],
            missed=int(missed[i]),
            wrongly_given=int(wrongly[i]),
            examples=int(true[i]),
        )
        for i in first.tolist()
        if missed[i]
    ]
