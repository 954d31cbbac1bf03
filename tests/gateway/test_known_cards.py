"""Cards of models that are kept for a moment."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from lmaas.broker_config.messages import ModelCard
from lmaas.producer.client import Client
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.known_cards import FRESH, KnownCards


def card(version: str) -> ModelCard:
    return ModelCard(
        model="m", version=version, versions=[version], labels=["a"], input="words", examples=[],
        max_item_bytes=1, max_pack_items=1, max_pack_bytes=1, fixed_seconds=0, seconds_per_byte=0,
    )  # fmt: skip


class Workers:
    """What they say, when they are let."""

    def __init__(self) -> None:
        self.now = 0.0
        self.said: ModelCard | None = card("1")
        self.all: list[ModelCard] = []
        self.asked = self.asked_all = 0
        self.may_speak = asyncio.Event()
        self.may_speak.set()

    async def card(self, model: str) -> ModelCard | None:
        assert model == "m"
        self.asked += 1
        await self.may_speak.wait()
        return self.said

    async def models(self, model: str) -> list[ModelCard]:
        assert model == "m"
        self.asked_all += 1
        return self.all


@pytest.fixture
async def workers() -> Workers:
    return Workers()


@pytest.fixture
async def cards(workers: Workers) -> KnownCards:
    return KnownCards(cast(Client, workers), lambda: workers.now)


async def test_a_card_is_good_for_a_moment(workers: Workers, cards: KnownCards) -> None:
    assert (await cards.card("m")).version == "1"
    workers.said = card("2")
    workers.now = FRESH - 0.1
    assert (await cards.card("m")).version == "1"
    assert workers.asked == 1
    workers.now = FRESH
    assert (await cards.card("m")).version == "2"


async def test_the_last_card_is_good_while_no_worker_answers(
    workers: Workers, cards: KnownCards
) -> None:
    workers.said = None
    with pytest.raises(HttpError, match="no worker serves model 'm' now"):
        await cards.card("m")
    workers.said = card("1")
    await cards.card("m")
    workers.said, workers.now = None, FRESH
    assert (await cards.card("m")).version == "1"


async def test_a_version_that_is_not_on_the_known_card_is_looked_for(
    workers: Workers, cards: KnownCards
) -> None:
    await cards.check("m", None)
    assert workers.asked == 0
    await cards.check("m", "1")
    assert (workers.asked, workers.asked_all) == (1, 0)
    workers.all = [card("1"), card("2")]  # it is new, or another worker's
    await cards.check("m", "2")
    assert (workers.asked, workers.asked_all) == (1, 1)
    with pytest.raises(HttpError, match="no version '3'; it has 1, 2"):
        await cards.check("m", "3")


async def test_without_a_worker_nothing_is_said_of_versions(
    workers: Workers, cards: KnownCards
) -> None:
    workers.said, workers.all = None, []
    await cards.check("m", "1")


async def test_who_asks_at_the_same_time_shares_a_question(
    workers: Workers, cards: KnownCards
) -> None:
    workers.may_speak.clear()
    first, *others = [asyncio.create_task(cards.card("m")) for _ in range(50)]
    await asyncio.sleep(0)
    first.cancel()
    workers.may_speak.set()
    answers = await asyncio.gather(first, *others, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert {one.version for one in answers[1:] if isinstance(one, ModelCard)} == {"1"}
    assert workers.asked == 1
