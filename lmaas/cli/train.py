"""`lmaas train`: from a data set to a model version in the repository."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from lmaas.broker_config import extras
from lmaas.broker_config.errors import DataError, OptionError, TrainingError
from lmaas.broker_config.messages import UNSURE
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import is_model_name
from lmaas.cli import options, train_options
from lmaas.cli.announced import announce
from lmaas.cli.train_options import Source

if TYPE_CHECKING:
    from lmaas.training.datasets.dataset import Dataset
    from lmaas.training.networks import Progress as Report
    from lmaas.training.recipe import Quantize, Recipe
    from lmaas.workers.signing import SigningKey

#: The first Python that has no TensorFlow, as pyproject.toml has it.
WITHOUT_TENSORFLOW: Final = (3, 14)


@click.command()
@click.argument("name")
@train_options.of_data
@click.option(
    "--arch",
    "architecture",
    type=click.Choice(["auto", "linear", "ngram", "gap", "cnn", "lstm", "transformer", "encoder"]),
    help="What to train; auto tries linear, ngram and, with --encoder, encoder, and keeps the "
    "best.  [auto; of IMDB ngram; with --unfreeze or --pooling encoder; else cnn]",
)
@train_options.of_recipe
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="What has a lower score gets the label `unsure`; where a row may have several labels, the "
    "score that they need.  [0: nothing; 0.5]",
)
@click.option(
    "--no-examples",
    is_flag=True,
    help="Show no texts of the data on the page of the evaluation.",
)
@options.quantize
@options.sign
@options.models
def command(
    name: str,
    source: Source,
    architecture: Any,
    recipe: Recipe,
    min_score: float,
    no_examples: bool,
    quantize: Quantize | None,
    sign: SigningKey | None,
    **arguments: Any,
) -> None:
    """Train a classifier and export it as the next version of model NAME.

    Any number of classes. What was measured on the test split is printed, and kept in the
    version's manifest.json, evaluation.html (to be looked at) and evaluation.png; learning.png has
    the loss and the accuracy by epoch.
    """
    settings = Settings.load(**arguments)
    _check(name, architecture, recipe)
    target = _writable(settings.new_models)
    console = Console(stderr=True)
    # First, as TensorFlow takes long to start: what is wrong with the data is told at once.
    with console.status(escape(f"reading {source}")):
        dataset = _read(source, min_score)
        dataset, architecture, recipe = _planned(dataset, source, architecture, recipe)
    _introduce(dataset)
    recipe = _with_folder(recipe, dataset)
    with console.status("starting TensorFlow"):
        from lmaas.training.train import train
    with _bar(console) as report:
        path = train(
            dataset,
            architecture,
            out_root=target,
            others=settings.model_folders,
            name=name,
            recipe=recipe,
            progress=report,
            min_score=min_score,
            command=_told(sys.argv),
            shows_items=not no_examples,
            quantize=quantize,
            tell=lambda tried, figure: console.print(
                f"{tried}: {_merit(dataset)}{figure:.4f} of the texts that were held out",
                highlight=False,
            ),
            note=lambda line: click.echo(f"note: {line}", err=True),
        )
    _conclude(path, settings, sign)


def _check(name: str, architecture: Any, recipe: Recipe) -> None:
    """Raises TrainingError where nothing can be trained, OptionError or UsageError for what is
    wrong by itself."""
    if problem := _lacking():
        raise TrainingError(problem)
    if not is_model_name(name):
        raise OptionError(f"{name!r} cannot be a model's name; give a plain word")
    from lmaas.training import networks

    if architecture and (problem := networks.mismatch(architecture, recipe)):
        raise click.UsageError(problem)


def _read(source: Source, min_score: float) -> Dataset:
    """Raises DataError."""
    dataset = source.read()
    if min_score and UNSURE in dataset.labels and not dataset.multi_label:
        raise DataError(
            f"{dataset.name}: a label is called {UNSURE!r}, which is what --min-score answers "
            "below a score; give the label another name, or leave --min-score out"
        )
    return dataset


def _merit(dataset: Dataset) -> str:
    """What architectures are compared by, unless it is the accuracy."""
    return "micro F1 " if dataset.multi_label else ""


def _with_folder(recipe: Recipe, dataset: Dataset) -> Recipe:
    """With the folder of the encoder, into which it is downloaded where that must be.

    Raises DataError, and TrainingError where an encoder of texts is not whole: before other
    architectures are tried.
    """
    if not recipe.encoder:
        return recipe
    from lmaas.training import hub

    if dataset.kind == "image":
        folder = hub.graph(Path(recipe.encoder))
    else:
        from lmaas.training.networks.pretrained import Pretrained

        folder = hub.encoder(Path(recipe.encoder))
        Pretrained(folder).files()
    return msgspec.structs.replace(recipe, encoder=str(folder))


def _planned(
    dataset: Dataset, source: Source, architecture: Any, recipe: Recipe
) -> tuple[Dataset, Any, Recipe]:
    """What to train on, what to train, and how, where nobody has said it: of IMDB's archive or
    folder the best is known."""
    if not source.is_imdb(dataset):
        tuned = recipe.unfreeze or recipe.pooling
        return dataset, architecture or ("encoder" if tuned else "auto"), recipe
    from lmaas.training.opinions import with_opinions

    architecture = architecture or ("encoder" if recipe.encoder else "ngram")
    if architecture == "ngram" and recipe.runs is None:
        recipe = msgspec.structs.replace(recipe, runs=True)
    return with_opinions(dataset), architecture, recipe


def _lacking() -> str | None:
    """Why nothing can be trained here; None when it can."""
    problem = extras.lacking("tensorflow", "tf2onnx")
    if problem and sys.version_info >= WITHOUT_TENSORFLOW:
        version = ".".join(map(str, sys.version_info[:2]))
        last = ".".join(map(str, (WITHOUT_TENSORFLOW[0], WITHOUT_TENSORFLOW[1] - 1)))
        return (
            f"there is no TensorFlow for Python {version} yet: train with Python {last}; the model "
            "is served by any"
        )
    return problem


def _introduce(dataset: Dataset) -> None:
    from lmaas.training.media import UNITS

    what = "labels, any number a text" if dataset.multi_label else "classes"
    for note in dataset.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(
        f"{dataset.name}: {len(dataset.labels):,} {what}; {len(dataset.train):,} "
        f"{UNITS[dataset.kind]} to train on, {len(dataset.validation):,} to validate, "
        f"{len(dataset.test):,} to test",
        err=True,
    )


def _told(words: Sequence[str]) -> str:
    """A command line as it can be shown to others: of paths that begin at `/` the last name."""
    return shlex.join(
        ["lmaas", *(Path(word).name if word[0:1] == "/" else word for word in words[1:])]
    )


def _writable(folder: Path) -> Path:
    """Told before the hours of training, and not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{folder}: {error.strerror}; name another with --models") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise TrainingError(f"{folder}: nobody may write there; name another with --models")
    return folder


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


def _conclude(path: Path, settings: Settings, sign: SigningKey | None) -> None:
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
    announce(path, settings, sign)
