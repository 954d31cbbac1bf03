"""What a client promises, kept by the broker with a worker and by `lmaas.testing` alike."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import math
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from unittest.mock import Mock

import msgspec
import numpy as np
import pytest

from lmaas import testing
from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import (
    BrokerUnavailable,
    Busy,
    ItemFailed,
    LmaasError,
    MessageError,
    ModelNotFound,
    TimeLimitExceeded,
)
from lmaas.broker_config.messages import Item, ItemError, Request, Result, Tensor
from lmaas.broker_config.settings import DATA_BYTES, Settings
from lmaas.producer.client import Client
from lmaas.producer.sync import SyncClient
from lmaas.workers.repository import Repository
from tests.integration.lanes import (
    LIMIT,
    MODELS,
    in_process,
    make_lanes,
    serving,
    until,
    waiting_packs,
)

GOOD, BAD = "a wonderful, moving film", "an awful, boring waste of time"
NO_TEXTS: list[tuple[Any, Code]] = [
    (None, Code.NOT_TEXT),
    (7, Code.NOT_TEXT),
    (b"x", Code.NOT_TEXT),
    ("", Code.EMPTY_TEXT),
    ("  \n", Code.EMPTY_TEXT),
    ("\ud800", Code.INVALID_UTF8),
    ("x" * (1024 * 1024 + 1), Code.TOO_LARGE),
]


@pytest.fixture(params=["broker", "testing"])
def where(request: pytest.FixtureRequest) -> str:
    """What the client is connected to."""
    return str(request.param)


@pytest.fixture
async def client(where: str, settings: Settings) -> AsyncIterator[Client]:
    """One whose texts are answered by the shipped model."""
    async with contextlib.AsyncExitStack() as stack:
        if where == "broker":
            await stack.enter_async_context(serving(settings))
            yield await stack.enter_async_context(Client(settings))
        else:
            yield await stack.enter_async_context(testing.Client(settings=settings))


@pytest.fixture
async def unheard(where: str, settings: Settings) -> AsyncIterator[Client]:
    """One that nobody answers, and a lane that is full with one pack."""
    narrow = msgspec.structs.replace(settings, max_waiting=1)
    if where == "broker":
        await make_lanes(settings)
        async with Client(narrow) as client:
            yield client
    else:
        service = testing.Service(lambda _: "positive", serves=["sentiment"], delay=3_600)
        async with testing.Client(service, settings=narrow) as client:
            yield client


async def test_one_text_gets_its_label(client: Client, settings: Settings) -> None:
    good = await client.classify("sentiment", GOOD)
    bad = await client.classify("sentiment", BAD)
    assert (good.label, bad.label) == ("positive", "negative")
    assert [(r.label, r.score) for r in (good, bad)] == await in_process(settings, [GOOD, BAD])


async def test_many_texts_come_in_order(
    client: Client, settings: Settings, texts: list[str]
) -> None:
    results = [result async for result in client.classify_many("sentiment", texts)]
    assert [result.id for result in results] == [str(place) for place in range(len(texts))]
    assert [(r.label, r.score) for r in results] == await in_process(settings, texts)


async def test_many_texts_come_as_completed(client: Client, texts: list[str]) -> None:
    results = client.classify_many("sentiment", iter(texts), ordered=False)
    ids = [result.id async for result in results]
    assert sorted(ids, key=int) == [str(place) for place in range(len(texts))]


async def test_ids_of_the_caller_come_back(client: Client) -> None:
    results = client.classify_many("sentiment", [("first", GOOD), (17, BAD)])
    assert [(r.id, r.label) async for r in results] == [("first", "positive"), ("17", "negative")]


async def test_a_source_that_waits_for_its_own_results_is_answered(client: Client) -> None:
    """As in a chat: nothing of the window or of a pack holds a text back."""
    answered = asyncio.Semaphore(1)

    async def one_by_one() -> Any:
        for text in (GOOD, BAD, GOOD):
            await answered.acquire()
            yield text

    labels = []
    async with asyncio.timeout(LIMIT):
        async for result in client.classify_many("sentiment", one_by_one()):
            labels.append(result.label)
            answered.release()
    assert labels == ["positive", "negative", "positive"]


@pytest.mark.parametrize(("value", "code"), NO_TEXTS)
async def test_what_is_no_text_is_told_to_a_single_call(
    client: Client, value: Any, code: Code
) -> None:
    result = await client.classify("sentiment", value, errors="return")
    assert result.error is not None
    assert result.error.code == code
    with pytest.raises(ItemFailed) as failure:
        await client.classify("sentiment", value)
    assert failure.value.code == code


async def test_what_is_no_text_is_one_result_among_many(client: Client) -> None:
    values = [part for value, _ in NO_TEXTS for part in (GOOD, value)]
    results = [result async for result in client.classify_many("sentiment", values)]
    assert [result.label for result in results[::2]] == ["positive"] * len(NO_TEXTS)
    found = [result.error and result.error.code for result in results[1::2]]
    assert found == [code for _, code in NO_TEXTS]


VALUES = {"ids": Tensor(shape=[2], datatype="INT32", data=bytes(8))}
#: Of kinds that the shipped model does not take, or that no model could.
OTHERS: list[tuple[Item, Code, str]] = [
    (
        Item(id="1", text=GOOD, text_pair=BAD),
        Code.INVALID_ITEM,
        "takes one text; the item has text_p",
    ),
    (Item(id="2", data=b"png", media_type="image/png"), Code.NOT_TEXT, "only; the item has data"),
    (Item(id="3", tensors=VALUES), Code.NOT_TEXT, "only; the item has tensors"),
    (Item(id="4", text=GOOD, text_pair=" "), Code.EMPTY_TEXT, "text_pair: the text is empty"),
    (Item(id="5", text=GOOD, data=b"x"), Code.INVALID_ITEM, "exactly one of text, data, tensors"),
    (Item(id="6", data=bytes(DATA_BYTES + 1)), Code.TOO_LARGE, "the limit is 10,485,760"),
    (
        Item(id="7", tensors={"x": Tensor(shape=[3], datatype="FP16", data=b"12345")}),
        Code.INVALID_ITEM,
        "tensor 'x': its data has 5 bytes; FP16 of its shape [3] has 6",
    ),
    (
        Item(id="8", tensors={"x": Tensor(shape=[-1], datatype="INT8", data=b"")}),
        Code.INVALID_ITEM,
        "Expected `int` >= 0",
    ),
    (Item(id="9", data="text"), Code.INVALID_ITEM, "Expected `bytes"),  # type: ignore[arg-type]
    (Item(id="10", text=7, text_pair="x"), Code.NOT_TEXT, "got a number"),  # type: ignore[arg-type]
    (
        Item(id="11", error=ItemError(code=Code.UNREADABLE_ROW, message="row 3")),
        Code.UNREADABLE_ROW,
        "row 3",
    ),
]


async def test_an_item_keeps_its_id_and_shares_packs_with_texts(client: Client) -> None:
    item = Item(id="mine", text=BAD)
    calls = [client.classify("sentiment", one) for one in (GOOD, item, GOOD)]
    results = await asyncio.gather(*calls)
    assert [(one.id, one.label) for one in results] == [
        ("0", "positive"),
        ("mine", "negative"),
        ("0", "positive"),
    ]


async def test_what_the_model_does_not_take_is_told_of_that_item(client: Client) -> None:
    async def call(item: Item) -> Result:
        return await client.classify("sentiment", item, errors="return")

    around = [Item(id="first", text=GOOD), *(item for item, *_ in OTHERS), Item(id="z", text=BAD)]
    for results in (
        await asyncio.gather(*map(call, around)),
        [result async for result in client.classify_many("sentiment", around)],
    ):
        assert [result.id for result in results] == [item.id for item in around]
        assert (results[0].label, results[-1].label) == ("positive", "negative")
        for (item, code, words), result in zip(OTHERS, results[1:-1], strict=True):
            assert result.error is not None, item.id
            assert (result.error.code, words in result.error.message) == (code, True), result


async def test_an_id_that_cannot_be_sent_is_told(client: Client) -> None:
    with pytest.raises(ItemFailed, match="the id is not valid UTF-8"):
        await client.classify("sentiment", Item(id="\ud800", text=GOOD))


class Text(str):
    """As other libraries have texts; what it says of itself is not what it is."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"

    def __len__(self) -> int:
        raise AssertionError


class Name(enum.StrEnum):
    SENTIMENT = "sentiment"
    GOOD = GOOD
    FIRST = "1"


async def test_subclasses_of_str_are_texts_names_and_ids(client: Client) -> None:
    given = [GOOD, Text(GOOD), Name.GOOD, np.str_(GOOD), np.array([GOOD])[0]]
    calls = [client.classify("sentiment", text) for text in given]
    calls.append(client.classify(Name.SENTIMENT, GOOD, version=Name.FIRST, top_k=np.int64(1)))
    assert {result.label for result in await asyncio.gather(*calls)} == {"positive"}
    pairs = [(text, text) for text in given]
    results = [r async for r in client.classify_many(np.str_("sentiment"), pairs)]
    assert [(r.id, r.label) for r in results] == [(GOOD, "positive")] * len(given)


async def test_odd_arguments_harm_nobody_whose_call_shares_the_pack(client: Client) -> None:
    odd: list[Any] = [{"top_k": 2.0}, {"timeout": "soon"}, {"version": 1}, {"timeout": math.nan}]
    await client.classify("sentiment", GOOD)
    calls = [client.classify("sentiment", GOOD, top_k=2, timeout=60) for _ in range(5)]
    usual = {"top_k": 2, "timeout": 60}
    calls += [client.classify("sentiment", GOOD, **(usual | arguments)) for arguments in odd]
    calls.append(client.classify("sentiment", Mock(spec=str), top_k=2, timeout=60))
    calls.append(client.classify("sentiment", GOOD, top_k=2, timeout=Decimal(60)))  # type: ignore[arg-type]
    calls += [client.classify("sentiment", GOOD, top_k=2, timeout=60) for _ in range(5)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    kinds = [type(result).__name__ for result in results]
    assert kinds[5:10] == ["MessageError", "ValueError", "MessageError", "ValueError", "ItemFailed"]
    assert {*kinds[:5], *kinds[10:]} == {"Result"}
    with pytest.raises(ModelNotFound, match="no model can have the name 7"):
        await client.classify(7, GOOD)  # type: ignore[arg-type]


async def test_many_can_raise_at_the_first_item_that_failed(client: Client) -> None:
    results = client.classify_many("sentiment", [GOOD, None, GOOD], errors="raise")
    assert (await anext(results)).label == "positive"
    with pytest.raises(ItemFailed) as failure:
        await anext(results)
    assert (failure.value.item_id, failure.value.code) == ("1", Code.NOT_TEXT)


async def test_an_unknown_model_is_told_at_once(client: Client) -> None:
    with pytest.raises(ModelNotFound, match=r"no worker has ever served model 'nope'"):
        await client.classify("nope", GOOD)
    with pytest.raises(ModelNotFound):
        await anext(client.classify_many("nope", [GOOD]))


@pytest.mark.parametrize("name", ["", "a b", "x" * 300, "\ud800", "\0", "sentiment.short", "*"])
async def test_a_name_that_no_model_can_have_is_told_at_once(client: Client, name: str) -> None:
    with pytest.raises(ModelNotFound):
        await client.classify(name, GOOD)


async def test_a_version_that_cannot_be_sent_is_told(client: Client) -> None:
    with pytest.raises(MessageError, match="cannot be sent"):
        await client.classify("sentiment", GOOD, version="\ud800")


async def test_an_unknown_version_is_told(client: Client) -> None:
    with pytest.raises(ModelNotFound, match="no version '99'"):
        await client.classify("sentiment", GOOD, version="99")
    with pytest.raises(ModelNotFound, match="no version '99'"):
        await anext(client.classify_many("sentiment", [GOOD], version="99"))


async def test_the_asked_version_answers(client: Client) -> None:
    newest = Repository(MODELS).versions("sentiment")[-1]
    reply = await client.run(
        Request(model="sentiment", version="1", items=[Item(id="a", text=GOOD)])
    )
    assert (reply.version, reply.results[0].label) == ("1", "positive")
    reply = await client.run(Request(model="sentiment", items=[Item(id="a", text=GOOD)]))
    assert reply.version == newest


async def test_top_k_is_the_ranking(client: Client) -> None:
    single = await client.classify("sentiment", GOOD, top_k=2)
    (many,) = [r async for r in client.classify_many("sentiment", [GOOD], top_k=2)]
    assert list(single.scores or {}) == ["positive", "negative"]
    assert single.scores == many.scores


async def test_a_negative_top_k_is_refused(client: Client) -> None:
    with pytest.raises(LmaasError, match="top_k"):
        await client.classify("sentiment", GOOD, top_k=-1)


# ------------------------------------------------------------- nobody answers


async def test_the_time_limit_ends_a_call(unheard: Client) -> None:
    with pytest.raises(TimeLimitExceeded, match=r"within 0\.2 s; is a worker running\?"):
        await unheard.classify("sentiment", GOOD, timeout=0.2)


async def test_the_time_limit_ends_many(unheard: Client) -> None:
    with pytest.raises(TimeLimitExceeded, match=r"for 0\.2 s"):
        await anext(unheard.classify_many("sentiment", [GOOD], timeout=0.2))


async def test_closing_ends_calls_and_forbids_more(
    unheard: Client, where: str, settings: Settings
) -> None:
    waiting = asyncio.ensure_future(unheard.classify("sentiment", GOOD))
    await until(lambda: sent(unheard, where, settings))
    assert unheard.is_ready
    await unheard.close()
    assert not unheard.is_ready
    with pytest.raises(BrokerUnavailable, match="closed"):
        await waiting
    with pytest.raises(BrokerUnavailable, match="closed"):
        await unheard.classify("sentiment", GOOD)
    with pytest.raises(BrokerUnavailable, match="closed"):
        await anext(unheard.classify_many("sentiment", [GOOD]))


async def sent(client: Client, where: str, settings: Settings) -> bool:
    """Whether the one text that was sent has arrived."""
    if where == "broker":
        return await waiting_packs(settings) == 1
    assert isinstance(client, testing.Client)
    return len(client.calls) == 1


async def test_a_full_lane_is_told_with_a_time_to_try_again(
    unheard: Client, where: str, settings: Settings
) -> None:
    waiting = asyncio.ensure_future(unheard.classify("sentiment", GOOD))
    await until(lambda: sent(unheard, where, settings))
    if isinstance(unheard, testing.Client):
        unheard.service.answers = {GOOD: Busy("the lane is full", retry_after=2)}
        unheard.service.delay = 0
    with pytest.raises(Busy, match="is full") as refused:
        await unheard.classify("sentiment", GOOD)
    assert refused.value.retry_after >= 1
    with pytest.raises(Busy):
        await anext(unheard.classify_many("sentiment", [GOOD], timeout=0.2))
    waiting.cancel()


async def test_a_client_that_was_not_opened_says_so(where: str, settings: Settings) -> None:
    client = Client(settings) if where == "broker" else testing.Client(settings=settings)
    assert not client.is_ready
    with pytest.raises(BrokerUnavailable, match=r"use `async with .*`, or `await client.open\(\)`"):
        await client.classify("sentiment", GOOD)


# ---------------------------------------------------------------------- packs


async def test_calls_at_the_same_time_come_in_order_and_share_packs(client: Client) -> None:
    texts = [f"{GOOD if number % 3 else BAD} {number}" for number in range(600)]
    results = await asyncio.gather(*(client.classify("sentiment", text) for text in texts))
    expected = ["positive" if number % 3 else "negative" for number in range(600)]
    assert [result.label for result in results] == expected
    assert {result.id for result in results} == {"0"}


async def test_a_pack_that_is_too_large_is_refused(client: Client) -> None:
    client._publisher.settings = msgspec.structs.replace(client.settings, max_message_bytes=1_000)
    with pytest.raises(MessageError, match=r"the broker takes 1,000: make smaller packs"):
        await client.classify("sentiment", GOOD * 100)
    assert (await client.classify("sentiment", GOOD)).label == "positive"


async def test_a_pack_of_too_many_items_is_refused(client: Client) -> None:
    items = [Item(id="a", text=GOOD)] * 5_000
    with pytest.raises(MessageError, match="5,000 items"):
        await client.run(Request(model="sentiment", items=items))


async def test_who_serves_the_model(client: Client) -> None:
    assert await client.workers("sentiment") == 1


# -------------------------------------------------------------------- the twin


async def test_the_synchronous_twin(client: Client, where: str, settings: Settings) -> None:
    """The client's worker answers beside it."""
    assert client.is_ready
    twin = SyncClient(settings) if where == "broker" else testing.SyncClient(settings=settings)

    def use() -> list[str | None]:
        with twin:
            single = twin.classify("sentiment", GOOD, top_k=1)
            assert list(single.scores or {}) == ["positive"]
            with pytest.raises(ModelNotFound):
                twin.classify("nope", GOOD)
            with pytest.raises(ItemFailed):
                twin.classify("sentiment", "")
            assert twin.classify("sentiment", Item(id="mine", text=GOOD)).id == "mine"
            labels = [r.label for r in twin.classify_many("sentiment", [GOOD, BAD, ""])]
        with pytest.raises(BrokerUnavailable, match="closed"):
            twin.classify("sentiment", GOOD)
        return labels

    assert await asyncio.to_thread(use) == ["positive", "negative", None]
