"""Mutual TLS to a real broker: users known by their certificates, and certificates that are wrong.

One broker for all of it: its certificate is replaced while it runs.
"""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lmaas.broker_config import node_folder
from lmaas.broker_config.certificates import Authority, Pair
from lmaas.broker_config.connection import Session
from lmaas.broker_config.errors import BrokerRefused, SettingsError
from lmaas.broker_config.hosts import check, connect
from lmaas.broker_config.local_node import LocalNode, free_ports
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client
from lmaas.workers.worker import Worker
from tests.integration.conftest import serving, until
from tests.unit.workers import networks

HERE = "127.0.0.1"


#: The broker's users.
KNOWN = ("worker", "producer")


def without_passwords(*users: str) -> dict[str, Any]:
    """Definitions of users who may do all."""
    every = {"configure": ".*", "write": ".*", "read": ".*"}
    return {
        "users": [{"name": user, "password_hash": "", "tags": ""} for user in users],
        "permissions": [{"user": user, "vhost": "/", **every} for user in users],
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


@pytest.mark.own_tls("the broker wants certificates, and has other ones from time to time")
async def test_users_are_known_by_their_certificates(
    rabbitmq: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins = f"{node_folder.PLUGIN}, rabbitmq_auth_mechanism_ssl"
    monkeypatch.setattr(node_folder, "PLUGIN", plugins)
    ours, theirs = Certificates(tmp_path / "ours"), Certificates(tmp_path / "theirs")
    broker = Pair.named(tmp_path / "ours", "broker")
    ours.server(broker)
    (port,) = free_ports(1)
    folder = tmp_path / "node"
    lines = (
        f"listeners.ssl.default = {HERE}:{port}",
        f"ssl_options.cacertfile = {ours.ca}",
        f"ssl_options.certfile = {broker.certificate}",
        f"ssl_options.keyfile = {broker.key}",
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = true",
        "ssl_options.versions.1 = tlsv1.3",
        "ssl_options.versions.2 = tlsv1.2",
        "auth_mechanisms.1 = PLAIN",
        "auth_mechanisms.2 = EXTERNAL",
        "ssl_cert_login_from = common_name",
    )
    node_folder.configure(folder, "tls", "".join(f"{line}\n" for line in lines))
    (tmp_path / "users.json").write_bytes(msgspec.json.encode(without_passwords(*KNOWN)))
    networks.save(tmp_path / "models" / "tiny" / "1")
    settings = Settings(
        broker_url=f"amqps://{HERE}:{port}", broker_auth="certificate",
        tls_ca=str(ours.ca), connect_timeout=5, models=str(tmp_path / "models"),
    )  # fmt: skip
    expired = ours.user("expired", days=0)  # by the time at which it is used
    async with LocalNode(folder) as node:
        await node.ctl("import_definitions", str(tmp_path / "users.json"))
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
        assert "tls_certificate has expired" in await refused(by(settings, expired))

        # A broker that is not to be trusted.
        lost = msgspec.structs.replace(worker, tls_ca=None)
        assert "an authority that is not known here" in await refused(lost)
        other = msgspec.structs.replace(worker, broker_url=f"amqps://localhost:{port}")
        assert "the broker's certificate is not for 'localhost'" in await refused(other)

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
            use(bad, broker)
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
