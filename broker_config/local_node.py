"""A private RabbitMQ on this machine: for `lmaas up`, the demo and the tests.

    async with LocalNode() as node:
        connection = await aio_pika.connect(node.url)

It needs an installed `rabbitmq-server` and shares nothing with one that runs already: its own
folder, ports, cookie, password and epmd (Erlang's directory of nodes), on 127.0.0.1 only.

Its processes, the Erlang VM and its epmd, do not outlive us: see `lmaas.broker_config.guarded`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Self

import aiormq

from lmaas.broker_config import node_folder
from lmaas.broker_config.errors import LocalNodeError
from lmaas.broker_config.guarded import ProcessGroup, kill_left_over
from lmaas.broker_config.node_folder import USER, Record
from lmaas.broker_config.ports import free_ports, is_free, listens
from lmaas.broker_config.rights import Role

#: Seconds that a node may take to answer; it takes 3 to 4 on two cores, and over a minute where
#: many others want them. A node that ends before is told at once.
START_TIMEOUT: Final = 180.0
#: Seconds that a node may take to stop cleanly before it is killed; it takes 1.
STOP_TIMEOUT: Final = 20.0

_ATTEMPTS: Final = 3
_POLL: Final = 0.05

#: Debian and RPM packages keep the real script here; the one on PATH switches to another user.
_PACKAGED: Final = "/usr/lib/rabbitmq/bin"
_USER_SWITCHING: Final = "rabbitmq-script-wrapper"
#: Names the folder of another installation's `rabbitmq-server` and `rabbitmqctl`, or of scripts
#: that become them, as in a container that sees the same folders.
INSTALLATION: Final = "LMAAS_RABBITMQ"
#: Homebrew's, which are often not on PATH.
_HOMEBREW: Final = ("/opt/homebrew/sbin", "/usr/local/sbin")


class _PortTaken(LocalNodeError):
    """Another program took one of the ports before the node did."""


@dataclass(frozen=True, slots=True)
class Member:
    """What a node of a cluster is given; a node that is alone chooses for itself."""

    #: As `r1@localhost`.
    name: str
    #: Of an epmd that runs, by which the members find each other.
    epmd_port: int
    #: What every member must have alike: of the user, and of the nodes among themselves.
    password: str = field(repr=False)
    cookie: str = field(repr=False)


class LocalNode:
    """A private RabbitMQ in a folder of its own.

    A given folder keeps the messages, the passwords and, while it is free, the port from one start
    to the next; files in its `conf.d` are read after the node's own configuration. Without a
    folder, a temporary one is removed by `stop`.

    With a `prefix`, it has a user for each role in the installation of that prefix.
    """

    def __init__(
        self,
        folder: Path | str | None = None,
        *,
        start_timeout: float = START_TIMEOUT,
        stop_timeout: float = STOP_TIMEOUT,
        member: Member | None = None,
        prefix: str | None = None,
    ) -> None:
        self._given = Path(folder).absolute() if folder is not None else None
        self._folder = self._given
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._record: Record | None = None
        self._lock: IO[str] | None = None
        self._member = member
        self._prefix = prefix
        self._group: ProcessGroup | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """amqp://user:password@127.0.0.1:port/; the same after `restart` and `kill`.

        This user may do everything.
        """
        return self._url(USER, self._started.password)

    def url_of(self, role: Role) -> str:
        """The same for the user of a role, of a node with a `prefix`."""
        return self._url(role, self._started.passwords[role])

    def _url(self, user: str, password: str) -> str:
        return f"amqp://{user}:{password}@127.0.0.1:{self._started.amqp_port}/"

    @property
    def _started(self) -> Record:
        if self._record is None or not self._record.amqp_port:
            raise LocalNodeError("the node has not been started yet; call start() first")
        return self._record

    @property
    def folder(self) -> Path:
        """Where its data and logs are."""
        if self._folder is None:
            raise LocalNodeError("the node has no folder before its start; call start() first")
        return self._folder

    @property
    def pid(self) -> int | None:
        """Of the Erlang VM; None when it is not running."""
        return self._server.pid if self._server and self._server.poll() is None else None

    async def start(self) -> None:
        """Returns when the node answers; does nothing when it does already.

        Raises LocalNodeError when RabbitMQ is not installed, the folder cannot be used or is used
        by another process, or the node does not come up.
        """
        if self.pid is not None:
            return
        server = installed_server()
        self._close()  # what is left of a node that died on its own
        try:
            self._open_folder()
            await self._start(server)
        except BaseException as error:
            folder = self._folder
            self._close()
            self._remove_temporary()
            if isinstance(error, OSError) and error.strerror:
                raise LocalNodeError(
                    f"the private broker cannot write to its folder {folder}: {error.strerror}"
                ) from error
            raise

    async def stop(self) -> None:
        """Stops cleanly within the time limit, else by force; does nothing twice."""
        try:
            await self._terminate()
        finally:
            self._close()
            self._remove_temporary()

    async def restart(self) -> None:
        """Stops cleanly and starts on the same data and, unless it was taken, the same port."""
        try:
            await self._terminate()
        finally:
            self._close()
        await self.start()

    async def failed(self) -> None:
        """Waits until the node ends by itself, and raises LocalNodeError saying why."""
        assert self._server is not None, "start the node first"
        code = await asyncio.to_thread(self._server.wait)
        reason = f"signal {-code}" if code < 0 else f"exit code {code}: {self._words()}"
        raise LocalNodeError(f"RabbitMQ ended by itself with {reason}")

    def kill(self) -> None:
        """SIGKILL, as a crash would: the data stay, also temporary ones, for the next `start`."""
        if self._server is not None:
            self._server.kill()
        self._close()

    async def ctl(self, *arguments: str) -> str:
        """What `rabbitmqctl -q` says on the running node; it takes 1 to 2 s.

        Raises LocalNodeError when the command fails.
        """
        assert self._record is not None, "start the node first"
        command = await asyncio.create_subprocess_exec(
            str(installed_server().with_name("rabbitmqctl")), "-q", *arguments,
            env=node_folder.environment(self.folder, self._record),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        answer, complaint = await command.communicate()
        if command.returncode:
            words = " ".join((complaint or answer).decode(errors="replace").split())
            raise LocalNodeError(f"rabbitmqctl {arguments[0]} failed: {words[:300]}")
        return answer.decode()

    # ------------------------------------------------------------------ start

    def _open_folder(self) -> None:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="lmaas-broker-"))
        folder = self._folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            self._lock = (folder / "lock").open("w")
        except OSError as error:
            raise LocalNodeError(
                f"{folder}: {error.strerror}; choose another folder, or set XDG_STATE_HOME"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LocalNodeError(
                f"{folder} is in use by a running node, as of another `lmaas up`: the other "
                "commands find that by themselves; stop it, or set XDG_STATE_HOME to have a second"
            ) from error
        self._record = node_folder.read_record(folder)
        kill_left_over(self._record.processes)
        if self._member is not None:
            self._record.name = self._member.name
            self._record.epmd_port = self._member.epmd_port
            self._record.password = self._member.password
            node_folder.write_cookie(folder, self._member.cookie)

    async def _start(self, server: Path) -> None:
        record = self._record
        assert record is not None
        for attempt in range(1, _ATTEMPTS + 1):
            _choose_ports(record, epmd=self._member is None)
            try:
                async with asyncio.timeout(self._start_timeout):
                    await self._launch(server, record)
                return
            except _PortTaken:
                self._end_processes()
                record.amqp_port = 0
                if attempt == _ATTEMPTS:
                    raise
            except TimeoutError as error:
                limit, words = self._start_timeout, self._words()
                raise LocalNodeError(
                    f"RabbitMQ did not answer within {limit:g} s: {words}"
                ) from error

    async def _launch(self, server: Path, record: Record) -> None:
        node_folder.prepare(self.folder, record, self._prefix)
        environment = node_folder.environment(self.folder, record)
        self._group = ProcessGroup()
        if self._member is None:
            self._epmd = start_epmd(self._group, self.folder, environment, record.epmd_port)
            while not await listens(record.epmd_port):
                self._check_alive()
                await asyncio.sleep(_POLL)
        self._server = self._group.spawn(
            self.folder, node_folder.CONSOLE, environment, str(server), "-noinput"
        )
        record.processes = self._group.identities()
        node_folder.write_record(self.folder, record)
        while not (await listens(record.amqp_port) and await _answers(self.url)):
            self._check_alive()
            await asyncio.sleep(_POLL)

    def _check_alive(self) -> None:
        if self._epmd and self._epmd.poll() is not None:
            raise _PortTaken("epmd ended: its port was taken by another program")
        if self._server and self._server.poll() is not None:
            console = node_folder.console(self.folder)
            taken = "eaddrinuse" in console or "dist_port_already_used" in console
            raise (_PortTaken if taken else LocalNodeError)(f"RabbitMQ ended: {self._words()}")

    def _words(self) -> str:
        """What the node wrote about its failure, as one line."""
        logs = f" (logs: {self.folder})" if self._given else ""
        return (
            node_folder.complaint(node_folder.console(self.folder)) or "it wrote no reason"
        ) + logs

    # ------------------------------------------------------------------- stop

    async def _terminate(self) -> None:
        if self._server is None or self._server.poll() is not None:
            return
        self._server.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._stop_timeout):
                while self._server.poll() is None:  # noqa: ASYNC110 - there is no event to await
                    await asyncio.sleep(_POLL)

    def _close(self) -> None:
        self._end_processes()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _end_processes(self) -> None:
        if self._group is not None:
            self._group.end()
        self._server = self._epmd = self._group = None

    def _remove_temporary(self) -> None:
        if self._given is None and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = self._record = None


def installed_server() -> Path:
    """The script that starts RabbitMQ as the user that we are; of LMAAS_RABBITMQ's folder, if set.

    Raises LocalNodeError when there is none.
    """
    if named := os.environ.get(INSTALLATION):
        program = Path(named, "rabbitmq-server")
        if os.access(program, os.X_OK):
            return program
        raise LocalNodeError(f"{INSTALLATION} is {named!r}, which has no rabbitmq-server to run")
    for folder in (_PACKAGED, *os.get_exec_path(), *_HOMEBREW):
        program = Path(folder, "rabbitmq-server")
        if os.access(program, os.X_OK) and program.resolve().name != _USER_SWITCHING:
            return program
    raise LocalNodeError(
        "rabbitmq-server is not installed: `apt install rabbitmq-server`, "
        "`brew install rabbitmq`, or name a running broker in LMAAS_BROKER_URL"
    )


def _choose_ports(record: Record, *, epmd: bool = True) -> None:
    """Free ones; those of the last start when they are. Without `epmd` its port is given."""
    last = [record.amqp_port, record.distribution_port, *([record.epmd_port] if epmd else [])]
    if not (all(last) and all(map(is_free, last))):
        record.amqp_port, record.distribution_port, another = free_ports(3)
        if epmd:
            record.epmd_port = another


def start_epmd(
    group: ProcessGroup, folder: Path, environment: Mapping[str, str], port: int
) -> subprocess.Popen[bytes]:
    """Erlang's directory of nodes; it is up when something `listens` on its port."""
    command = ("epmd", "-address", "127.0.0.1", "-port", str(port))
    return group.spawn(folder, node_folder.CONSOLE, environment, *command)


async def _answers(url: str) -> bool:
    """Whether an AMQP connection can be opened."""
    try:
        connection = await aiormq.connect(url)
    except (OSError, aiormq.exceptions.AMQPError):
        return False
    await connection.close()
    return True
