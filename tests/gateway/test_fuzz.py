"""What Schemathesis makes of the gateway's own description, sent to a gateway that works.

Here in short; `make fuzz` does it for minutes.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil
import pytest

from lmaas.broker_config.settings import Settings
from lmaas.producer.gateway import addresses
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.settings.hooks import Hook
from tests.gateway.conftest import Gateway, listening
from tests.gateway.test_keys import CALL, bearer, made
from tests.integration.conftest import start_worker
from tests.integration.worker_process import StartWorker

__all__ = ["start_worker"]

ROOT = Path(__file__).parents[2]
SEED = os.environ.get("LMAAS_FUZZ_SEED", "1")
#: Seconds of the long run.
SECONDS = 240
#: Bytes by which the process of the gateway, and of this test, may grow.
MAY_GROW = 150 * 2**20
#: In the place of a key: none is sent.
NO_KEY = ""


@pytest.fixture
def gateway_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GatewaySettings:
    """With keys; callbacks go to this machine and nowhere else, whatever address they name."""

    def elsewhere(address: str, _allowed: Sequence[addresses.Network] = ()) -> str | None:
        return None if ipaddress.ip_address(address).is_loopback else "public"

    monkeypatch.setattr(addresses, "refusal", elsewhere)
    hook = Hook(scheme="none", text="to_string(@)", model="sentiment")
    hooks = {"waits": hook, "works": msgspec.structs.replace(hook, reply="job")}
    return GatewaySettings(port=0, folder=str(tmp_path / "gateway"), wait=10, hooks=hooks)


async def fuzzed(url: str, key: str, folder: Path, *options: str) -> None:
    """Fails with what Schemathesis says, which has a command for each fault."""
    headers = [f"--header=Authorization: Bearer {key}"] if key else []
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "schemathesis",
        f"--config-file={ROOT / 'tests/gateway/schemathesis.toml'}",
        "run",
        f"{url}/openapi.json",
        f"--seed={SEED}",
        "--generation-database=none",
        "--continue-on-failure",
        "--warnings=off",
        "--no-color",
        *headers,
        *options,
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.gateway.fuzzing", "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    print(told.decode())  # noqa: T201
    assert process.returncode == 0, told.decode()


async def is_well(gateway: Gateway, key: str) -> None:
    """It does its work."""
    assert (await gateway.get("/health/ready"))[0] == 200
    status, answer = await gateway.post("/v1/classify", json=CALL, headers=bearer(key))
    assert (status, answer["results"][0]["label"]) == (200, "positive")


async def fuzz(
    settings: Settings,
    gateway_settings: GatewaySettings,
    start_worker: StartWorker,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    *options: str,
) -> None:
    caplog.set_level(logging.ERROR)
    await start_worker()
    key, _ = await made(gateway_settings, "admin")
    async with listening(gateway_settings, settings) as gateway:
        await is_well(gateway, key)
        before = psutil.Process().memory_info().rss
        await fuzzed(gateway.url, key, tmp_path, *options)
        await fuzzed(gateway.url, NO_KEY, tmp_path, "--phases=fuzzing", "--max-examples=1")
        await is_well(gateway, key)
        assert psutil.Process().memory_info().rss - before < MAY_GROW
    assert not [record for record in caplog.records if getattr(record, "action", "") == "bug"]


async def test_no_request_finds_a_bug(
    settings: Settings,
    gateway_settings: GatewaySettings,
    start_worker: StartWorker,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """No 5xx but 503, no hang, and no answer that is not described."""
    short = ("--phases=fuzzing,stateful", "--max-examples=5", "--no-shrink")
    await fuzz(settings, gateway_settings, start_worker, caplog, tmp_path, *short)


@pytest.mark.fuzz
async def test_no_request_finds_a_bug_in_minutes(
    settings: Settings,
    gateway_settings: GatewaySettings,
    start_worker: StartWorker,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """The same, and the values at the edges of each structure."""
    print(f"seed {SEED}; make fuzz SEED=... takes another one")  # noqa: T201
    long = (f"--max-time={SECONDS}", "--max-examples=50")
    await fuzz(settings, gateway_settings, start_worker, caplog, tmp_path, *long)
