"""The search of logs finds what is in them; a run whose logs have a secret fails."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmaas.broker_config.sealing import PayloadKey, line_of_new_key
from lmaas.producer.gateway import api_keys
from lmaas.producer.gateway.secret import Secret
from tests import leaks

ROOT = Path(__file__).parents[2]
WORDS = 'a "text" that nobody may read'
#: Writes the words to its standard error, in the second line.
WRITES = f"import sys; print('first', {WORDS!r}, sep='\\n', file=sys.stderr)"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.setenv(leaks.FOLDER, str(place))
    return place


def found(place: Path) -> list[tuple[int, str]]:
    return [(leak.line, leak.what) for leak in leaks.search(place)]


async def as_asyncio_does() -> bytes:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITES, stderr=asyncio.subprocess.PIPE
    )
    return (await process.communicate())[1]


def test_what_processes_and_loggers_write_is_found_with_its_line(place: Path) -> None:
    leaks.canary(WORDS)
    with leaks.collecting(place):
        logging.getLogger("lmaas.test").warning("harmless")
        logging.getLogger("lmaas.test").warning("told: %s", WORDS)
        done = subprocess.run([sys.executable, "-c", WRITES], capture_output=True, check=True)
        assert done.stderr.decode() == f"first\n{WORDS}\n"
        assert asyncio.run(as_asyncio_does()) == done.stderr
    what = "a text that a test sent"
    assert found(place) == [(2, what)] * 3


def test_secrets_are_known_by_their_classes_and_files(place: Path, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    pem = (
        "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49\n-----END PRIVATE KEY-----\n"
    )
    contents = {
        "a.key": pem,
        "a.keys": line_of_new_key("a"),
        "node.json": json.dumps({"password": "password-of-a-node"}),
        "users.json": json.dumps({"worker": "password-of-a-worker"}),
    }
    for name, content in contents.items():
        (files / name).write_text(content)
        (files / name).chmod(0o600)
    (files / "readable.key").write_text(pem.replace("MIGH", "none"))
    with leaks.collecting(place):
        Secret("a secret of a hook")
        PayloadKey("b", bytes(range(32)))
        written, _ = api_keys.make("n", ["classify"], 0)
        for text, what in leaks.secrets_of_files(files):
            leaks.forbid(text, what)
        log = logging.getLogger("lmaas.test")
        for line in (
            "a secret of a hook", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", written,
            "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49", contents["a.keys"].split()[1],
            "password-of-a-node", "password-of-a-worker", "noneAgEAMBMGByqGSM49AgEGCCqGSM49",
        ):  # fmt: skip
            log.warning(line)
    assert sorted(line for line, _ in found(place)) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("printed", "code"), [(WORDS, 1), ("harmless", 0)])
def test_a_run_whose_logs_have_a_text_fails(tmp_path: Path, printed: str, code: int) -> None:
    (tmp_path / "conftest.py").write_text(
        "from tests import leaks\n"
        "def pytest_configure(config):\n    config.pluginmanager.register(leaks.Search())\n"
    )
    (tmp_path / "test_it.py").write_text(
        "import logging\nfrom tests import leaks\n"
        f"def test_passes():\n    leaks.canary({WORDS!r})\n    logging.warning({printed!r})\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != leaks.FOLDER}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=environment | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert (ended.returncode, "1 passed" in ended.stdout) == (code, True), ended
    assert (".log:1: a text that a test sent" in ended.stdout) == bool(code)
