"""`lmaas train`: from a data set to a model version in the repository."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from lmaas.broker_config import extras, folders
from lmaas.broker_config.errors import TrainingError
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import is_model_name
from lmaas.cli import options

if TYPE_CHECKING:
    from lmaas.training.train import Progress as Report
    from lmaas.training.train import Recipe


@click.command()
@click.argument("name")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="IMDB's archive or folder, or a CSV or JSON Lines file.  [IMDB, downloaded]",
)
@click.option("--test-data", type=click.Path(path_type=Path), help="File with the test split.")
@click.option("--text-column", default="text", help="Column with the texts.", show_envvar=True)
@click.option("--label-column", help="Column with the labels.  [the other one of two]")
@click.option("--arch", "architecture", type=click.Choice(["ngram", "gap"]), default="ngram")
@click.option("--epochs", type=click.IntRange(1), help="At most so many.")
@click.option("--batch", type=click.IntRange(1), help="Texts a step.")
@click.option("--seed", type=int, help="Decides every random choice.")
@options.models
def command(
    name: str,
    data: Path | None,
    test_data: Path | None,
    text_column: str,
    label_column: str | None,
    architecture: Any,
    epochs: int | None,
    batch: int | None,
    seed: int | None,
    **arguments: Any,
) -> None:
    """Train a text classifier and export it as the next version of model NAME.

    Any number of classes. What was measured on the test split is printed, and kept in the
    version's manifest.json and evaluation.png.
    """
    settings = Settings.load(**arguments)
    if problem := extras.lacking("tensorflow", "tf2onnx"):
        raise TrainingError(problem)
    if not is_model_name(name):
        raise TrainingError(f"{name!r} cannot be a model's name; give a plain word")
    target = _writable(settings.new_models)
    console = Console(stderr=True)
    with console.status("starting TensorFlow"):
        from lmaas.training.datasets import download_imdb, load_dataset
        from lmaas.training.train import Recipe, train
    with console.status(f"reading {data or 'IMDB, from its authors'}"):
        data = data or download_imdb(_cache())
        dataset = load_dataset(data, test=test_data, text=text_column, label=label_column)
    console.print(
        f"{dataset.name}: {len(dataset.labels)} classes; {len(dataset.train.texts):,} texts to "
        f"train on, {len(dataset.validation.texts):,} to validate, "
        f"{len(dataset.test.texts):,} to test",
        highlight=False,
    )
    with _bar(console) as report:
        path = train(
            dataset,
            architecture,
            out_root=target,
            others=settings.model_folders,
            name=name,
            recipe=_recipe(Recipe(), epochs=epochs, batch=batch, seed=seed),
            progress=report,
        )
    _conclude(path)


def _writable(folder: Path) -> Path:
    """Told before the hours of training, and not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{folder}: {error.strerror}; name another with --models") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise TrainingError(f"{folder}: nobody may write there; name another with --models")
    return folder


def _cache() -> Path:
    return folders.needed(folders.cache(), "a download", "give --data, or set XDG_CACHE_HOME")


def _recipe(recipe: Recipe, **changes: int | None) -> Recipe:
    given = {name: value for name, value in changes.items() if value is not None}
    return msgspec.structs.replace(recipe, **given)


@contextlib.contextmanager
def _bar(console: Console) -> Iterator[Report]:
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


def _conclude(path: Path) -> None:
    from lmaas.training.evaluate import Evaluation
    from lmaas.workers.repository import read_version

    metrics = msgspec.convert(read_version(path).manifest.metrics, Evaluation)
    Console().print(metrics.as_table())
    click.echo(path)
