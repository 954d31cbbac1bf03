"""Who receives events, and by which secrets they are signed for each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from lmaas.broker_config.errors import SettingsError
from lmaas.producer.gateway.addresses import complaint, networks
from lmaas.producer.gateway.callbacks.events import EVENTS, wanted
from lmaas.producer.gateway.secret import Secret
from lmaas.producer.gateway.settings import SECTION, GatewaySettings
from lmaas.producer.gateway.settings.callbacks import Endpoint
from lmaas.producer.gateway.signatures import StandardWebhooks


@dataclass(frozen=True)
class Receiver:
    """A URL, and how what goes there is signed."""

    url: str
    scheme: StandardWebhooks
    #: How it is known when it wants no more.
    name: str


class Receivers:
    """Those of the settings, and those that jobs name."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Raises SettingsError for a URL or a secret that is wrong."""
        try:
            self.allowed = networks(settings.allowed_networks)
        except ValueError as error:
            raise SettingsError(f"{SECTION}.allowed_networks: {error}") from error
        place = f"{SECTION}.callbacks"
        secrets = settings.callbacks.secrets(place)
        self._default = _scheme(secrets, place) if secrets else None
        self._endpoints = {
            name: self._endpoint(name, endpoint) for name, endpoint in settings.endpoints.items()
        }
        self._wanted = {name: one.events for name, one in settings.endpoints.items()}

    def _endpoint(self, name: str, endpoint: Endpoint) -> Receiver:
        place = f"{SECTION}.endpoints.{name}"
        if problem := complaint(endpoint.url, self.allowed):
            raise SettingsError(f"{place}.url: {problem}")
        for pattern in endpoint.events:
            if not any(wanted(event, (pattern,)) for event in EVENTS):
                raise SettingsError(
                    f"{place}.events: no event is called {pattern!r}; there are {', '.join(EVENTS)}"
                )
        secrets = endpoint.secrets(place)
        if not secrets:
            raise SettingsError(f"{place} has no secret: set secret, secret_env or secret_file")
        return Receiver(
            endpoint.url, _scheme(secrets, place), _name("endpoint", name, endpoint.url)
        )

    def wanting(self, event: str) -> dict[str, Receiver]:
        """The endpoints of the settings that get an event of this type, by name."""
        return {
            name: receiver
            for name, receiver in self._endpoints.items()
            if wanted(event, self._wanted[name])
        }

    def endpoint(self, name: str) -> Receiver | None:
        """One of the settings; None when it is not there any more."""
        return self._endpoints.get(name)

    def callback(self, owner: str, url: str, secret: Secret | None) -> Receiver:
        """What a job names. Raises ValueError, in words, for what could not be sent there.

        `secret`: one, or several with spaces between. Names are resolved, and their addresses
        looked at, at each try.
        """
        if problem := complaint(url, self.allowed):
            raise ValueError(f"callback_url cannot be used: {problem}")
        scheme = self._default if secret is None else _own(secret)
        if scheme is None:
            raise ValueError(
                "a callback is signed: give callback_secret (whsec_ and 24 to 64 bytes in base64), "
                f"or set a secret in [{SECTION}.callbacks]"
            )
        return Receiver(url, scheme, callback_name(owner, url))


def _own(secret: Secret) -> StandardWebhooks:
    try:
        scheme = StandardWebhooks([Secret(text) for text in secret.reveal().split()])
        scheme.sign("check", 0, b"")
    except ValueError as error:
        raise ValueError(f"callback_secret cannot be used: {error}") from error
    return scheme


def callback_name(owner: str, url: str) -> str:
    """How the receiver of an owner's callbacks is known."""
    return _name("callback", owner, url)


def host(url: str) -> str:
    """Host and port, by which requests at a time are counted."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


def _scheme(secrets: Sequence[Secret], place: str) -> StandardWebhooks:
    try:
        scheme = StandardWebhooks(secrets)
        scheme.sign("check", 0, b"")
    except ValueError as error:
        raise SettingsError(f"{place}: {error}") from error
    return scheme


def _name(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
