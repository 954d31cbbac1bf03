"""Concurrent single calls: which of them share a message, and who learns what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from lmaas.broker_config.errors import BrokerUnavailable, ModelNotFound, TimeLimitExceeded
from lmaas.broker_config.messages import Item, Reply, Request, Result, Tensor
from lmaas.broker_config.settings import Settings
from lmaas.producer.linger import Linger


class Sender:
    """Takes the requests, and answers them when it is told to."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[Request] = asyncio.Queue()
        self.patience: list[float] = []
        self.tenants: list[str | None] = []
        self.error: Exception | None = None
        self.answering = asyncio.Event()
        self.answering.set()

    async def __call__(self, request: Request, seconds: float, tenant: str | None) -> Reply:
        self.patience.append(seconds)
        self.tenants.append(tenant)
        self.requests.put_nowait(request)
        await self.answering.wait()
        if self.error:
            raise self.error
        return Reply(
            model=request.model,
            results=[Result(id=item.id, label=item.text) for item in request.items],
        )

    async def next_texts(self) -> list[str | None]:
        async with asyncio.timeout(60):
            return [item.text for item in (await self.requests.get()).items]


def quick(model: str, items: int, size: int) -> float:
    """Seconds that a model takes."""
    return 0.0


@pytest.fixture
def sender() -> Sender:
    return Sender()


@pytest.fixture
async def linger(sender: Sender) -> AsyncIterator[Linger]:
    """Lingers for ever: what leaves has another reason."""
    made = Linger(Settings(linger=1_000, pack_items=5, pack_bytes=100), sender, quick)
    yield made
    await made.close()


def ask(linger: Linger, *texts: str, timeout: float = 10) -> list[asyncio.Future[Result]]:
    kind = ("sentiment", None, 0, None, timeout)
    return [linger.add(kind, Item(id="mine", text=text)) for text in texts]


async def answered(calls: list[asyncio.Future[Result]]) -> list[str | None]:
    async with asyncio.timeout(60):
        return [result.label for result in await asyncio.gather(*calls)]


async def test_a_lone_call_leaves_at_once(linger: Linger, sender: Sender) -> None:
    assert await answered(ask(linger, "a")) == ["a"]
    assert await sender.next_texts() == ["a"]


async def test_a_call_after_a_call_waits_for_nothing(linger: Linger, sender: Sender) -> None:
    assert await answered(ask(linger, "a")) == ["a"]
    assert await answered(ask(linger, "b")) == ["b"]


async def test_callers_in_a_loop_share_each_pack(linger: Linger, sender: Sender) -> None:
    async def caller(name: str) -> None:
        for _ in range(3):
            assert await answered(ask(linger, name)) == [name]

    await asyncio.gather(*map(caller, "abc"))
    for _ in range(3):
        assert sorted(map(str, await sender.next_texts())) == ["a", "b", "c"]
    assert sender.requests.empty()


async def test_what_waits_leaves_with_the_next_calls_of_those_who_are_answered(
    linger: Linger, sender: Sender
) -> None:
    async def twice() -> None:
        (first,) = ask(linger, "a")
        assert (await first).label == "a"
        (second,) = ask(linger, "b")
        assert (await second).label == "b"

    sender.answering.clear()
    calling = asyncio.create_task(twice())
    assert await sender.next_texts() == ["a"]
    waiting = ask(linger, "c")
    sender.answering.set()
    assert await sender.next_texts() == ["c", "b"]
    assert await answered(waiting) == ["c"]
    await calling


async def test_a_burst_is_one_pack_and_each_caller_gets_his_own_result(
    linger: Linger, sender: Sender
) -> None:
    assert await answered(ask(linger, "a", "b", "c", "d")) == ["a", "b", "c", "d"]
    assert await sender.next_texts() == ["a", "b", "c", "d"]
    assert sender.requests.empty()


async def test_a_caller_gets_the_id_that_he_gave(linger: Linger) -> None:
    results = await asyncio.gather(*ask(linger, "a", "b"))
    assert [result.id for result in results] == ["mine", "mine"]


async def test_a_burst_of_more_than_a_pack_is_full_packs(linger: Linger, sender: Sender) -> None:
    calls = ask(linger, *"abcdefghij")
    assert await sender.next_texts() == list("abcde")
    assert await sender.next_texts() == list("fghij")
    assert await answered(calls) == list("abcdefghij")


async def test_a_pack_is_full_also_by_its_bytes(linger: Linger, sender: Sender) -> None:
    calls = ask(linger, "x" * 60, "y" * 40, "z" * 100)
    assert await sender.next_texts() == ["x" * 60, "y" * 40]
    assert await sender.next_texts() == ["z" * 100]
    await answered(calls)


@pytest.mark.parametrize(
    ("late", "waited"),
    [(0.0, 0.002), (0.004, 0.002), (0.02, 0.01), (5.0, 0.02)],
)
async def test_while_packs_queue_up_calls_wait_longer_for_the_next_one(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, late: float, waited: float
) -> None:
    made = Linger(Settings(linger=0.002), sender, quick)
    made._learn("sentiment", late)
    sender.answering.clear()
    loop, delays = asyncio.get_running_loop(), []
    later = loop.call_later

    def call_later(delay: float, *arguments: Any) -> asyncio.TimerHandle:
        delays.append(delay)
        return later(delay, *arguments)

    first = ask(made, "a")
    await sender.next_texts()
    monkeypatch.setattr(loop, "call_later", call_later)
    second = ask(made, "b")
    assert delays == [pytest.approx(waited)]
    sender.answering.set()
    assert await answered([*first, *second]) == ["a", "b"]
    await made.close()


async def test_while_a_pack_is_on_its_way_the_next_one_waits_until_it_is_full(
    linger: Linger, sender: Sender
) -> None:
    sender.answering.clear()
    first = ask(linger, "first")
    assert await sender.next_texts() == ["first"]
    later = ask(linger, "a")
    await asyncio.sleep(0.02)  # the turns of the loop in which it would have left
    later += ask(linger, "b", "c", "d")
    assert sender.requests.empty()
    later += ask(linger, "e")
    assert await sender.next_texts() == list("abcde")
    sender.answering.set()
    assert await answered(first + later) == ["first", *"abcde"]


async def test_while_a_pack_is_on_its_way_the_next_one_waits_no_longer_than_linger(
    sender: Sender,
) -> None:
    linger = Linger(Settings(linger=0.02), sender, quick)
    sender.answering.clear()
    calls = ask(linger, "first")
    assert await sender.next_texts() == ["first"]
    asked = asyncio.get_running_loop().time()
    calls += ask(linger, "a", "b")
    assert await sender.next_texts() == ["a", "b"]
    assert asyncio.get_running_loop().time() - asked >= 0.015
    sender.answering.set()
    assert await answered(calls) == ["first", "a", "b"]


async def test_calls_that_want_different_things_do_not_share(
    linger: Linger, sender: Sender
) -> None:
    kinds = [
        *(("m", None, 0, None), ("m", "1", 0, None), ("m", None, 3, None), ("m", None, 0, 0.5)),
        ("n", None, 0, None),
    ]
    calls = [linger.add((*kind, 10.0), Item(id="0", text=str(kind))) for kind in kinds]
    await answered(calls)
    asked = [await sender.requests.get() for _ in kinds]
    assert [(r.model, r.version, r.options.top_k, r.options.min_score) for r in asked] == kinds


@pytest.mark.parametrize(
    ("asking", "told"),
    [
        (["a"], "a"),
        (["a", "a", "a"], "a"),
        (["a", "b"], None),
        (["a", "b", "b"], None),
        (["a", None], None),
        ([None, "a"], None),
        ([None, None], None),
    ],
)
async def test_a_pack_is_sent_for_the_tenant_of_all_its_calls(
    linger: Linger, sender: Sender, asking: list[str | None], told: str | None
) -> None:
    kind = ("m", None, 0, None, 10.0)
    await answered([linger.add(kind, Item(id="0", text="x"), tenant) for tenant in asking])
    assert sender.tenants == [told]


async def test_the_next_pack_has_a_tenant_again(linger: Linger, sender: Sender) -> None:
    kind = ("m", None, 0, None, 10.0)
    for tenants in ("ab", "a", "b"):
        await answered([linger.add(kind, Item(id="0", text="x"), tenant) for tenant in tenants])
    assert sender.tenants == [None, "a", "b"]


@pytest.mark.parametrize("error", [ModelNotFound("no such model"), ValueError("a bug")])
async def test_an_error_reaches_every_caller(
    linger: Linger, sender: Sender, error: Exception
) -> None:
    sender.error = error
    async with asyncio.timeout(60):
        found = await asyncio.gather(*ask(linger, "a", "b", "c"), return_exceptions=True)
    assert found == [error] * 3


async def test_a_caller_that_gives_up_hurts_nobody(linger: Linger, sender: Sender) -> None:
    sender.answering.clear()
    a, b, c = ask(linger, "a", "b", "c")
    assert await sender.next_texts() == ["a", "b", "c"]
    b.cancel()
    sender.answering.set()
    assert await answered([a, c]) == ["a", "c"]
    sender.error = ModelNotFound()
    d, e = ask(linger, "d", "e")
    d.cancel()
    with pytest.raises(ModelNotFound):
        await e


async def test_what_nobody_waits_for_any_more_is_not_sent(linger: Linger, sender: Sender) -> None:
    a, b, c = ask(linger, "a", "b", "c")
    b.cancel()
    assert await sender.next_texts() == ["a", "c"]
    assert await answered([a, c]) == ["a", "c"]
    sender.answering.clear()
    first = ask(linger, "first")
    assert await sender.next_texts() == ["first"]
    d, e = ask(linger, "d", "e")
    d.cancel()
    sender.answering.set()
    assert await sender.next_texts() == ["e"]
    assert await answered([*first, e]) == ["first", "e"]


async def test_a_pack_of_cancelled_calls_is_not_sent_and_holds_nobody_back(
    linger: Linger, sender: Sender
) -> None:
    for call in ask(linger, *"abcde"):  # full: on its way
        call.cancel()
    assert await answered(ask(linger, "f")) == ["f"]
    assert await sender.next_texts() == ["f"]
    assert sender.requests.empty()


async def test_whole_items_are_sent(linger: Linger, sender: Sender) -> None:
    values = {"x": Tensor(shape=[1], datatype="INT8", data=b"x")}
    items = [
        Item(id="a", text="one", text_pair="two"),
        Item(id="b", data=b"png", media_type="image/png"),
        Item(id="c", tensors=values),
    ]
    calls = [linger.add(("m", None, 0, None, 10.0), item) for item in items]
    sent = (await sender.requests.get()).items
    assert sent == [msgspec.structs.replace(one, id=str(n)) for n, one in enumerate(items)]
    async with asyncio.timeout(60):
        assert [result.id for result in await asyncio.gather(*calls)] == ["a", "b", "c"]


async def test_callers_of_unlike_patience_do_not_share(linger: Linger, sender: Sender) -> None:
    calls = [*ask(linger, "a", timeout=5), *ask(linger, "b", timeout=50), *ask(linger, "c")]
    await answered(calls)
    assert sender.patience == [5, 50, 10]


async def test_who_waits_too_long_is_told(linger: Linger, sender: Sender) -> None:
    sender.answering.clear()
    hurried = ask(linger, "a", "b", timeout=0.01)
    patient = ask(linger, "c")
    async with asyncio.timeout(60):
        errors = await asyncio.gather(*hurried, return_exceptions=True)
    assert [type(error) for error in errors] == [TimeLimitExceeded] * 2
    sender.answering.set()
    assert await answered(patient) == ["c"]


async def test_closing_tells_those_who_wait(linger: Linger, sender: Sender) -> None:
    sender.answering.clear()
    calls = ask(linger, "on its way")
    await sender.next_texts()
    calls += ask(linger, "gathering")
    await linger.close()
    async with asyncio.timeout(60):
        found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in found] == [BrokerUnavailable] * 2
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_tells_also_a_pack_that_is_just_leaving(
    linger: Linger, sender: Sender
) -> None:
    calls = ask(linger, *"abcde")  # full: its task exists and has not begun
    await linger.close()
    async with asyncio.timeout(60):
        found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in found] == [BrokerUnavailable] * 5
    assert sender.requests.empty()


async def test_a_pack_is_given_up_when_the_last_of_its_callers_is_gone(
    linger: Linger, sender: Sender
) -> None:
    sender.answering.clear()
    first, second = ask(linger, "a", "b")
    assert await sender.next_texts() == ["a", "b"]
    waits = ask(linger, "c")
    first.cancel()
    linger.given_up(first)
    await asyncio.sleep(0)
    assert sender.requests.empty()
    second.cancel()
    linger.given_up(second)
    assert await sender.next_texts() == ["c"]  # nothing is on its way any more
    sender.answering.set()
    assert await answered(waits) == ["c"]


async def test_a_full_pack_may_be_given_up_before_it_begins(linger: Linger, sender: Sender) -> None:
    for call in ask(linger, *"abcde"):
        call.cancel()
        linger.given_up(call)
    assert await answered(ask(linger, "x")) == ["x"]
    assert await sender.next_texts() == ["x"]
