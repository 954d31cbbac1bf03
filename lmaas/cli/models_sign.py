"""`lmaas models keys` and `lmaas models sign`: whose models are whose."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click

from lmaas.broker_config import extras
from lmaas.broker_config.errors import DataError, ModelDamaged, OptionError
from lmaas.broker_config.settings import Settings
from lmaas.cli import options
from lmaas.workers.marks import moment
from lmaas.workers.model_version import ModelVersion, manifest_bytes, read_version
from lmaas.workers.plain_files import read_plain, write_whole
from lmaas.workers.repository import ACTIVE, ACTIVE_BYTES, Repository, activate, trusted

if TYPE_CHECKING:
    from lmaas.workers.signing import SigningKey, Statement

#: As in `lmaas.workers.trust`, which needs the package `cryptography`.
SIGNATURE: Final = "signature.json"
SIGNATURE_BYTES: Final = 16 * 1024
#: A copy would not help then.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


@click.command("keys")
@click.argument("file", type=click.Path(path_type=Path))
def keys(file: Path) -> None:
    """Make a pair of keys: the private one in FILE, the public one in FILE.pub.

    The private key signs (`lmaas models sign --key FILE`), and stays where models are made. Workers
    get the public one (setting model_keys), and then serve only what was signed.
    """
    if problem := extras.lacking("cryptography"):
        raise OptionError(problem)
    from lmaas.workers.signing import write_pair

    public, key = write_pair(file)
    click.echo(f"{file}: private key {key}; keep it to yourself, and away from workers")
    click.echo(f"{public}: its public key; LMAAS_MODEL_KEYS={public.absolute()} for workers")


@click.command("sign")
@click.argument("model")
@click.argument("version", required=False)
@options.key
@click.pass_obj
def sign_(settings: Settings, model: str, version: str | None, key: SigningKey) -> None:
    """Sign VERSION of MODEL, or the one that would answer, as it is there now.

    Its files are compared with their checksums before.
    """
    repository = Repository(*settings.model_folders, most=settings.max_model_bytes)
    path = repository.load(model, version, _found).path
    statement = sign_version(path, key, settings)
    click.echo(f"{path / SIGNATURE}: signed with {statement.key} at {moment(statement.time)}")


def _found(version: ModelVersion) -> ModelVersion:
    return version


def sign_version(path: Path, key: SigningKey, settings: Settings) -> Statement:
    """Signs the version in a folder, and that it is the active one, if that was signed before.

    Raises DataError and ModelDamaged.
    """
    statement = _signed("version", path, key, settings)
    try:
        write_whole(path / SIGNATURE, statement.encoded() + b"\n")
    except OSError as error:
        raise unwritable(path, error, "lmaas models import FOLDER --sign FILE") from error
    active = next(_activations(path.parent.name, settings), None)
    if active and active[1].version == path.name:
        activate(active[0], path.parent.name, path.name, activation(path, key, settings))
    return statement


def unwritable(path: Path, error: OSError, copying: str) -> DataError:
    """For a version that could not be changed; `copying` is the command for one that can be."""
    if error.errno in _FULL:
        return DataError(f"{path}: {error.strerror}; nothing was changed: make room there")
    return DataError(
        f"{path}: {error.strerror}; copy the version into your own folder first (`{copying}`)"
    )


def activation(path: Path, key: SigningKey, settings: Settings) -> Statement:
    """That the version in a folder answers who names none. Raises DataError and ModelDamaged."""
    return _signed("active", path, key, settings)


def _signed(
    what: Literal["version", "active"], path: Path, key: SigningKey, settings: Settings
) -> Statement:
    model, version = path.parent.name, path.name
    content = manifest_bytes(path)
    read_version(path, settings.max_model_bytes)
    return key.sign(what, model, version, content, _next_moment(model, key, settings))


def _next_moment(model: str, key: SigningKey, settings: Settings) -> int:
    """Now, or later, so that it is after all that was signed of the model.

    Only what this key signed counts, or one of model_keys: anybody may have written anything.
    """
    from lmaas.workers.signing import key_id

    known = {key_id(key.public): key.public}
    if trust := trusted(settings):
        known |= trust.keys
    latest = max(
        (one.time for one in _statements(model, settings)
         if one.key in known and one.is_by(known[one.key])),
        default=0,
    )  # fmt: skip
    return max(time.time_ns() // 1_000_000, latest + 1)


def _statements(model: str, settings: Settings) -> Iterator[Statement]:
    """All there are on a model, whoever made them."""
    for path in Repository(*settings.model_folders).paths(model):
        if statement := _statement(path, SIGNATURE, SIGNATURE_BYTES, 0):
            yield statement
    for _, statement in _activations(model, settings):
        yield statement


def _activations(model: str, settings: Settings) -> Iterator[tuple[Path, Statement]]:
    """Folders of models that have one for it, with it."""
    for root in settings.model_folders:
        if statement := _statement(root / model, ACTIVE, ACTIVE_BYTES, 1):
            yield root, statement


def _statement(folder: Path, name: str, most: int, line: int) -> Statement | None:
    """In that line of a file, if there is one."""
    from lmaas.workers.signing import Statement

    try:
        return Statement.decoded(read_plain(folder, name, most).split(b"\n")[line])
    except (OSError, IndexError, ValueError, ModelDamaged):
        return None
