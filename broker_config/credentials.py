"""The password for the broker: from a file or a command, and a new one before a token expires.

RabbitMQ takes tokens for passwords (its plugin rabbitmq_auth_backend_oauth2). They are JSON Web
Tokens (RFC 7519), which say themselves when they expire.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import AMQPError
from yarl import URL

from lmaas.broker_config import password_sources
from lmaas.broker_config.errors import PasswordUnavailable, SettingsError
from lmaas.broker_config.settings import Settings

log = logging.getLogger(__name__)

#: The part of a token's life after which a new one is asked for, so that all of those who got
#: theirs together do not come together.
_RENEWED: Final = (0.7, 0.8)
#: Seconds until then, at least and at most.
_PAUSES: Final = (1.0, 24 * 3600.0)


@dataclass(frozen=True, slots=True)
class Password:
    """As the broker gets it. Nothing prints it."""

    value: str = field(repr=False)

    @property
    def expires(self) -> float | None:
        """When, in seconds since 1970, if it is a token that says so."""
        return expiry(self.value)

    def pause(self) -> float:
        """Seconds until another one should be asked for."""
        least, most = _PAUSES
        left = most if self.expires is None else self.expires - time.time()
        return min(max(least, left * random.uniform(*_RENEWED)), most)


class _Claims(msgspec.Struct):
    """What we read in a token: RFC 7519, section 4.1.4."""

    exp: float | None = None


def expiry(password: str) -> float | None:
    """When a JSON Web Token expires, in seconds since 1970; None for what is none."""
    parts = password.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return msgspec.json.decode(claims, type=_Claims).exp
    except (ValueError, msgspec.MsgspecError):
        return None


def check(settings: Settings, urls: Sequence[URL]) -> None:
    """Raises SettingsError unless there is one password at most, and a file or a program for it."""
    names = ("broker_password_file", "broker_password_command")
    if not (given := [name for name in names if getattr(settings, name)]):
        return
    if len(given) > 1:
        raise SettingsError(f"{' and '.join(given)} are both set: leave one of them out")
    if settings.broker_auth == "certificate":
        raise SettingsError(
            f"{given[0]} is set, and broker_auth is 'certificate': leave one of them out"
        )
    if any(url.password is not None for url in urls):
        raise SettingsError(
            f"{given[0]} is set, and there is another password in broker_url {settings.broker!r}: "
            "leave one of them out"
        )
    if settings.broker_password_file:
        password_sources.read(Path(settings.broker_password_file))
    elif shutil.which(program := password_sources.words(settings)[0]) is None:
        raise SettingsError(f"broker_password_command: there is no program {program!r}")


async def current(settings: Settings, had: Password | None = None) -> Password | None:
    """From the file or the command; None when neither is set. `had` is kept until it expires.

    Raises SettingsError for a file that cannot be used or a program that there is not, and
    PasswordUnavailable when the command fails, which may pass.
    """
    if had is not None and (had.expires is None or time.time() < had.expires):
        return had
    if settings.broker_password_file:
        return Password(password_sources.read(Path(settings.broker_password_file)))
    if settings.broker_password_command:
        return Password(await password_sources.printed(password_sources.words(settings)))
    return None


def keep(connection: AbstractConnection, settings: Settings, password: Password | None) -> None:
    """Has the broker told of a new token before this one expires, while the connection lasts."""
    if password is None or password.expires is None:
        return
    renewing = asyncio.create_task(_renew(connection, settings, password), name="token")
    _renewing.add(renewing)
    renewing.add_done_callback(_renewing.discard)
    connection.close_callbacks.add(lambda *_: renewing.cancel() and None)


#: Kept here, because the event loop holds its tasks weakly.
_renewing: set[asyncio.Task[None]] = set()


async def _renew(connection: AbstractConnection, settings: Settings, old: Password | None) -> None:
    """Ends when what the broker has been told does not expire.

    It waits for the broker's answer for as long as the connection lasts: a broker that blocks
    publishers reads nothing. Where it refuses the new token, it closes the connection.
    """
    while old is not None and old.expires is not None:
        await asyncio.sleep(old.pause())
        try:
            new = await current(settings)
        except (PasswordUnavailable, SettingsError) as error:
            log.warning(
                "there is no new token for the broker, and the old one expires at %s: %s",
                _told(old.expires), error, extra={"action": "token_kept"},
            )  # fmt: skip
            continue
        if new is not None and new != old:
            try:
                await connection.update_secret(new.value, reason="the token expires")
            except (AMQPError, OSError, RuntimeError) as error:  # whose connection it is connects
                log.warning(
                    "the broker did not take a new token: %s", error,
                    extra={"action": "token_refused"},
                )  # fmt: skip
                return
            log.debug("the broker has a new token", extra={"action": "token_renewed"})
        old = new


def expired(password: str | None) -> str | None:
    """In words, if it is a token that has."""
    moment = expiry(password or "")
    if moment is None or time.time() < moment:
        return None
    return (
        f"the token that is its password expired at {_told(moment)}; make a new one, or compare "
        "the clocks"
    )


def _told(moment: float) -> str:
    """A moment in seconds since 1970, for people."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))
    except (OverflowError, ValueError, OSError):
        return str(moment)
