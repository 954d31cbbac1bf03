"""Files that only their owner can read."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from lmaas.broker_config.errors import SettingsError

#: What those who are neither the owner nor of the group may do.
_EVERYBODY: Final = 0o007


def write_private(path: Path, content: bytes) -> None:
    """Only the owner can read it, and it is never there in part."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    part.replace(path)


def check_private(setting: str, path: Path) -> None:
    """Raises SettingsError when everybody can read the file, OSError when it is not there.

    Its group may: so servers that run as different users share a file.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name == "posix" and mode & _EVERYBODY:
        raise SettingsError(
            f"{setting} {str(path)!r} can be read by everybody on this machine (its mode is "
            f"{mode:04o}): `chmod 600 {path}`, and make a new one if it may have been read"
        )
