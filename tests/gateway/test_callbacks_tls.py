"""Callbacks to HTTPS go to nobody whose certificate is wrong, and their log says what is wrong."""

from __future__ import annotations

import contextlib
import shutil
import ssl
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from lmaas.broker_config import tls
from lmaas.broker_config.certificates import Pair
from lmaas.producer.gateway.settings import GatewaySettings
from tests.gateway.test_callbacks import QUICK, sending
from tests.integration.test_tls import HERE, Certificates, old_server


@pytest.fixture
def settings(gateway_settings: GatewaySettings) -> GatewaySettings:
    return msgspec.structs.replace(
        gateway_settings, allowed_networks=("127.0.0.0/8",), callbacks=QUICK
    )


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Certificates:
    """Of an authority that the system trusts."""
    ours = Certificates(tmp_path / "ours")
    monkeypatch.setenv("SSL_CERT_FILE", str(ours.ca))
    return ours


@contextlib.asynccontextmanager
async def receiving(pair: Pair) -> AsyncIterator[str]:
    """The address of who answers 204, with that certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(status=204)

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, HERE, 0, ssl_context=context).start()
        yield f"https://{HERE}:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def error_of(settings: GatewaySettings, url: str) -> str | None:
    """That of the first try; None: it was received."""
    job = str(uuid.uuid4())
    async with sending(settings) as outbox:
        await outbox.put(url, job)
        (first, *_) = (await outbox.tried(1, job))["tries"]
        error: str | None = first["error"]
        return error


async def test_only_certificates_that_are_right_are_accepted(
    settings: GatewaySettings, ours: Certificates, tmp_path: Path
) -> None:
    theirs = Certificates(tmp_path / "theirs")
    good, late, other = (Pair.named(ours.folder, name) for name in ("good", "late", "other"))
    ours.server(good)
    ours.server(late, days=0)
    ours.server(other, host="other.example")
    unknown = Pair.named(theirs.folder, "unknown")
    theirs.server(unknown)
    alone = Pair.named(tmp_path, "alone")  # signed by itself: an authority's own
    shutil.copy(theirs.folder / "ca.key", alone.key)
    shutil.copy(theirs.ca, alone.certificate)
    begins = f"the certificate of {HERE} "
    for pair, told in (
        (good, None),
        (late, begins + "has expired"),
        (other, begins + f"is not for '{HERE}'"),
        (unknown, begins + "is of an authority that is not known here"),
        (alone, begins + "is signed by itself"),
    ):
        async with receiving(pair) as url:
            assert await error_of(settings, url) == told


async def test_nothing_older_than_tls_1_2_is_used(
    settings: GatewaySettings, ours: Certificates
) -> None:
    good = Pair.named(ours.folder, "good")
    ours.server(good)
    with old_server(good) as port:
        told = await error_of(settings, f"https://{HERE}:{port}/")
        assert told is not None
        assert "PROTOCOL_VERSION" in told.upper()


def test_verification_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHTTPSVERIFY", "0")
    context = tls.verifying()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
