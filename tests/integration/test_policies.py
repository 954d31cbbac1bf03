"""Policies of the broker that delete or divert messages are told, wherever somebody would wait."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aio_pika
import pytest

from lmaas.broker_config import policies
from lmaas.broker_config.errors import JobError, ModelNotFound
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import QueueType, topology
from lmaas.cli.broker import _examine
from lmaas.cli.exits import Exit
from lmaas.producer import batch
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from tests.integration.lanes import LIMIT, depth, having, make_lanes, serving, until

GOOD = "a wonderful, moving film"


class Policies:
    """Sets policies for the test's own names."""

    def __init__(self, node: LocalNode, prefix: str) -> None:
        self._node = node
        self._prefix = prefix
        self.names: list[str] = []

    async def set(self, target: str, definition: str, names: str = "") -> None:
        name = f"{self._prefix}-{len(self.names)}"
        pattern = f"^{self._prefix}{names}"
        await self._node.ctl("set_policy", "--apply-to", target, name, pattern, definition)
        self.names.append(name)

    async def clear(self) -> None:
        while self.names:
            await self._node.ctl("clear_policy", self.names.pop())


@pytest.fixture
def own(settings: Settings, node: LocalNode) -> Settings:
    return having(settings, broker_url=node.url)


@pytest.fixture
async def policy(own: Settings, node: LocalNode) -> AsyncIterator[Policies]:
    found = Policies(node, own.prefix)
    yield found
    await found.clear()


@pytest.fixture
async def unrouted(own: Settings) -> AsyncIterator[str]:
    """An exchange with a queue of the same name that gets all."""
    name = f"unrouted-{own.prefix}"
    async with (
        await aio_pika.connect(own.broker_url) as connection,
        connection.channel() as channel,
    ):
        exchange = await channel.declare_exchange(name, "fanout", auto_delete=True)
        await (await channel.declare_queue(name, auto_delete=True)).bind(exchange)
        yield name


async def lmaas(own: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    mine = {"LMAAS_BROKER_URL": own.broker_url, "LMAAS_PREFIX": own.prefix}
    command = [sys.executable, "-m", "lmaas", *arguments]
    return await asyncio.to_thread(
        subprocess.run, command, env=os.environ | mine, capture_output=True, text=True,
        timeout=2 * LIMIT, check=False,
    )  # fmt: skip


async def test_without_policies_a_trial_finds_nothing_and_leaves_nothing(own: Settings) -> None:
    async with await aio_pika.connect(own.broker_url) as connection:
        assert not await policies.removals(connection, ["a", "b"], "classic")
        assert not await policies.removals(connection, ["a", "b"], "quorum")
    await make_lanes(own)
    assert (await lmaas(own, "broker", "doctor", "--model", "sentiment")).returncode == Exit.OK


_REMOVING = [
    ('{"message-ttl":100}', "of 20, 0 were left"),
    ('{"max-length":7}', "of 20, 7 were left"),
    ('{"max-length-bytes":8192}', "of 20, [78] were left"),
]
#: Quorum queues notice a little late that they are full, or that nobody uses them.
_CLASSIC = [
    ('{"max-length":7,"overflow":"reject-publish"}', "of 20, 7 were left"),
    ('{"expires":300}', "deletes the queue"),
]


@pytest.mark.parametrize(
    ("kind", "definition", "words"),
    [
        *(("classic", *one) for one in _REMOVING + _CLASSIC),
        *(("quorum", *one) for one in _REMOVING),
    ],
)
async def test_a_policy_that_removes_is_found_by_a_trial(
    own: Settings, policy: Policies, kind: QueueType, definition: str, words: str
) -> None:
    await policy.set("queues", definition)
    names = own.names.jobs, "others"
    async with await aio_pika.connect(own.broker_url) as connection:
        found = await policies.removals(connection, names, kind)
    assert [one.name for one in found] == [own.names.jobs]
    assert re.search(words, found[0].problem)
    assert "rabbitmqctl list_policies" in found[0].problem


async def test_doctor_tells_policies(own: Settings, policy: Policies, unrouted: str) -> None:
    await make_lanes(own)
    await policy.set("queues", '{"message-ttl":1500}', r"\.v1\.work")
    await policy.set("exchanges", f'{{"alternate-exchange":"{unrouted}"}}')
    answer = await lmaas(own, "broker", "doctor", "--json")
    assert answer.returncode == Exit.FAILED
    found = {one["name"]: one["problem"] for one in json.loads(answer.stdout)["differences"]}
    assert "alternate-exchange" in found.pop(own.names.work)
    assert found
    assert all(name.startswith(own.names.work) for name in found)
    assert all("message-ttl" in problem for problem in found.values())


async def test_an_alternate_exchange_is_told_and_unknown_models_are_refused_all_the_same(
    own: Settings, policy: Policies, unrouted: str, caplog: pytest.LogCaptureFixture
) -> None:
    await policy.set("exchanges", f'{{"alternate-exchange":"{unrouted}"}}')
    async with serving(own), Jobs(own) as jobs, Client(own) as client:
        with pytest.raises(ModelNotFound, match="no worker has ever served model 'nosuch'"):
            await jobs.submit("nosuch", [GOOD])
        with pytest.raises(ModelNotFound, match="no worker has ever served model 'nosuch'"):
            await client.classify("nosuch", GOOD)
        assert (await client.classify("sentiment", GOOD)).label == "positive"
    assert await depth(own, unrouted) == 0
    assert "alternate-exchange" in caplog.text


async def test_a_broker_in_alarm_keeps_no_client_from_starting(
    own: Settings, node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmaas.cli.broker.TRIAL", 1.0)
    await make_lanes(own)
    await node.ctl("set_vm_memory_high_watermark", "0.00001")
    try:
        async with asyncio.timeout(LIMIT):
            async with Client(own):
                pass
            # A channel's end is waited for so long; a broker in alarm does not read of it.
            report = await _examine(having(own, heartbeat=3), topology(own.names))
    finally:
        await node.ctl("set_vm_memory_high_watermark", "0.4")
    assert "alarm" in report.differences[-1].problem


async def test_the_first_job_tells_that_its_chunks_will_not_last(
    own: Settings, policy: Policies, caplog: pytest.LogCaptureFixture
) -> None:
    await make_lanes(own)
    await policy.set("queues", '{"message-ttl":1500}')
    async with Jobs(own) as jobs:
        await jobs.submit("sentiment", [GOOD])
        found = {words.partition(":")[0] for words in await jobs.policies()}
    assert found == {
        own.names.work_queue("sentiment", "instant"), own.names.job_results("x"), own.names.jobs
    }  # fmt: skip
    assert caplog.text.count("message-ttl") == len(found)


async def test_a_job_whose_chunks_were_deleted_does_not_wait_in_silence(
    own: Settings, policy: Policies, tmp_path: Path
) -> None:
    await make_lanes(own)
    await policy.set("queues", '{"message-ttl":100}', r"\.v1\.work")
    texts = tmp_path / "t.txt"
    await asyncio.to_thread(texts.write_text, f"{GOOD}\n" * 600)
    submitted = await lmaas(own, "submit", str(texts), "--job", "a")
    assert submitted.returncode == Exit.OK
    assert "message-ttl" in submitted.stderr
    shown = await lmaas(own, "jobs")
    words = "job a: 3 of 3 chunks are neither answered nor waiting in a queue, and no worker takes"
    assert words in shown.stderr
    assert "lmaas broker doctor" in shown.stderr
    listed = json.loads((await lmaas(own, "jobs", "--json")).stdout)
    assert words in listed["note"]


async def test_who_collects_lost_chunks_is_told_and_goes_on_waiting(
    own: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(batch, "LOOK", 0.2)
    await make_lanes(own)
    hasty = having(own, pack_timeout=0.5, pack_items=1)
    async with Jobs(hasty) as jobs:
        await jobs.submit("sentiment", [GOOD, GOOD], job="j")
        async with await aio_pika.connect(own.broker_url) as connection:
            channel = await connection.channel()
            lane = await channel.get_queue(own.names.work_queue("sentiment", "instant"))
            await lane.purge()
        collecting = asyncio.create_task(anext(jobs.results("j")))

        async def is_told() -> bool:
            return "2 of 2 chunks are neither answered nor waiting" in caplog.text

        await until(is_told)
        assert not collecting.done()
        # A worker may hold them, but not for longer than a run takes.
        async with serving(hasty):
            progress = await jobs.progress("j")
            assert progress.state == "collecting"
        collecting.cancel()
        await jobs.cancel("j")
    async with Jobs(hasty) as jobs:
        with pytest.raises(JobError, match=r"no job 'other'.*lmaas broker doctor"):
            await jobs.progress("other")


async def test_a_healthy_job_has_no_note(own: Settings) -> None:
    await make_lanes(own)
    async with Jobs(own) as jobs:
        await jobs.submit("sentiment", [GOOD], job="j")
        assert (await jobs.progress("j")).note is None
        async with serving(own):
            assert [chunk async for chunk in jobs.results("j", keep=True)]
        assert (await jobs.progress("j")).note is None
