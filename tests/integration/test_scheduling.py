"""The order in which packs are answered, what may upset it, and what it is made of."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import TimeLimitExceeded
from lmaas.broker_config.estimator import Estimator
from lmaas.broker_config.messages import JSON, Item, Request, encode
from lmaas.broker_config.scheduling import LANES, Cost
from lmaas.broker_config.scheduling import lane as lane_of
from lmaas.broker_config.settings import Settings
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.workers.begun import Begun
from lmaas.workers.consumer import Consumer
from lmaas.workers.prefetch import Prefetch
from lmaas.workers.settling.answer import Answer
from lmaas.workers.settling.settler import Settler
from lmaas.workers.worker import Worker
from tests.integration.lanes import LIMIT, consumers, depth, having, serving, until, waiting_packs
from tests.integration.sender import Double, Sender, sending
from tests.integration.stage import PER_BYTE, Stage

pytestmark = pytest.mark.usefixtures("lanes")

DAY_MS = 24 * 3_600_000


def now_ms() -> int:
    return int(time.time() * 1000)


# -------------------------------------------------------------------- order


async def order(settings: Settings, seconds: list[float]) -> list[float]:
    """In which packs that wait in the lanes are begun by a worker that comes then."""
    async with sending(settings) as sender:
        for size in seconds:
            await sender.send(str(size), size)
        stage = Stage()
        stage.hold()
        async with stage.serving(settings):
            await stage.began()
            stage.release()
            await sender.replies(len(seconds))
    return [float(name) for name in stage.packs]


@pytest.mark.usefixtures("priced")
@pytest.mark.parametrize("ageing", [0.0, 0.1])
async def test_fifo_answers_packs_of_all_sizes_as_they_came(
    settings: Settings, ageing: float
) -> None:
    sizes = [3.0, 0.001, 0.2, 0.05, 9.0, 0.0007, 1.5, 0.004, 0.0015, 0.3, 0.02, 0.0009]
    assert await order(having(settings, policy="fifo", ageing=ageing), sizes) == sizes


@pytest.mark.usefixtures("priced")
async def test_inside_a_lane_the_broker_hands_out_short_packs_first(settings: Settings) -> None:
    sjf = having(settings, policy="sjf", ageing=0.0, prefetch=1)
    sizes = [0.02, 0.0021, 0.009, 0.004]
    assert await order(sjf, sizes) == sorted(sizes)


@pytest.mark.usefixtures("priced")
async def test_with_ageing_packs_of_about_the_same_size_are_answered_as_they_came(
    settings: Settings,
) -> None:
    sizes = [0.02, 0.0021, 0.012, 0.006, 0.003]
    assert await order(having(settings, prefetch=1), sizes) == sizes


@pytest.mark.usefixtures("priced")
@pytest.mark.parametrize("changes", [{"policy": "sjf", "ageing": 0.0}, {"ageing": 1e-6}])
async def test_of_what_a_worker_holds_the_shortest_is_first(
    settings: Settings, sender: Sender, changes: dict[str, Any]
) -> None:
    stage = Stage()
    stage.hold()
    sizes = [9.0, 0.05, 0.001, 1.5, 0.015]
    async with stage.serving(having(settings, **changes)):
        await sender.send("plug")
        await stage.began()
        for size in sizes:
            await sender.send(str(size), size)
        await stage.has(len(sizes))
        stage.release()
        await sender.replies(len(sizes) + 1)
    assert stage.packs == ["plug", *(str(size) for size in sorted(sizes))]


@pytest.mark.usefixtures("priced")
@pytest.mark.parametrize(
    ("policy", "expected"),
    [("srtf", ["plug", "other", "of a job"]), ("sjf", ["plug", "of a job", "other"])],
)
async def test_only_srtf_takes_a_pack_for_as_long_as_its_job(
    settings: Settings, sender: Sender, policy: str, expected: list[str]
) -> None:
    stage = Stage()
    stage.hold()
    async with stage.serving(having(settings, policy=policy)):
        await sender.send("plug")
        await stage.began()
        await sender.send("of a job", 0.05, remaining=5.0)
        await sender.send("other", 0.5)
        await stage.has(2)
        stage.release()
        await sender.replies(3)
    assert stage.packs == expected


@pytest.mark.usefixtures("priced")
@pytest.mark.parametrize("changes", [{"policy": "sjf", "ageing": 0.0}, {"ageing": 1e-6}])
async def test_a_backlog_in_all_lanes_is_answered_lane_by_lane(
    settings: Settings, sender: Sender, changes: dict[str, Any]
) -> None:
    sizes = [0.001] * 100 + [0.01] * 20 + [0.05] * 6 + [0.3] * 3
    for number, size in enumerate(reversed(sizes)):
        await sender.send(f"{size} {number}", size)
    stage = Stage()
    stage.hold()
    async with stage.serving(having(settings, **changes)):
        await in_full_view(stage, Counter(map(lane_of, sizes)))
        await sender.replies(len(sizes))
    begun = [float(name.split()[0]) for name in stage.packs]
    # The first one may be begun before any other has come.
    assert passed_by(begun) <= 1


async def in_full_view(stage: Stage, waiting: Mapping[str, int]) -> None:
    """Ends each run when the worker holds what its lanes hand out: then its choice is its own.

    `waiting` packs are in each lane, and no others.
    """

    async def is_served() -> bool:
        left = Counter(waiting)
        left.subtract(stage.lanes[pack] for run in stage.runs[:-1] for pack in run)
        assert stage.worker.watch
        there = sum(min(one.prefetch, left[one.name]) for one in stage.worker.watch.lanes)
        return len(stage.worker.execution.ready) + len(stage.runs[-1]) >= there

    answered = 0
    while answered < sum(waiting.values()):
        await stage.began(answered + 1)
        await until(is_served)
        answered += len(stage.runs[-1])
        stage.step()


def passed_by(sizes: list[float]) -> int:
    """How many were begun before a smaller one."""
    return sum(any(later < size for later in sizes[n:]) for n, size in enumerate(sizes))


@pytest.mark.usefixtures("priced")
async def test_packs_that_come_while_others_wait_are_answered_once_each(
    settings: Settings, sender: Sender
) -> None:
    stage = Stage()
    sizes = [0.001, 3.0, 0.01, 0.3, 0.1, 0.004] * 50
    async with stage.serving(settings):
        await asyncio.gather(*(sender.send(str(n), size) for n, size in enumerate(sizes)))
        await sender.replies(len(sizes))
    assert sorted(stage.packs, key=int) == [str(n) for n in range(len(sizes))]


# ------------------------------------------------------------------- ageing


class Clock:
    """The publisher's: it goes on by 15 ms a pack, however long that takes."""

    def __init__(self) -> None:
        # Long enough ago that no pack comes from what is the future for its worker.
        self.ms = now_ms() - 3_600_000

    monotonic = staticmethod(time.monotonic)

    def time(self) -> float:
        self.ms += 15
        return self.ms / 1000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("lmaas.producer.publishing.time", clock)
    return clock


async def endless(
    stage: Stage, sender: Sender, name: str, most: int, clock: Clock
) -> dict[str, int]:
    """Short packs, of which one always waits, until `name` is begun, or `most`.

    Gives the milliseconds of each one's publishing.
    """
    published: dict[str, int] = {}
    while name not in stage.packs and len(published) < most:
        short = f"short {len(published)}"
        await sender.send(short, 0.006)
        published[short] = clock.ms
        await stage.has(3)
        begun = len(stage.packs)
        stage.step()
        await stage.began(begun + 1)
    return published


@pytest.mark.usefixtures("priced")
async def test_without_ageing_a_long_pack_waits_while_there_are_short_ones(
    settings: Settings, sender: Sender, clock: Clock
) -> None:
    stage = Stage()
    stage.hold()
    async with stage.serving(having(settings, ageing=0.0, prefetch=9)):
        await sender.send("plug", 0.006)
        await stage.began()
        await sender.send("long", 1.0)
        await sender.send("first", 0.006)
        published = await endless(stage, sender, "long", 100, clock)
        assert len(published) == 100
        stage.release()
        await sender.replies(103)
    assert stage.packs[-1] == "long"


@pytest.mark.usefixtures("priced")
@pytest.mark.parametrize("bound_ms", [50, 500])
async def test_with_ageing_a_long_pack_is_passed_by_none_that_came_after_its_bound(
    settings: Settings, sender: Sender, clock: Clock, bound_ms: int
) -> None:
    stage = Stage()
    stage.hold()
    async with stage.serving(having(settings, ageing=1000 / bound_ms, prefetch=9)):
        await sender.send("plug", 0.006)
        await stage.began()
        await sender.send("long", 1.0)
        at = clock.ms
        await sender.send("first", 0.006)
        published = await endless(stage, sender, "long", 1_000, clock)
        stage.release()
        await sender.replies(len(published) + 3)
    before = [name for name, moment in published.items() if moment < at + bound_ms]
    assert len(before) == bound_ms // 15 - 1
    assert stage.packs[: stage.packs.index("long")] == ["plug", "first", *before]


@pytest.mark.usefixtures("priced")
@pytest.mark.parametrize(("waited", "expected"), [(5, ["short", "long"]), (20, ["long", "short"])])
async def test_the_time_in_the_lane_counts_and_not_only_that_at_the_worker(
    settings: Settings, sender: Sender, waited: int, expected: list[str]
) -> None:
    """With ageing 0.1 a second is made up for in 10."""
    stage = Stage()
    stage.hold()
    async with stage.serving(having(settings, ageing=0.1)):
        await sender.send("plug")
        await stage.began()
        await sender.raw("long", 1.0, "long", headers=published(now_ms() - 1000 * waited))
        await sender.raw("short", 0.01, "short", headers=published(now_ms()))
        await stage.has(2)
        stage.release()
        await sender.replies(3)
    assert stage.packs == ["plug", *expected]


def published(milliseconds: int) -> dict[str, int]:
    return {"lmaas-published-ms": milliseconds}


@pytest.mark.usefixtures("priced")
async def test_who_says_to_come_from_tomorrow_waits_no_longer_than_others(
    settings: Settings, sender: Sender
) -> None:
    stage = Stage()
    stage.hold()
    async with stage.serving(having(settings, ageing=1000.0)):
        await sender.send("plug")
        await stage.began()
        await sender.raw("long", 1.0, "long", headers=published(now_ms() + DAY_MS))
        await stage.has(1)
        came = now_ms()
        await until(lambda: passed(came + 2))  # the bound is 1.0 / 1000
        await sender.send("later")
        await stage.has(2)
        stage.release()
        await sender.replies(3)
    assert stage.packs == ["plug", "long", "later"]


async def passed(milliseconds: int) -> bool:
    return now_ms() >= milliseconds


@pytest.mark.usefixtures("priced")
async def test_who_says_to_have_waited_since_1970_has_waited_a_day(
    settings: Settings, sender: Sender
) -> None:
    """Which, with ageing 0.001, makes up for 86 seconds, and not for 3000."""
    stage = Stage()
    stage.hold()
    async with stage.serving(having(settings, ageing=0.001, prefetch=9)):
        await sender.send("plug")
        await stage.began()
        for name, remaining in (("most", 3000.0), ("some", 50.0)):
            headers = published(1) | {"lmaas-remaining": remaining}
            await sender.raw(name, 0.01, "huge", headers=headers)
        await sender.send("short")
        await stage.has(3)
        stage.release()
        await sender.replies(4)
    assert stage.packs == ["plug", "some", "short", "most"]


# --------------------------------------------------------------------- jobs

#: Of a chunk of a job that is 0.05 seconds long.
CHUNK = "x" * round(0.05 / PER_BYTE - 50)


def chunks(name: str, count: int) -> list[tuple[str, str]]:
    return [(f"{name} {number}", CHUNK) for number in range(count)]


@pytest.mark.usefixtures("priced")
@pytest.mark.parametrize("known", [True, False])
async def test_a_single_call_is_answered_while_a_job_waits(
    settings: Settings, jobs: Jobs, known: bool
) -> None:
    jobs.settings = jobs._publisher.settings = having(settings, pack_items=1)
    job = chunks("job", 60)
    entry = await jobs.submit("sentiment", job if known else iter(job), job="night")
    stage = Stage()
    stage.hold()
    # The job's second pack would be old enough to go first after a second.
    patient = having(settings, ageing=0.001)
    async with stage.serving(patient), Client(settings) as client:
        await stage.began()
        call = asyncio.create_task(client.classify("sentiment", "a short one"))

        async def is_next() -> bool:
            """The call, of no stream: the worker may still be getting packs of the job."""
            head = stage.worker.execution.ready.head
            return head is not None and head[1].stream is None

        await until(is_next)
        stage.step()
        await stage.began(2)
        assert stage.packs == ["job 0", "0"]
        stage.release()
        assert (await call).label == "positive"
        found = [chunk async for chunk in jobs.results("night")]
    assert len(found) == entry.chunks == 60
    assert set(stage.packs) == {"0", *(name for name, _ in job)}


@pytest.mark.usefixtures("priced")
async def test_the_shorter_of_two_jobs_is_finished_first(
    settings: Settings, jobs: Jobs, sender: Sender
) -> None:
    jobs.settings = jobs._publisher.settings = having(settings, pack_items=1)
    stage = Stage()
    stage.hold()
    # Else the longer job would be old enough to go first when its packs take seconds to publish.
    async with stage.serving(having(settings, prefetch=10, ageing=0.001)):
        await sender.send("plug")
        await stage.began()
        await jobs.submit("sentiment", chunks("long", 10), job="long")
        await jobs.submit("sentiment", chunks("brief", 3), job="brief")
        await stage.has(13)
        stage.release()
        assert len([chunk async for chunk in jobs.results("long")]) == 10
        assert len([chunk async for chunk in jobs.results("brief")]) == 3
    assert stage.packs[:4] == ["plug", "brief 0", "brief 1", "brief 2"]


@pytest.mark.usefixtures("priced")
async def test_a_job_is_longer_by_as_much_as_its_packs_are(
    settings: Settings, sender: Sender
) -> None:
    """Its publisher took each for 0.01 s, and the job for 0.1: it is of 1 s."""
    stage = Stage()
    stage.hold()
    async with stage.serving(having(settings, prefetch=9, ageing=0.0)):
        await sender.send("plug")
        await stage.began()
        told = {"lmaas-cost": 0.01, "lmaas-remaining": 0.1}
        await sender.raw("chunk", 0.1, "huge", headers=told)
        await sender.raw("shorter", 0.5, "huge")
        await sender.raw("longer", 2.0, "huge")
        await stage.has(3)
        stage.release()
        await sender.replies(4)
    assert stage.packs == ["plug", "shorter", "chunk", "longer"]


@pytest.mark.usefixtures("priced")
async def test_what_is_learnt_orders_what_is_held_as_well(
    settings: Settings, sender: Sender
) -> None:
    """Items turn out to cost 1 ms each: 50 short ones are more than a long one."""
    stage = Stage()
    stage.hold()
    many = Request(model="sentiment", items=[Item(id="many", text="xx")] * 50)
    async with stage.serving(having(settings, prefetch=9, ageing=0.0)):
        await sender.send("plug")
        await stage.began()
        await sender.send("one", 0.05)
        await sender.body("many", encode(many, JSON), "huge", headers={"lmaas-items": 50})
        await stage.has(2)
        held = stage.worker.execution.ready.head
        assert held is not None
        assert held[1].message.correlation_id == "many"
        stage.worker.execution.estimators["sentiment"]._learnt.cost = Cost(
            per_byte=PER_BYTE, per_item=0.001
        )
        stage.release()
        await sender.replies(3)
    assert stage.packs == ["plug", "one", "many"]


# ---------------------------------------------------------- misplaced packs


@pytest.mark.usefixtures("priced")
async def test_a_long_pack_in_the_lane_of_instant_ones_is_moved_to_its_own(
    settings: Settings, sender: Sender
) -> None:
    await sender.raw("misplaced", 5.0, "instant")
    for name in "abc":
        await sender.raw(name, 0.001, "instant")
    stage = Stage()
    async with stage.serving(having(settings, prefetch=9)):
        replies = await sender.replies(4)
    assert stage.packs[-1] == "misplaced"
    assert stage.lanes == {"a": "instant", "b": "instant", "c": "instant", "misplaced": "huge"}
    assert [result.id for result in replies["misplaced"].results] == ["misplaced"]
    assert await waiting_packs(settings) == 0
    assert await depth(settings, settings.names.dead) == 0


@pytest.mark.usefixtures("priced")
async def test_a_pack_a_little_too_long_for_its_lane_is_run_where_it_is(
    settings: Settings, sender: Sender
) -> None:
    await sender.raw("a little", 0.007, "instant")
    await sender.raw("far", 0.009, "instant")
    stage = Stage()
    async with stage.serving(settings):
        await sender.replies(2)
    assert stage.lanes == {"a little": "instant", "far": "short"}


@pytest.mark.usefixtures("priced")
async def test_the_trust_in_a_job_s_remaining_moves_its_pack_too(
    settings: Settings, sender: Sender
) -> None:
    await sender.raw("chunk", 0.001, "instant", headers={"lmaas-remaining": 1.0})
    stage = Stage()
    async with stage.serving(settings):
        await sender.replies(1)
    assert stage.lanes == {"chunk": "long"}


@pytest.mark.usefixtures("priced")
async def test_when_its_own_lane_is_gone_a_misplaced_pack_is_run_where_it_is(
    settings: Settings, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sender.raw("misplaced", 5.0, "instant")
    monkeypatch.setattr("lmaas.workers.consumer.routing_key", lambda model, lane: "no.such.lane")
    stage = Stage()
    async with stage.serving(settings):
        await sender.replies(1)
    assert stage.lanes == {"misplaced": "instant"}


async def test_a_huge_pack_of_a_foreign_program_is_classified_through_the_instant_lane(
    settings: Settings, sender: Sender, worker: Worker
) -> None:
    words = "a wonderful, moving film " * 4_000  # 100 KB, five times
    await sender.raw("small", 0.001, "instant")
    items = [{"id": str(n), "text": words} for n in range(5)]
    body = b'{"model": "sentiment", "items": %s}' % str(items).replace("'", '"').encode()
    await sender.body("huge", body, "instant")
    replies = await sender.replies(2)
    assert [result.label for result in replies["huge"].results] == ["positive"] * 5
    errors = worker.execution.estimators["sentiment"].errors
    assert errors["instant"].packs >= 1


#: Neither NaN nor infinity: RabbitMQ itself hangs up on who sends them.
ODD: list[Any] = [-1.0, 0, "x", None, True, [1], {"a": 1}, 1e30, 2**62]


@pytest.mark.usefixtures("priced")
@pytest.mark.parametrize("name", ["cost", "remaining", "published-ms", "deadline-ms"])
async def test_headers_without_sense_hinder_neither_a_move_nor_an_answer(
    settings: Settings, sender: Sender, name: str
) -> None:
    odd = [value for value in ODD if (name, value) != ("deadline-ms", 0)]
    for place, value in enumerate(odd):
        headers = {f"lmaas-{name}": value, "x-own": value}
        await sender.raw(f"short {place}", 0.001, "instant", headers=headers)
        await sender.raw(f"misplaced {place}", 0.5, "instant", headers=headers, priority=255)
    stage = Stage()
    async with stage.serving(settings):
        replies = await sender.replies(2 * len(odd))
    assert all(reply.results[0].label == "positive" for reply in replies.values())


@pytest.mark.usefixtures("priced", "doubles")
@pytest.mark.parametrize("name", ["lmaas-cost", "lmaas-remaining", "x-own"])
@pytest.mark.parametrize("seconds", [0.001, 0.5])
async def test_a_header_of_64_bits_that_32_cannot_hold_hinders_nobody(
    settings: Settings, sender: Sender, name: str, seconds: float
) -> None:
    await sender.raw("odd", seconds, "instant", headers={name: Double(1e300)})
    await sender.raw("next", 0.001, "instant")
    stage = Stage()
    async with stage.serving(settings):
        replies = await sender.replies(2)
    assert replies["odd"].results[0].label == "positive"


@pytest.mark.usefixtures("priced", "doubles")
async def test_a_broken_pack_with_a_header_that_32_bits_cannot_hold_is_dead_lettered(
    settings: Settings, sender: Sender
) -> None:
    await sender.body("broken", b"{", "instant", headers={"lmaas-cost": Double(1e300)})
    async with Stage().serving(settings):
        name, reply = await sender.reply()
    assert (name, reply.error and reply.error.code) == ("broken", Code.MALFORMED)
    assert await depth(settings, settings.names.dead) == 1


# ---------------------------------------------------------------- deadlines


@pytest.mark.usefixtures("priced")
async def test_a_pack_whose_deadline_is_long_past_is_not_run(
    settings: Settings, sender: Sender
) -> None:
    await sender.send("late", deadline_ms=now_ms() - 3_600_000)
    await sender.send("in time")
    stage = Stage()
    async with stage.serving(settings):
        replies = await sender.replies(2)
    assert stage.packs == ["in time"]
    assert replies["late"].error is None
    errors = [result.error for result in replies["late"].results]
    assert [error and error.code for error in errors] == [Code.DEADLINE_EXCEEDED]


@pytest.mark.usefixtures("priced")
@pytest.mark.parametrize(("skew", "runs"), [(3600.0, True), (0.0, False)])
async def test_a_deadline_counts_when_it_is_past_by_more_than_clocks_differ(
    settings: Settings, sender: Sender, skew: float, runs: bool
) -> None:
    await sender.send("pack", deadline_ms=now_ms() - 60_000)
    stage = Stage()
    async with stage.serving(having(settings, clock_skew=skew)):
        await sender.replies(1)
    assert stage.packs == (["pack"] if runs else [])


@pytest.mark.usefixtures("priced")
async def test_a_deadline_of_a_misplaced_pack_goes_with_it(
    settings: Settings, sender: Sender
) -> None:
    late = {"lmaas-deadline-ms": now_ms() - 3_600_000}
    await sender.raw("late", 0.5, "instant", headers=late)
    stage = Stage()
    async with stage.serving(settings):
        replies = await sender.replies(1)
    assert stage.packs == []
    assert replies["late"].results[0].error is not None


@pytest.mark.parametrize("timeout", [30.0, 60.0, 86_400.0])
async def test_a_caller_with_time_is_not_too_late(
    settings: Settings, worker: Worker, timeout: float
) -> None:
    async with Client(having(settings, clock_skew=0.0)) as client:
        for _ in range(10):
            assert (await client.classify("sentiment", "a fine film", timeout=timeout)).label


@pytest.mark.usefixtures("priced")
async def test_what_its_caller_gave_up_is_not_run(settings: Settings, sender: Sender) -> None:
    stage = Stage()
    stage.hold()
    async with stage.serving(having(settings, clock_skew=0.0)), Client(settings) as client:
        await sender.send("plug")
        await stage.began()
        call = asyncio.create_task(client.classify("sentiment", "in vain", timeout=2))
        await stage.has(1)
        with pytest.raises(TimeLimitExceeded):
            await call
        stage.release()
        await sender.replies(1)
    assert stage.packs == ["plug"]


# ----------------------------------------------------------------- prefetch


async def flood(settings: Settings, count: int) -> list[str]:
    """Texts that a client has answered, each in a pack of its own; gives their ids."""
    async with Client(having(settings, pack_items=1)) as client:
        return [
            result.id
            async for result in client.classify_many("sentiment", ["x"] * count)
            if result.label
        ]


async def test_tiny_packs_make_the_prefetch_of_their_lane_grow(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmaas.workers.consumer.TUNING_INTERVAL", 0.0)
    first = Prefetch().wanted("instant")
    stage = Stage()
    stage.cast(settings)
    worker = stage.worker
    run = worker.execution._run

    def by_the_clock(begun: Begun, settler: Settler) -> list[Answer] | None:
        began = time.perf_counter()
        answers = run(begun, settler)
        begun.spent = time.perf_counter() - began
        return answers

    worker.execution._run = by_the_clock  # type: ignore[method-assign]
    async with serving(settings, worker):
        found = await asyncio.gather(*(flood(settings, 800) for _ in range(3)))
        grown = {lane.name: lane.prefetch for lane in stage.consumer._lanes}
    assert [ids == [str(n) for n in range(800)] for ids in found] == [True] * 3
    assert len(stage.packs) == 2_400
    assert grown["instant"] > first


@pytest.mark.chaos
async def test_nothing_is_lost_or_doubled_while_lanes_are_consumed_anew(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmaas.workers.consumer.TUNING_INTERVAL", 0.0)
    monkeypatch.setattr(Prefetch, "better", lambda _, lane, now, **__: 3 if now == 7 else 7)
    stage = Stage()
    async with stage.serving(settings):
        found = await asyncio.gather(*(flood(settings, 1_000) for _ in range(4)))
    assert [ids == [str(n) for n in range(1_000)] for ids in found] == [True] * 4
    assert len(stage.packs) == 4_000
    assert await waiting_packs(settings) == 0


@pytest.mark.usefixtures("priced")
async def test_of_long_lanes_a_worker_holds_one_pack_or_two(
    settings: Settings, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmaas.workers.consumer.TUNING_INTERVAL", 0.0)
    for number in range(40):
        await sender.send(f"{number}", 1.0)
    stage = Stage()
    stage.hold()
    async with stage.serving(settings):
        for answered in range(10):
            await stage.began(answered + 1)
            waiting = await depth(settings, settings.names.work_queue("sentiment", "long"))
            assert waiting is not None
            assert 1 <= 40 - answered - waiting <= 2
            stage.step()
            await sender.reply()
        stage.release()
        await sender.replies(30)


@pytest.mark.usefixtures("priced")
async def test_a_prefetch_that_was_set_stays_in_every_lane(
    settings: Settings, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmaas.workers.consumer.TUNING_INTERVAL", 0.0)
    sizes = dict(zip(LANES, (0.001, 0.01, 0.1, 1.0, 10.0), strict=True))
    for lane, size in sizes.items():
        for number in range(10):
            await sender.send(f"{lane} {number}", size)
    stage = Stage()
    stage.hold()
    async with stage.serving(having(settings, prefetch=3)):
        await stage.began()
        await stage.has(15 - len(stage.runs[0]))
        left = [await depth(settings, settings.names.work_queue("sentiment", x)) for x in LANES]
        stage.release()
        await sender.replies(50)
        assert [lane.prefetch for lane in stage.consumer._lanes] == [3] * 5
    assert left == [7] * 5


async def test_a_worker_that_drains_consumes_no_lane_anew(
    settings: Settings, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmaas.workers.consumer.TUNING_INTERVAL", 0.0)
    lanes = Consumer._consume
    anew: list[str] = []

    async def consume(consumer: Consumer, channel: Any, lane: Any) -> None:
        anew.append(lane.name)
        await lanes(consumer, channel, lane)

    stage = Stage()
    stage.hold()
    async with stage.serving(settings):
        await sender.send("held")
        await stage.began()
        stage.worker.stop()
        await until(lambda: has_no_consumer(settings))
        monkeypatch.setattr(Prefetch, "better", lambda _, lane, now: now + 1)
        monkeypatch.setattr(Consumer, "_consume", consume)
        stage.release()
        await sender.replies(1)
    assert anew == []


async def has_no_consumer(settings: Settings) -> bool:
    names = [settings.names.work_queue("sentiment", lane) for lane in LANES]
    return not any([await consumers(settings, name) for name in names])


# ---------------------------------------------------------------- estimates


async def test_a_client_learns_from_the_answers_what_a_pack_costs(
    settings: Settings, worker: Worker
) -> None:
    request = Request(
        model="sentiment", items=[Item(id=str(n), text="a fine film " * 50) for n in range(50)]
    )
    async with Client(settings) as client:
        client._publisher._estimators["sentiment"] = Estimator(Cost(fixed=2.0))
        believed, costs = [], []
        for _ in range(30):
            believed.append(client._publisher.seconds("sentiment", 50, 30_000))
            reply = await client.run(request)
            assert reply.timings is not None
            costs.append(reply.timings.cost)
    assert believed[0] == pytest.approx(2.0, rel=1e-4)
    assert believed[-1] < 20 * max(costs)


async def test_a_worker_counts_its_errors_by_lane(
    settings: Settings, sender: Sender, worker: Worker
) -> None:
    for number in range(20):
        await sender.send(f"{number}", 0.001)
    await sender.replies(20)
    estimator = worker.execution.estimators["sentiment"]
    assert sum(error.packs for error in estimator.errors.values()) == 20
    assert estimator.errors["instant"].packs > 0
    assert estimator.errors["instant"].ratio > 0
    assert estimator.errors["huge"].packs == 0


async def test_the_shares_of_packs_that_ran_together_are_what_they_took(
    settings: Settings, sender: Sender, worker: Worker
) -> None:
    for number in range(5):
        await sender.send(f"{number}", 0.001 * 2**number)
    replies = await sender.replies(5)
    for reply in replies.values():
        assert reply.timings is not None
        assert 0 < reply.timings.cost <= reply.timings.ran < LIMIT
