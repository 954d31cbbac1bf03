from __future__ import annotations

from pathlib import Path

from lmaas.training import learning

CURVES = {
    "loss": [0.7, 0.5, 0.3],
    "accuracy": [0.5, 0.7, 0.9],
    "val_loss": [0.6, 0.4, 0.5],
    "val_accuracy": [0.6, 0.8, 0.7],
}


def test_the_picture_has_each_curve_and_the_best_epoch(tmp_path: Path) -> None:
    drawn = learning.figure(CURVES, "a $name$ 1")
    shown = {
        (axes.get_title(), str(line.get_label())): list(line.get_ydata())  # type: ignore[arg-type]
        for axes in drawn.axes
        for line in axes.lines[:2]
    }
    assert shown == {
        ("Loss", "training"): CURVES["loss"],
        ("Loss", "validation"): CURVES["val_loss"],
        ("Accuracy", "training"): CURVES["accuracy"],
        ("Accuracy", "validation"): CURVES["val_accuracy"],
    }
    assert [axes.lines[2].get_label() for axes in drawn.axes] == ["lowest loss: epoch 2"] * 2
    learning.draw(CURVES, tmp_path / "learning.png", "a name")
    assert (tmp_path / "learning.png").read_bytes().startswith(b"\x89PNG")


def test_a_training_of_one_epoch_without_validation_is_drawn() -> None:
    drawn = learning.figure({"loss": [0.7], "accuracy": [0.5]}, "one")
    assert [line.get_label() for line in drawn.axes[0].lines] == [
        "training",
        "lowest loss: epoch 1",
    ]
