"""A hook of the settings, ready for requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lmaas.broker_config.errors import SettingsError
from lmaas.producer.gateway.hooks.mapping import Items
from lmaas.producer.gateway.hooks.settings import Hook
from lmaas.producer.gateway.secret import Secret
from lmaas.producer.gateway.settings import SECTION
from lmaas.producer.gateway.signatures import (
    GitHub,
    Scheme,
    StandardWebhooks,
    Timestamped,
    Token,
    Unsigned,
)

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


def ready(hooks: Mapping[str, Hook]) -> dict[str, Ready]:
    """Of the settings. Raises SettingsError naming the hook and what is wrong with it."""
    return {name: _ready(name, hook) for name, hook in hooks.items()}


def _ready(name: str, hook: Hook) -> Ready:
    place = f"{SECTION}.hooks.{name}"
    if hook.callback is not None and hook.reply != "job":
        raise SettingsError(f'{place}.callback is told of jobs: set reply = "job"')
    items = Items(hook.items, hook.text, hook.id, place)
    return Ready(name, hook, _scheme(hook, place), items)


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
