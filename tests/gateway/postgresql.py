"""A PostgreSQL of the tests' own, where one is installed."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lmaas.broker_config.ports import free_ports


def _programs() -> Path | None:
    """The folder of the newest one; Debian has them beside the path."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


class Server:
    """One that runs, until it is stopped."""

    def __init__(self, run: Callable[..., None], folder: Path, port: int) -> None:
        self._run = run
        self._folder = folder
        self._options = f"-c listen_addresses=127.0.0.1 -c port={port} -c fsync=off"
        self._options += f" -c unix_socket_directories={folder}"
        #: Of a database in it.
        self.url = f"postgresql://lmaas@127.0.0.1:{port}/postgres"

    def start(self) -> None:
        """Returns when it accepts connections."""
        self._run("pg_ctl", "-o", self._options, "-l", str(self._folder / "log"), "-w", "start")

    def stop(self) -> None:
        """Who is connected is told, and disconnected."""
        self._run("pg_ctl", "-m", "fast", "-w", "stop")


@contextlib.contextmanager
def private() -> Iterator[Server]:
    """A server that ends with the context."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    as_user: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder, port = Path(name), free_ports(1)[0]
        if os.geteuid() == 0:
            # It does not run as root.
            try:
                owner = pwd.getpwnam("postgres")
            except KeyError:
                pytest.skip("there is no user postgres to run PostgreSQL as")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
            as_user = {"user": owner.pw_uid, "group": owner.pw_gid, "cwd": folder}
        data = str(folder / "data")

        def run(program: str, *arguments: str) -> None:
            command = [str(programs / program), "-D", data, *arguments]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **as_user)

        run("initdb", "-A", "trust", "-U", "lmaas", "-E", "UTF8", "--no-sync")
        server = Server(run, folder, port)
        server.start()
        try:
            yield server
        finally:
            server.stop()
