"""The environment variables that the project reads, and those that look as if they were meant.

A variable that nobody reads is most often a misspelt one, and what it should set is silently
something else.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Callable, Collection, Iterable
from typing import Final

log = logging.getLogger(__name__)

PREFIX: Final = "LMAAS_"
#: Names, without the prefix, of what is no setting and is read all the same.
OTHERS: Final = frozenset(
    {
        "CONFIG",  # the settings' file
        "DEBUG",  # of the command line: tracebacks
        "RABBITMQ",  # the folder of the server that private nodes run
        "DATASETS",  # of tests and benchmarks
        "FUZZ_SEED",  # of make fuzz
        "TEST_BROKER_URL",
        "TEST_LEAKS",
        "TEST_LEAKS_FOLDER",
        "TEST_PAYLOAD_KEYS",
        "TEST_TLS",
        "IMAGE",
        "MANAGEMENT_URL",  # of `lmaas broker users`
        "RABBITMQ_PASSWORD",  # of scripts/with-broker
        "UID",  # of docker-compose.yml
    }
)
#: Commands of `lmaas`: the options of each can be variables (`LMAAS_SUBMIT_MODEL`), which only the
#: command line knows.
COMMANDS: Final = (
    "classify", "submit", "jobs", "dead", "worker", "gateway", "up", "train", "models", "bench",
    "broker", "keys", "purge",
)  # fmt: skip
#: How much like another name one must be to be taken for it.
_NEAR: Final = 0.8

_looked_at: set[str] = set()


def unknown(names: Iterable[str], known: Collection[str]) -> dict[str, str | None]:
    """Variables that nobody reads -> the known one that may be meant. Pure."""
    found: dict[str, str | None] = {}
    for name in names:
        short = name.removeprefix(PREFIX)
        if short == name or short in known:
            continue
        close = difflib.get_close_matches(short, known, 1, _NEAR)
        found[name] = PREFIX + close[0] if close else None
    return found


def may_be_an_option(name: str) -> bool:
    """Whether it begins as variables of a command's options do."""
    return any(name.startswith(f"{PREFIX}{command.upper()}_") for command in COMMANDS)


def look(settings: Iterable[str], is_option: Callable[[str], bool] | None = None) -> None:
    """Tell by a warning, once in the life of a process, each variable that nobody reads.

    `settings` are the names of the settings, `is_option` says whether a variable is one of a
    command's options. Without it, those that may be one are passed over, unless they nearly have
    the name of a setting.
    """
    fresh = {name for name in os.environ if name.startswith(PREFIX)} - _looked_at
    if not fresh:
        return
    _looked_at.update(fresh)
    known = OTHERS | {name.upper() for name in settings}
    for name, meant in unknown(sorted(fresh), known).items():
        if is_option(name) if is_option else not meant and may_be_an_option(name):
            continue
        log.warning(
            "the environment variable %s is not used: there is no such setting%s",
            name,
            f"; did you mean {meant}?" if meant else "",
            extra={"action": "variable_unknown", "variable": name},
        )
