"""A caller that hangs up is not computed any more."""

from __future__ import annotations

import asyncio
import threading

import prometheus_client
import pytest

from lmaas.workers.batcher import Batch
from lmaas.workers.heads import Scores
from lmaas.workers.preprocess import Encoded
from lmaas.workers.runtime import Runtime
from lmaas.workers.worker import Worker
from tests.gateway.conftest import Gateway
from tests.integration.lanes import LIMIT, until

GOOD = "a wonderful, moving film"


class Held:
    """Runs of the model that wait until they may end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self.may_end = threading.Event()
        run = Runtime.run

        def held(runtime: Runtime, encoded: Encoded, batch: Batch) -> Scores:
            self.begun += 1
            assert self.may_end.wait(LIMIT)
            return run(runtime, encoded, batch)

        monkeypatch.setattr(Runtime, "run", held)

    async def has_begun(self) -> bool:
        return self.begun > 0


def dropped() -> float:
    return prometheus_client.REGISTRY.get_sample_value("lmaas_cancelled_total") or 0.0


@pytest.mark.parametrize("items", [1, 300])
async def test_what_waits_is_dropped(
    worker: Worker, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, items: int
) -> None:
    held, before = Held(monkeypatch), dropped()
    first = asyncio.create_task(
        gateway.post("/v1/classify", json={"model": "sentiment", "items": [GOOD]})
    )
    await until(held.has_begun)
    call = {"model": "sentiment", "items": [f"{GOOD} {number}" for number in range(items)]}
    leaving = asyncio.create_task(gateway.post("/v1/classify", json=call))

    async def waits() -> bool:
        return len(worker.execution.ready) > 0

    async def is_cancelled() -> bool:
        return len(worker.cancelled) > 0

    await until(waits)
    leaving.cancel()
    await until(is_cancelled)
    held.may_end.set()
    status, _ = await first
    assert status == 200

    async def is_dropped() -> bool:
        return dropped() > before

    await until(is_dropped)
    assert held.begun == 1
