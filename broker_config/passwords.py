"""The file with the passwords of the broker's users: JSON, `{"USER": "PASSWORD"}`."""

from __future__ import annotations

import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

import msgspec

from lmaas.broker_config.errors import SettingsError
from lmaas.broker_config.private_files import write_private

#: Random bytes of a password; it is letters, digits, `-` and `_`, and so fits into a URL.
RANDOM_BYTES = 24


def made_up() -> str:
    """A random one."""
    return secrets.token_urlsafe(RANDOM_BYTES)


def kept(path: Path, users: Iterable[str]) -> dict[str, str]:
    """The passwords in the file, which it gets for users that have none there yet.

    Raises SettingsError when others may read the file, or it is not what it should be.
    """
    there = _read(path)
    wanted = {user: there.get(user) or made_up() for user in users}
    together = there | wanted
    if together != there:
        try:
            write_private(path, msgspec.json.format(msgspec.json.encode(together), indent=2))
        except OSError as error:
            raise SettingsError(f"passwords file {path}: {error.strerror}") from error
    return together


def _read(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                raise SettingsError(
                    f"passwords file {path} can be read by others (its mode is {mode:04o}): "
                    f"`chmod 600 {path}`, and other passwords if they may have been seen"
                )
            return msgspec.json.decode(file.read(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsError(f"passwords file {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # Its words have no piece of the file.
        raise SettingsError(
            f'passwords file {path} should be JSON like {{"worker": "PASSWORD"}}: {error}'
        ) from error
