"""The password for the broker: from a file or a command, and a new one before a token expires.

RabbitMQ takes tokens for passwords (its plugin rabbitmq_auth_backend_oauth2). They are JSON Web
Tokens (RFC 7519), which say themselves when they expire.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import random
import shlex
import shutil
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import AMQPError
from yarl import URL

from lmaas.broker_config.errors import PasswordUnavailable, SettingsError
from lmaas.broker_config.private_files import check_private, opened
from lmaas.broker_config.settings import Settings

log = logging.getLogger(__name__)

#: Seconds that a command may take.
TIME_LIMIT: Final = 10.0
#: Bytes that it may print.
LARGEST: Final = 64 * 1024
#: The part of a token's life after which a new one is asked for, so that all of those who got
#: theirs together do not come together.
_RENEWED: Final = (0.7, 0.8)
#: Seconds until then, at least and at most.
_PAUSES: Final = (1.0, 24 * 3600.0)
#: Seconds that a process that was killed has to end.
_KILLED: Final = 1.0


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
        _read(Path(settings.broker_password_file))
    elif shutil.which(program := _words(settings)[0]) is None:
        raise SettingsError(f"broker_password_command: there is no program {program!r}")


async def current(settings: Settings, had: Password | None = None) -> Password | None:
    """From the file or the command; None when neither is set. `had` is kept until it expires.

    Raises SettingsError for a file that cannot be used or a program that there is not, and
    PasswordUnavailable when the command fails, which may pass.
    """
    if had is not None and (had.expires is None or time.time() < had.expires):
        return had
    if settings.broker_password_file:
        return _read(Path(settings.broker_password_file))
    if settings.broker_password_command:
        return await _printed(_words(settings))
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


# --- the file ------------------------------------------------------------------------------------


def _read(file: Path) -> Password:
    """Raises SettingsError, with no piece of it."""
    try:
        with opened("broker_password_file", file) as source:
            check_private("broker_password_file", file, source)
            content = source.read(LARGEST + 1)
    except OSError as error:
        raise SettingsError(f"broker_password_file {str(file)!r}: {error.strerror}") from error
    try:
        if len(content) > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        return _one_line(content)
    except ValueError as error:
        raise SettingsError(f"broker_password_file {str(file)!r}: {error}") from None


def _one_line(content: bytes) -> Password:
    """Raises ValueError for anything else, without quoting it."""
    try:
        line = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    if not line or "\n" in line or "\0" in line:
        raise ValueError("it should have one line, the password")
    return Password(line)


# --- the command ---------------------------------------------------------------------------------


def _words(settings: Settings) -> list[str]:
    """Of the command; there is no shell that would read anything else in them."""
    command = settings.broker_password_command
    try:
        words = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise SettingsError(f"broker_password_command: {error}") from None
    if not words or not words[0]:
        raise SettingsError("broker_password_command has no program")
    return words


class _Output(asyncio.SubprocessProtocol):
    """What a command prints, until it has ended and its output is closed, or there is too much."""

    def __init__(self) -> None:
        self.content = b""
        self.ended = asyncio.Event()
        self.exited = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.content += data
        if len(self.content) > LARGEST:
            self.ended.set()

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()


async def _printed(words: Sequence[str]) -> Password:
    """What it prints on one line. What it says to standard error is not kept: it may be secret."""
    name = f"broker_password_command {words[0]!r}"
    try:
        process, output = await _start(words)
    except OSError as error:
        raise SettingsError(f"{name}: {error.strerror}") from error
    try:
        async with asyncio.timeout(TIME_LIMIT):
            await output.ended.wait()
        return _said(output.content, process.get_returncode())
    except BaseException as error:
        await _kill(process, output)
        if isinstance(error, TimeoutError):
            error = ValueError(f"it did not end, and close its output, within {TIME_LIMIT:g} s")
        if isinstance(error, ValueError):
            raise PasswordUnavailable(f"{name}: {error}") from None
        raise
    finally:
        process.close()


async def _start(words: Sequence[str]) -> tuple[asyncio.SubprocessTransport, _Output]:
    starting = asyncio.create_task(
        asyncio.get_running_loop().subprocess_exec(
            _Output, *words, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, start_new_session=True
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:  # the process may be there before anybody knows it
        process, output = await starting
        await _kill(process, output)
        process.close()
        raise


def _said(content: bytes, status: int | None) -> Password:
    """Raises ValueError, with nothing of it."""
    if len(content) > LARGEST:
        raise ValueError(f"it prints more than {LARGEST:,} bytes")
    if status:
        raise ValueError(f"it ended with status {status}; run it by hand to see what it says")
    return _one_line(content)


async def _kill(process: asyncio.SubprocessTransport, output: _Output) -> None:
    """With all that it has started and not sent away."""
    with contextlib.suppress(ProcessLookupError):
        if os.name == "posix":
            os.killpg(process.get_pid(), signal.SIGKILL)
        else:
            process.kill()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_KILLED):  # so that asyncio, which waits for it, hears of it
            await output.exited.wait()
