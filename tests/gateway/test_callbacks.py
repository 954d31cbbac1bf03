"""Webhooks that go out: signed, tried again in order, kept across restarts, sent by one of many."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgspec
import pytest
from aiohttp import web
from openai import OpenAI
from standardwebhooks import Webhook

from lmaas.broker_config.errors import SettingsError
from lmaas.producer.gateway.callbacks.dispatcher import Dispatcher
from lmaas.producer.gateway.callbacks.outbox import Outbox
from lmaas.producer.gateway.callbacks.receivers import Receivers
from lmaas.producer.gateway.callbacks.schedule import (
    LONGEST,
    Verdict,
    delay,
    retry_after,
    verdict,
)
from lmaas.producer.gateway.secret import Secret, Secrets
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.settings.callbacks import DELAYS, Callbacks, Endpoint
from lmaas.producer.gateway.state import State, deliveries
from tests.gateway import postgresql
from tests.gateway.receivers import Came, receiving, statuses

MINE = "whsec_bWluZSBtaW5lIG1pbmUgbWluZSBtaW5lIG1pbmU="
OURS = "whsec_b3VycyBvdXJzIG91cnMgb3VycyBvdXJzIG91cnM="
OLDER = "whsec_b2xkZXIgb2xkZXIgb2xkZXIgb2xkZXIgb2xkZXI="
QUICK = Callbacks(secret=Secrets(OURS), delays=(0.0, 0.02, 0.05, 0.1), jitter=0.0, timeout=60.0)


#: What several gateways may share.
EVERY_DATABASE = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[str | None]:
    if getattr(request, "param", "sqlite") == "sqlite":
        yield None
        return
    with postgresql.private() as server:
        yield server.url


@pytest.fixture
def settings(gateway_settings: GatewaySettings, database: str | None) -> GatewaySettings:
    return msgspec.structs.replace(
        gateway_settings, allowed_networks=("127.0.0.0/8",), callbacks=QUICK, database=database
    )


class Sending:
    """An outbox that is sent."""

    def __init__(self, state: State, settings: GatewaySettings) -> None:
        self.state = state
        self.outbox = Outbox(settings.callbacks, Receivers(settings))

    async def put(self, url: str | None, job: str = "job_1", **more: Any) -> None:
        async with self.state.writing() as connection:
            event, data = more.pop("event", "job.finished"), {"id": job}
            await self.outbox.enqueue(connection, "me", job, url, event, data, **more)
        self.outbox.filled.set()

    async def log(self, job: str = "job_1") -> list[dict[str, Any]]:
        async with self.state.reading() as connection:
            return await deliveries.of_job(connection, "me", job)

    async def ended(self, job: str = "job_1") -> list[dict[str, Any]]:
        """The log, once nothing of the job is pending."""
        return await self._when(
            job, lambda log: all(one["state"] != deliveries.PENDING for one in log)
        )

    async def tried(self, times: int, job: str = "job_1") -> dict[str, Any]:
        """The log of the only delivery, once so many tries are in it."""
        return (await self._when(job, lambda log: len(log[0]["tries"]) >= times))[0]

    async def _when(
        self, job: str, is_so: Callable[[list[dict[str, Any]]], bool]
    ) -> list[dict[str, Any]]:
        async with asyncio.timeout(60):
            # The database tells nobody when it changes.
            while not ((found := await self.log(job)) and is_so(found)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return found

    async def again(self, name: str) -> bool:
        async with self.state.writing() as connection:
            found = await deliveries.again(connection, "me", name, time.time())
        self.outbox.filled.set()
        return found


@contextlib.asynccontextmanager
async def sending(settings: GatewaySettings) -> AsyncIterator[Sending]:
    async with State(settings) as state:
        outbox = Sending(state, settings)
        async with Dispatcher(state, outbox.outbox, settings.callbacks):
            yield outbox


async def test_an_event_is_received_as_standard_webhooks_and_openai_say(
    settings: GatewaySettings,
) -> None:
    async with receiving() as receiver, sending(settings) as outbox:
        await outbox.put(receiver.url + "hook?x=1", secret=Secret(MINE))
        (came,) = await receiver.received(1)
        (told,) = await outbox.ended()
    event = Webhook(MINE).verify(came.body, dict(came.headers))
    assert event["type"] == "job.finished"
    assert event["data"] == {"id": "job_1"}
    assert event["id"] == came.id == told["id"]
    assert "." not in came.id
    assert abs(event["created_at"] - time.time()) < 60
    assert event["timestamp"].endswith("Z")
    assert came.headers["Content-Type"] == "application/json"
    client = OpenAI(api_key="x", webhook_secret=MINE)
    unwrapped = client.webhooks.unwrap(came.body, dict(came.headers))
    assert unwrapped.data.id == "job_1"  # type: ignore[union-attr]
    assert (told["state"], told["url"]) == ("delivered", receiver.url + "hook?x=1")
    (made,) = told["tries"]
    assert (made["number"], made["status"], made["error"]) == (1, 204, None)


async def test_without_a_secret_of_its_own_the_common_one_signs(settings: GatewaySettings) -> None:
    async with receiving() as receiver, sending(settings) as outbox:
        await outbox.put(receiver.url)
        (came,) = await receiver.received(1)
        assert Webhook(OURS).verify(came.body, dict(came.headers))


async def test_what_fails_is_tried_again_by_the_schedule(settings: GatewaySettings) -> None:
    async with (
        receiving(statuses(500, 404, 302, 200)) as receiver,
        sending(settings) as outbox,
    ):
        await outbox.put(receiver.url)
        came = list(await receiver.received(4))
        (told,) = await outbox.ended()
    assert told["state"] == "delivered"
    assert [made["status"] for made in told["tries"]] == [500, 404, 302, 200]
    assert [made["number"] for made in told["tries"]] == [1, 2, 3, 4]
    assert "redirect" in told["tries"][2]["error"]
    assert len({one.id for one in came}) == 1
    assert len({one.body for one in came}) == 1
    for one in came:
        Webhook(OURS).verify(one.body, dict(one.headers))
    waits = [later.at - earlier.at for earlier, later in itertools.pairwise(came)]
    for waited, expected in zip(waits, QUICK.delays[1:], strict=True):
        assert waited >= expected


@EVERY_DATABASE
async def test_after_the_last_try_it_has_failed_and_may_be_sent_again(
    settings: GatewaySettings,
) -> None:
    async with (
        receiving(statuses(500, 500, 500, 500, 500, 200)) as receiver,
        sending(settings) as outbox,
    ):
        await outbox.put(receiver.url)
        (told,) = await outbox.ended()
        assert told["state"] == "failed"
        assert len(told["tries"]) == len(QUICK.delays) == len(receiver.came)
        assert await outbox.again(told["id"])
        (told,) = await outbox.ended()
        assert told["state"] == "delivered"
        assert [made["number"] for made in told["tries"]] == [1, 2, 3, 4, 5, 6]
        assert len({one.id for one in receiver.came}) == 1
        assert not await outbox.again("evt_none")
        async with outbox.state.writing() as connection:
            assert not await deliveries.again(connection, "you", told["id"], time.time())


@EVERY_DATABASE
async def test_410_disables_a_receiver_until_it_accepts_again(settings: GatewaySettings) -> None:
    slow = msgspec.structs.replace(
        settings, callbacks=msgspec.structs.replace(QUICK, delays=(0.0, 3600.0))
    )
    async with (
        receiving(statuses(500, 410, 200)) as receiver,
        sending(slow) as outbox,
    ):
        await outbox.put(receiver.url, "waits")
        await receiver.received(1)
        await outbox.put(receiver.url, "gone")
        (told,) = await outbox.ended("gone")
        assert told["state"] == "disabled"
        assert "410" in told["tries"][0]["error"]
        # What waited for it ends, and what is new is not sent.
        assert (await outbox.ended("waits"))[0]["state"] == "disabled"
        await outbox.put(receiver.url, "new")
        (new,) = await outbox.ended("new")
        assert (new["state"], new["tries"]) == ("disabled", [])
        assert len(receiver.came) == 2
        # Another owner's callbacks to the same place are not concerned; nor is it for ever.
        await outbox.again(new["id"])
        assert (await outbox.ended("new"))[0]["state"] == "delivered"
        await outbox.put(receiver.url, "newer")
        assert (await outbox.ended("newer"))[0]["state"] == "delivered"


async def test_who_asks_for_a_pause_gets_it(settings: GatewaySettings) -> None:
    def busy(_came: Came) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": "3000"})

    async with receiving(busy) as receiver, receiving() as other, sending(settings) as outbox:
        await outbox.put(receiver.url)
        await receiver.received(1)
        told = await outbox.tried(1)
        assert told["state"] == "pending"
        assert 2990 < told["due"] - time.time() <= 3000
        # Nothing else goes there meanwhile; other receivers do not notice.
        await outbox.put(receiver.url, "later")
        await outbox.put(other.url, "now")
        assert (await outbox.ended("now"))[0]["state"] == "delivered"
        assert (await outbox.log("later"))[0]["state"] == "pending"
        assert len(receiver.came) == 1


async def test_no_answer_in_time_is_a_failure(settings: GatewaySettings) -> None:
    never = asyncio.Event()

    async def hang(_came: Came) -> web.Response:
        await never.wait()
        return web.Response()

    short = msgspec.structs.replace(
        settings, callbacks=msgspec.structs.replace(QUICK, delays=(0.0, 0.0), timeout=0.1)
    )
    async with receiving(hang) as receiver, sending(short) as outbox:
        await outbox.put(receiver.url)
        (told,) = await outbox.ended()
    assert told["state"] == "failed"
    assert [made["error"] for made in told["tries"]] == ["no answer within 0.1 s"] * 2


async def test_a_dead_receiver_delays_nobody(settings: GatewaySettings) -> None:
    never = asyncio.Event()

    async def hang(_came: Came) -> web.Response:
        await never.wait()
        return web.Response()

    async with receiving(hang) as dead, receiving() as alive, sending(settings) as outbox:
        for number in range(30):
            await outbox.put(dead.url, f"dead{number}")
        await dead.received(QUICK.concurrency_per_host)
        for number in range(30):
            await outbox.put(alive.url, f"alive{number}")
        await alive.received(30, seconds=QUICK.timeout)
        assert len(dead.came) == QUICK.concurrency_per_host
        never.set()
        await dead.received(30)


async def test_nothing_goes_to_addresses_inside(settings: GatewaySettings) -> None:
    closed = msgspec.structs.replace(settings, allowed_networks=())
    async with receiving() as receiver, sending(closed) as outbox:
        for job, url in {
            "literal": receiver.url,
            "name": f"http://localhost:{receiver.port}/",
            "metadata": "http://169.254.169.254/latest/meta-data",
            "mapped": f"http://[::ffff:127.0.0.1]:{receiver.port}/",
        }.items():
            await outbox.put(url, job)
            (told,) = await outbox.ended(job)
            assert told["state"] == "failed"
            assert "where callbacks do not go" in told["tries"][0]["error"]
        assert not receiver.came


async def test_what_was_not_committed_is_not_sent(settings: GatewaySettings) -> None:
    async with receiving() as receiver, sending(settings) as outbox:

        async def fails() -> None:
            async with outbox.state.writing() as connection:
                await outbox.outbox.enqueue(connection, "me", "a", receiver.url, "x", {})
                raise RuntimeError("half-way")

        with pytest.raises(RuntimeError, match="half-way"):
            await fails()
        await outbox.put(receiver.url, "b")
        (came,) = await receiver.received(1)
        assert came.json["data"] == {"id": "b"}
        await outbox.ended("b")
        assert len(receiver.came) == 1


@EVERY_DATABASE
async def test_a_restart_forgets_neither_what_is_on_its_way_nor_when_others_are_due(
    settings: GatewaySettings,
) -> None:
    never = asyncio.Event()

    async def hang(_came: Came) -> web.Response:
        await never.wait()
        return web.Response()

    slow = msgspec.structs.replace(
        settings, callbacks=msgspec.structs.replace(QUICK, delays=(0.0, 1.0, 3600.0))
    )
    async with receiving(statuses(500, 500, 200)) as failing:
        async with receiving(hang) as receiver:
            async with sending(slow) as outbox:
                await outbox.put(receiver.url, "sent")
                await receiver.received(1)
                await outbox.put(failing.url, "due")
                await outbox.tried(1, "due")
            receiver.answer = statuses(200)
            async with sending(slow) as outbox:
                first, second = await receiver.received(2)
                assert first.id == second.id
                assert (await outbox.ended("sent"))[0]["state"] == "delivered"
                # In the moment of its schedule, and not because of the restart.
                earlier, later = await failing.received(2)
                assert later.at - earlier.at >= 1.0
                await outbox.tried(2, "due")
        async with sending(slow) as outbox:
            await outbox.put(failing.url, "new")
            assert (await outbox.ended("new"))[0]["state"] == "delivered"
            (told,) = await outbox.log("due")
            assert (told["state"], len(told["tries"])) == ("pending", 2)
            assert told["due"] - time.time() > 3000


@EVERY_DATABASE
async def test_of_several_gateways_one_sends(settings: GatewaySettings) -> None:
    async with receiving() as receiver, contextlib.AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(sending(settings)) for _ in range(4)]
        first = gateways[0]
        async with first.state.writing() as connection:
            for number in range(100):
                await first.outbox.enqueue(connection, "me", f"job{number}", receiver.url, "x", {})
        for gateway in gateways:
            gateway.outbox.filled.set()
        await receiver.received(100)
        for number in range(100):
            assert (await first.ended(f"job{number}"))[0]["state"] == "delivered"
        assert len(receiver.came) == 100
        assert len({one.id for one in receiver.came}) == 100


@EVERY_DATABASE
async def test_the_first_of_each_host_is_claimed_first(settings: GatewaySettings) -> None:
    """As many of each host as there is room for, and none of a host that is busy."""
    async with State(settings) as state:
        outbox = Sending(state, settings)
        hosts = [f"http://127.0.0.1:{port}/" for port in (1, 3, 2)]
        for number in range(9):
            await outbox.put(hosts[number % 3], f"job{number}")
        rooms = {"127.0.0.1:3": 0, "127.0.0.1:2": 1}
        now = time.time()
        async with state.writing() as connection:
            claimed = await deliveries.claim(connection, "me", now, 9.0, 64, rooms, 2)
            assert [one.host[-1] for one in claimed] == ["1", "1", "2"]
            told = [await deliveries.one(connection, "me", one.id) for one in claimed]
            assert [one and one["job"] for one in told] == ["job0", "job3", "job2"]
            due = await deliveries.next_due(connection, now, [])
            assert due is not None
            assert due <= now
            (one,) = await deliveries.claim(connection, "me", now, 9.0, 1, {}, 2)
            assert one.host[-1] == "3"
            every = [f"127.0.0.1:{port}" for port in (1, 2, 3)]
            assert await deliveries.next_due(connection, now, every) is None


@EVERY_DATABASE
async def test_who_died_while_sending_is_replaced(settings: GatewaySettings) -> None:
    """Its lease ends."""
    async with receiving() as receiver, State(settings) as state:
        outbox = Sending(state, settings)
        await outbox.put(receiver.url)
        async with state.writing() as connection:
            claimed = await deliveries.claim(connection, "dead", time.time(), 0.3, 1, {}, 1)
        assert len(claimed) == 1
        async with Dispatcher(state, outbox.outbox, settings.callbacks):
            (came,) = await receiver.received(1)
            assert came.id == claimed[0].id
            assert (await outbox.ended())[0]["state"] == "delivered"


async def test_endpoints_get_the_events_that_they_want_signed_by_both_secrets(
    settings: GatewaySettings,
) -> None:
    async with receiving() as everything, receiving() as some, receiving() as own:
        both = msgspec.structs.replace(
            settings,
            endpoints={
                "all": Endpoint(url=everything.url, secret=Secrets([MINE, OLDER])),
                "some": Endpoint(url=some.url, secret=Secrets(OURS), events=("job.fail*",)),
            },
        )
        async with sending(both) as outbox:
            await outbox.put(own.url, "a", event="job.finished")
            await outbox.put(None, "b", event="job.failed")
            await outbox.ended("a")
            await outbox.ended("b")
            assert sorted(one.json["type"] for one in everything.came) == [
                "job.failed",
                "job.finished",
            ]
            assert [one.json["type"] for one in some.came] == ["job.failed"]
            assert [one.json["type"] for one in own.came] == ["job.finished"]
            for one in everything.came:
                Webhook(MINE).verify(one.body, dict(one.headers))
                Webhook(OLDER).verify(one.body, dict(one.headers))
        # An endpoint that is gone from the settings is told in the log.
        async with State(both) as state:
            await Sending(state, both).put(None, "c", event="x")
        async with sending(settings) as outbox:
            for told in await outbox.ended("c"):
                assert "no endpoint" in told["tries"][0]["error"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"allowed_networks": ("10.0.0.1/8",)}, "allowed_networks: 10.0.0.1/8"),
        ({"callbacks": Callbacks(secret=Secrets("hush"))}, r"gateway\.callbacks: .*secret"),
        ({"endpoints": {"e": Endpoint(url="http://e.example")}}, r"endpoints\.e has no secret"),
        (
            {"endpoints": {"e": Endpoint(url="http://10.0.0.1", secret=Secrets(MINE))}},
            r"endpoints\.e\.url: 10\.0\.0\.1 is a private",
        ),
        (
            {
                "endpoints": {
                    "e": Endpoint(
                        url="http://e.example",
                        secret=Secrets(MINE),
                        events=("job.*", "jobs.failed"),
                    )
                }
            },
            r"endpoints\.e\.events: no event is called 'jobs\.failed'; there are job\.finished",
        ),
    ],
)
def test_wrong_settings_are_told(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words) as told:
        Receivers(GatewaySettings(**wrong))
    assert "hush" not in str(told.value)


def test_a_callback_needs_a_url_that_can_be_and_a_secret() -> None:
    receivers = Receivers(GatewaySettings())
    with pytest.raises(ValueError, match="link-local"):
        receivers.callback("me", "http://169.254.169.254/", Secret(MINE))
    with pytest.raises(ValueError, match="callback_secret"):
        receivers.callback("me", "https://receiver.example/", None)
    with pytest.raises(ValueError, match="secret"):
        receivers.callback("me", "https://receiver.example/", Secret("short"))
    assert receivers.callback("me", "https://receiver.example/", Secret(MINE))


def test_the_schedule_is_that_of_standard_webhooks() -> None:
    hours = [2, 5, 10, 14, 20, 24]
    assert list(DELAYS) == [0, 5, 300, 1800, *(3600 * hour for hour in hours)]
    for tries, expected in enumerate(DELAYS):
        waits = [delay(DELAYS, tries, 0.2) or 0.0 for _ in range(50)]
        assert expected <= min(waits)
        assert max(waits) <= expected * 1.2
        assert len(set(waits)) > 1 or expected == 0
    assert delay(DELAYS, len(DELAYS), 0.2) is None
    assert delay(DELAYS, 1, 0.0, 60.0) == 60.0
    assert delay(DELAYS, 2, 0.0, 60.0) == 300.0


def test_what_answers_mean() -> None:
    of = {status: verdict(status) for status in (None, 200, 204, 301, 400, 410, 429, 500, 502, 503)}
    assert [status for status, found in of.items() if found is Verdict.DELIVERED] == [200, 204]
    assert [status for status, found in of.items() if found is Verdict.GONE] == [410]
    assert [status for status, found in of.items() if found is Verdict.SLOW_DOWN] == [429, 502, 503]
    assert retry_after("120", 0) == 120
    assert retry_after(" 5 ", 0) == 5
    assert retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 20) == 40
    assert retry_after("Thu, 01 Jan 1970 00:01:00 -0000", 90) == 0
    assert retry_after("9" * 30, 0) == LONGEST
    for garbage in (None, "", "soon", "-5", "1.5", "²"):
        assert retry_after(garbage, 0) is None
