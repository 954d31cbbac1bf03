"""Users with the rights of their roles: what each may not do, tried out, and that it can work."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aio_pika
import prometheus_client
import pytest
from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed

from lmaas.broker_config import node_folder
from lmaas.broker_config.declaring import declare
from lmaas.broker_config.errors import BrokerRefused, TopologyMismatch
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.messages import JSON, Item, Request, decode_reply
from lmaas.broker_config.ports import free_ports
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import (
    Names,
    client_results,
    job_results,
    journal,
    routing_key,
    topology,
)
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.producer.dead_letters import Filter, purge, read, replay
from lmaas.producer.purging import about
from tests.integration.forbidden import (
    Action,
    gets,
    of_callers,
    of_monitors,
    of_nobody,
    of_operators,
    of_workers,
    of_workers_of_others,
    publishes,
)
from tests.integration.lanes import LIMIT, channel_to, depth, having, serving, until
from tests.integration.stage import Stage

GOOD: Final = "a wonderful, moving film"
PREFIX: Final = "rights"
DELAY: Final = "300ms"
#: A user, and a password, that have whatever is special in a URL, a name or a regular expression.
ODD: Final = "o'dd.us%er*#"
PASSWORD: Final = f"{string.punctuation} Straße \"'\\"
OTHERS: Final = ("--user", "shop=producer", "--user", f"{ODD}=producer",
                 "--user", "eye=worker:digits")  # fmt: skip
REQUEST: Final = json.dumps({"model": "sentiment", "items": [{"id": "a", "text": GOOD}]}).encode()


def lmaas(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: PLW1510 - the test looks at the code
        [sys.executable, "-m", "lmaas", "broker", *arguments],
        capture_output=True, text=True, timeout=4 * LIMIT, env=environment,
    )  # fmt: skip


class Installation:
    """A broker with all users, and the topology that the operator has made."""

    def __init__(self, node: LocalNode, file: Path, management: str) -> None:
        self.node = node
        #: With the passwords.
        self.file = file
        #: The URL of its management, with an administrator.
        self.management = management

    def settings(self, user: str) -> Settings:
        scheme, _, rest = self.node.url.partition("://")
        place = rest.rpartition("@")[2]
        password = json.loads(self.file.read_text())[user]
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return Settings(
            broker_url=f"{scheme}://{login}@{place}",
            prefix=PREFIX,
            connect_timeout=30,
            timeout=60,
            retry_delays=(DELAY,),
        )


@pytest.fixture(scope="module")
def installation(
    rabbitmq: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("rights")
    file = folder / "passwords.json"
    file.write_text(json.dumps({ODD: PASSWORD}))
    file.chmod(0o600)
    node, port = LocalNode(folder / "node"), free_ports(1)[0]
    management = f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port}\n"
    node_folder.configure(folder / "node", "management", management)
    with pytest.MonkeyPatch.context() as patching:
        plugins = f"{node_folder.PLUGIN}, rabbitmq_management"
        patching.setattr(node_folder, "PLUGIN", plugins)
        asyncio.run(node.start())
    try:
        login = node.url.partition("://")[2].rpartition("@")[0]
        installation = Installation(node, file, f"http://{login}@127.0.0.1:{port}")
        made = over_http(installation, installation.management, "--model", "sentiment", *OTHERS)
        assert made.returncode == 0, made.stderr
        passwords = json.loads(file.read_text())
        assert passwords[ODD] == PASSWORD
        assert not [one for one in passwords.values() if one in made.stdout + made.stderr]
        asyncio.run(_make_queues_of_others(installation))
        yield installation
    finally:
        asyncio.run(node.stop())


def over_http(
    installation: Installation, url: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """`lmaas broker users` by the broker's management."""
    return lmaas(
        "users", "--passwords-file", str(installation.file), "--prefix", PREFIX, *arguments,
        environment={**os.environ, "LMAAS_MANAGEMENT_URL": url, "LMAAS_RETRY_DELAYS": DELAY},
    )  # fmt: skip


def _of_server(node: LocalNode, server: Path) -> dict[str, str]:
    """The environment of who runs `rabbitmqctl` on the broker's machine."""
    environment = node_folder.environment(node.folder, node_folder.read_record(node.folder))
    path = f"{server.parent}{os.pathsep}{environment['PATH']}"
    return environment | {"PATH": path, "LMAAS_RETRY_DELAYS": DELAY}


async def _make_queues_of_others(installation: Installation) -> None:
    """What others would like to have: the lanes of another model, the results of the shop."""
    operator, shop = (installation.settings(user) for user in ("operator", "shop"))
    async with channel_to(operator) as channel:
        await declare(channel, topology(operator.names, models=["digits"], retry_delays=[DELAY]))
    async with channel_to(shop) as channel:
        names = shop.names
        for wanted in (journal(names), client_results(names, "c"), job_results(names, "j.1")):
            await declare(channel, wanted)
        own = await channel.get_exchange(names.own, ensure=False)
        await own.publish(aio_pika.Message(b"entry"), names.jobs)


# ------------------------------------------------------------------- forbidden

V: Final = f"{PREFIX}.v1"
SHOP: Final = f"{V}.user.shop"
LANE: Final = f"{V}.work.sentiment.short"
DEAD: Final = f"{V}.dead"
RETRY: Final = f"{V}.retry.sentiment.{DELAY}"
OF_NOBODY: Final = of_nobody(Names(PREFIX, "shop"), DELAY)
OF_CALLERS: Final = of_callers(Names(PREFIX, "shop"), DELAY)
OF_WORKERS: Final = of_workers(Names(PREFIX, "shop"))
OF_WORKERS_OF_OTHERS: Final = of_workers_of_others(Names(PREFIX, "shop"), DELAY)
OF_MONITORS: Final = of_monitors(Names(PREFIX, "shop"))
OF_OPERATORS: Final = of_operators(Names(PREFIX, "shop"), DELAY)

FORBIDDEN: Final = [
    pytest.param(user, action, id=f"{user}: {name}")
    for user, table in {
        "producer": OF_NOBODY | OF_CALLERS,
        ODD: OF_NOBODY | OF_CALLERS,
        "gateway": OF_NOBODY | OF_CALLERS,
        "monitor": OF_NOBODY | OF_CALLERS | OF_MONITORS,
        "eye": OF_NOBODY | OF_WORKERS | OF_WORKERS_OF_OTHERS,
        "operator": OF_OPERATORS,
    }.items()
    for name, action in table.items()
]


@pytest.mark.parametrize(("user", "action"), FORBIDDEN)
async def test_what_no_user_of_a_role_may_do(
    installation: Installation, user: str, action: Action
) -> None:
    settings = installation.settings(user)
    async with channel_to(settings) as channel:
        with pytest.raises(ChannelAccessRefused, match="ACCESS_REFUSED"):
            await action(channel, settings.names.home)


async def test_nobody_publishes_in_the_name_of_another(installation: Installation) -> None:
    async with channel_to(installation.settings("producer")) as channel:
        with pytest.raises(ChannelPreconditionFailed, match="authenticated user was 'producer'"):
            await publishes(f"{V}.work", "sentiment.short", user_id="shop")(channel, "")


# --------------------------------------------------------------------- allowed


@pytest.mark.parametrize("user", ["producer", "gateway", ODD])
async def test_callers_have_calls_answered_and_jobs(
    installation: Installation, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = installation.settings(user)
    async with serving(installation.settings("worker")):
        async with Client(settings) as client:
            assert (await client.classify("sentiment", GOOD)).label == "positive"
            many = [one async for one in client.classify_many("sentiment", [GOOD, ""] * 9)]
            assert [one.label for one in many[::2]] == ["positive"] * 9
            (card,) = await client.models()
            assert card.model == "sentiment"
        async with Jobs(settings) as jobs:
            entry = await jobs.submit("sentiment", [GOOD] * 9)
            chunks = [chunk async for chunk in jobs.results(entry.job)]
            assert [one.label for one in chunks[0].reply.results] == ["positive"] * 9
            other = await jobs.submit("sentiment", [GOOD], job="other")
            await jobs.cancel("other")
            assert await depth(settings, other.queue) is None
            states = {one.entry.job: one.state for one in await jobs.list()}
            assert states == {entry.job: "collected", "other": "cancelled"}
            assert await jobs.policies() == []
    assert "refused for user" not in caplog.text  # what it may not do is nothing unusual
    async with Jobs(installation.settings("shop")) as jobs:
        assert await jobs.list() == []


async def test_a_worker_has_all_that_it_needs(installation: Installation) -> None:
    """Moved packs, retries, dead letters, what was redelivered; and the operator sees to them."""
    operator, producer = (installation.settings(user) for user in ("operator", "producer"))
    worker, names = installation.settings("worker"), installation.settings("producer").names
    replies: asyncio.Queue[Any] = asyncio.Queue()
    async with channel_to(producer) as channel, channel_to(worker) as theirs:
        wanted = client_results(names, "late")
        work = await channel.get_exchange(names.work, ensure=False)

        async def ask(name: str, body: bytes = REQUEST, lane: str = "short", **more: Any) -> None:
            message = aio_pika.Message(
                body, content_type=JSON, correlation_id=name, reply_to=wanted.queues[0].name,
                user_id="producer", **more,
            )  # fmt: skip
            await work.publish(message, routing_key("sentiment", lane))

        await ask("redelivered")
        held = await (await theirs.get_queue(LANE, ensure=False)).get()
        await held.nack(requeue=True)
        await ask("moved", lane="instant", headers={"lmaas-remaining": 100})
        await ask("broken", b"{")
        async with serving(worker):
            # There is no queue for the answers yet, so that the packs are tried again later.
            await until(lambda: _has(producer, RETRY, 1))
            await declare(channel, wanted)
            queue = await channel.get_queue(wanted.queues[0].name, ensure=False)
            await queue.consume(replies.put, no_ack=True)
            async with asyncio.timeout(LIMIT):
                found = [await replies.get() for _ in range(2)]
            answers = {one.correlation_id: decode_reply(one.body, JSON) for one in found}
            assert {name: answer.error for name, answer in answers.items()} == {
                "redelivered": None,
                "moved": None,
            }
            pages = [page async for page in read(operator, Filter())]
            assert [one.summary.error for page in pages for one in page] == ["malformed"]
            assert (await replay(operator, Filter())).done == 1
            async with asyncio.timeout(LIMIT):
                again = await replies.get()
            assert again.correlation_id == "broken"
            assert (await purge(operator, Filter())).done == 1
        await queue.delete(if_unused=False, if_empty=False)


async def _has(settings: Settings, queue: str, count: int) -> bool:
    return (await depth(settings, queue) or 0) >= count


@pytest.mark.parametrize(
    ("reply_to", "properties", "why"),
    [
        (f"{SHOP}.client.c", {}, "is not a queue of the sender"),
        (f"{SHOP}.client.c", {"user_id": "producer"}, "is not a queue of the sender"),
        (f"{SHOP}.jobs", {"user_id": "producer"}, "is no queue for results"),
        (f"{V}.results.client.c", {"user_id": "producer"}, "has no name of a user"),
        ("amq.rabbitmq.reply-to.g1h2AnU", {"user_id": "producer"}, "has no name of a user"),
    ],
)
async def test_a_worker_is_nobodys_deputy(
    installation: Installation, reply_to: str, properties: dict[str, str], why: str
) -> None:
    shop, operator = installation.settings("shop"), installation.settings("operator")
    producer = installation.settings("producer")
    before = [await depth(shop, f"{SHOP}.{name}") for name in ("client.c", "jobs")]
    async with channel_to(producer) as channel:
        work = await channel.get_exchange(f"{V}.work", ensure=False)
        message = aio_pika.Message(REQUEST, content_type=JSON, reply_to=reply_to, **properties)
        await work.publish(message, "sentiment.short")
    async with serving(installation.settings("worker")), Client(producer) as client:
        assert (await client.classify("sentiment", GOOD)).label == "positive"
        await until(lambda: _has(operator, DEAD, 1))
        (page,) = [page async for page in read(operator, Filter())]
        assert why in str(page[0].summary.reason)
        assert page[0].message.reply_to is None
    assert (await purge(operator, Filter())).done == 1
    assert [await depth(shop, f"{SHOP}.{name}") for name in ("client.c", "jobs")] == before


async def test_what_the_broker_dead_lettered_is_not_answered_to_others_when_it_is_replayed(
    installation: Installation,
) -> None:
    operator = installation.settings("operator")
    async with channel_to(installation.settings("producer")) as channel:
        work = await channel.get_exchange(f"{V}.work", ensure=False)
        for name, reply_to in (
            ("other", f"{SHOP}.client.c"),
            ("own", f"{V}.user.producer.client.c"),
        ):
            message = aio_pika.Message(
                REQUEST,
                content_type=JSON,
                correlation_id=name,
                reply_to=reply_to,
                user_id="producer",
            )
            await work.publish(message, "sentiment.short")
    async with channel_to(installation.settings("worker")) as channel:
        lane = await channel.get_queue(LANE, ensure=False)
        for _ in range(2):
            await (await lane.get(timeout=LIMIT)).reject(requeue=False)
        await until(lambda: _has(operator, DEAD, 2))
        assert (await replay(operator, Filter())).done == 2
        found = [await lane.get(timeout=LIMIT, no_ack=True) for _ in range(2)]
    assert {one.correlation_id: one.reply_to for one in found} == {
        "other": None,
        "own": f"{V}.user.producer.client.c",
    }


async def test_a_monitor_sees_the_models_and_may_not_use_them(installation: Installation) -> None:
    async with (
        serving(installation.settings("worker")),
        Client(installation.settings("monitor")) as client,
    ):
        assert [card.model for card in await client.models()] == ["sentiment"]
        assert await client.workers("sentiment") == 1
        with pytest.raises(BrokerRefused, match=r"docs/security\.md"):
            await client.classify("sentiment", GOOD)


async def test_an_operator_looks_and_others_are_told_that_they_may_not(
    installation: Installation,
) -> None:
    def doctor(user: str) -> subprocess.CompletedProcess[str]:
        url = installation.settings(user).broker_url
        environment = {**os.environ, "LMAAS_BROKER_URL": url, "LMAAS_RETRY_DELAYS": DELAY}
        arguments = ("--prefix", PREFIX, "--model", "sentiment")
        return lmaas("doctor", *arguments, environment=environment)

    well = await asyncio.to_thread(doctor, "operator")
    assert (well.returncode, "nothing differs" in well.stdout) == (0, True), well.stdout
    with pytest.raises(BrokerRefused, match=r"user 'producer' .* not read \S+dead; .*`operator`"):
        async for _ in read(installation.settings("producer"), Filter()):
            pass
    found = await about(installation.settings("producer"), ["customer-17"])
    assert [words for words in found.remains if "who has the role `operator` may" in words]
    found = await about(installation.settings("operator"), ["customer-17"])
    assert not [words for words in found.remains if "who has the role `operator` may" in words]


async def test_a_worker_of_a_model_that_has_no_lanes_is_told_who_makes_them(
    installation: Installation,
) -> None:
    settings = having(installation.settings("worker"), prefix="elsewhere")
    with pytest.raises(TopologyMismatch, match=r"may not make it .*`lmaas broker declare`"):
        async with serving(settings):
            pass


async def test_a_worker_with_few_rights_says_what_the_balance_random_lacks(
    installation: Installation,
) -> None:
    settings = having(installation.settings("worker"), balance="random")
    with pytest.raises(TopologyMismatch, match=r"lanes of its own, and user 'worker' may not"):
        async with serving(settings):
            pass


# ------------------------------------------------------------------ ways to make them


async def test_rabbitmqctl_makes_users_and_what_all_share(
    installation: Installation, rabbitmq: Path
) -> None:
    made = await asyncio.to_thread(
        lmaas,
        "users", "--passwords-file", str(installation.file), "--prefix", PREFIX,
        "--model", "sentiment", "--model", "another", "--user", "late=producer",
        environment=_of_server(installation.node, rabbitmq),
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    late = installation.settings("late")
    assert await depth(late, f"{V}.work.another.short") == 0
    async with channel_to(late) as channel:
        with pytest.raises(ChannelAccessRefused):
            await gets(f"{V}.work.another.short")(channel, "")
    async with serving(installation.settings("worker")), Client(late) as client:
        assert (await client.classify("sentiment", GOOD)).label == "positive"


async def test_the_management_says_who_may_not(installation: Installation) -> None:
    producer = installation.settings("producer").broker_url
    login = producer.partition("://")[2].rpartition("@")[0]
    place = installation.management.rpartition("@")[2]
    for one in (login, "lmaas:wrong"):
        made = await asyncio.to_thread(over_http, installation, f"http://{one}@{place}")
        assert "refused user or password, or the user is no administrator" in made.stderr
        assert made.returncode == 1


# --------------------------------------------------------------------- tenants


def items_of(tenant: str) -> float:
    """That workers in this process have answered."""
    found = prometheus_client.REGISTRY.get_sample_value(
        "lmaas_tenant_items_total", {"tenant": tenant}
    )
    return found or 0.0


async def test_a_gateway_says_for_whom_it_asks_and_others_are_who_they_are(
    installation: Installation,
) -> None:
    tenants = ("gateway/key-1", "gateway", "producer", "producer/key-1", "shop")
    before = [items_of(tenant) for tenant in tenants]
    async with serving(installation.settings("worker")):
        for user, tenant, items in (
            ("gateway", "key-1", 2), ("gateway", None, 3), ("producer", "key-1", 4),
            ("shop", None, 5),
        ):  # fmt: skip
            async with Client(installation.settings(user)) as client:
                texts = [GOOD] * items
                found = [one async for one in client.classify_many("sentiment", texts,
                                                                   tenant=tenant)]  # fmt: skip
                assert len(found) == items
                one = await client.classify("sentiment", GOOD, tenant=tenant)
                assert one.label == found[0].label
    counted = [items_of(tenant) - was for tenant, was in zip(tenants, before, strict=True)]
    assert counted == [3, 4, 5, 0, 6]


async def test_a_user_that_floods_does_not_keep_another_one_waiting(
    installation: Installation,
) -> None:
    """Its calls are run before 50 packs that came before them."""
    stage = Stage()
    stage.hold()

    def pack(kind: str, items: int) -> Request:
        return Request(model="sentiment", items=[Item(id=kind, text=GOOD)] * items)

    # What waits for a millisecond has made up for 10 s of work.
    settings = having(
        installation.settings("worker"), ageing=10_000.0, prefetch=100, pack_timeout=2 * LIMIT
    )
    async with (
        stage.serving(settings),
        Client(having(installation.settings("shop"), timeout=2 * LIMIT)) as greedy,
        Client(having(installation.settings("producer"), timeout=2 * LIMIT)) as other,
    ):
        answers = [asyncio.create_task(greedy.run(pack("first", 200)))]
        await stage.began()
        answers += [asyncio.create_task(greedy.run(pack("flood", 200))) for _ in range(50)]
        await stage.has(50)
        answers += [asyncio.create_task(other.run(pack("call", 1))) for _ in range(5)]
        await stage.has(55)
        stage.release()
        await asyncio.gather(*answers)
    assert stage.packs == ["first", *["call"] * 5, *["flood"] * 50]
