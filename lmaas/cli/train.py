"""`lmaas train`: from a data set to a model version in the repository."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from rich.console import Console
from rich.markup import escape

from lmaas.broker_config import extras
from lmaas.broker_config.errors import DataError, OptionError, TrainingError
from lmaas.broker_config.messages import UNSURE
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import is_model_name
from lmaas.cli import options, train_options
from lmaas.cli import train_telling as telling
from lmaas.cli.announced import announce
from lmaas.cli.train_options import Source

if TYPE_CHECKING:
    from lmaas.training.datasets.dataset import Dataset
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
    telling.introduce(dataset)
    recipe = _with_folder(recipe, dataset)
    with console.status("starting TensorFlow"):
        from lmaas.training.train import train
    with telling.bar(console) as report:
        path = train(
            dataset,
            architecture,
            out_root=target,
            others=settings.model_folders,
            name=name,
            recipe=recipe,
            progress=report,
            min_score=min_score,
            command=telling.shown(sys.argv),
            shows_items=not no_examples,
            quantize=quantize,
            tell=telling.trials(console, dataset),
            note=telling.note,
        )
    telling.conclude(path)
    announce(path, settings, sign)


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
    if architecture in ("gap", "ngram") and recipe.runs is not False:
        dataset = with_opinions(dataset)
    return dataset, architecture, recipe


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


def _writable(folder: Path) -> Path:
    """Told before the hours of training, and not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{folder}: {error.strerror}; name another with --models") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise TrainingError(f"{folder}: nobody may write there; name another with --models")
    return folder
