"""A queue whose process in the broker hangs, while connections live: noticed, named, mended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import pytest

from lmaas.broker_config import rpc_timeout
from lmaas.broker_config.declaring import difference
from lmaas.broker_config.errors import BrokerSilent, LocalNodeError, TimeLimitExceeded, WorkerStuck
from lmaas.broker_config.hosts import connect
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import topology
from lmaas.cli import up
from lmaas.producer.client import Client
from lmaas.workers import watch
from lmaas.workers.worker import Worker
from tests.integration.lanes import LIMIT, having, serving, until

MODEL = "sentiment"
SHORT = 2.0


@pytest.fixture
def own(settings: Settings, node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """On a broker of the test's own, whose silence is believed soon."""
    monkeypatch.setattr(rpc_timeout, "RPC_TIMEOUT", SHORT)
    monkeypatch.setattr(watch, "INTERVAL", SHORT)
    monkeypatch.setattr(up, "INTERVAL", SHORT)
    return having(settings, broker_url=node.url)


@pytest.fixture
async def worker(own: Settings) -> contextlib.AbstractAsyncContextManager[Worker]:
    return serving(own)


async def process_of(node: LocalNode, queue: str, action: str) -> None:
    """Suspends or resumes the Erlang process of a queue."""
    await node.ctl(
        "eval",
        f'{{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)), '
        f"sys:{action}(amqqueue:get_pid(Queue)).",
    )


async def test_a_worker_is_not_ready_and_names_the_lane(own: Settings, node: LocalNode) -> None:
    lane = own.names.work_queue(MODEL, "short")
    async with serving(own) as worker, Client(own) as client:
        await process_of(node, lane, "suspend")

        async def named() -> bool:
            return lane in (worker.not_ready or "")

        await until(named)
        await process_of(node, lane, "resume")

        async def back() -> bool:
            return worker.not_ready is None

        await until(back)
        assert (await client.classify(MODEL, "a wonderful film")).label == "positive"


async def test_doctor_names_the_queue_and_looks_at_the_others(
    own: Settings, node: LocalNode
) -> None:
    wanted = topology(own.names, own.queue_type, [MODEL])
    lane = own.names.work_queue(MODEL, "instant")
    async with serving(own):
        pass
    await process_of(node, lane, "suspend")
    async with await connect(own, name="doctor") as connection:
        found = await difference(connection, wanted)
    assert [one.name for one in found] == [lane]
    assert lane in found[0].problem


async def test_a_client_is_told_why_there_is_no_answer(own: Settings, node: LocalNode) -> None:
    async with serving(own):
        pass
    lane = own.names.work_queue(MODEL, "instant")
    async with Client(own) as client:
        await process_of(node, lane, "suspend")
        with pytest.raises((TimeLimitExceeded, BrokerSilent), match=lane.replace(".", r"\.")):
            await client.classify(MODEL, "a wonderful film", timeout=4 * SHORT)


@pytest.mark.chaos
async def test_up_restarts_its_broker(own: Settings, node: LocalNode) -> None:
    wanted = topology(own.names, own.queue_type, [MODEL])
    async with serving(own) as worker, Client(own) as client:
        before = node.pid
        keeping = asyncio.create_task(up.keep(node, own, wanted))
        await process_of(node, own.names.work_queue(MODEL, "instant"), "suspend")

        async def restarted() -> bool:
            return node.pid not in {before, None} and worker.not_ready is None and client.is_ready

        await until(restarted)
        assert (await client.classify(MODEL, "a wonderful film")).label == "positive"
        keeping.cancel()
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(keeping, return_exceptions=True)
    await node.stop()  # else a thread goes on waiting for the end of its process


@pytest.mark.chaos
async def test_up_restarts_its_broker_that_was_killed_but_not_soon_again(
    own: Settings, node: LocalNode
) -> None:
    wanted = topology(own.names, own.queue_type, [MODEL])
    async with contextlib.AsyncExitStack() as stack:
        # Its last answer may not be confirmed when the broker ends for good; then it waits in vain.
        stack.enter_context(contextlib.suppress(WorkerStuck))
        worker = await stack.enter_async_context(serving(own))
        client = await stack.enter_async_context(Client(own))
        keeping = asyncio.create_task(up.keep(node, own, wanted, short_life=1e6))
        assert (await client.classify(MODEL, "a wonderful film")).label == "positive"
        before = node.pid
        assert before is not None
        os.kill(before, signal.SIGKILL)

        async def restarted() -> bool:
            return node.pid not in {before, None} and worker.not_ready is None and client.is_ready

        await until(restarted)
        assert (await client.classify(MODEL, "a wonderful film")).label == "positive"
        after = node.pid
        assert after is not None
        os.kill(after, signal.SIGKILL)
        async with asyncio.timeout(LIMIT):
            # `restart` may not have seen yet that the node answers.
            with pytest.raises(LocalNodeError, match="RabbitMQ ended"):
                await keeping
