"""What is measured of a trained network, whether its examples have one label or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from lmaas.training import evaluate, evaluate_labels
from lmaas.training.evaluate import Evaluation, Scores
from lmaas.training.evaluate_labels import LabelsEvaluation
from lmaas.training.label_sets import Truth
from lmaas.workers.heads import Meaning
from lmaas.workers.manifest import THRESHOLD, Manifest

Figures = Evaluation | LabelsEvaluation
#: What architectures are chosen by where an example may have several labels.
MICRO_F1: Final = "micro F1"
ACCURACY: Final = "accuracy"


def meaning(truth: Truth) -> Meaning:
    """What scores for such examples are."""
    return "independent" if truth.ndim == 2 else "exclusive"


def evaluated(
    scores: Scores, truth: Truth, labels: Sequence[str], min_score: float = 0.0
) -> Figures:
    """`min_score` is what the manifest says."""
    if truth.ndim == 1:
        return evaluate.evaluate(scores, truth, labels)
    return evaluate_labels.evaluate_labels(scores, truth, labels, min_score or THRESHOLD)


def uncalibrated(scores: Scores, truth: Truth) -> evaluate.Uncalibrated:
    """Of scores as the network gives them."""
    of = evaluate.uncalibrated if truth.ndim == 1 else evaluate_labels.uncalibrated
    return of(scores, truth)


def merit(scores: Scores, truth: Truth) -> float:
    """By which the best of several is chosen: accuracy; of several labels micro F1."""
    if truth.ndim == 1:
        return float((scores.argmax(axis=1) == truth).mean())
    given = evaluate_labels.reached(scores, THRESHOLD)
    return evaluate_labels.micro_f1(given, truth.astype(bool))


def right_of_each(scores: Scores, truth: Truth) -> npt.NDArray[np.bool_]:
    """Whether an example has its label, or exactly its labels."""
    if truth.ndim == 1:
        return np.asarray(scores.argmax(axis=1) == truth)
    given = evaluate_labels.reached(scores, THRESHOLD)
    return np.asarray((given == truth.astype(bool)).all(axis=1))


def figures(manifest: Manifest) -> Figures:
    """Those of a version that was trained here."""
    found: Mapping[str, Any] = manifest.metrics
    kind: type[Figures] = LabelsEvaluation if manifest.multi_label else Evaluation
    return msgspec.convert(found, kind)
