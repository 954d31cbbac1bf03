"""Limits of the broker, and TLS: named in the right words, and waited out where that helps."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from yarl import URL

from lmaas.broker_config.errors import BrokerRefused, BrokerUnavailable, LimitReached
from lmaas.broker_config.hosts import connect
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.ports import free_ports
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client
from lmaas.workers.worker import Worker
from tests.integration.lanes import LIMIT, having, serving
from tests.integration.worker_process import StartWorker

GOOD = "a wonderful, moving film"


class Vhost:
    """A virtual host of the test's own, with limits."""

    def __init__(self, node: LocalNode) -> None:
        self._node = node
        self.name = f"v{uuid.uuid4().hex[:8]}"
        self.url = str(URL(node.url).with_path(f"/{self.name}"))

    async def limit(self, limits: str) -> None:
        await self._node.ctl("set_vhost_limits", "-p", self.name, limits)

    async def unlimit(self) -> None:
        await self._node.ctl("clear_vhost_limits", "-p", self.name)


@pytest.fixture
async def vhost(node: LocalNode) -> AsyncIterator[Vhost]:
    vhost = Vhost(node)
    await node.ctl("add_vhost", vhost.name)
    await node.ctl("set_permissions", "-p", vhost.name, "lmaas", ".*", ".*", ".*")
    yield vhost
    await node.ctl("delete_vhost", vhost.name)


@pytest.fixture
def limited(settings: Settings, vhost: Vhost) -> Settings:
    return having(settings, broker_url=vhost.url, connect_timeout=3)


async def test_a_limit_of_connections_is_named_and_ends_no_running_worker(
    limited: Settings, vhost: Vhost, node: LocalNode, start_worker: StartWorker
) -> None:
    worker = await start_worker(
        "--processes", "1", LMAAS_BROKER_URL=vhost.url, LMAAS_CONNECT_TIMEOUT="3"
    )
    await vhost.limit('{"max-connections":0}')
    await node.ctl("close_all_connections", "-p", vhost.name, "a test")
    with pytest.raises(LimitReached, match=r"connection limit \(0\) is reached"):
        async with Client(limited):
            pass
    # At once, and when one of its connections has given up after connect_timeout: they try again.
    await worker.says("connection limit (0) is reached", 2)
    await vhost.unlimit()
    await worker.says("connection back", 2)
    async with Client(limited) as client:
        assert (await client.classify("sentiment", GOOD)).label == "positive"
    assert "no virtual host" not in "".join(worker.lines)


async def test_a_client_that_loses_its_connection_to_a_limit_says_so(
    limited: Settings, vhost: Vhost, node: LocalNode
) -> None:
    async with Client(limited) as client:
        await vhost.limit('{"max-connections":0}')
        await node.ctl("close_all_connections", "-p", vhost.name, "a test")
        with pytest.raises(BrokerUnavailable, match=r"connection limit \(0\) is reached"):
            await client.workers("sentiment")


async def test_a_limit_of_queues_is_no_mismatch_and_is_waited_out(
    limited: Settings, vhost: Vhost, caplog: pytest.LogCaptureFixture
) -> None:
    await vhost.limit('{"max-queues":0}')
    with pytest.raises(LimitReached, match=r"queue limit in vhost .* is reached"):
        async with Client(limited):
            pass
    worker, started = Worker(limited), asyncio.Event()
    running = asyncio.create_task(worker.run(started))
    async with asyncio.timeout(LIMIT):
        while caplog.text.count("; waiting") < 3:  # noqa: ASYNC110 - logs have no event
            await asyncio.sleep(0.05)
    await vhost.unlimit()
    async with asyncio.timeout(LIMIT):
        await started.wait()
    worker.stop()
    await running


async def test_a_worker_that_waits_for_a_limit_can_be_stopped(
    limited: Settings, vhost: Vhost, start_worker: StartWorker
) -> None:
    await vhost.limit('{"max-connections":0}')
    worker = await start_worker(
        "--processes", "1", until=None, LMAAS_BROKER_URL=vhost.url, LMAAS_CONNECT_TIMEOUT="3"
    )
    await worker.says("is reached")
    worker.send(15)
    assert await worker.ended() == 0


async def test_a_user_s_limit_of_channels_is_named(limited: Settings, node: LocalNode) -> None:
    url, user = URL(limited.broker_url), f"u{uuid.uuid4().hex[:8]}"
    await node.ctl("add_user", user, "pass")
    await node.ctl("set_permissions", "-p", url.path[1:], user, ".*", ".*", ".*")
    own = having(limited, broker_url=str(url.with_user(user).with_password("pass")))
    await node.ctl("set_user_limits", user, '{"max-channels":1}')
    with pytest.raises(LimitReached, match=r"channels opened for user .* user limit of"):
        async with Client(own):
            pass
    await node.ctl("set_user_limits", user, '{"max-channels":-1,"max-connections":0}')
    with pytest.raises(LimitReached, match=r"user connection limit \(0\) is reached"):
        async with Client(own):
            pass
    await node.ctl("delete_user", user)


async def test_a_missing_virtual_host_or_permission_is_told_at_once(
    limited: Settings, node: LocalNode
) -> None:
    patient = having(limited, connect_timeout=10 * LIMIT)
    url = URL(limited.broker_url)
    async with asyncio.timeout(LIMIT):
        missing = having(patient, broker_url=str(url.with_path("/no,such")))
        with pytest.raises(BrokerRefused, match=r"no virtual host 'no,such'.*add_vhost"):
            await connect(missing, name="t")
        await node.ctl("clear_permissions", "-p", url.path[1:], "lmaas")
        with pytest.raises(BrokerRefused, match=r"'lmaas' may not use .*set_permissions"):
            await connect(patient, name="t")


# ------------------------------------------------------------------------- TLS


@dataclass(frozen=True)
class Pki:
    """PEM files: an authority, and a certificate of it for 127.0.0.1 with its key."""

    ca: Path
    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    signed = (
        "-CA ca.pem -CAkey ca.key -addext subjectAltName=IP:127.0.0.1 "
        "-addext basicConstraints=critical,CA:FALSE"
    )
    # Without it Python takes no authority for one, since 3.13.
    signs = "-addext keyUsage=critical,keyCertSign"
    for command in (
        f"{new} -subj /CN=authority {signs} -keyout ca.key -out ca.pem",
        f"{new} -subj /CN=broker {signed} -keyout key.pem -out cert.pem",
    ):
        subprocess.run(
            ["openssl", *command.split()],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=LIMIT,
        )
    return Pki(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")


@pytest.fixture
async def tls(
    rabbitmq: Path, settings: Settings, tmp_path: Path, pki: Pki
) -> AsyncIterator[Settings]:
    """Settings of a broker that wants a client's certificate; its own will do."""
    (port,) = free_ports(1)
    folder = tmp_path / "tls"
    (folder / "conf.d").mkdir(parents=True)
    (folder / "conf.d" / "tls.conf").write_text(
        f"listeners.ssl.default = 127.0.0.1:{port}\n"
        f"ssl_options.cacertfile = {pki.ca}\nssl_options.certfile = {pki.certificate}\n"
        f"ssl_options.keyfile = {pki.key}\nssl_options.verify = verify_peer\n"
        # 1.3 tells a client without a certificate only after the handshake.
        "ssl_options.fail_if_no_peer_cert = true\nssl_options.versions.1 = tlsv1.2\n"
    )
    async with LocalNode(folder) as node:
        url = str(URL(node.url).with_scheme("amqps").with_port(port))
        yield having(
            settings, broker_url=url, connect_timeout=30,
            tls_ca=str(pki.ca), tls_certificate=str(pki.certificate), tls_key=str(pki.key),
        )  # fmt: skip


@pytest.mark.own_tls("the broker wants certificates")
async def test_a_private_authority_is_used_for_whichever_host_has_tls(tls: Settings) -> None:
    dead = "amqp://u:p@127.0.0.1:1/"
    for both in (f"{tls.broker_url},{dead}", f"{dead},{tls.broker_url}"):
        for _ in range(6):  # the order is random
            async with await connect(having(tls, broker_url=both), name="t"):
                pass
    with pytest.raises(BrokerRefused, match="TLS failed"):
        await connect(having(tls, tls_ca=None), name="t")
    async with serving(tls), Client(tls) as client:
        assert (await client.classify("sentiment", GOOD)).label == "positive"
    with pytest.raises(BrokerRefused, match="TLS failed"):
        await connect(having(tls, tls_certificate=None, tls_key=None), name="t")
