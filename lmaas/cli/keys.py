"""`lmaas keys`: make and rotate the keys that payloads are sealed with."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import click

from lmaas.broker_config.errors import DataError, LmaasError, OptionError
from lmaas.broker_config.payload_keys import key_file
from lmaas.broker_config.sealing import line_of_new_key, parsed

_FILE = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@click.group()
def command() -> None:
    """Make and rotate the keys that payloads are sealed with (setting payload_keys).

    To rotate: `keys new` in the file of every worker and client, which read it anew by themselves;
    then `keys first`, by which the new key seals; at last, when nothing that the old one has sealed
    is left on the broker, `keys remove`.
    """


@command.command()
@_FILE
@click.option("--id", "key_id", help="Of the key; made of the date when left out.")
def new(file: Path, key_id: str | None) -> None:
    """Put a new key at the end of FILE, which is made when it is not there.

    The first key of a file seals; the others only open.
    """
    key_id = key_id or f"{date.today():%Y%m%d}-{secrets.token_hex(3)}"  # noqa: DTZ011 - for people
    lines = _lines(file) if file.exists() else []
    if key_id in _ids(lines):
        raise OptionError(f"{file} has a key {key_id!r} already")
    try:
        line = line_of_new_key(key_id)
    except ValueError as error:
        raise OptionError(str(error)) from error
    _write(file, [*lines, line])
    click.echo(key_id)


@command.command("list")
@_FILE
def list_(file: Path) -> None:
    """Print the ids of the keys, the one that seals first, and not the keys."""
    for key_id in _ids(_lines(file)):
        click.echo(key_id)


@command.command()
@_FILE
@click.argument("key_id", metavar="ID")
def first(file: Path, key_id: str) -> None:
    """Let the key ID seal from now on."""
    lines = _lines(file)
    own = _own(lines, key_id, file)
    _write(file, [own, *(line for line in lines if line != own)])


@command.command()
@_FILE
@click.argument("key_id", metavar="ID")
def remove(file: Path, key_id: str) -> None:
    """Remove the key ID; nobody can open any more what it has sealed."""
    lines = _lines(file)
    own = _own(lines, key_id, file)
    if len(_ids(lines)) == 1:
        raise OptionError(f"{key_id!r} is the only key of {file}; make another one first")
    _write(file, [line for line in lines if line != own])


def _lines(file: Path) -> list[str]:
    """Those of a file that is as it should be. Raises LmaasError."""
    key_file(str(file))
    return [f"{line}\n" for line in file.read_text(encoding="utf-8-sig").splitlines()]


def _ids(lines: Sequence[str]) -> list[str]:
    return [key.id for key in parsed("".join(lines))] if lines else []


def _own(lines: Sequence[str], key_id: str, file: Path) -> str:
    """The line of a key. Raises LmaasError."""
    for line in lines:
        if line.split()[:1] == [key_id]:
            return line
    raise LmaasError(f"{file} has no key {key_id!r} (see `lmaas keys list {file}`)")


def _write(file: Path, lines: Sequence[str]) -> None:
    """All at once, so that nobody reads half of it; only its owner may read it.

    A link stays, and so does the owner, as when root rotates the keys of a service.
    """
    file = file.resolve()
    try:
        with tempfile.NamedTemporaryFile(  # which nobody else can read from the beginning
            "w", dir=file.parent, prefix=f".{file.name}.", delete=False, encoding="utf-8"
        ) as fresh:
            try:
                fresh.writelines(lines)
                fresh.flush()
                os.fsync(fresh.fileno())
                if file.exists() and (owner := file.stat()).st_uid != os.geteuid():
                    os.fchown(fresh.fileno(), owner.st_uid, owner.st_gid)
                Path(fresh.name).replace(file)
            except BaseException:
                Path(fresh.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from error
