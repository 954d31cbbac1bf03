"""The mixed load: packs of several sizes, and the moments at which they leave."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random
from typing import Final

from lmaas.broker_config.messages import Item, Request
from lmaas.broker_config.scheduling import Cost
from lmaas.broker_config.settings import Settings

#: Items of a pack.
SIZES: Final = (1, 16, 64, 256, 1024, 4096)
#: Different packs of each size.
VARIANTS: Final = 8
#: Characters of a pack's texts. RabbitMQ refuses messages of more than 16 MiB.
MOST_TEXT: Final = 8 * 1024 * 1024

#: The share of the bulk's speed that is asked for.
LOAD: Final = 0.5
#: A size of which fewer packs would leave takes no part.
FEWEST: Final = 5


def packs(model: str, texts: Sequence[str], settings: Settings) -> dict[int, list[Request]]:
    """Items of a pack -> its variants, as far as the sizes are not too large to be sent."""
    source = itertools.cycle(texts)
    made = {}
    for size in SIZES:
        variants = [list(itertools.islice(source, size)) for _ in range(VARIANTS)]
        largest = max(sum(map(len, variant)) for variant in variants)
        if size > 1 and (size > settings.max_pack_items or largest > MOST_TEXT):
            break
        made[size] = [_request(model, variant) for variant in variants]
    return made


def _request(model: str, texts: Sequence[str]) -> Request:
    items = [Item(id=str(number), text=text) for number, text in enumerate(texts)]
    return Request(model=model, items=items)


def seconds_of(size: int, items_per_second: float) -> float:
    """What a pack is thought to take."""
    return Cost().fixed + size / items_per_second


def shares(sizes: Sequence[int], items_per_second: float, seconds: float) -> dict[int, int]:
    """Items of a pack -> packs that leave within `seconds`.

    Together they are LOAD of the work that can be done, an equal part of it for each size; of the
    sizes, as many take part, from the smallest on, as leave FEWEST packs of each.
    """
    for taking_part in range(len(sizes), 0, -1):
        part = LOAD * seconds / taking_part
        numbers = {
            size: round(part / seconds_of(size, items_per_second)) for size in sizes[:taking_part]
        }
        if min(numbers.values()) >= FEWEST:
            return numbers
    return {sizes[0]: max(1, numbers[sizes[0]])}


def departures(numbers: dict[int, int], seconds: float) -> list[tuple[float, int]]:
    """Seconds from the beginning, and items of the pack that leaves then; in order.

    Each moment is as likely as any other, as with senders who know nothing of each other (a Poisson
    process of which the number is given). The same ones every time.
    """
    chance = Random(1)
    return sorted(
        (chance.uniform(0, seconds), size)
        for size, number in numbers.items()
        for _ in range(number)
    )
