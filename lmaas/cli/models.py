"""`lmaas models`: list, show, create, verify and activate what is in the repository; and the
commands of `models_import`, `models_set`, `models_sign` and `models_try`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lmaas.broker_config import extras
from lmaas.broker_config.errors import (
    ModelDamaged,
    ModelError,
    ModelNotFound,
    OptionError,
    TrainingError,
)
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import is_model_name
from lmaas.cli import options
from lmaas.cli.announced import announce
from lmaas.cli.exits import Exit
from lmaas.cli.models_import import import_
from lmaas.cli.models_set import set_
from lmaas.cli.models_sign import SIGNATURE, activation, keys, sign_, sign_version
from lmaas.cli.models_try import try_
from lmaas.producer.tables.quoting import clipped, counted
from lmaas.workers.manifest import Manifest
from lmaas.workers.marks import moment
from lmaas.workers.model_version import ModelVersion, read_manifest
from lmaas.workers.repository import Repository, activate, opened

if TYPE_CHECKING:
    from lmaas.workers.signing import SigningKey

#: What nobody reads line by line: the picture of the evaluation shows it.
_FOR_MACHINES: Final = {"confusion", "reliability"}
#: Labels that are listed.
_LISTED: Final = 20


@click.group(invoke_without_command=True)
@options.models
@click.pass_context
def command(context: click.Context, /, **arguments: Any) -> None:
    """List the models of the repository; or show, import, verify or activate one.

    In the list, versions are tried as a worker tries them, until one can be served: that is the one
    that answers. `verify` tries all.
    """
    context.obj = Settings.load(**arguments)
    if context.invoked_subcommand is None:
        _list(opened(context.obj))


# --- list and show -------------------------------------------------------------------------------


def _list(repository: Repository) -> None:
    """A table a folder, and why workers leave out what they leave out."""
    console = Console(highlight=False, soft_wrap=True)
    rows: dict[Path, list[_Row]] = {root: [] for root in repository.folders}
    for model in repository.models():
        for row in _rows(repository, model):
            rows[row.path.parents[1]].append(row)
    for root, those in rows.items():
        console.print(escape(str(root)))
        table = Table("model", "version", "state", "architecture", "labels", "accuracy", "made")
        for row in those:
            table.add_row(*map(escape, row.columns))
        console.print(table if those else "  no models", soft_wrap=False)
        for row in those:
            if row.problem:
                console.print(escape(f"  {row.columns[0]} {row.columns[1]}: {row.problem}"))


@dataclass(frozen=True, slots=True)
class _Row:
    """A version in the list."""

    path: Path
    columns: tuple[str, ...]
    #: Why no worker serves it, as far as it was looked at.
    problem: str | None = None


def _rows(repository: Repository, model: str) -> list[_Row]:
    """Its versions, oldest first. `used` is what answers when no version is asked for, `active` the
    same when somebody has activated it.

    They are tried as a worker tries them, until one can be served. Of the others only the manifest
    is read: to hash all that was ever trained would take its time.
    """
    paths, active = repository.paths(model), repository.active(model)
    problems: dict[Path, str] = {}
    used = None
    for path in repository.in_turn(model):
        try:
            _tried(repository.read(path, model))
        except ModelDamaged as error:
            problems[path] = str(error)
        else:
            used = path
            break
    rows: list[_Row] = []
    seen: set[str] = set()
    for path in paths:
        try:
            columns = _columns(read_manifest(path))
        except ModelDamaged as error:
            columns = ()
            problems[path] = str(error)
        if path in problems:
            state = "refused"
        elif path == used:
            state = "active" if path.name == active else "used"
        else:
            state = "hidden" if path.name in seen else ""  # by the same number in a folder before
        if path not in problems:
            seen.add(path.name)
        rows.append(_Row(path, (model, path.name, state, *columns), problems.get(path)))
    return rows[::-1]


def _columns(manifest: Manifest) -> tuple[str, ...]:
    # Of several labels an item: the share of those that have exactly the right ones.
    accuracy = manifest.metrics.get("accuracy")
    return (
        manifest.architecture,
        str(len(manifest.labels)),
        f"{accuracy:.4f}" if isinstance(accuracy, float | int) else "",
        manifest.created[:10],
    )


@command.command()
@click.argument("model")
@click.argument("version", required=False)
@click.option("--json", "as_json", is_flag=True, help="All of its manifest, as a JSON object.")
@click.pass_obj
def show(settings: Settings, model: str, version: str | None, as_json: bool) -> None:
    """Print where MODEL is, and what is known of it: of VERSION, or of the one that answers."""
    repository = opened(settings)
    found = repository.find(model, version) if version else repository.load(model, None, _tried)
    shown = {"path": str(found.path), **msgspec.to_builtins(found.manifest)}
    if as_json:
        click.echo(msgspec.json.encode(shown))
        return
    lines = list(_described("", shown))
    width = max(len(name) for name, _ in lines)
    for name, words in lines:
        click.echo(f"{name:{width}}  {words}")


def _described(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """A line a fact: its name, with dots where it is inside another, and the fact in words."""
    last = name.rpartition(".")[2]
    if last in _FOR_MACHINES:
        yield name, f"{counted(len(value), 'row')}; --json has them"
    elif isinstance(value, dict) and (not name or any(map(_is_nested, value.values()))):
        for key, inner in value.items():
            yield from _described(f"{name}.{clipped(key)}" if name else key, inner)
    elif isinstance(value, dict):
        facts = value if last == "files" else (f"{k} {_words(v)}" for k, v in value.items())
        yield name, ", ".join(facts)
    elif isinstance(value, list) and any(map(_is_nested, value)):
        for inner in value:
            yield name, ", ".join(f"{key} {_words(one)}" for key, one in inner.items())
    elif isinstance(value, list):
        more = ", …" if len(value) > _LISTED else ""
        yield name, f"{len(value)}: {', '.join(map(_words, value[:_LISTED]))}{more}"
    else:
        yield name, _words(value)


def _is_nested(value: object) -> bool:
    return isinstance(value, dict | list)


def _words(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else clipped(str(value))


# --- verify --------------------------------------------------------------------------------------


@command.command("verify")
@click.argument("model", required=False)
@click.pass_context
def verify_(context: click.Context, model: str | None) -> None:
    """Compare every file of every version (of MODEL) with its checksum, and with model_keys its
    signature; try the model, and compare the answers that were kept when it was imported.

    It ends with 1 when something is wrong.
    """
    repository = opened(context.obj)
    if model and not repository.versions(model):
        raise ModelNotFound(f"no model {model!r} in {repository}")
    damaged = 0
    for name in [model] if model else repository.models():
        for path in reversed(repository.paths(name)):
            try:
                how = _verified(repository, path, name)
            except ModelError as error:
                damaged += 1
                click.echo(f"{name} {path.name}: {error}", err=True)
            else:
                click.echo(f"{name} {path.name}: {how} ({path})")
    context.exit(Exit.FAILED if damaged else Exit.OK)


def _verified(repository: Repository, path: Path, model: str) -> str:
    """What was found to be well of the version in a folder. Raises ModelDamaged."""
    version = repository.read(path, model)
    return f"{_ran(version, path)}{_by(version, path)}"


def _by(version: ModelVersion, path: Path) -> str:
    """Who signed it."""
    if version.signed:
        return f", signed with {version.signed.key} at {moment(version.signed.time)}"
    is_signed = (path / SIGNATURE).exists()
    return ", signed, which model_keys is not set to check" if is_signed else ""


def _ran(version: ModelVersion, path: Path) -> str:
    """What was found to be well of the model in it. Raises ModelDamaged."""
    if not _runs():
        return "ok (checksums; without onnxruntime it was not tried)"
    from lmaas.workers.runtime import Runtime

    runtime = Runtime(version)
    try:
        differences = runtime.differences()
    except Exception as error:
        raise ModelDamaged(
            f"{path}: the answers that it keeps cannot be asked for again: {error}; import it again"
        ) from error
    if differences:
        raise ModelDamaged(
            f"{path}: {len(differences)} of {len(version.manifest.golden)} answers are not those "
            f"that it gave when it was imported: {'; '.join(differences)}"
        )
    kept = len(version.manifest.golden)
    return f"ok, {counted(kept, 'kept answer')}" if kept else "ok"


def _runs() -> bool:
    """Whether models can be tried here: who only sends work needs no ONNX Runtime."""
    return importlib.util.find_spec("onnxruntime") is not None


def _tried(version: ModelVersion) -> ModelVersion:
    """The same, if it can be served, as far as that can be tried. Raises ModelDamaged."""
    if _runs():
        _try(version)
    return version


def _try(version: ModelVersion) -> None:
    """Raises ModelDamaged when it is no model that can be served."""
    from lmaas.workers.runtime import Runtime

    Runtime(version)


# --- activate ------------------------------------------------------------------------------------


@command.command("activate")
@click.argument("model")
@click.argument("version", required=False)
@click.option("--newest", is_flag=True, help="The newest version answers again.")
@options.sign
@click.pass_obj
def activate_(
    settings: Settings, model: str, version: str | None, newest: bool, sign: SigningKey | None
) -> None:
    """Let VERSION of MODEL answer whoever asks for no other; workers that run switch to it.

    Workers with model_keys believe it only with --sign.
    """
    if newest == (version is not None):
        raise click.UsageError("give VERSION, or --newest")
    if settings.model_keys and not sign:
        raise OptionError("workers with model_keys would not believe it; give --sign FILE, too")
    repository = opened(settings)
    if version is not None:
        path = repository.load(model, version, _tried).path
        statement = activation(path, sign, settings) if sign else None
        activate(settings.new_models, model, version, statement)
    else:
        path = repository.find(model, *repository.versions(model)[-1:]).path
        if sign:  # anew, so that it is later than what says that another one answers
            sign_version(path, sign, settings)
        for folder in repository.folders:
            activate(folder, model, None)
    answers = repository.load(model, None, _tried).manifest.version
    click.echo(f"{model}: version {answers} answers, in workers that run within seconds")


# --- create --------------------------------------------------------------------------------------


@command.command("create")
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


command.add_command(import_)
command.add_command(try_)
command.add_command(set_)
command.add_command(keys)
command.add_command(sign_)
