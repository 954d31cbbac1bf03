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

from lmaas.broker_config import extras, folders
from lmaas.broker_config.errors import DataError, OptionError, TrainingError
from lmaas.broker_config.messages import LABEL_SEPARATOR, UNSURE
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import is_model_name
from lmaas.cli import options
from lmaas.cli.announced import announce
from lmaas.producer.tables import Dialect
from lmaas.producer.tables.places import FORMATS

if TYPE_CHECKING:
    from lmaas.training.datasets import Dataset
    from lmaas.training.networks import Progress as Report
    from lmaas.training.recipe import Quantize, Recipe
    from lmaas.workers.signing import SigningKey

#: The first Python that has no TensorFlow, as pyproject.toml has it.
WITHOUT_TENSORFLOW: Final = (3, 14)


@click.command()
@click.argument("name")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Any file that `lmaas classify` reads, a folder with a folder of pictures or sounds "
    "for each class, or the archive or folder of IMDB or of the Free Spoken Digit Dataset.  [IMDB, "
    "downloaded]",
)
@click.option(
    "--test-data", type=click.Path(path_type=Path), help="File or folder with the test split."
)
@click.option(
    "--hold-out",
    metavar="PATTERN",
    help="Test with the pictures or sounds whose names match, and train on all others: '*_anna_*'.",
)
@click.option("--text-column", help="Column with the texts.  [text]", show_envvar=True)
@click.option("--label-column", help="Column with the labels.  [label, or the other one of two]")
@click.option(
    "--normalize-labels",
    is_flag=True,
    help="Labels that differ only in case or blanks become the most frequent of them.",
)
@click.option(
    "--multi-label",
    is_flag=True,
    help="A row may have several labels, `a;b` in a cell, or none. A column of lists, in JSON "
    "Lines or Parquet, is so by itself.",
)
@click.option(
    "--label-separator", metavar="TEXT", help="What is between several labels of a cell.  [;]"
)
@click.option("--format", "file_format", type=click.Choice(sorted(set(FORMATS.values()))))
@options.dialect
@click.option(
    "--arch",
    "architecture",
    type=click.Choice(["auto", "linear", "ngram", "gap", "cnn", "lstm", "transformer", "encoder"]),
    help="What to train; auto tries linear, ngram and, with --encoder, encoder, and keeps the "
    "best.  [auto; of IMDB ngram; with --unfreeze or --pooling encoder; else cnn]",
)
@click.option(
    "--encoder",
    type=click.Path(path_type=Path),
    help="Pretrained encoder of the BERT family: a folder, or its name on the Hugging Face hub, "
    "perhaps with @REVISION. For pictures a model with model.onnx, or a version of LMaaS.",
)
@click.option(
    "--pooling",
    type=click.Choice(["mean", "cls"]),
    help="One row a text: the mean of its tokens', or that of [CLS].  [as its folder says]",
)
@click.option(
    "--unfreeze",
    metavar="N",
    type=click.IntRange(1),
    help="Train the last N blocks of the encoder as well; more than it has: all of it. Takes "
    "minutes to hours.",
)
@click.option(
    "--runs/--no-runs",
    default=None,
    help="Whether ngram and gap learn from single sentences and runs of 2 or 3 as well.  [if no "
    "validation text is lost by it; of IMDB they do]",
)
@click.option("--epochs", type=click.IntRange(1), help="At most so many.")
@click.option("--batch", type=click.IntRange(1), help="Texts, pictures or sounds a step.")
@click.option("--image-size", type=click.IntRange(8, 512), help="Pixels a side of pictures.")
@click.option(
    "--no-mirror", is_flag=True, help="Pictures mean something else in a mirror, as digits do."
)
@click.option("--activation", type=click.Choice(["sigmoid", "relu", "tanh"]), help="[relu]")
@click.option("--optimizer", type=click.Choice(["sgd", "adam"]), help="[adam]")
@click.option(
    "--loss",
    type=click.Choice(["crossentropy", "mse"]),
    help="mse is the squared error of the probabilities.  [crossentropy]",
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, min_open=True),
    help="[0.001; with sgd 0.1; on an encoder 0.03; of pictures 0.003]",
)
@click.option("--seed", type=int, help="Decides every random choice.")
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
    data: Path | None,
    test_data: Path | None,
    hold_out: str | None,
    text_column: str | None,
    label_column: str | None,
    normalize_labels: bool,
    multi_label: bool,
    label_separator: str | None,
    file_format: str | None,
    dialect: Dialect,
    architecture: Any,
    encoder: Path | None,
    pooling: str | None,
    unfreeze: int | None,
    runs: bool | None,
    epochs: int | None,
    batch: int | None,
    image_size: int | None,
    no_mirror: bool,
    activation: str | None,
    optimizer: str | None,
    loss: str | None,
    learning_rate: float | None,
    seed: int | None,
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
    if problem := _lacking():
        raise TrainingError(problem)
    if not is_model_name(name):
        raise OptionError(f"{name!r} cannot be a model's name; give a plain word")
    if test_data and not data:
        raise click.UsageError("--test-data goes with --data; IMDB has a test split of its own")
    if test_data and hold_out:
        raise click.UsageError("--test-data and --hold-out both say what to test with; give one")
    if (unfreeze or pooling) and not encoder:
        raise click.UsageError("--pooling and --unfreeze go with --encoder")
    from lmaas.training import networks

    recipe = _recipe(
        encoder=str(encoder or ""),
        pooling=pooling,
        unfreeze=unfreeze,
        runs=runs,
        epochs=epochs,
        batch=batch,
        activation=activation,
        optimizer=optimizer,
        loss=loss,
        learning_rate=learning_rate,
        side=image_size,
        mirrored=not no_mirror,
        seed=seed,
    )
    if architecture and (problem := networks.mismatch(architecture, recipe)):
        raise click.UsageError(problem)
    target = _writable(settings.new_models)
    console = Console(stderr=True)
    # First, as TensorFlow takes long to start: what is wrong with the data is told at once.
    with console.status(escape(f"reading {data or 'IMDB, from its authors'}")):
        from lmaas.training import imdb
        from lmaas.training.datasets import load_dataset

        dataset = load_dataset(
            data or imdb.download(_cache()),
            test=test_data,
            text=text_column,
            label=label_column,
            format=file_format,
            dialect=dialect,
            normalize=normalize_labels,
            hold_out=hold_out,
            separator=label_separator or (LABEL_SEPARATOR if multi_label else None),
        )
        dataset, architecture, recipe = _planned(dataset, data, architecture, recipe)
    if min_score and UNSURE in dataset.labels and not dataset.multi_label:
        raise DataError(
            f"{dataset.name}: a label is called {UNSURE!r}, which is what --min-score answers "
            "below a score; give the label another name, or leave --min-score out"
        )
    _introduce(dataset)
    if encoder:
        recipe = msgspec.structs.replace(recipe, encoder=str(_found(encoder, dataset)))
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


def _merit(dataset: Dataset) -> str:
    """What architectures are compared by, unless it is the accuracy."""
    return "micro F1 " if dataset.multi_label else ""


def _found(encoder: Path, dataset: Dataset) -> Path:
    """Its folder, into which it is downloaded where that must be. Raises DataError."""
    from lmaas.training import hub

    return hub.graph(encoder) if dataset.kind == "image" else hub.encoder(encoder)


def _planned(
    dataset: Dataset, data: Path | None, architecture: Any, recipe: Recipe
) -> tuple[Dataset, Any, Recipe]:
    """What to train on, what to train, and how, where nobody has said it: of IMDB's archive or
    folder the best is known."""
    archived = data is None or data.is_dir() or data.name.endswith((".tar.gz", ".tgz"))
    if not (dataset.kind == "text" and dataset.name == "imdb" and archived):
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


def _cache() -> Path:
    return folders.needed(folders.cache(), "a download", "give --data, or set XDG_CACHE_HOME")


def _recipe(**values: Any) -> Recipe:
    """Of the options that were given."""
    from lmaas.training.recipe import Recipe

    return Recipe(**{name: value for name, value in values.items() if value is not None})


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
    from lmaas.workers.repository import read_manifest

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
