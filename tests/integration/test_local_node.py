"""A private RabbitMQ, for real: what it keeps, what it hides, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aio_pika
import psutil
import pytest

from lmaas.broker_config import local_node, node_folder
from lmaas.broker_config.errors import LocalNodeError
from lmaas.broker_config.local_node import LocalNode

pytestmark = pytest.mark.usefixtures("rabbitmq")

#: Seconds for processes that were killed to be gone.
GONE = 60

PARENT = """
import asyncio, sys
from lmaas.broker_config.local_node import LocalNode

async def main():
    async with LocalNode(sys.argv[1]):
        print("up", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    node = LocalNode(tmp_path_factory.mktemp("node"))
    asyncio.run(node.start())
    yield node
    asyncio.run(node.stop())


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another program that has a node running in `tmp_path / "node"`."""
    command = [sys.executable, "-c", PARENT, str(tmp_path / "node")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "up\n"
        yield program
        program.kill()


def of_node(folder: Path) -> list[psutil.Process]:
    """Every process, the server's own helpers too, that was started for the node in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        if environment.get("HOME") == str(folder):
            found.append(process)
    return found


def left_of_node(folder: Path) -> list[psutil.Process]:
    """Those that have not ended soon after the node: its helpers end when they notice."""
    _, alive = psutil.wait_procs(of_node(folder), timeout=GONE)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


async def publish(url: str, queue: str, body: bytes) -> None:
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        await channel.declare_queue(queue, durable=True)
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, queue)


async def take(url: str, queue: str) -> bytes:
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        message = await (await channel.get_queue(queue)).get(no_ack=True, timeout=60)
        return message.body


@pytest.mark.chaos
async def test_messages_outlive_stops_restarts_and_crashes(tmp_path: Path) -> None:
    node = LocalNode(tmp_path / "node")
    await node.start()
    try:
        url, first_pid = node.url, node.pid
        await publish(url, "stopped", b"1")
        await publish(url, "restarted", b"2")
        await publish(url, "killed", b"3")
        await node.stop()
        assert node.pid is None
        await node.start()
        assert node.pid != first_pid
        assert node.url == url
        assert await take(node.url, "stopped") == b"1"
        await node.restart()
        assert node.url == url
        assert await take(node.url, "restarted") == b"2"
        node.kill()
        assert node.pid is None
        await node.start()
        assert await take(node.url, "killed") == b"3"
    finally:
        await node.stop()


async def test_a_temporary_folder_is_removed_with_everything(tmp_path: Path) -> None:
    async with LocalNode() as node:
        folder = node.folder
        processes = of_node(folder)
        assert {"beam.smp", "epmd"} <= {process.name() for process in processes}
    assert not folder.exists()
    _, alive = psutil.wait_procs(processes, timeout=GONE)
    assert alive == []


@pytest.mark.chaos
async def test_two_nodes_at_once_share_nothing(node: LocalNode, tmp_path: Path) -> None:
    async with LocalNode(tmp_path / "other") as other:
        await publish(node.url, "only-here", b"x")
        async with await aio_pika.connect(other.url) as connection:
            channel = await connection.channel()
            with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
                await channel.get_queue("only-here")
    assert await take(node.url, "only-here") == b"x"


async def test_it_listens_on_loopback_only(node: LocalNode) -> None:
    addresses = {
        connection.laddr.ip
        for process in of_node(node.folder)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    # epmd takes every loopback address, whatever it is told.
    assert "127.0.0.1" in addresses
    assert addresses <= {"127.0.0.1", "::1"}


async def test_the_password_is_in_private_files_only(node: LocalNode) -> None:
    password = node.url.split(":")[2].split("@")[0]
    assert len(password) >= 32
    processes = of_node(node.folder)
    assert processes
    for process in processes:
        assert password not in " ".join(process.cmdline())
        assert password not in process.environ().values()
    files = [path for path in node.folder.rglob("*") if path.is_file()]
    telling = {path.name for path in files if password.encode() in path.read_bytes()}
    assert telling == {"node.json", "rabbitmq.conf"}
    for name in telling:
        assert (node.folder / name).stat().st_mode & 0o077 == 0
    assert node.folder.stat().st_mode & 0o077 == 0


async def test_a_wrong_password_is_refused(node: LocalNode) -> None:
    password = node.url.split(":")[2].split("@")[0]
    with pytest.raises(aio_pika.exceptions.ProbableAuthenticationError):
        await aio_pika.connect(node.url.replace(password, "guess"))


def test_nothing_is_left_after_kill_9_of_the_parent(
    parent: subprocess.Popen[str], tmp_path: Path
) -> None:
    processes = of_node(tmp_path / "node")
    assert {"beam.smp", "epmd"} <= {process.name() for process in processes}
    parent.kill()
    _, alive = psutil.wait_procs(processes, timeout=GONE)
    assert alive == []
    assert left_of_node(tmp_path / "node") == []


@pytest.mark.chaos
async def test_a_second_start_ends_what_a_crash_left(
    parent: subprocess.Popen[str], tmp_path: Path
) -> None:
    folder = tmp_path / "node"
    left = of_node(folder)
    record = json.loads((folder / "node.json").read_text())
    vm, epmd = (
        next(process for process in left if process.name() == name) for name in ("beam.smp", "epmd")
    )
    (guard,) = {int(pid) for pid in record["processes"]} - {vm.pid, epmd.pid}
    os.kill(guard, signal.SIGKILL)
    parent.kill()
    parent.wait(GONE)
    assert vm.is_running()
    try:
        async with LocalNode(folder) as node:
            _, alive = psutil.wait_procs(left, timeout=GONE)
            assert alive == []
            await publish(node.url, "q", b"works")
    finally:  # without their guard nobody else would
        for process in (vm, epmd):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.mark.chaos
async def test_a_pid_that_somebody_else_has_now_is_left_alone(tmp_path: Path) -> None:
    record = {"password": "x" * 32, "processes": {os.getpid(): "some other time"}}
    (tmp_path / "node.json").write_text(json.dumps(record))
    async with LocalNode(tmp_path) as node:  # killing that pid would end this test
        assert "x" * 32 in node.url


async def test_a_server_that_ends_by_itself_is_told(tmp_path: Path) -> None:
    async with LocalNode(tmp_path) as node:
        telling = asyncio.create_task(node.failed())
        assert node.pid
        os.kill(node.pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            with pytest.raises(LocalNodeError, match="ended by itself with signal 9"):
                await telling


async def test_a_folder_in_use_is_refused(node: LocalNode) -> None:
    with pytest.raises(LocalNodeError, match="in use by a running node"):
        await LocalNode(node.folder).start()
    await publish(node.url, "q", b"the first one still works")


async def test_a_server_that_dies_at_the_start_says_why_at_once(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "bad.conf").write_text("no_such_setting = 1\n")
    node = LocalNode(tmp_path, start_timeout=50)
    with pytest.raises(LocalNodeError, match="no_such_setting") as failure:
        await node.start()
    assert "\n" not in str(failure.value)
    assert left_of_node(tmp_path) == []


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    (folder / "enabled_plugins").mkdir()  # where a file is to be written
    words = rf"cannot write to its folder {folder}: Is a directory"
    with pytest.raises(LocalNodeError, match=words):
        await LocalNode(folder).start()


def test_a_full_disk_is_told_in_words() -> None:
    """As RabbitMQ 3.10 says it at its start, and when it ends."""
    for console in (
        '{error, {file_error, "/b/data/lmaas@localhost/coordination/names.dets", enospc}}',
        'Mnesia(lmaas@localhost): error status: "/b/data/LATEST.LOG": "no space left on device"',
    ):
        assert node_folder.complaint(console) == "no space is left on the disk of its folder"


async def test_a_time_limit_ends_a_start_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(LocalNodeError, match=r"did not answer within 0\.5 s"):
        await LocalNode(tmp_path, start_timeout=0.5).start()
    assert left_of_node(tmp_path) == []


@pytest.mark.chaos
@pytest.mark.parametrize("which", ["amqp_port", "distribution_port", "epmd_port"])
async def test_a_port_that_was_taken_in_the_meantime_is_exchanged(
    node: LocalNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    taken = json.loads((node.folder / "node.json").read_text())[which]
    choose, tries = local_node._choose_ports, []

    def lose_the_first_race(record: Any, *, epmd: bool) -> None:
        choose(record, epmd=epmd)
        if not tries:
            setattr(record, which, taken)
        tries.append(record.amqp_port)

    monkeypatch.setattr(local_node, "_choose_ports", lose_the_first_race)
    async with LocalNode(tmp_path / "second") as second:
        assert len(tries) == 2
        await publish(second.url, "q", b"works")
    await publish(node.url, "q", b"untouched")


async def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    (tmp_path / "node.json").write_text("{")
    with pytest.raises(LocalNodeError, match=r"node\.json cannot be read"):
        await LocalNode(tmp_path).start()


async def test_without_rabbitmq_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmaas.broker_config.local_node._PACKAGED", str(tmp_path))
    monkeypatch.setattr("lmaas.broker_config.local_node._HOMEBREW", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalNodeError, match="apt install rabbitmq-server"):
        await LocalNode(tmp_path / "node").start()


async def test_before_its_start_it_has_no_address() -> None:
    with pytest.raises(LocalNodeError, match="not been started"):
        _ = LocalNode().url


async def test_another_installation_can_be_named(
    tmp_path: Path, rabbitmq: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rabbit"
    folder.mkdir()
    monkeypatch.setenv("LMAAS_RABBITMQ", str(folder))
    with pytest.raises(LocalNodeError, match=r"LMAAS_RABBITMQ .* no rabbitmq-server"):
        await LocalNode().start()
    for name in ("rabbitmq-server", "rabbitmqctl"):
        script = folder / name
        script.write_text(f'#!/bin/sh\necho {name} >> {tmp_path}/ran\n'
                          f'exec {rabbitmq.with_name(name)} "$@"\n')  # fmt: skip
        script.chmod(0o755)
    async with LocalNode() as node:
        assert "queue_index_embed_msgs_below,2000000" in await node.ctl("environment")
    assert (tmp_path / "ran").read_text().split() == ["rabbitmq-server", "rabbitmqctl"]
