"""No log shows a secret or a text: with LMAAS_TEST_LEAKS=1 every log of the run is searched.

Collected are the log records of this process, and what each process that a test starts writes to
its standard error. Secrets are found where they are made: API keys, secrets of hooks and payload
keys by the classes that hold them, passwords and private keys in the files that only their owner
may read. Texts and ids are named by `canary`. What is found fails the run, with file and line.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from lmaas.service.logs import JsonLines

SWITCH: Final = "LMAAS_TEST_LEAKS"
#: Where all processes of the run collect; set by the first one.
FOLDER: Final = "LMAAS_TEST_LEAKS_FOLDER"
#: Characters of a secret at least: a shorter one, as "own", is a word of any log.
SHORTEST: Final = 16
#: Bytes of a file with secrets, at most.
_LARGEST: Final = 64 * 1024
_PEM: Final = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s(.+?)\s-----END", re.DOTALL)


class Leak(NamedTuple):
    file: Path
    line: int
    #: What it is, and not the thing itself.
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


def folder() -> Path | None:
    """None: nothing is collected."""
    named = os.environ.get(FOLDER)
    return Path(named) if named else None


def keep(logs: Path) -> None:
    """Copies a folder of logs that is about to be removed, as a broker's."""
    place = folder()
    if place is not None:
        shutil.copytree(logs, Path(tempfile.mkdtemp(prefix="kept-", dir=place / "logs")) / "log")


def canary(text: str) -> str:
    """A text, or an item's id, that no log may have."""
    forbid(text, "a text that a test sent")
    return text


def forbid(text: str, what: str) -> None:
    """No log may have this from now on, nor before."""
    place = folder()
    if place is not None and len(text) >= SHORTEST:
        with (place / f"forbidden-{os.getpid()}").open("a") as file:
            file.write(json.dumps([text, what]) + "\n")


# --------------------------------------------------------------------- search


def search(place: Path) -> list[Leak]:
    """The leaks in what was collected in a folder."""
    forbidden = _forbidden(place)
    logs = sorted(path for path in (place / "logs").rglob("*") if path.is_file())
    return [leak for path in logs for leak in _in_file(path, forbidden)]


def _forbidden(place: Path) -> dict[str, str]:
    lines = [line for file in place.glob("forbidden-*") for line in file.read_text().splitlines()]
    return dict(json.loads(line) for line in lines)


def _in_file(path: Path, forbidden: dict[str, str]) -> Iterator[Leak]:
    content = path.read_text(errors="replace")
    for text, what in forbidden.items():
        # As it is, and as JSON has it.
        for written in {text, json.dumps(text)[1:-1]}:
            if (at := content.find(written)) >= 0:
                yield Leak(path, content.count("\n", 0, at) + 1, what)
                break


def secrets_of_files(place: Path) -> Iterator[tuple[str, str]]:
    """Those in files that only their owner may read: private keys, passwords, payload keys."""
    for path in place.rglob("*"):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            state = path.lstat()
            if not path.is_file() or path.is_symlink() or state.st_size > _LARGEST:
                continue
            if state.st_mode & 0o077 == 0:
                yield from _secrets_in(path)


def _secrets_in(path: Path) -> Iterator[tuple[str, str]]:
    content = path.read_text()
    for found in _PEM.finditer(content):
        for line in found[1].splitlines():
            yield line, f"a private key of {path.name}"
    if path.suffix == ".keys":
        for line in content.splitlines():
            yield line.rpartition(" ")[2], f"a payload key of {path.name}"
    if path.suffix == ".json":
        with contextlib.suppress(json.JSONDecodeError):
            values = json.loads(content)
            if path.name == "node.json":
                for password in (values["password"], *values.get("passwords", {}).values()):
                    yield password, "a password of a private broker"
            elif "password" in path.name or "users" in path.name:
                for user, password in values.items():
                    yield password, f"the password of {user!r}"


# -------------------------------------------------------------------- collect


class _Handler(logging.FileHandler):
    """Each record with the test that it is of."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{os.environ.get('PYTEST_CURRENT_TEST', '')} {super().format(record)}"


@contextlib.contextmanager
def collecting(place: Path) -> Iterator[None]:
    """Meanwhile logs are kept in a folder, and secrets are known."""
    (place / "logs").mkdir(exist_ok=True)
    handler = _Handler(place / "logs" / f"pytest-{os.getpid()}.log")
    handler.setFormatter(JsonLines())
    logging.getLogger().addHandler(handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            _keep_standard_error(patch, place / "logs")
            _know_secrets(patch)
            yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def _keep_standard_error(patch: pytest.MonkeyPatch, logs: Path) -> None:
    """Of each process that is started, as asyncio does too."""
    start = subprocess.Popen.__init__

    def started(self: Any, *arguments: Any, **options: Any) -> None:
        start(self, *arguments, **options)
        stream = self.stdout if options.get("stderr") == subprocess.STDOUT else self.stderr
        if stream is not None:
            test = re.sub(r"\W+", "-", os.environ.get("PYTEST_CURRENT_TEST", "session"))[-100:]
            _tee(stream.fileno(), logs / f"{test}-{os.getpid()}-{self.pid}.log")

    patch.setattr(subprocess.Popen, "__init__", started)


def _tee(pipe: int, log: Path) -> None:
    """Puts a file between a process and who reads from it."""
    process = os.dup(pipe)
    ours, reader = os.pipe()[::-1]
    os.dup2(reader, pipe, inheritable=False)
    os.close(reader)

    def copy() -> None:
        told = True
        with log.open("ab", buffering=0) as file, os.fdopen(process, "rb", 0) as source:
            while content := source.read(1 << 16):
                file.write(content)
                try:
                    if told:
                        _write(ours, content)
                except BrokenPipeError:  # the test reads no more
                    told = False
        os.close(ours)

    threading.Thread(target=copy, daemon=True, name="tee").start()


def _write(pipe: int, content: bytes) -> None:
    while content:
        content = content[os.write(pipe, content) :]


def _know_secrets(patch: pytest.MonkeyPatch) -> None:
    """Those that this process makes or reads."""
    from base64 import b64encode

    from lmaas.broker_config import node_folder
    from lmaas.broker_config.sealing import PayloadKey
    from lmaas.producer.gateway import api_keys
    from lmaas.producer.gateway.secret import Secret

    key, secret, make, write = (
        PayloadKey.__init__, Secret.__init__, api_keys.make, node_folder.write_record,
    )  # fmt: skip

    def new_key(self: PayloadKey, key_id: str, content: bytes) -> None:
        key(self, key_id, content)
        forbid(b64encode(content).decode(), "a payload key")

    def new_secret(self: Secret, text: str) -> None:
        secret(self, text)
        forbid(self.reveal(), "a secret of a hook or callback")

    def made(*arguments: Any, **options: Any) -> Any:
        written, row = make(*arguments, **options)
        forbid(written, "an API key")
        return written, row

    def written(folder: Path, record: node_folder.Record) -> None:
        forbid(record.password, "a password of a private broker")
        write(folder, record)

    patch.setattr(PayloadKey, "__init__", new_key)
    patch.setattr(Secret, "__init__", new_secret)
    patch.setattr(api_keys, "make", made)
    patch.setattr(node_folder, "write_record", written)


# --------------------------------------------------------------------- pytest


class Search:
    """The plugin of a run: it collects in each process, and the first one searches at the end."""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._leaks: list[Leak] = []
        self._kept: Path | None = None
        self._is_first = FOLDER not in os.environ
        if self._is_first:
            os.environ[FOLDER] = tempfile.mkdtemp(prefix="lmaas-logs-")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        self._open.enter_context(collecting(Path(os.environ[FOLDER])))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        for text, what in secrets_of_files(session.config._tmp_path_factory.getbasetemp()):  # type: ignore[attr-defined]
            forbid(text, what)
        self._open.close()
        if not self._is_first:
            return
        place = Path(os.environ.pop(FOLDER))
        self._leaks = search(place)
        if self._leaks:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            for file in place.glob("forbidden-*"):
                file.unlink()
        else:
            shutil.rmtree(place)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._leaks:
            terminalreporter.section("secrets and texts in logs", red=True)
            for leak in self._leaks:
                terminalreporter.line(str(leak))
