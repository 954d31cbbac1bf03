"""Logins at a real broker: by certificates, tokens that expire, and passwords with any character.

One broker for all of it, whose certificate is replaced while it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import socket
import ssl
import string
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aio_pika
import msgspec
import psutil
import pytest
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelAccessRefused

from lmaas.broker_config import credentials, node_folder
from lmaas.broker_config.certificates import Authority, Pair
from lmaas.broker_config.connection import Session
from lmaas.broker_config.errors import BrokerRefused, MessageError, SettingsError
from lmaas.broker_config.hosts import check, connect
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.ports import free_ports
from lmaas.broker_config.publisher import Publisher
from lmaas.broker_config.settings import Settings
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.workers.worker import Worker
from tests import leaks, tls
from tests.integration import tokens
from tests.integration.lanes import LIMIT, serving, until
from tests.integration.test_jobs import results_of
from tests.unit.workers import networks

HERE = "127.0.0.1"

pytestmark = pytest.mark.own_tls("the broker wants certificates, and has other ones in time")


#: The broker's users.
KNOWN = ("worker", "producer")
#: Whatever is special in a URL, a shell or a line.
ODD: Final = f"{string.punctuation} Straße \"'\\ 電影 %2F"


def definitions() -> dict[str, Any]:
    """Of users who may do all: some have no password."""
    every = {"configure": ".*", "write": ".*", "read": ".*"}
    users = [{"name": user, "password_hash": "", "tags": ""} for user in KNOWN]
    return {
        "users": [*users, {"name": "odd", "password": ODD, "tags": ""}],
        "permissions": [{"user": user, "vhost": "/", **every} for user in (*KNOWN, "odd")],
    }


class Certificates:
    """An authority in a folder, and what it signs there."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.authority = Authority.at(folder)
        self.ca = folder / "ca.pem"

    def user(self, name: str, days: int = 1) -> Pair:
        pair = Pair.named(self.folder, f"user-{name}")
        self.authority.issue(pair, name, days, "client")
        return pair

    def server(self, pair: Pair, days: int = 1, host: str = HERE) -> None:
        """In the place of what is there."""
        for path in (pair.certificate, pair.key):
            path.unlink(missing_ok=True)
        self.authority.issue(pair, "broker", days, "server", [host])


def by(settings: Settings, user: Pair) -> Settings:
    return msgspec.structs.replace(
        settings,
        broker_user=user.certificate.stem.removeprefix("user-"),
        tls_certificate=str(user.certificate),
        tls_key=str(user.key),
    )


async def refused(settings: Settings) -> str:
    with pytest.raises(BrokerRefused) as failure:
        await connect(settings, name="t")
    assert "\n" not in str(failure.value)
    return str(failure.value)


async def is_refused(settings: Settings, words: str) -> bool:
    """Whether the broker is not trusted for that by now."""
    try:
        connection = await connect(settings, name="t")
    except BrokerRefused as error:
        return words in str(error)
    await connection.close()
    return False


def use(new: Pair, pair: Pair) -> None:
    """In the place of the old one."""
    shutil.copy(new.key, pair.key)
    shutil.copy(new.certificate, pair.certificate)


class Broker:
    """A node that users log in to in each way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ours, self.theirs = Certificates(folder / "ours"), Certificates(folder / "theirs")
        self.issuer = tokens.Issuer(folder / "issuer")
        #: The certificate that the broker shows.
        self.pair = Pair.named(self.ours.folder, "broker")
        self.ours.server(self.pair)
        (self.port,) = free_ports(1)
        networks.save(folder / "models" / "tiny" / "1")
        node_folder.configure(folder / "node", "tls", self._configuration())
        (folder / "node" / "advanced.config").write_text(tokens.BROKER)
        self.node = LocalNode(folder / "node")

    def _configuration(self) -> str:
        lines = (
            f"listeners.ssl.default = {HERE}:{self.port}",
            f"ssl_options.cacertfile = {self.ours.ca}",
            f"ssl_options.certfile = {self.pair.certificate}",
            f"ssl_options.keyfile = {self.pair.key}",
            "ssl_options.verify = verify_peer",
            "ssl_options.fail_if_no_peer_cert = true",
            "ssl_options.versions.1 = tlsv1.3",
            "ssl_options.versions.2 = tlsv1.2",
            "auth_mechanisms.1 = PLAIN",
            "auth_mechanisms.2 = EXTERNAL",
            "ssl_cert_login_from = common_name",
        )
        return "".join(f"{line}\n" for line in lines)

    async def start(self) -> None:
        await self.node.start()
        users = self.folder / "users.json"
        users.write_bytes(msgspec.json.encode(definitions()))
        await self.node.ctl("import_definitions", str(users))
        # The first connection takes much longer than others where others want the machine, too.
        patient = msgspec.structs.replace(self.by_token("first", life=3600), connect_timeout=600)
        await (await connect(patient, name="t")).close()

    @property
    def place(self) -> str:
        """Without TLS."""
        return self.node.url.rpartition("@")[2]

    def settings(self, **more: Any) -> Settings:
        return Settings(
            models=str(self.folder / "models"), connect_timeout=LIMIT, timeout=LIMIT, **more
        )

    def by_token(self, role: str, life: float = tokens.LIFE) -> Settings:
        """For a user of its own."""
        user = f"{role}-{uuid.uuid4()}"
        command = self.issuer.command(user, life)
        return self.settings(
            broker_url=f"amqp://{user}@{self.place}", broker_user=user, prefix="tokens",
            broker_password_command=command,
        )  # fmt: skip


@pytest.fixture(scope="module")
def broker(rabbitmq: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    plugins = (node_folder.PLUGIN, "rabbitmq_auth_mechanism_ssl", tokens.PLUGIN)
    with tls.nowhere():
        broker = Broker(tmp_path_factory.mktemp("logins"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(node_folder, "PLUGIN", ", ".join(plugins))
            asyncio.run(broker.start())
    try:
        yield broker
    finally:
        leaks.keep(broker.node.folder / "log")
        asyncio.run(broker.node.stop())


async def has_expired(connection: AbstractConnection) -> bool:
    """Whether the broker lets it declare a queue no more."""
    try:
        async with connection.channel() as channel:
            await channel.declare_queue(f"tokens.{uuid.uuid4()}", auto_delete=True, exclusive=True)
    except ChannelAccessRefused as error:
        return "expired" in str(error)
    return False


async def is_past(moment: float) -> bool:
    return time.time() > moment


async def test_a_connection_that_nobody_renews_ends_with_its_token(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the others below live on is by `update_secret`."""
    monkeypatch.setattr(credentials, "keep", lambda *_: None)
    settings = broker.by_token("alone", life=6)
    connection = await connect(settings, name="t")
    (expires,) = broker.issuer.issued(settings.user)
    await until(functools.partial(is_past, expires))
    await until(functools.partial(has_expired, connection))
    await connection.close()
    assert broker.issuer.issued(settings.user) == [expires]
    # Nor does a token that has expired open another one; the error says what is wrong.
    late = broker.by_token("late", life=-1)
    with pytest.raises(BrokerRefused, match=r"password expired at .* UTC; make a new one"):
        await connect(late, name="t")


async def test_workers_clients_and_jobs_outlive_their_tokens(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    def newest(settings: Settings) -> float:
        return max(broker.issuer.issued(settings.user))

    working, asking = broker.by_token("worker"), broker.by_token("asker")
    async with serving(working, Worker(working)), Client(asking) as client, Jobs(asking) as jobs:
        assert (await client.classify("tiny", "good")).label == "label 1"
        first = max(map(newest, (working, asking)))
        await until(functools.partial(is_past, first + 1))
        assert (await client.classify("tiny", "good")).label == "label 1"
        job = await jobs.submit("tiny", ["good"])
        assert [result.label for result in await results_of(jobs, job.job)] == ["label 1"]
    assert min(map(newest, (working, asking))) > first
    assert not [line for line in caplog.messages if "connection lost" in line]


async def test_any_password_comes_from_a_url_a_file_and_a_command(
    broker: Broker, tmp_path: Path
) -> None:
    (tmp_path / "password").touch(0o600)
    (tmp_path / "password").write_text(ODD + "\n")
    alone = broker.settings(broker_url=f"amqp://odd@{broker.place}")
    for change in (
        {"broker_url": f"amqp://odd:{quote(ODD, safe='')}@{broker.place}"},
        {"broker_password_file": str(tmp_path / "password")},
        {"broker_password_command": ("cat", str(tmp_path / "password"))},
    ):
        connection = await connect(msgspec.structs.replace(alone, **change), name="t")
        await connection.close()


async def test_a_connection_that_the_broker_closes_leaves_no_socket(broker: Broker) -> None:
    """The broker's own good-bye comes 3 s after it has refused a frame."""

    def sockets() -> int:
        return sum(
            one.raddr.port == broker.port
            for one in psutil.Process().net_connections("tcp")
            if one.raddr
        )

    settings = broker.settings(
        broker_url=f"amqps://{HERE}:{broker.port}",
        broker_auth="certificate",
        tls_ca=str(broker.ours.ca),
    )
    giant = aio_pika.Message(b"", headers={"giant": "x" * 140_000})
    async with Publisher(by(settings, broker.ours.user("odd")), "t") as publisher:
        assert sockets() == 1
        with pytest.raises(MessageError, match="closed the connection 3 times"):
            await publisher.publish("", "queue", giant)
    assert sockets() == 0


async def test_users_are_known_by_their_certificates(broker: Broker, tmp_path: Path) -> None:
    ours, theirs, node, port = broker.ours, broker.theirs, broker.node, broker.port
    settings = broker.settings(
        broker_url=f"amqps://{HERE}:{port}", broker_auth="certificate", tls_ca=str(ours.ca)
    )
    expired = ours.user("expired", days=0)  # by the time at which it is used
    users = [ours.user(name) for name in (*KNOWN, "stranger")]

    worker, producer, stranger = (by(settings, user) for user in users)

    # Requests and replies; no password anywhere.
    async with serving(worker, Worker(worker)), Client(producer) as client:
        assert (await client.classify("tiny", "good")).label == "label 1"

    # Who is not to be let in, each with a sentence.
    assert "knows no user by the name in tls_certificate" in await refused(stranger)
    nobody = msgspec.structs.replace(
        worker, broker_auth="password", tls_certificate=None, tls_key=None
    )
    assert "the broker wants a certificate" in await refused(nobody)
    assert "does not know the authority" in await refused(by(settings, theirs.user("worker")))

    async def is_too_old() -> bool:
        return "tls_certificate has expired" in await refused(by(settings, expired))

    await until(is_too_old)  # Erlang's clock may be behind: it is never put forward at once

    # A broker that is not to be trusted.
    lost = msgspec.structs.replace(worker, tls_ca=None)
    assert "an authority that is not known here" in await refused(lost)
    other = msgspec.structs.replace(worker, broker_url=f"amqps://localhost:{port}")
    assert "the broker's certificate is not for 'localhost'" in await refused(other)
    plain = msgspec.structs.replace(nobody, broker_url=f"amqp://{HERE}:{port}", tls_ca=None)
    assert "that port speaks TLS: write amqps://" in await refused(plain)
    # Of several hosts, one that is to be trusted is enough.
    several = f"amqps://localhost:{port},amqps://{HERE}:{port}"
    connection = await connect(msgspec.structs.replace(worker, broker_url=several), name="t")
    await connection.close()

    # New files are used by new connections, without a restart of anybody.
    mine = Pair.named(tmp_path, "mine")
    use(users[0], mine)

    async with Session(by(settings, mine), "t") as session:
        use(users[2], mine)
        session.reset()

        async def is_another() -> bool:
            return "knows no user" in (session.trouble or "")

        await until(is_another)

    # The broker looks at its files now and then; here it is told to.
    late = Pair.named(tmp_path, "late")
    ours.server(late, days=0)
    for bad, words in ((late, "has expired"), (Pair.named(theirs.folder, "ca"), "by itself")):
        use(bad, broker.pair)
        await node.ctl("eval", "ssl:clear_pem_cache().")
        await until(functools.partial(is_refused, worker, words))


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("no_verify_ssl=1", "no_verify_ssl"),
        ("cafile=ca.pem", "cafile"),
        ("auth=plain", "auth"),
    ],
)
def test_verification_is_not_switched_off_in_a_url(query: str, name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is not read there.*always verified"):
        check(Settings(broker_url=f"amqps://u:p@host/?{query}"))


@pytest.mark.parametrize(
    ("url", "words"),
    [("amqp://host/", "needs tls_certificate, and amqps://"),
     ("amqps://host/,amqp://host/", "needs tls_certificate, and amqps://"),
     ("amqps://user:secret@host/", "has a password")],
)  # fmt: skip
def test_certificates_for_passwords_need_tls(url: str, words: str, tmp_path: Path) -> None:
    pair = Certificates(tmp_path / "ours").user("me")
    settings = by(Settings(broker_url=url, broker_auth="certificate"), pair)
    with pytest.raises(SettingsError, match=words) as failure:
        check(settings)
    assert "secret" not in str(failure.value)
    without = msgspec.structs.replace(
        settings, broker_url="amqps://host/", tls_certificate=None, tls_key=None
    )
    with pytest.raises(SettingsError, match="needs tls_certificate"):
        check(without)
    nameless = msgspec.structs.replace(settings, broker_url="amqps://host/", broker_user="")
    with pytest.raises(SettingsError, match="needs broker_user"):
        check(nameless)


def test_a_key_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    pair = Certificates(tmp_path / "ours").user("me")
    settings = by(Settings(broker_url="amqps://host/", broker_auth="certificate"), pair)
    check(settings)
    pair.key.chmod(0o604)
    with pytest.raises(
        SettingsError, match=r"tls_key .*user-me\.key' can be read by everybody.*0604"
    ):
        check(settings)


@contextlib.contextmanager
def old_server(pair: Pair) -> Iterator[int]:
    """The port of a server that has nothing newer than TLS 1.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1

    def serve() -> None:
        with contextlib.suppress(OSError):  # until the listener is closed
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(ssl.SSLError):
                    context.wrap_socket(connection, server_side=True)

    with socket.create_server((HERE, 0)) as listener:
        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        serving.join()


async def test_nothing_older_than_tls_1_2_is_used(tmp_path: Path) -> None:
    ours = Certificates(tmp_path / "ours")
    pair = Pair.named(ours.folder, "old")
    ours.server(pair)
    with old_server(pair) as port:
        settings = Settings(broker_url=f"amqps://u:p@{HERE}:{port}", tls_ca=str(ours.ca))
        assert "has no TLS 1.2 or 1.3" in await refused(settings)
