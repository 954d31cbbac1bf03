"""`make audit`: that it finds what the service knows, and what it says when nobody answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
#: A release with a known vulnerability, as a service in OSV's form tells it.
PACKAGE: Final = "jinja2"
VERSION: Final = "2.4.1"
FIXED: Final = "2.10.1"
ADVISORY: Final = "GHSA-462w-v97r-4m45"

PROJECT: Final = f"""\
[project]
name = "audited"
version = "1"
requires-python = ">=3.11"
dependencies = ["{PACKAGE}"]
"""
LOCK: Final = """\
version = 1
revision = 3
requires-python = ">=3.11"

[[package]]
name = "audited"
version = "1"
source = {{ virtual = "." }}
dependencies = [{{ name = "{package}" }}]

[package.metadata]
requires-dist = [{{ name = "{package}" }}]

[[package]]
name = "{package}"
version = "{version}"
source = {{ registry = "https://pypi.org/simple" }}
sdist = {{ url = "https://files.pythonhosted.org/{package}.tar.gz", hash = "sha256:{zeros}" }}
"""


class _Osv(BaseHTTPRequestHandler):
    """Two routes of the service: which advisories packages have, and what one of them says."""

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        queries = json.loads(self.rfile.read(length))["queries"]
        self._say({"results": [self._advisories(**query) for query in queries]})

    def do_GET(self) -> None:
        versions = [{"introduced": "0"}, {"fixed": FIXED}]
        package = {"name": PACKAGE, "ecosystem": "PyPI"}
        affected = [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": versions}]}]
        summary = "A template leaves its sandbox"
        self._say(self._named() | {"summary": summary, "affected": affected})

    def _advisories(self, package: dict[str, str], version: str) -> dict[str, Any]:
        is_known = (package["name"], version) == (PACKAGE, VERSION)
        return {"vulns": [self._named()]} if is_known else {}

    def _named(self) -> dict[str, Any]:
        return {"id": ADVISORY, "modified": "2024-09-24T21:22:11Z"}

    def _say(self, answer: object) -> None:
        self._send("application/json", json.dumps(answer).encode())

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Portal(_Osv):
    """Answers everything with a page, as networks do that want a login first."""

    def _say(self, answer: object) -> None:
        self._send("text/html", b"<h1>Welcome</h1>")


def _serving(kind: type[_Osv]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.fixture(scope="module")
def osv() -> Iterator[str]:
    yield from _serving(_Osv)


@pytest.fixture(scope="module")
def portal() -> Iterator[str]:
    yield from _serving(_Portal)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """With the script of `make audit`."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "audit", tmp_path / "scripts")
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    return tmp_path


def audit(project: Path, url: str, version: str = VERSION, **more: str) -> tuple[int, str]:
    """The exit code, and what is said."""
    lock = LOCK.format(package=PACKAGE, version=version, zeros="0" * 64)
    (project / "uv.lock").write_text(lock)
    environment = {name: text for name, text in os.environ.items() if "proxy" not in name.lower()}
    environment["PATH"] = f"{ROOT}/.venv-uv/bin:{environment['PATH']}"
    ended = subprocess.run(
        [project / "scripts" / "audit"], capture_output=True, text=True, check=False, timeout=120,
        env=environment | {"AUDIT_URL": url} | more,
    )  # fmt: skip
    if "this needs uv" in ended.stderr:
        pytest.skip(ended.stderr)
    return ended.returncode, ended.stdout + ended.stderr


def test_what_is_known_is_found(project: Path, osv: str) -> None:
    code, said = audit(project, osv)
    assert code == 1
    for word in (PACKAGE, VERSION, ADVISORY, FIXED):
        assert word in said
    code, said = audit(project, osv, version=FIXED)
    assert code == 0
    assert ADVISORY not in said
    assert "NOTHING" not in said


def test_that_nobody_answers_is_said(project: Path, portal: str) -> None:
    """It is no success: whoever must know gets another exit code."""
    nobody = "http://127.0.0.1:9/"
    assert audit(project, nobody, AUDIT_STRICT="1")[0] == 2
    for url in (nobody, portal):
        code, said = audit(project, url)
        assert code == 0
        assert f"NOTHING WAS CHECKED: {url} did not answer" in said
