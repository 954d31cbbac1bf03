"""When a pack is full: by items, by bytes of any kind of content, by expected seconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas.broker_config.messages import JSON, Item, Request, Tensor, encode
from lmaas.broker_config.server import LARGEST_MESSAGE
from lmaas.broker_config.settings import DATA_BYTES, Settings
from lmaas.producer.packer import Packer, places

PICTURE = Item(id="p", data=b"x" * 70, media_type="image/png")
HALF = Tensor(shape=[5], datatype="FP64", data=b"x" * 40)
VALUES = Item(id="v", tensors={"a": HALF, "b": HALF})


@pytest.mark.parametrize(
    ("item", "size"),
    [
        (Item(id="a", text="abc"), 3),
        (Item(id="a", text="\u00e4\U0001f3ac"), 6),
        (Item(id="a", text="\ud800"), 1),
        (Item(id="a", text="abc", text_pair="\u00e4b"), 6),
        (PICTURE, 70),
        (VALUES, 80),
        (Item(id="a"), 0),
    ],
)
def test_an_item_is_as_large_as_its_content(item: Item, size: int) -> None:
    assert item.size == size


def test_a_pack_is_full_by_bytes_whatever_they_are_of() -> None:
    packer = Packer(Settings(pack_bytes=150))
    text = Item(id="t", text="\u00e4" * 40)
    assert packer.add(PICTURE) == []
    assert packer.add(VALUES) == [PICTURE, VALUES]
    assert packer.add(text) == []
    assert packer.add(PICTURE) == [text, PICTURE]
    assert (len(packer), packer.rest()) == (0, [])


def test_a_pack_is_full_by_the_seconds_that_it_is_expected_to_take() -> None:
    packer = Packer(Settings(pack_seconds=2.0), lambda _, size: 0.5 + 0.1 * size)
    first, second = Item(id="1", text="x" * 10), Item(id="2", text="x" * 4)
    assert packer.add(first) == []
    assert packer.add(second) == []
    assert packer.add(second) == [first, second, second]
    assert packer.add(Item(id="3", text="x" * 15))  # alone, however long it takes


def test_seconds_of_items_that_are_small_count_too() -> None:
    packer = Packer(Settings(pack_seconds=2.0), lambda items, _: 0.8 * items)
    item = Item(id="1", text="x")
    assert [packer.add(item) for _ in range(4)] == [[], [], [item] * 3, []]


@given(st.lists(st.integers(0, 300), max_size=60))
def test_nothing_is_lost_doubled_or_moved_and_only_the_last_item_passes_a_limit(
    sizes: list[int],
) -> None:
    limits = Settings(pack_items=7, pack_bytes=400, pack_seconds=5.0)
    packer = Packer(limits, lambda items, size: items / 2 + size / 60)
    items = [Item(id=str(place), data=b"x" * size) for place, size in enumerate(sizes)]
    packs = [pack for item in items if (pack := packer.add(item))]
    if rest := packer.rest():
        packs.append(rest)
    assert [item for pack in packs for item in pack] == items
    for pack in packs:
        assert len(pack) <= 7
        assert sum(item.size for item in pack[:-1]) < 300


def test_large_data_takes_several_places_of_a_window() -> None:
    photo = Item(id="p", data=bytes(5_000_000))
    assert places([photo]) == 3
    assert places([photo, photo]) == 5
    assert places([PICTURE] * 256) == places([VALUES, Item(id="t", text="a" * 10**6)]) == 1


def test_the_largest_pack_fits_into_a_message() -> None:
    settings = Settings()
    texts = [Item(id=str(n), text="\U0001f3ac" * 514) for n in range(settings.pack_items - 1)]
    photo = Item(id="p", data=bytes(settings.largest_data), media_type="image/jpeg")
    packer = Packer(settings)
    assert not any(packer.add(text) for text in texts[:-1])
    pack = packer.add(photo)
    assert len(pack) == len(texts)
    body = encode(Request(model="m", items=pack))
    assert len(body) <= settings.largest_pack
    assert settings.largest_pack < LARGEST_MESSAGE[4]
    alone = encode(Request(model="m", items=[photo]), JSON)
    assert len(alone) < settings.largest_pack


def test_a_limit_that_was_raised_for_items_holds_for_data_too() -> None:
    assert Settings(max_item_bytes=20_000_000).largest_data == 20_000_000
    assert Settings(max_item_bytes=5).largest_data == DATA_BYTES
    assert Settings(max_item_bytes=20_000_000, max_data_bytes=7).largest_data == 7
