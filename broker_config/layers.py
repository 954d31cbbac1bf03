"""Typed settings from their layers: arguments > environment `LMAAS_*` > TOML files > defaults.

A section of the file is a set of settings of its own: `x` in `[gateway]` has the environment name
`LMAAS_GATEWAY_X`.
"""

from __future__ import annotations

import difflib
import functools
import logging
import os
import re
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from lmaas.broker_config import environment, folders
from lmaas.broker_config.errors import SettingsError
from lmaas.broker_config.private_files import check_ours, is_held

log = logging.getLogger(__name__)

#: Those that there are in the file; "" is its top.
SECTIONS: Final = ("gateway",)
#: Variable of the environment that names the file; what nobody has named has to be ours.
_NAMED: Final = f"{environment.PREFIX}CONFIG"
#: Types by msgspec's names, in words.
_TYPES: Final = {
    "float": "a number", "int": "a whole number", "str": "text", "bool": "true or false",
    "array": "a list", "object": "a table",
}  # fmt: skip


def together(
    cls: type[msgspec.Struct],
    arguments: Mapping[str, Any],
    section: str = "",
    role: str = "producer",
) -> dict[str, Any]:
    """The fields of `cls` that some layer sets; an argument that is None counts as not given.

    `role` is what logs in to the private broker of `lmaas up`, if that runs.

    Variables of the environment that nobody reads are told by a warning in the log.
    Raises SettingsError naming the setting and where it was set.
    """
    values: dict[str, Any] = {}
    of_up = dict.fromkeys((folders.up_file(), folders.up_file(role)))
    for path in (*of_up, _config_file()):
        if path is not None:
            content = _read_toml(path, is_of_up=path in of_up)
            values |= _checked(cls, _part(content, section, path), str(path), section)
    values |= _checked(cls, _environment(cls, section), "environment", section)
    given = {name: value for name, value in arguments.items() if value is not None}
    return values | _checked(cls, given, "argument", section)


def _part(content: dict[str, Any], section: str, path: Path) -> dict[str, Any]:
    if not section:
        return {name: value for name, value in content.items() if name not in SECTIONS}
    part = content.get(section, {})
    if not isinstance(part, dict):
        raise SettingsError(f"{path}: {section} is {part!r}; it must be a section, [{section}]")
    return part


def _config_file() -> Path | None:
    named = os.environ.get(_NAMED)
    if named:
        if not Path(named).is_file():
            raise SettingsError(f"LMAAS_CONFIG names {named!r}, which is not a file")
        return Path(named)
    of_user = folders.config()
    candidates = [Path("lmaas.toml"), *([of_user / "lmaas.toml"] if of_user else [])]
    return next((path for path in candidates if path.is_file()), None)


def _read_toml(path: Path, *, is_of_up: bool) -> dict[str, Any]:
    """What it says; nothing where it is not there, or is of an `lmaas up` that was killed."""
    try:
        with path.open("rb") as file:
            if path != Path(os.environ.get(_NAMED, "")):
                check_ours(path, os.fstat(file.fileno()))
            if is_of_up and not is_held(file):
                _tell_left_over(path)
                return {}
            return tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error


@functools.cache
def _tell_left_over(path: Path) -> None:
    """Once in a process. Who has its port now would be told the password."""
    log.warning(
        "%s is not used: the `lmaas up` or `lmaas broker start` that wrote it was killed; start it "
        "again",
        path,
        extra={"action": "up_file_left_over"},
    )


def _variable(section: str, name: str) -> str:
    return environment.PREFIX + "_".join(part.upper() for part in (section, name) if part)


def _environment(cls: type[msgspec.Struct], section: str) -> dict[str, Any]:
    if not section:
        environment.look(cls.__struct_fields__)
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name in cls.__struct_fields__:
        value = os.environ.get(_variable(section, name))
        if value:
            is_list = typing.get_origin(hints[name]) is tuple
            values[name] = tuple(part.strip() for part in value.split(",")) if is_list else value
    return values


def _checked(
    cls: type[msgspec.Struct], values: dict[str, Any], source: str, section: str
) -> dict[str, Any]:
    """The values with their types; text becomes numbers, as the environment has only text."""
    for name, value in values.items():
        if name not in cls.__struct_fields__:
            raise SettingsError(f"{source}: {_unknown(cls, name, value, section)}")
    try:
        settings = msgspec.convert(values, cls, strict=False, dec_hook=_made)
    except msgspec.ValidationError as error:
        raise SettingsError(_complaint(cls, values, source, section, str(error))) from error
    return {name: getattr(settings, name) for name in values}


def _made(kind: type, value: Any) -> Any:
    """A value of a type of our own, from what the file says. Its ValueError says what is wrong."""
    return kind(value)


def _unknown(cls: type[msgspec.Struct], name: str, value: Any, section: str) -> str:
    """What to say of a name that no setting has."""
    if isinstance(value, dict) and not section:
        return (
            f"[{name}]: there is no such section, only {', '.join(SECTIONS)}; other settings are "
            "at the top of the file"
        )
    close = difflib.get_close_matches(name.lower(), cls.__struct_fields__, 1)
    meant = f"; did you mean {close[0]}?" if close else ""
    where = f" in [{section}]" if section else ""
    return f"there is no setting {name!r}{where}{meant}"


def _in_words(error: str) -> str:
    """msgspec's words with the names of types that people know."""
    return re.sub(
        r"`([a-z]+(?: \| [a-z]+)*)`",
        lambda found: " or ".join(_TYPES.get(kind, kind) for kind in found[1].split(" | ")),
        error,
    )


def _complaint(
    cls: type[msgspec.Struct], values: dict[str, Any], source: str, section: str, error: str
) -> str:
    """What is wrong with which setting, and what it may be."""
    words, _, path = error.partition(" - at `$.")
    name = re.split(r"[.\[]", path.rstrip("`"))[0]
    if name not in values:
        return f"setting from {source}: {error}"
    inside = path.rstrip("`").removeprefix(name)
    key, value = (
        _table(cls, name, values[name]) if inside.startswith("[...]") else ("", values[name])
    )
    inside = inside.removeprefix("[...]")
    value = _told(value, inside)
    hint = typing.get_type_hints(cls)[name]
    choices = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
    expected = f"Expected one of {', '.join(choices)}" if choices else _in_words(words)
    if examples := _examples(typing.get_type_hints(cls, include_extras=True)[name]):
        expected += f", such as {', '.join(examples)}"
    full = f"{section}.{name}" if section else name
    told = (
        _variable(section, name) if source == "environment" else f"{full}{key}{inside} ({source})"
    )
    return f"{told}{value}: {expected[:1].lower()}{expected[1:]}"


def _examples(hint: Any) -> list[str]:
    """Those that a type, or a part of it, has in its `msgspec.Meta`."""
    own = (meta.examples or [] for meta in getattr(hint, "__metadata__", ()))
    parts = (_examples(part) for part in typing.get_args(hint))
    return [example for some in (*own, *parts) for example in some]


def _table(cls: type[msgspec.Struct], name: str, value: dict[str, Any]) -> tuple[str, Any]:
    """Which of the tables of a setting is wrong: `.KEY`, and what it has."""
    for key, one in value.items():
        try:
            msgspec.convert({name: {key: one}}, cls, strict=False, dec_hook=_made)
        except msgspec.ValidationError:
            return f".{key}", one
    return "", value


def _told(value: Any, inside: str) -> str:
    """` is VALUE`, at a path inside a setting; nothing of a table, and no secret."""
    for key in re.findall(r"\w+", inside):
        value = value[int(key) if key.isdigit() else key]
    if isinstance(value, dict):
        return ""
    return " is '***'" if "secret" in inside or "://" in str(value) else f" is {value!r}"
