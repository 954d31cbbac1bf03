"""Where a private broker's address lies while it runs, so that other commands find it.

There is a file for each role, with the login of its user.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from lmaas.broker_config import folders
from lmaas.broker_config.errors import LmaasError
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.private_files import held
from lmaas.broker_config.rights import ROLES, Role

_HOME = "set HOME or XDG_STATE_HOME"


def up_file(role: Role = "producer") -> Path:
    """The file of a role. Raises SettingsError without a home."""
    return folders.needed(folders.up_file(role), "the broker's address", _HOME)


def broker_folder() -> Path:
    """Where the private broker keeps its messages. Raises SettingsError without a home."""
    state = folders.needed(folders.state(), "the broker's messages", _HOME)
    return state / "broker"


@contextlib.contextmanager
def published(node: LocalNode) -> Iterator[None]:
    """The broker's URLs where `Settings.load` looks for them, for this user's eyes only.

    They count for as long as this process lives: after a kill somebody else might have the port.
    """
    # The producer's is the last: who finds it finds all.
    files = {up_file(role): node.url_of(role) for role in sorted(ROLES, key="producer".__eq__)}
    with contextlib.ExitStack() as stack:
        try:
            for path, url in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(held(path, f'broker_url = "{url}"\n'.encode()))
        except OSError as error:
            raise LmaasError(f"cannot write {path}: {error.strerror}") from error
        yield
