"""`lmaas models create`: a classifier by the meaning of its labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmaas.broker_config import extras
from lmaas.broker_config.errors import OptionError, TrainingError
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import is_model_name
from lmaas.cli import options
from lmaas.cli.announced import announce

if TYPE_CHECKING:
    from lmaas.workers.signing import SigningKey


@click.command("create")
@click.argument("name")
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    required=True,
    help="Text file with a label a line; after a tab, words that say better what it means.",
)
@click.option(
    "--encoder",
    type=click.Path(path_type=Path),
    required=True,
    help="Pretrained encoder of the BERT family: a folder, or its name on the Hugging Face hub.",
)
@options.sign
@click.pass_obj
def create_(
    settings: Settings, name: str, labels: Path, encoder: Path, sign: SigningKey | None
) -> None:
    """Make a classifier of labels alone, without any text to learn from, as model NAME.

    A text gets the label whose words mean most nearly the same. Where there are ten texts a label,
    `lmaas train --encoder` is much better.
    """
    if problem := extras.lacking("tensorflow", "tf2onnx", "tokenizers", "safetensors"):
        raise TrainingError(problem)
    if not is_model_name(name):
        raise OptionError(f"{name!r} cannot be a model's name; give a plain word")
    from lmaas.training import hub
    from lmaas.training.create import create, read_labels

    path = create(
        name,
        read_labels(labels),
        hub.encoder(encoder),
        out_root=settings.new_models,
        others=settings.model_folders,
    )
    announce(path, settings, sign)
