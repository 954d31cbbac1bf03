"""Room in a lane: counted here, asked for when it matters."""

from __future__ import annotations

import asyncio

from lmaas.producer.admission import Admission


class Broker:
    """A queue whose depth can be set, and which counts questions."""

    def __init__(self, depth: int = 0) -> None:
        self.depth = depth
        self.questions = 0
        self.answered = asyncio.Event()

    async def __call__(self, queue: str) -> int:
        self.questions += 1
        await asyncio.sleep(0)
        self.answered.set()
        return self.depth


async def test_what_was_published_counts_at_once() -> None:
    broker = Broker(depth=3)
    admission = Admission(3, broker)
    assert await admission.admits("q")  # nothing is known yet, and nobody waits to know
    await broker.answered.wait()
    assert not await admission.admits("q")
    await admission.close()


async def test_a_lane_that_seems_full_is_asked_again() -> None:
    broker = Broker()
    admission = Admission(3, broker)
    for _ in range(9):  # each is taken as soon as it is published
        assert await admission.admits("q")
        admission.published("q")
    assert broker.questions >= 2
    broker.depth = 3
    assert not all([await admission.admits("q") for _ in range(4)])
    broker.depth = 0
    assert await admission.admits("q")
    await admission.close()


async def test_lanes_are_counted_apart() -> None:
    admission = Admission(1, Broker(depth=1))
    assert await admission.admits("one")
    assert await admission.admits("other")
    await admission.close()


async def test_many_callers_share_a_question() -> None:
    broker = Broker(depth=5)
    admission = Admission(1, broker)
    await admission.admits("q")
    before = broker.questions
    await asyncio.gather(*(admission.admits("q") for _ in range(50)))
    assert broker.questions <= before + 1
    await admission.close()
