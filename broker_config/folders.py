"""Folders on this machine: the user's, where there is a user with a home, and what was installed.

Everything is looked up when it is asked for: importing this package works without HOME, without an
entry in the system's list of users, and in containers where neither can be had.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import platformdirs

from lmaas.broker_config.errors import SettingsError

#: The models that come with the package; in a checkout a link leads to the folder at its top.
SHIPPED_MODELS: Final = Path(__file__).absolute().parents[1].joinpath("models").resolve()


def state() -> Path | None:
    """Where a private broker keeps its messages; None without a home, as for the others."""
    return _of_user(platformdirs.user_state_path)


def config() -> Path | None:
    """Where `lmaas.toml` may be."""
    return _of_user(platformdirs.user_config_path)


def cache() -> Path | None:
    """What can be downloaded again."""
    return _of_user(platformdirs.user_cache_path)


def models() -> Path | None:
    """The user's own models, which `lmaas train` and `lmaas models import` write."""
    data = _of_user(platformdirs.user_data_path)
    return data / "models" if data else None


def up_file(role: str = "producer") -> Path | None:
    """Where `lmaas up` leaves the settings of its private broker for who has this role there."""
    folder = state()
    return folder / ("up.toml" if role == "producer" else f"up-{role}.toml") if folder else None


def needed(path: Path | None, what: str, instead: str) -> Path:
    """The path; raises SettingsError when there is none, with what to do `instead`."""
    if path is None:
        raise SettingsError(
            f"there is no folder for {what}: this user has no home (HOME is not set); {instead}"
        )
    return path


def _of_user(find: Callable[[str], Path]) -> Path | None:
    try:
        path = find("lmaas")
        path.exists()
    except (RuntimeError, OSError):  # no home; or HOME is that of somebody else
        return None
    return path if path.is_absolute() else None
