"""How a network learnt, epoch by epoch, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lmaas.training.networks import Curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(curves: Curves, path: Path, title: str) -> None:
    """`figure` as a PNG."""
    figure(curves, title).savefig(path, dpi=110)


def figure(curves: Curves, title: str) -> Figure:
    """Loss and accuracy, each of the training and of the validation examples; the epoch with the
    lowest validation loss is marked.
    """
    from matplotlib.figure import Figure  # half a second to import

    drawn = Figure(figsize=(10, 4), layout="constrained")
    drawn.suptitle(title, parse_math=False)
    losses = curves.get("val_loss", curves["loss"])
    best = losses.index(min(losses)) + 1
    for axes, measure in zip(drawn.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for name, told in ((measure, "training"), (f"val_{measure}", "validation")):
            if values := curves.get(name):
                axes.plot(range(1, len(values) + 1), values, marker="o", markersize=3, label=told)
        axes.axvline(best, color="grey", linestyle=":", label=f"lowest loss: epoch {best}")
        axes.set(title=measure.capitalize(), xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    return drawn
