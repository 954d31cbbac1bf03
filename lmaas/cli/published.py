"""Where a private broker's address lies while it runs, so that other commands find it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from lmaas.broker_config import folders
from lmaas.broker_config.errors import LmaasError

_HOME = "set HOME or XDG_STATE_HOME"


def up_file() -> Path:
    """The file for it. Raises SettingsError without a home."""
    return folders.needed(folders.up_file(), "the broker's address", _HOME)


def broker_folder() -> Path:
    """Where the private broker keeps its messages. Raises SettingsError without a home."""
    state = folders.needed(folders.state(), "the broker's messages", _HOME)
    return state / "broker"


@contextlib.contextmanager
def published(path: Path, url: str) -> Iterator[None]:
    """The broker's URL where `Settings.load` looks for it, for this user's eyes only."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f'broker_url = "{url}"\n')
    except OSError as error:
        raise LmaasError(f"cannot write {path}: {error.strerror}") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
