"""A hook of the settings, ready for requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from lmaas.broker_config.errors import SettingsError
from lmaas.producer.gateway.callbacks.receivers import Receivers
from lmaas.producer.gateway.hooks.mapping import Items
from lmaas.producer.gateway.secret import Secret
from lmaas.producer.gateway.settings import SECTION
from lmaas.producer.gateway.settings.hooks import Hook
from lmaas.producer.gateway.signatures import (
    GitHub,
    Scheme,
    StandardWebhooks,
    Timestamped,
    Token,
    Unsigned,
)

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_SCHEMES: Final[dict[str, Callable[..., Scheme]]] = {
    "github": GitHub,
    "stripe": Timestamped,
    "bearer": Token,
}


@dataclass(frozen=True)
class Ready:
    """One hook."""

    name: str
    settings: Hook
    scheme: Scheme
    items: Items
    #: Of the callback, as a job has it.
    callback_secret: str | None = field(repr=False)


def ready(hooks: Mapping[str, Hook], receivers: Receivers) -> dict[str, Ready]:
    """Of the settings. Raises SettingsError naming the hook and what is wrong with it."""
    return {name: _ready(name, hook, receivers) for name, hook in hooks.items()}


def _ready(name: str, hook: Hook, receivers: Receivers) -> Ready:
    place = f"{SECTION}.hooks.{name}"
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{place}: the name is a part of a path; use letters, digits, - and _")
    items = Items(hook.items, hook.text, hook.id, place)
    secret = _callback_secret(hook, place, receivers)
    return Ready(name, hook, _scheme(hook, place), items, secret)


def _callback_secret(hook: Hook, place: str, receivers: Receivers) -> str | None:
    if hook.callback is None:
        return None
    place = f"{place}.callback"
    if hook.reply != "job":
        raise SettingsError(f'{place} is told of jobs: set reply = "job"')
    text = " ".join(one.reveal() for one in hook.callback.secrets(place))
    try:
        receivers.callback("", hook.callback.url, Secret(text) if text else None)
    except ValueError as error:
        raise SettingsError(f"{place}: {error}") from error
    return text or None


def _scheme(hook: Hook, place: str) -> Scheme:
    secrets = hook.secrets(place)
    if hook.scheme == "none":
        if secrets or hook.header:
            raise SettingsError(f'{place}: with scheme = "none" nothing is checked')
        return Unsigned()
    if not secrets:
        raise SettingsError(
            f"{place} has no secret: set secret, secret_env or secret_file, or say "
            'scheme = "none" to let in whoever reaches it'
        )
    try:
        return _named(hook, secrets)
    except ValueError as error:
        raise SettingsError(f"{place}: {error}") from error


def _named(hook: Hook, secrets: Sequence[Secret]) -> Scheme:
    if hook.scheme == "standard":
        if hook.header:
            raise ValueError("the headers of Standard Webhooks have fixed names")
        return StandardWebhooks(secrets)
    return _SCHEMES[hook.scheme](secrets, *([hook.header] if hook.header else []))


HOOKS: Final[web.AppKey[dict[str, Ready]]] = web.AppKey("hooks", dict)
