"""Builds the distributions, installs the wheel where nothing else is, and runs programs there.

The folder that programs run in has files that are called like parts of LMaaS, as users' own are.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Seconds for an installation, and for what a program that runs should say or do: more than a
#: private broker may take to start.
INSTALL_LIMIT = 600
LIMIT = 300

#: Each raises when it is imported.
MODULES = (
    "app", "batch", "bench", "benchmarks", "broker", "classify", "cli", "client", "config",
    "connection", "consumer", "errors", "examples", "health", "hosts", "jobs", "main", "messages",
    "metrics", "models", "producer", "publisher", "runtime", "settings", "sync", "train", "up",
    "upstream", "utils", "worker",
)  # fmt: skip
PACKAGES = ("broker_config", "testing", "tests", "training", "workers")


@pytest.fixture(scope="session")
def uv() -> str:
    """The program, which `scripts/setup` leaves where it finds none."""
    found = shutil.which("uv", path=f"{os.environ['PATH']}:{ROOT / '.venv-uv/bin'}")
    assert found, "uv is missing: run `make setup`"
    return found


@dataclass(frozen=True)
class Distributions:
    sdist: Path
    #: Built from the sdist, as pip does it.
    wheel: Path
    #: Built from the checkout.
    direct: Path


@pytest.fixture(scope="session")
def built(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    both, direct = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("direct")
    _call(uv, "build", "--quiet", "--out-dir", str(both), str(ROOT))
    _call(uv, "build", "--quiet", "--wheel", "--out-dir", str(direct), str(ROOT))
    (sdist,), (wheel,), (other,) = both.glob("*.gz"), both.glob("*.whl"), direct.glob("*.whl")
    return Distributions(sdist, wheel, other)


def _call(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=INSTALL_LIMIT
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


def _interpreters() -> dict[str, str]:
    """Version -> the Python that runs the tests, and the system's own."""
    found = {}
    for program in (getattr(sys, "_base_executable", sys.executable), "/usr/bin/python3"):
        if Path(program).exists():
            version = _call(program, "-c", "import platform; print(platform.python_version())")
            if tuple(map(int, version.split(".")[:2])) >= (3, 11):
                found.setdefault(version.strip(), program)
    return found


@pytest.fixture(
    scope="session", params=(interpreters := _interpreters()).values(), ids=interpreters
)
def python(request: pytest.FixtureRequest) -> str:
    """An interpreter to install for."""
    program: str = request.param
    return program


class Environment:
    """A virtual environment with the wheel, and a user who works in a folder of his own."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.home = home
        self.bin = folder / "bin"
        self.work = home / "work"
        _write_hostile(self.work)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LMAAS_", "PYTHON", "VIRTUAL_ENV", "UV_", "XDG_", "ORT_"))
        }
        self.variables = {**kept, "HOME": str(home), "PATH": f"{self.bin}:{os.environ['PATH']}"}

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment to its end."""
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.work,
            env=self.variables | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )

    def python(self, code: str) -> str:
        """What a script of the user prints, who keeps it beside his other files."""
        script = self.work / "script.py"
        script.write_text(code)
        done = self.run("python", script.name)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout


def _write_hostile(folder: Path) -> None:
    folder.mkdir()
    for name in MODULES:
        (folder / f"{name}.py").write_text(f"raise SystemError('the user has a {name}.py')\n")
    for name in PACKAGES:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"raise SystemError('a folder {name}')\n")


@pytest.fixture(scope="session")
def constraints(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The versions of uv.lock: not what came out this morning."""
    path = tmp_path_factory.mktemp("constraints") / "constraints.txt"
    options = (
        "--frozen",
        "--no-emit-project",
        "--no-hashes",
        "--all-extras",
        "--no-extra",
        "gpu",
        "--quiet",
    )
    path.write_text(_call(uv, "export", *options, "--project", str(ROOT)))
    return path


@pytest.fixture(scope="session")
def serving(
    uv: str,
    python: str,
    built: Distributions,
    constraints: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Environment:
    """`pip install lmaas[worker,files]`."""
    return _installed(uv, python, f"{built.wheel}[worker,files]", constraints, tmp_path_factory)


@pytest.fixture(scope="session")
def client_only(
    uv: str,
    python: str,
    built: Distributions,
    constraints: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Environment:
    """`pip install lmaas`."""
    return _installed(uv, python, str(built.wheel), constraints, tmp_path_factory)


def _installed(
    uv: str, python: str, what: str, constraints: Path, factory: pytest.TempPathFactory
) -> Environment:
    folder = factory.mktemp("environment") / "venv"
    _call(uv, "venv", "--quiet", "--python", python, str(folder))
    program = str(folder / "bin" / "python")
    install = ("pip", "install", "--quiet", "--python", program, "--constraint", str(constraints))
    _call(uv, *install, what)
    return Environment(folder, factory.mktemp("home"))


class Program:
    """One that runs until it is stopped."""

    def __init__(self, environment: Environment, *command: str) -> None:
        self.lines: list[str] = []
        self._told: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            [str(environment.bin / command[0]), *command[1:]],
            cwd=environment.work,
            env=environment.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._told.put(line)
        self._told.put(None)

    def says(self, word: str) -> str:
        """The next line that has the word."""
        deadline, ended = time.monotonic() + LIMIT, "it ended and"
        try:
            while (line := self._told.get(timeout=deadline - time.monotonic())) is not None:
                self.lines.append(line)
                if word in line:
                    return line
        except (queue.Empty, ValueError):  # the deadline may be over before it waits
            ended = f"within {LIMIT} s it"
        raise AssertionError(f"{ended} never said {word!r}:\n{''.join(self.lines)}")

    def stop(self) -> int:
        """The exit code after SIGTERM; all that it said is in `lines`."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(LIMIT)
        while (line := self._told.get(timeout=LIMIT)) is not None:
            self.lines.append(line)
        self.process.communicate()  # closes the pipe
        return code


@pytest.fixture
def start() -> Iterator[type[Program]]:
    """Starts programs, which do not outlive the test."""
    started: list[Program] = []

    class Started(Program):
        def __init__(self, environment: Environment, *command: str) -> None:
            super().__init__(environment, *command)
            started.append(self)

    yield Started
    for program in reversed(started):
        if program.process.poll() is None:
            program.stop()
