"""Figures of several labels an example, by hand and against scikit-learn's."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console

from lmaas.training import calibration, choosing
from lmaas.training.evaluate import draw
from lmaas.training.evaluate_labels import LabelsEvaluation, evaluate_labels, uncalibrated
from lmaas.training.judging import merit
from lmaas.training.mistakes import NO_LABEL, mistakes
from lmaas.workers.heads import tempered
from tests.unit.training.test_choosing import text_items

LABELS = ["calm", "kind", "loud"]
SCORES = np.array([[0.9, 0.6, 0.1], [0.2, 0.5, 0.3], [0.4, 0.1, 0.2], [0.1, 0.2, 0.8]], np.float32)
TRUTH = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]], np.int32)


def measured(threshold: float = 0.5) -> LabelsEvaluation:
    return evaluate_labels(SCORES, TRUTH, LABELS, threshold)


def test_figures_of_a_small_case() -> None:
    found = measured()
    # Given: calm and kind, kind (its score is the threshold), nothing, loud.
    assert found.accuracy == 0.5
    assert found.micro_f1 == pytest.approx(2 * 3 / (4 + 5))
    calm, kind, loud = found.classes.values()
    assert (calm.precision, calm.recall, calm.examples) == (1, pytest.approx(1 / 3), 3)
    assert (kind.precision, kind.recall, kind.examples) == (0.5, 1, 1)
    assert (loud.precision, loud.recall, loud.examples) == (1, 1, 1)
    assert found.macro_f1 == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)
    (missed,) = found.missed
    assert (missed.label, missed.missed, missed.wrongly_given, missed.examples) == ("calm", 2, 0, 3)
    right = np.where(TRUTH, SCORES, 1 - SCORES).astype(np.float64)
    assert found.log_loss == pytest.approx(-np.log(right).mean(), rel=1e-5)
    assert sum(each.count for each in found.reliability) == SCORES.size


def test_a_lower_threshold_gives_more_labels() -> None:
    assert measured(0.2).classes["calm"].recall == 1
    by_score = {each.min_score: each for each in measured().thresholds}
    assert by_score[0.2].recall > by_score[0.5].recall > by_score[0.9].recall
    assert by_score[0.5].accuracy == 0.5
    assert by_score[0.5].shares == (3 / 4, 3 / 5, pytest.approx(2 / 3), 0.5)


def test_they_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="it is in the group `origins`")
    random = np.random.default_rng(5)
    truth = random.integers(2, size=(200, 4)).astype(np.int32)
    scores = random.random((200, 4), np.float32)
    found, given = evaluate_labels(scores, truth, list("abcd"), 0.5), scores >= 0.5
    assert found.micro_f1 == pytest.approx(metrics.f1_score(truth, given, average="micro"))
    assert found.macro_f1 == pytest.approx(metrics.f1_score(truth, given, average="macro"))
    assert found.accuracy == pytest.approx(metrics.accuracy_score(truth, given))


def test_they_are_printed_drawn_and_kept(tmp_path: Path) -> None:
    found = measured()
    console = Console(record=True, width=200)
    for table in found.tables():
        console.print(table)
    told = console.export_text()
    assert "exactly right 0.5000 · micro F1 0.6667" in told
    assert "most missed" in told
    draw(found, tmp_path / "a.png", "title")
    assert (tmp_path / "a.png").stat().st_size
    assert msgspec.convert(found.as_dict(), LabelsEvaluation) == found


def test_a_temperature_of_all_labels() -> None:
    """Scores that are too sure become less so, and the labels that are given stay."""
    random = np.random.default_rng(3)
    right = random.uniform(-3, 3, (2000, 5))
    truth = (random.random((2000, 5)) < 1 / (1 + np.exp(-right))).astype(np.int32)
    sure = (1 / (1 + np.exp(-2 * right))).astype(np.float32)
    found = calibration.temperature(sure, truth)
    assert 1.7 < found < 2.2
    mended = tempered(sure, found, "independent")
    assert uncalibrated(mended, truth).calibration_error < 0.03
    assert uncalibrated(sure, truth).calibration_error > 0.05
    assert ((mended >= 0.5) == (sure >= 0.5)).all()
    assert calibration.temperature(sure[:0], truth[:0]) == 1


def test_the_surest_mistakes_first() -> None:
    items = text_items(["first", "second", "third", "fourth"])
    found = mistakes(SCORES, TRUTH, LABELS, items)
    assert [(each.shown, each.true, each.predicted) for each in found] == [
        ("second", "calm", "kind"),
        ("third", "calm", NO_LABEL),
    ]
    assert [each.score for each in found] == [pytest.approx(0.8), pytest.approx(0.6)]


def test_the_best_architecture_has_the_highest_micro_f1() -> None:
    assert merit(SCORES, TRUTH) == pytest.approx(2 / 3)
    assert merit(np.eye(3, dtype=np.float32), np.array([0, 1, 1], np.int32)) == pytest.approx(2 / 3)
    training = {"tried": {"linear": 0.7}, "measure": "micro F1", "held_out": 400, "folds": 1}
    sizes = {"train": 500, "validation": 400, "test": 60}
    tried, _, expect = choosing.told("linear", {**training, "learnt_from": 500}, sizes, 0.5)
    assert tried.endswith("(micro F1 on 400 texts, held out)")
    assert "exactly right of texts like those of the test (60)" in expect


def test_nothing_given_and_nothing_wanted_is_exactly_right() -> None:
    found = evaluate_labels(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.int32), LABELS, 0.5)
    assert (found.accuracy, found.micro_f1, found.missed) == (1, 0, [])
    assert math.isfinite(found.log_loss)
