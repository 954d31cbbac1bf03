"""`lmaas models import`: a version of ours, or a model from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from lmaas.broker_config import extras
from lmaas.broker_config.errors import DataError, OptionError
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import is_model_name
from lmaas.cli import options
from lmaas.cli.announced import announce
from lmaas.workers.model_version import MANIFEST, ModelVersion, read_version

if TYPE_CHECKING:
    from lmaas.training.recipe import Quantize
    from lmaas.workers.signing import SigningKey

_TASKS = ("text", "pairs", "image", "audio", "tensors")
_OUTPUTS = ("softmax", "sigmoid", "probabilities", "independent", "values")
_ROLES = ("ids", "mask", "types")
#: Options whose names here are not those of their flags.
_FLAGS = {"size": "image", "inputs": "input"}
_OF_PICTURES = ("size", "resize", "mean", "std", "scale", "layout", "channels")


def _labels(_context: click.Context, _option: click.Parameter, given: str | None) -> Sequence[str]:
    """A file with a label a line, or labels separated by commas."""
    if given is None:
        return ()
    path = Path(given)
    if path.is_file():
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"{path}: cannot be read as UTF-8 text: {error}") from error
        found = [line.strip() for line in lines if line.strip()]
    elif "," in given:
        found = [label.strip() for label in given.split(",")]
    else:
        raise click.BadParameter(f"no file {given!r}, and no labels separated by commas")
    if not all(found) or not found:
        raise click.BadParameter("a label is empty")
    return tuple(found)


def _inputs(
    _context: click.Context, _option: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    found = {}
    for one in given:
        role, equals, name = one.partition("=")
        if role not in _ROLES or not equals or not name:
            raise click.BadParameter(f"{one!r}; give {', '.join(_ROLES)}=NAME")
        found[role] = name
    return found


def _wide(
    _context: click.Context, _option: click.Parameter, given: str | None
) -> tuple[int, int] | None:
    """Height and width of WxH."""
    if given is None:
        return None
    width, _, height = given.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise click.BadParameter(f"{given!r}; give a width and a height, as 224x224")
    return int(height), int(width)


def _numbers(
    _context: click.Context, _option: click.Parameter, given: str | None
) -> list[float] | None:
    if given is None:
        return None
    try:
        return [float(one) for one in given.split(",")]
    except ValueError:
        raise click.BadParameter(f"{given!r}; give a number, or one for each channel") from None


def _spreads(
    context: click.Context, option: click.Parameter, given: str | None
) -> list[float] | None:
    found = _numbers(context, option, given)
    if found and not all(one > 0 for one in found):
        raise click.BadParameter(f"{given!r}; pixels are divided by it: give numbers above 0")
    return found


def _number(_context: click.Context, _option: click.Parameter, given: str | None) -> float | None:
    """As `0.5` or `1/255`."""
    if given is None:
        return None
    try:
        return float(Fraction(given))
    except (ValueError, ZeroDivisionError):
        raise click.BadParameter(f"{given!r}; give a number, as 1/255") from None


@click.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", help="Name in this repository.  [as it is called there]")
@click.option(
    "--labels",
    metavar="FILE|A,B,C",
    callback=_labels,
    help="In the order of the scores; of a file a line each.  [as the model says]",
)
@click.option("--task", type=click.Choice(_TASKS), help="What an item is.  [by its inputs]")
@click.option(
    "--scores",
    type=click.Choice(_OUTPUTS),
    help="What the graph gives: logits, of which softmax or (a label for itself) sigmoid makes "
    "probabilities; probabilities; independent ones; or values that are none.  [by its end]",
)
@click.option("--output", help="Output of the graph with the scores.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="ROLE=NAME",
    callback=_inputs,
    help="Input of the graph that takes the ids, the mask or the types of tokens; repeat.",
)
@click.option("--tokenizer", type=click.Path(path_type=Path), help="A tokenizer.json.")
@click.option("--max-tokens", type=click.IntRange(1), help="Longer texts are cut.")
@click.option(
    "--max-seconds",
    type=click.FloatRange(0, min_open=True),
    help="Longer sounds are refused.  [30]",
)
@click.option("--image", "size", metavar="WxH", callback=_wide, help="Pictures become so large.")
@click.option("--resize", type=click.Choice(["stretch", "cover", "fit"]), help="How.  [stretch]")
@click.option("--mean", metavar="A,B,C", callback=_numbers, help="Taken off scaled pixels.  [0]")
@click.option("--std", metavar="A,B,C", callback=_spreads, help="They are divided by it.  [1]")
@click.option("--scale", metavar="A", callback=_number, help="Of pixels.  [1/255]")
@click.option("--layout", type=click.Choice(["nchw", "nhwc", "nhw"]), help="[by its input]")
@click.option("--channels", type=click.Choice(["rgb", "bgr", "grey"]), help="[by its input]")
@click.option(
    "--examples",
    type=click.Path(path_type=Path),
    help="Items to try and to measure it with; the first four are kept in the manifest.",
)
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="What has a lower score gets the label `unsure`; of independent labels the score that "
    "each needs.  [0: nothing; 0.5]",
)
@options.quantize
@options.sign
@click.pass_obj
def import_(
    settings: Settings,
    /,
    path: Path,
    name: str | None,
    examples: Path | None,
    min_score: float,
    quantize: Quantize | None,
    sign: SigningKey | None,
    **given: Any,
) -> None:
    """Make the next version here of the model in PATH.

    PATH is a folder with a version of LMaaS, a folder from the Hugging Face hub with model.onnx or
    its name there (OWNER/NAME, perhaps with @REVISION), an ONNX file (also of scikit-learn, by
    skl2onnx), or a model of Keras. What a model takes and gives is found out, tried, and said.
    """
    if name is not None and not is_model_name(name):
        raise OptionError(f"{name!r} cannot be a model's name; give a plain word with --name")
    from lmaas.training import hub

    path = hub.graph(path)
    if (path / MANIFEST).exists():
        others = {
            **given, "examples": examples, "min-score": min_score, "quantize": quantize
        }  # fmt: skip
        said = [_FLAGS.get(key, key).replace("_", "-") for key, value in others.items() if value]
        if said:
            raise click.UsageError(
                f"{path} is a version of LMaaS, whose {MANIFEST} says all: --{said[0]} is for "
                "models from elsewhere"
            )
        announce(_copy(settings, path, name), settings, sign)
    else:
        if quantize and examples is None:
            raise click.UsageError(
                "--quantize goes with --examples, items such as the model will get: what it "
                "changes is measured on them"
            )
        place = _convert(settings, path, name, examples, min_score, quantize, given)
        announce(place, settings, sign)
        click.echo(f"try it: lmaas models try {place.parent.name} ...", err=True)


# --- a version of ours ---------------------------------------------------------------------------


def _copy(settings: Settings, folder: Path, name: str | None) -> Path:
    from lmaas.workers.runtime import Runtime

    version = read_version(folder, settings.max_model_bytes)
    Runtime(version)
    name = name or version.manifest.name
    if not is_model_name(name):
        raise OptionError(f"{name!r} cannot be a model's name; give a plain word with --name")
    return _copied(version, name, settings)


def _copied(version: ModelVersion, name: str, settings: Settings) -> Path:
    from lmaas.training.versions import new_version, write_manifest

    try:
        with new_version(name, settings.new_models, settings.model_folders) as (built, place):
            for file, content in version.contents.items():
                (built / file).parent.mkdir(parents=True, exist_ok=True)
                (built / file).write_bytes(content)
            manifest = msgspec.structs.replace(version.manifest, name=name, version=place.name)
            write_manifest(built, manifest)
    except OSError as error:
        where = settings.new_models / name
        raise DataError(f"{where}: cannot import there: {error.strerror}") from error
    return place


# --- from elsewhere ------------------------------------------------------------------------------


def _convert(
    settings: Settings,
    path: Path,
    name: str | None,
    examples: Path | None,
    min_score: float,
    quantize: Quantize | None,
    given: dict[str, Any],
) -> Path:
    if problem := extras.lacking("onnxruntime", "tokenizers", "onnx"):
        raise DataError(problem)
    from lmaas.training.importing import imported
    from lmaas.training.importing.adding import add
    from lmaas.training.importing.examples import COMPARED, MEASURED, read_examples
    from lmaas.training.importing.proposal import Options

    pictures = {key: given.pop(key) for key in _OF_PICTURES}
    told = {key: value for key, value in pictures.items() if value is not None}
    proposal = imported(path, msgspec.convert({**given, "image": told}, Options))
    name = name or _model_name(proposal.name)
    for note in proposal.notes:
        click.echo(f"note: {note}", err=True)
    items = []
    if examples is not None:
        items = read_examples(
            examples,
            proposal.preprocessing,
            proposal.inputs,
            settings.max_item_bytes,
            COMPARED if quantize else MEASURED,
        )
    place, proposal = add(
        proposal,
        name,
        items,
        out_root=settings.new_models,
        others=settings.model_folders,
        min_score=min_score,
        quantize=quantize,
    )
    if quantize:
        click.echo(f"note: {proposal.notes[-1]}", err=True)
    for warning in proposal.warnings:
        click.echo(f"warning: {warning}", err=True)
    return place


def _model_name(found: str) -> str:
    """A plain word of what it is called where it comes from. Raises OptionError."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", found).strip("-.")
    if not is_model_name(name):
        raise OptionError(f"{found!r} cannot be a model's name; give a plain word with --name")
    return name
