from __future__ import annotations

import io
import re
from collections.abc import Sequence
from itertools import cycle, pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from lmaas.training.evaluate import (
    BINS,
    CONFUSED,
    NAMED,
    Evaluation,
    calibration_error,
    draw,
    evaluate,
    figure,
    reliability,
)


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


def test_thresholds_by_hand() -> None:
    truth = np.array([1, 1, 0, 0, 1], np.int32)
    found = evaluate(scores(0.85, 0.65, 0.65, 0.05, 0.4), truth, ["no", "yes"]).thresholds
    shares = {each.min_score: (each.coverage, pytest.approx(each.accuracy)) for each in found}
    # At 0.5 all are answered: what is lower says nothing more. 0.98 is the score of none.
    assert shares == {
        0.6: (1.0, 3 / 5),
        0.7: (0.4, 1.0),
        0.8: (0.4, 1.0),
        0.9: (0.2, 1.0),
        0.95: (0.2, 1.0),
    }


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


def random_evaluation(names: Sequence[str], examples: int = 400) -> Evaluation:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(len(names)), examples).astype(np.float32)
    truth = random.integers(0, len(names), examples).astype(np.int32)
    return evaluate(probabilities, truth, names)


def shown(table: Table) -> str:
    console = Console(record=True, width=100)
    console.print(table)
    return console.export_text()


@pytest.mark.parametrize("classes", [2, 5, 40, NAMED, NAMED + 1])
def test_table_and_picture_take_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    evaluation = random_evaluation([f"class {i}" for i in range(classes)])
    rows = shown(evaluation.as_table())
    assert len(re.findall(r"class \d", rows)) == min(classes, NAMED)
    path = tmp_path / "evaluation.png"
    draw(evaluation, path, "a model")
    assert path.read_bytes().startswith(b"\x89PNG")
    figures = evaluation.as_dict()
    assert sum(each["examples"] for each in figures["classes"].values()) == 400
    assert len(figures["confusion"]) == (classes if classes <= NAMED else 0)
    assert msgspec.convert(figures, Evaluation) == evaluation


def test_the_most_confused_pairs_come_first() -> None:
    truth = np.array([0] * 5 + [1] * 3 + [2] * 2, np.int32)
    predicted = np.array([0, 0, 1, 2, 2, 0, 0, 0, 1, 2])
    scores = np.eye(3, dtype=np.float32)[predicted]
    evaluation = evaluate(scores, truth, ["a", "b", "c"])
    pairs = [(pair.true, pair.predicted, pair.count) for pair in evaluation.confused]
    assert pairs == [("b", "a", 3), ("a", "c", 2), ("a", "b", 1), ("c", "b", 1)]
    assert shown(evaluation.as_confused_table()).index("3") < 300


def test_of_many_classes_the_worst_have_a_row() -> None:
    names = [f"class {i:03d}" for i in range(NAMED + 50)]
    truth = np.arange(len(names), dtype=np.int32)
    predicted = np.where(truth < 50, truth, (truth + 1) % len(names))
    evaluation = evaluate(np.eye(len(names), dtype=np.float32)[predicted], truth, names)
    rows = shown(evaluation.as_table())
    assert "class 049" not in rows.replace("class 050", "")
    assert "class 149" in rows
    assert f"the {NAMED} classes of 150 with the lowest F1" in " ".join(rows.split())


def names_in(picture: Figure, axis: str) -> list[str]:
    return [label.get_text() for label in getattr(picture.axes[0], f"get_{axis}ticklabels")()]


def test_the_picture_has_the_names_of_many_classes() -> None:
    names = [f"intent {i}" for i in range(77)]
    picture = figure(random_evaluation(names), "a model")
    assert names_in(picture, "x") == names_in(picture, "y") == names
    picture.savefig(io.BytesIO(), dpi=110)  # lays it out
    boxes = [label.get_window_extent() for label in picture.axes[0].get_yticklabels()]
    assert not any(one.overlaps(two) for one, two in pairwise(boxes))


def test_of_too_many_classes_the_picture_has_the_most_confused() -> None:
    evaluation = random_evaluation([f"intent {i}" for i in range(NAMED + 1)])
    first, *others = names_in(figure(evaluation, "a model"), "y")
    pair = evaluation.confused[0]
    assert first == f"{pair.true} → {pair.predicted}"
    assert len(others) == CONFUSED - 1


@pytest.mark.parametrize("classes", [3, NAMED + 1])
def test_names_can_be_anything(tmp_path: Path, classes: int) -> None:
    odd = ["$x_$", "[/red]", "日本 \U0001f600", "x" * 500, "two\nlines", "عربي", "\x00\x1b[1m"]
    names = [f"{name}{i}" for i, name in zip(range(classes), cycle(odd), strict=False)]
    evaluation = random_evaluation(names)
    draw(evaluation, tmp_path / "x.png", "$a$b_c$")
    for table in (evaluation.as_table(), evaluation.as_confused_table()):
        assert "[/red]" in shown(table)


def test_without_a_mistake_there_is_no_confused_pair(tmp_path: Path) -> None:
    truth = np.arange(NAMED + 1, dtype=np.int32)
    names = [str(i) for i in truth]
    evaluation = evaluate(np.eye(len(truth), dtype=np.float32), truth, names)
    assert evaluation.confused == []
    draw(evaluation, tmp_path / "x.png", "right")
