"""The gateway's certificate: new files are used by new connections, and broken ones by none."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lmaas.broker_config.certificates import Authority, Pair
from lmaas.broker_config.errors import SettingsError
from lmaas.producer.gateway import certificate as module
from lmaas.producer.gateway.certificate import Certificate
from lmaas.producer.gateway.settings import GatewaySettings
from tests.integration.lanes import until

HERE = "127.0.0.1"


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """What the gateway has."""
    return Pair.named(tmp_path, "http")


def issue(folder: Path, name: str) -> Pair:
    made = Pair.named(folder, name)
    Authority.at(folder).issue(made, name, 1, "server", [HERE])
    return made


def use(new: Pair, pair: Pair) -> None:
    shutil.copy(new.key, pair.key)
    shutil.copy(new.certificate, pair.certificate)


@pytest.fixture
async def port(tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """Of a server with that certificate."""
    monkeypatch.setattr(module, "INTERVAL", 0.01)
    use(issue(tmp_path, "first"), pair)
    settings = GatewaySettings(tls_certificate=str(pair.certificate), tls_key=str(pair.key))
    certificate = Certificate(settings)
    renewing = asyncio.create_task(certificate.renew())
    server = await asyncio.start_server(
        lambda _, writer: writer.close(), HERE, 0, ssl=certificate.context
    )
    async with server:
        yield server.sockets[0].getsockname()[1]
    renewing.cancel()


async def shown(port: int, folder: Path) -> str:
    """The name in the certificate that a new connection gets, which is verified."""
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    _, writer = await asyncio.open_connection(HERE, port, ssl=context)
    found = writer.get_extra_info("peercert")
    writer.close()
    return str(found["subject"][0][0][1])


async def test_new_files_are_used(port: int, tmp_path: Path, pair: Pair) -> None:
    assert await shown(port, tmp_path) == "first"
    use(issue(tmp_path, "second"), pair)

    async def is_new() -> bool:
        return await shown(port, tmp_path) == "second"

    await until(is_new)


async def test_files_that_do_not_fit_change_nothing(
    port: int, tmp_path: Path, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """As while the second of the two is still to come."""
    second = issue(tmp_path, "second")
    shutil.copy(second.certificate, pair.certificate)

    async def is_told() -> bool:
        return any("the old certificate stays" in words for words in caplog.messages)

    await until(is_told)
    assert await shown(port, tmp_path) == "first"
    shutil.copy(second.key, pair.key)

    async def is_new() -> bool:
        return await shown(port, tmp_path) == "second"

    await until(is_new)


def test_a_key_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    """In a file of its own, or in that of the certificate."""
    made = issue(tmp_path, "made")
    both = tmp_path / "both.pem"
    both.write_bytes(made.certificate.read_bytes() + made.key.read_bytes())
    for key in (made.key, both):
        named = {"tls_certificate": str(both)} if key is both else {
            "tls_certificate": str(made.certificate), "tls_key": str(made.key)}  # fmt: skip
        key.chmod(0o644)
        with pytest.raises(SettingsError, match=r"gateway\.tls_\S+ .* read by everybody.*0644"):
            Certificate(GatewaySettings(**named))
        key.chmod(0o640)
        Certificate(GatewaySettings(**named))
