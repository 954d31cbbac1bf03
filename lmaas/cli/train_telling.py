"""What `lmaas train` tells who uses it: of the data, of each epoch, and of what came of it."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from lmaas.training.choosing import Tell
    from lmaas.training.datasets.dataset import Dataset
    from lmaas.training.networks import Progress as Report


def introduce(dataset: Dataset) -> None:
    """What is learnt from, and what is to be known of it."""
    from lmaas.training.media import UNITS

    what = "labels, any number a text" if dataset.multi_label else "classes"
    for line in dataset.notes:
        note(line)
    click.echo(
        f"{dataset.name}: {len(dataset.labels):,} {what}; {len(dataset.train):,} "
        f"{UNITS[dataset.kind]} to train on, {len(dataset.validation):,} to validate, "
        f"{len(dataset.test):,} to test",
        err=True,
    )


def note(line: str) -> None:
    """Something that a user should know."""
    click.echo(f"note: {line}", err=True)


def trials(console: Console, dataset: Dataset) -> Tell:
    """What tells how good each architecture was that `auto` has tried."""
    merit = "micro F1 " if dataset.multi_label else ""  # else it is the accuracy

    def tell(tried: str, figure: float) -> None:
        console.print(
            f"{tried}: {merit}{figure:.4f} of the texts that were held out", highlight=False
        )

    return tell


@contextlib.contextmanager
def bar(console: Console) -> Iterator[Report]:
    """A bar an epoch on a terminal, a line an epoch everywhere."""
    progress = Progress(
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  accuracy {task.fields[accuracy]:.4f}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    task = progress.add_task("train", total=None, epoch=1, loss=0.0, accuracy=0.0)

    def report(epoch: int, batch: int, batches: int, metrics: Mapping[str, float]) -> None:
        progress.update(
            task,
            completed=batch,
            total=batches,
            epoch=epoch,
            loss=metrics.get("loss", 0.0),
            accuracy=metrics.get("accuracy", 0.0),
        )
        if "val_loss" in metrics:
            console.print(
                f"epoch {epoch}: loss {metrics['loss']:.4f}, accuracy {metrics['accuracy']:.4f}; "
                f"validation loss {metrics['val_loss']:.4f}, "
                f"accuracy {metrics['val_accuracy']:.4f}",
                highlight=False,
            )

    with progress:
        yield report


def conclude(path: Path) -> None:
    """What was measured of the version in a folder."""
    from lmaas.training import choosing
    from lmaas.training.export import PAGE
    from lmaas.training.judging import figures
    from lmaas.training.quantizing import Quantized
    from lmaas.workers.model_version import read_manifest

    manifest = read_manifest(path)
    metrics = figures(manifest)
    console = Console()
    for table in metrics.tables():
        console.print(table)
    if quantized := manifest.training.get("quantized"):
        click.echo(str(msgspec.convert(quantized, Quantized)), err=True)
    for line in choosing.told(
        manifest.architecture, manifest.training, manifest.dataset, metrics.accuracy
    ):
        click.echo(line, err=True)
    click.echo(f"the evaluation to look at: {path / PAGE}", err=True)


def shown(words: Sequence[str]) -> str:
    """A command line as it can be shown to others: of paths that begin at `/` the last name."""
    return shlex.join(
        ["lmaas", *(Path(word).name if word[0:1] == "/" else word for word in words[1:])]
    )
