"""Large replies are decoded beside the event loop, and are the same."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from lmaas.broker_config import decoding, replies
from lmaas.broker_config.errors import MessageError
from lmaas.broker_config.messages import (
    JSON,
    MSGPACK,
    ItemError,
    Reply,
    Result,
    Timings,
    decode_reply,
    encode,
)

LANGUAGES = pytest.mark.parametrize("language", [JSON, MSGPACK])
SCORES = {f"label number {place}": place / 1000 for place in range(200)}


def reply_of(results: int) -> Reply:
    return Reply(
        model="m",
        version="3",
        worker="w",
        timings=Timings(waited=0.1, ran=0.2, cost=0.3),
        results=[
            Result(id=f"{place} é", label="label number 7", score=0.5, scores=SCORES)
            if place % 7
            else Result(id=str(place), error=ItemError(code="not_text", message="none"))
            for place in range(results)
        ],
        error=ItemError(code="internal", message="?"),
    )


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """Those in which a reply was decoded result by result."""
    found: list[threading.Thread] = []

    def watched(work: Callable[[bytes, str | None], Reply]) -> Callable[..., Reply]:
        def run(body: bytes, content_type: str | None) -> Reply:
            found.append(threading.current_thread())
            return work(body, content_type)

        return run

    monkeypatch.setattr(replies, "decode_by_result", watched(replies.decode_by_result))
    return found


@LANGUAGES
async def test_a_large_reply_is_decoded_in_a_thread_while_the_loop_turns(
    language: str, threads: list[threading.Thread]
) -> None:
    reply = reply_of(2000)
    body = encode(reply, language)
    assert len(body) > decoding.COUNTED
    turns = 0
    decoding_it = asyncio.create_task(replies.decoded_reply(body, language))
    while not decoding_it.done():
        turns += 1
        await asyncio.sleep(0)
    assert await decoding_it == decode_reply(body, language) == reply
    (thread,) = threads
    assert thread is not threading.main_thread()
    assert turns > 2


@LANGUAGES
async def test_a_small_reply_is_decoded_at_once(
    language: str, threads: list[threading.Thread]
) -> None:
    reply = reply_of(3)
    coroutine = replies.decoded_reply(encode(reply, language), language)
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    assert ended.value.value == reply
    assert threads == []


@LANGUAGES
@pytest.mark.parametrize(
    "reply", [Reply(model="m", results=[]), reply_of(1), reply_of(20)], ids=["none", "one", "many"]
)
def test_result_by_result_it_is_the_same(language: str, reply: Reply) -> None:
    assert replies.decode_by_result(encode(reply, language), language) == reply


@LANGUAGES
@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body[:-5],
        lambda body: body.replace(b"label number 7", b"\xff" * 14),
        lambda body: body.replace(b"results", b"resulta"),
        lambda body: body.replace(b"score", b"scare"),
        lambda _: b"",
    ],
    ids=["half", "no UTF-8", "no results", "no result", "nothing"],
)
async def test_what_is_no_reply_is_an_error_of_any_size(
    language: str, spoil: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = spoil(encode(reply_of(3), language))
    for small in (decoding.SMALL, 0):
        monkeypatch.setattr(decoding, "SMALL", small)
        monkeypatch.setattr(decoding, "COUNTED", small)
        with pytest.raises(MessageError):
            await replies.decoded_reply(body, language)
