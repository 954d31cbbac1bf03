"""Where a password for the broker comes from: one line of a file, or of what a command prints."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lmaas.broker_config.errors import PasswordUnavailable, SettingsError
from lmaas.broker_config.private_files import check_private, opened
from lmaas.broker_config.settings import Settings

#: Seconds that a command may take.
TIME_LIMIT: Final = 10.0
#: Bytes that it may print.
LARGEST: Final = 64 * 1024
#: Seconds that a process that was killed has to end.
_KILLED: Final = 1.0


def read(file: Path) -> str:
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


def _one_line(content: bytes) -> str:
    """Raises ValueError for anything else, without quoting it."""
    try:
        line = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    if not line or "\n" in line or "\0" in line:
        raise ValueError("it should have one line, the password")
    return line


def words(settings: Settings) -> list[str]:
    """Of the command; there is no shell that would read anything else in them."""
    command = settings.broker_password_command
    try:
        given = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise SettingsError(f"broker_password_command: {error}") from None
    if not given or not given[0]:
        raise SettingsError("broker_password_command has no program")
    return given


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


async def printed(words: Sequence[str]) -> str:
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


def _said(content: bytes, status: int | None) -> str:
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
