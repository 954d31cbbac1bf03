"""Texts into packs: sizes, ids, values that are no texts, and sources that pause or fail."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import Item, Request, Tensor, encode
from lmaas.broker_config.settings import Settings
from lmaas.producer.packing import Entries, packs

SMALL = Settings(pack_items=3, pack_bytes=10, max_item_bytes=20, max_data_bytes=20, linger=0.01)


async def packed(entries: Entries, limits: Settings = SMALL) -> list[list[Item]]:
    async with asyncio.timeout(60):
        return [pack async for pack in packs(entries, limits)]


async def streamed(values: list[Any]) -> AsyncIterator[Any]:
    for value in values:
        yield value


def texts(found: list[list[Item]]) -> list[list[str | None]]:
    return [[item.text for item in pack] for pack in found]


async def test_a_pack_is_closed_when_it_has_enough_items() -> None:
    assert texts(await packed(list("abcdefg"))) == [["a", "b", "c"], ["d", "e", "f"], ["g"]]


async def test_a_pack_is_closed_when_it_has_enough_bytes() -> None:
    assert texts(await packed(["aaaaaa", "bbbb", "c", "d" * 15, "e"])) == [
        ["aaaaaa", "bbbb"],
        ["c", "d" * 15],
        ["e"],
    ]


@pytest.mark.parametrize("text", ["one text", b"one text"])
async def test_one_text_is_no_iterable_of_texts(text: str | bytes) -> None:
    with pytest.raises(TypeError, match="put it into a list"):
        await packed(text)


async def test_no_texts_are_no_packs() -> None:
    assert await packed([]) == []
    assert await packed(streamed([])) == []


async def test_texts_without_ids_are_numbered_through() -> None:
    found = await packed(["a", ("mine", "b"), "c", "d"])
    assert [item.id for pack in found for item in pack] == ["0", "mine", "2", "3"]


async def test_an_id_may_be_a_number() -> None:
    ((item,),) = await packed([(17, "a")])
    assert item == Item(id="17", text="a")


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, Code.NOT_TEXT),
        (7, Code.NOT_TEXT),
        (1.5, Code.NOT_TEXT),
        (b"bytes", Code.NOT_TEXT),
        (["a"], Code.NOT_TEXT),
        (("a", "b", "c"), Code.NOT_TEXT),
        ((), Code.NOT_TEXT),
        ("", Code.EMPTY_TEXT),
        (" \n\t\u3000", Code.EMPTY_TEXT),
        ("\ud800", Code.INVALID_UTF8),
        ("x" * 21, Code.TOO_LARGE),
        ("é" * 11, Code.TOO_LARGE),
        (("\ud800", "text"), Code.INVALID_ITEM),
    ],
)
@pytest.mark.parametrize("source", [list, streamed])
async def test_what_cannot_be_classified_is_an_item_with_an_error(
    value: Any, code: Code, source: Any
) -> None:
    ((before, item, after),) = await packed(source(["a", value, "b"]))
    assert (before, after) == (Item(id="0", text="a"), Item(id="2", text="b"))
    assert item.text is None
    assert item.error is not None
    assert item.error.code == code
    assert encode(Request(model="m", items=[item]))


async def test_a_ready_item_is_taken_as_it_is() -> None:
    item = Item(id="x", data=b"png", media_type="image/png")
    assert await packed([item]) == [[item]]


@given(st.lists(st.text("ab", min_size=1, max_size=25), max_size=50), st.booleans())
@settings(deadline=None, max_examples=50)
def test_nothing_is_lost_doubled_or_moved(values: list[str], stream: bool) -> None:
    limits = Settings(pack_items=4, pack_bytes=30, linger=5)
    found = asyncio.run(packed(streamed(values) if stream else values, limits))
    assert [item.text for pack in found for item in pack] == values
    assert [item.id for pack in found for item in pack] == [str(n) for n in range(len(values))]
    assert all(1 <= len(pack) <= 4 for pack in found)
    assert all(sum(len(item.text or "") for item in pack[:-1]) < 30 for pack in found)


async def test_a_source_that_pauses_has_its_pack_closed() -> None:
    more = asyncio.Event()

    async def pausing() -> AsyncIterator[str]:
        yield "a"
        yield "b"
        await more.wait()
        yield "c"

    async with contextlib.aclosing(packs(pausing(), SMALL)) as found, asyncio.timeout(60):
        assert [item.text for item in await anext(found)] == ["a", "b"]
        waiting = asyncio.ensure_future(anext(found))
        done, _ = await asyncio.wait([waiting], timeout=5 * SMALL.linger)
        assert not done, "a pause makes no empty pack"
        more.set()
        assert [item.text for item in await waiting] == ["c"]


async def test_an_error_of_the_source_comes_after_what_came_before_it() -> None:
    async def failing() -> AsyncIterator[str]:
        for text in "abcd":
            yield text
        raise LookupError("source")

    def failing_too() -> Iterator[str]:
        yield from "abcd"
        raise LookupError("source")

    for source in (failing(), failing_too()):
        found = packs(source, SMALL)
        assert [item.text for item in await anext(found)] == ["a", "b", "c"]
        assert [item.text for item in await anext(found)] == ["d"]
        with pytest.raises(LookupError, match="source"):
            await anext(found)


async def test_closing_early_stops_the_reading() -> None:
    read = 0

    async def endless() -> AsyncIterator[str]:
        nonlocal read
        while True:
            read += 1
            yield "text"

    async with asyncio.timeout(60):
        found = packs(endless(), SMALL)
        await anext(found)
        await found.aclose()
    assert read <= 3 * SMALL.pack_items
    assert asyncio.all_tasks() == {asyncio.current_task()}


class Odd(str):
    """Encoders do not take it."""

    __slots__ = ()

    def __str__(self) -> str:
        raise AssertionError


class Told:
    def __str__(self) -> str:
        return Odd("an id")


async def test_whatever_comes_in_encoders_take_it() -> None:
    class Blob(bytes):
        __slots__ = ()

    entries = [
        Odd("a"),
        (Odd("id"), Odd("b")),
        (Told(), "c"),
        Blob(b"x"),
        7,
        Item(id=Odd("i"), text=Odd("d")),
        Item(id=7, text="e"),  # type: ignore[arg-type]
        Item(id="u", text="\ud800"),
        Item(id="n"),
        Item(id=Odd("o"), data=object()),  # type: ignore[arg-type]
        Item(id="s", media_type="\ud800", data=b"fine"),
        Item(id="p", text=Odd("f"), text_pair=Odd("g")),
        Item(id="q", text="h", text_pair=7),  # type: ignore[arg-type]
        Item(id="r", tensors=[]),  # type: ignore[arg-type]
        Item(id="t", tensors={"x": Tensor(shape=["1"], datatype="INT8", data=b"")}),  # type: ignore[list-item]
        Item(id="v", tensors={7: Tensor(shape=[1], datatype="INT8", data=b"x")}),  # type: ignore[dict-item]
        Item(id="w", data=bytearray(b"fine"), media_type="x/y"),  # type: ignore[arg-type]
        Item(id="x", data=b"x" * 21),
        Item(id="z", tensors={"x": Tensor(shape=[2], datatype="INT8", data=b"x")}),
        Item(id="y", data="text"),  # type: ignore[arg-type]
        Item(id="\ud800", data=b"x"),
    ]
    found = [item for pack in await packed(entries) for item in pack]
    encode(Request(model="m", items=found))
    codes = {item.id: item.error.code for item in found if item.error}
    assert codes == {
        "3": Code.NOT_TEXT,
        "4": Code.NOT_TEXT,
        "u": Code.INVALID_UTF8,
        "n": Code.NOT_TEXT,
        "o": Code.INVALID_ITEM,
        "s": Code.INVALID_ITEM,
        "q": Code.NOT_TEXT,
        "r": Code.INVALID_ITEM,
        "t": Code.INVALID_ITEM,
        "v": Code.INVALID_ITEM,
        "x": Code.TOO_LARGE,
        "y": Code.INVALID_ITEM,
        "z": Code.INVALID_ITEM,
        "\\ud800": Code.INVALID_ITEM,
    }
    assert [item.text for item in found if item.text] == ["a", "b", "c", "d", "e", "f"]
    assert [item.text_pair for item in found if item.text_pair] == ["g"]
    assert [(item.id, item.data) for item in found if item.data] == [("w", b"fine")]
    assert [item.id for item in found] == [
        *("0", "id", "an id", "3", "4", "i", "7", *"unospqrtvwxzy", "\\ud800")
    ]
