from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from lmaas.training.evaluate import BINS, calibration_error, draw, evaluate, reliability


def scores(*positive: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    column = np.array(positive, np.float32)
    return np.stack([1 - column, column], axis=1)


def test_figures_of_a_small_case() -> None:
    evaluation = evaluate(
        scores(0.9, 0.8, 0.4, 0.3, 0.6), np.array([1, 1, 1, 0, 0], np.int32), ["no", "yes"]
    )
    assert evaluation.examples == 5
    assert evaluation.accuracy == pytest.approx(3 / 5)
    assert evaluation.confusion == [[1, 1], [1, 2]]
    assert evaluation.classes["yes"].precision == pytest.approx(2 / 3)
    assert evaluation.classes["yes"].recall == pytest.approx(2 / 3)
    assert evaluation.classes["no"].precision == pytest.approx(1 / 2)
    assert evaluation.classes["no"].examples == 2
    assert evaluation.macro_f1 == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert evaluation.log_loss == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.7, 0.4]).mean(), rel=1e-5)


def test_a_class_that_is_never_predicted_has_no_precision() -> None:
    evaluation = evaluate(scores(0.1, 0.2), np.array([0, 0], np.int32), ["no", "yes"])
    assert evaluation.classes["yes"].precision == 0
    assert evaluation.accuracy == 1


def test_calibration_error_by_hand() -> None:
    # Ten predictions at 0.8, six of them right: |0.6 - 0.8|; ten at 0.9, all right: |1 - 0.9|.
    truth = np.array([1] * 6 + [0] * 4 + [1] * 10, np.int32)
    bins = reliability(scores(*[0.8] * 10, *[0.9] * 10), truth)
    assert len(bins) == BINS
    assert sum(each.count for each in bins) == 20
    assert calibration_error(bins) == pytest.approx(0.5 * 0.2 + 0.5 * 0.1, abs=1e-6)


def test_a_perfect_prediction_is_perfectly_calibrated() -> None:
    evaluation = evaluate(scores(1, 0, 1), np.array([1, 0, 1], np.int32), ["no", "yes"])
    assert evaluation.calibration_error == 0
    assert evaluation.reliability[-1].count == 3


@pytest.mark.parametrize("classes", [2, 5, 40])
def test_table_and_picture_take_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(classes), 200).astype(np.float32)
    truth = random.integers(0, classes, 200).astype(np.int32)
    evaluation = evaluate(probabilities, truth, [f"class {i}" for i in range(classes)])
    console = Console(record=True, width=100)
    console.print(evaluation.as_table())
    assert f"class {classes - 1}" in console.export_text()
    path = tmp_path / "evaluation.png"
    draw(evaluation, path, "a model")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert evaluation.as_dict()["classes"]["class 0"]["examples"] == (truth == 0).sum()
