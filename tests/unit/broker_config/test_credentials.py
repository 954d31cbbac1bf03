"""Passwords from a file and a command, and what is no password, no file and no command."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import string
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from aiormq.exceptions import ConnectionNotAllowed
from hypothesis import given
from hypothesis import strategies as st

from lmaas.broker_config import credentials, password_sources
from lmaas.broker_config.credentials import Password, current, expired, expiry
from lmaas.broker_config.errors import PasswordUnavailable, SettingsError
from lmaas.broker_config.hosts import _hosts, _identified, check, connect
from lmaas.broker_config.settings import Settings
from tests.integration.lanes import until

#: Each has something that a URL, a shell, a line or AMQP could read otherwise.
PASSWORDS = ("secret", "with @:/?#%, and ünïcode", " blanks ", "a%2Fb", string.punctuation,
             "'\"\\$(id)`id`", "電影\u2028\x85\x0b🙂", "\x7f\t")  # fmt: skip
SHELL = "/bin/sh"


def token(expires: object) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"sub": "me", "exp": expires}).encode())
    return f"e30.{claims.decode().rstrip('=')}.c2ln"


def script(tmp_path: Path, lines: str) -> tuple[str, ...]:
    path = tmp_path / "script"
    path.write_text(lines)
    return (SHELL, str(path))


def alive(group: int) -> list[str]:
    """The processes of a group; zombies do not count, as nobody may be there to wait for them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            found += [stat.parent.name] if int(its_group) == group and state != "Z" else []
    return found


async def is_killed(leader: str) -> None:
    """With all that it has started."""

    async def are_gone() -> bool:
        return not alive(int(leader))

    await until(are_gone)


async def sent(settings: Settings) -> set[tuple[str | None, str | None]]:
    """User and password as aiormq reads them, for each host."""
    password = await current(settings)
    urls = [_identified(url, settings, "t", password) for url in _hosts(settings)]
    return {(url.user, url.password) for url in urls}


@pytest.mark.parametrize("password", PASSWORDS)
async def test_the_password_is_in_a_file(tmp_path: Path, password: str) -> None:
    """As it is, without any escapes; read anew each time."""
    file = tmp_path / "password"
    url = "amqp://me@h1/vhost,amqps://me@h2:5671"
    settings = Settings(broker_url=url, broker_password_file=str(file))
    for written, end in (("another", ""), (password, "\n"), (password, "\r\n")):
        file.write_bytes((written + end).encode())
        file.chmod(0o600)
        check(settings)
        assert await sent(settings) == {("me", written)}
    assert password not in repr(settings)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"secret\nsecret\n", b"secret\xff", b"secret\0", b"secret" * 11_000],
)
def test_a_password_file_that_is_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "password"
    settings = Settings(broker_url="amqp://me@h", broker_password_file=str(file))
    with pytest.raises(SettingsError, match="password': No such file"):
        check(settings)
    file.write_bytes(content)
    file.chmod(0o640)
    with pytest.raises(SettingsError, match="broker_password_file") as failure:
        check(settings)
    assert "secret" not in str(failure.value)
    file.write_text("secret")
    with pytest.raises(SettingsError, match="another password in broker_url") as failure:
        check(msgspec.structs.replace(settings, broker_url="amqp://me:other@h"))
    assert "other@" not in str(failure.value)
    file.chmod(0o604)
    with pytest.raises(SettingsError, match=r"can be read by everybody.*0604.*chmod 600"):
        check(settings)


def test_a_password_file_that_may_never_end(tmp_path: Path) -> None:
    """Neither a pipe that nobody writes to, nor a device."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path in (pipe, Path("/dev/zero")):
        settings = Settings(broker_url="amqp://me@h", broker_password_file=str(path))
        with pytest.raises(SettingsError, match=rf"broker_password_file: {path} is no file"):
            check(settings)


@pytest.mark.parametrize("password", PASSWORDS)
async def test_a_command_prints_the_password(password: str) -> None:
    settings = Settings(
        broker_url="amqp://me@h1,amqps://me@h2",
        broker_password_command=("printf", "%s\\n", password),
    )
    check(settings)
    assert await sent(settings) == {("me", password)}
    assert "printf" not in repr(settings)
    assert password not in repr(await current(settings))


async def test_a_command_is_no_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One text, as from the environment, is split into words, and nothing else is read in them."""
    monkeypatch.setenv("LMAAS_BROKER_PASSWORD_COMMAND", "echo 'two words' $HOME ; rm -f * |")
    password = await current(Settings.load())
    assert password is not None
    assert password.value == "two words $HOME ; rm -f * |"
    monkeypatch.setenv("LMAAS_BROKER_URL", "amqp://me@h")
    monkeypatch.setenv("LMAAS_BROKER_PASSWORD_COMMAND", "cat 'secret")
    with pytest.raises(SettingsError, match="broker_password_command: No closing quot") as failure:
        check(Settings.load())
    assert "secret" not in str(failure.value)
    file = tmp_path / "lmaas.toml"
    file.write_text('broker_password_command = ["cat", "a b"]')
    monkeypatch.setenv("LMAAS_CONFIG", str(file))
    monkeypatch.delenv("LMAAS_BROKER_PASSWORD_COMMAND")
    assert Settings.load().broker_password_command == ("cat", "a b")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("echo secret; echo secret >&2; exit 3", "ended with status 3; run it by hand"),
        ("kill -9 $$", "ended with status -9"),
        ("echo secret; echo secret", "should have one line"),
        ("true", "should have one line"),
        ("printf 'secret\\377'", "is not UTF-8"),
        ("yes secret", "prints more than 65,536 bytes"),
        ("echo secret; sleep 60", "did not end"),
        ("echo secret; sleep 60 &", "did not end, and close its output"),
        ("trap '' TERM INT; read line; echo [$line]; sleep 60", "did not end"),
    ],
)
async def test_a_command_that_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    lines: str,
    words: str,
) -> None:
    """It is told, with nothing of what it says, and leaves no process."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(password_sources, "TIME_LIMIT", 5 if "sleep" not in lines else 0.5)
    settings = Settings(
        broker_password_command=script(tmp_path, f"echo $$ >{tmp_path}/pid\n{lines}")
    )
    with pytest.raises(PasswordUnavailable, match="broker_password_command '/bin/sh'") as failure:
        await current(settings)
    assert words in str(failure.value)
    assert "secret" not in str(failure.value) + caplog.text + "".join(capfd.readouterr())
    await is_killed((tmp_path / "pid").read_text())


async def test_a_command_ends_with_whoever_asked(tmp_path: Path) -> None:
    lines = f"echo $$ >{tmp_path}/part; mv {tmp_path}/part {tmp_path}/pid; sleep 60"
    settings = Settings(broker_password_command=script(tmp_path, lines))
    asking = asyncio.create_task(current(settings))

    async def has_begun() -> bool:
        return (tmp_path / "pid").exists()

    await until(has_begun)
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    await is_killed((tmp_path / "pid").read_text())


async def test_a_command_that_there_is_not(tmp_path: Path) -> None:
    missing = Settings(broker_url="amqp://me@h", broker_password_command="no-such-program --x")
    with pytest.raises(SettingsError, match="there is no program 'no-such-program'"):
        check(missing)
    file = tmp_path / "file"
    file.write_text("secret")
    file.chmod(0o600)
    both = msgspec.structs.replace(missing, broker_password_file=str(file))
    with pytest.raises(SettingsError, match="both set: leave one"):
        check(both)
    twice = msgspec.structs.replace(missing, broker_url="amqp://me:secret@h")
    with pytest.raises(SettingsError, match="another password in broker_url") as failure:
        check(twice)
    assert "secret" not in str(failure.value)
    with pytest.raises(SettingsError, match="broker_auth is 'certificate'"):
        check(msgspec.structs.replace(missing, broker_auth="certificate"))


async def test_a_command_that_fails_is_tried_again(tmp_path: Path) -> None:
    """As a broker is that is away: until connect_timeout, and then it is told."""
    settings = Settings(
        broker_url="amqp://me@127.0.0.1:1/", connect_timeout=0.8,
        broker_password_command=script(tmp_path, f"echo x >>{tmp_path}/calls; exit 1"),
    )  # fmt: skip
    with pytest.raises(PasswordUnavailable, match="ended with status 1"):
        await connect(settings, name="t")
    assert len((tmp_path / "calls").read_text().split()) > 1


async def test_a_password_is_asked_for_once_while_the_broker_is_away(tmp_path: Path) -> None:
    lines = f"echo x >>{tmp_path}/calls; echo {token(time.time() + 60)}"
    settings = Settings(
        broker_url="amqp://me@127.0.0.1:1/", connect_timeout=0.8,
        broker_password_command=script(tmp_path, lines),
    )  # fmt: skip
    tries: list[BaseException] = []
    with pytest.raises(Exception, match="no broker at"):
        await connect(settings, name="t", on_failure=tries.append)
    assert len(tries) > 1
    assert (tmp_path / "calls").read_text().split() == ["x"]


@pytest.mark.parametrize("moment", [0, 1_790_000_000, 1_790_000_000.5, -1, 1e300])
def test_a_token_says_when_it_expires(moment: float) -> None:
    assert expiry(token(moment)) == moment
    least, most = credentials._PAUSES
    assert least <= Password(token(moment)).pause() <= most


@pytest.mark.parametrize(
    "text",
    ["", "secret", "a.b.c", "..", "a.e30.c", "1.2.3", token(None), token("soon"), token(True),
     "é.é.é", "a.W10.c", "a." + "W" * 10_000 + ".c"],
)  # fmt: skip
def test_what_is_no_token_does_not_expire(text: str) -> None:
    assert expiry(text) is None
    assert expired(text) is None


@given(st.text() | st.lists(st.text(), min_size=3, max_size=3).map(".".join))
def test_any_text_is_a_token_or_none(text: str) -> None:
    assert expiry(text) is None


def test_an_expired_token_is_told() -> None:
    assert "expired at 1970-01-01 00:00:07 UTC" in (expired(token(7)) or "")
    assert expired(token(time.time() + 60)) is None
    assert expired(token(-1e300)) is not None


def test_new_tokens_are_asked_for_in_time_and_not_all_at_once() -> None:
    password = Password(token(time.time() + 100))
    pauses = {password.pause() for _ in range(20)}
    assert len(pauses) > 1
    assert all(60 < pause < 81 for pause in pauses)


class Connection:
    """Of a broker that is told of tokens: as much of it as is used here."""

    def __init__(self, *answers: BaseException | None) -> None:
        self._answers = list(answers)
        self.close_callbacks: set[Callable[..., None]] = set()
        self.secrets: list[str] = []
        self.told = asyncio.Event()

    async def update_secret(self, new_secret: str, *, reason: str) -> None:
        self.secrets.append(new_secret)
        self.told.set()
        if answer := self._answers.pop(0) if self._answers else None:
            raise answer

    def close(self) -> None:
        for callback in self.close_callbacks:
            callback(self, None)


def kept(connection: Connection, tmp_path: Path, lines: str) -> asyncio.Task[None]:
    """What renews an old token of the connection by these lines."""
    settings = Settings(broker_password_command=script(tmp_path, lines))
    credentials.keep(cast(Any, connection), settings, Password(token(time.time())))
    (task,) = credentials._renewing
    return task


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_PAUSES", (0.0, 0.01))


@pytest.mark.usefixtures("_at_once")
async def test_a_token_is_renewed_until_the_connection_is_closed(tmp_path: Path) -> None:
    """A command that fails is asked again, and the same token is not told twice."""
    new = token(time.time() + 60)
    lines = f"echo x >>{tmp_path}/calls; test -e {tmp_path}/good && echo {new}"
    connection = Connection()
    task = kept(connection, tmp_path, lines)

    def calls() -> int:
        path = tmp_path / "calls"
        return len(path.read_text().split()) if path.exists() else 0

    async def has_failed() -> bool:
        return calls() > 2

    await until(has_failed)
    assert not connection.secrets
    (tmp_path / "good").touch()
    await asyncio.wait_for(connection.told.wait(), 60)
    since = calls()

    async def has_come_again() -> bool:
        return calls() > since + 1

    await until(has_come_again)
    assert connection.secrets == [new]
    connection.close()
    await asyncio.wait([task])
    assert task.cancelled()
    assert not credentials._renewing


@pytest.mark.usefixtures("_at_once")
async def test_a_token_that_the_broker_refuses_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new = token(time.time() + 60)
    connection = Connection(ConnectionNotAllowed("New secret was refused"))
    await asyncio.wait_for(kept(connection, tmp_path, f"echo {new}"), 60)
    assert connection.secrets == [new]
    assert "did not take a new token: New secret was refused" in caplog.text
    assert new not in caplog.text


async def test_what_does_not_expire_is_not_renewed(tmp_path: Path) -> None:
    for password in (None, Password("secret"), Password("a.b.c")):
        credentials.keep(cast(Any, Connection()), Settings(), password)
    assert not credentials._renewing
