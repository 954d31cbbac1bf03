"""The four loads against a client that answers, or does not, as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Self

import pytest

from lmaas.bench import phases
from lmaas.bench.phases import Plan, measure
from lmaas.bench.texts import Texts
from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import LmaasError, TimeLimitExceeded
from lmaas.broker_config.messages import ItemError, Reply, Request, Result
from lmaas.broker_config.settings import Settings

TOO_LATE = TimeLimitExceeded("no answer")
ERROR = ItemError(code=Code.INTERNAL, message="no memory")


class FakeClient:
    """Answers at once; every third request with what `third` says. Counts the items it is sent."""

    asked = 0
    requests = 0
    third: Exception | ItemError | None = None
    #: After so many requests nothing is answered any more.
    lives = 10**9

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def workers(self, model: str) -> int:
        return 1

    async def run(self, request: Request) -> Reply:
        results = [self._answer(item.id) for item in request.items]
        await self._count(len(results))
        return Reply(model=request.model, results=results, version="7", worker="w")

    async def classify(self, model: str, text: str, **_: Any) -> Result:
        await self._count(1)
        return self._answer("0")

    async def classify_many(self, model: str, texts: Iterable[str]) -> AsyncIterator[Result]:
        """An exception ends it, so it comes late."""
        for place, _ in enumerate(texts):
            if isinstance(self.third, Exception) and place < 5:
                type(self).requests = 0
            await self._count(1)
            yield self._answer("0")

    @classmethod
    async def _count(cls, items: int) -> None:
        await asyncio.sleep(0.001)
        cls.asked += items
        cls.requests += 1
        if cls.requests > cls.lives:
            raise TOO_LATE
        if isinstance(cls.third, Exception) and cls.requests % 3 == 0:
            raise cls.third

    @classmethod
    def _answer(cls, item_id: str) -> Result:
        if isinstance(cls.third, ItemError) and cls.requests % 3 == 0 and cls.requests:
            return Result(id=item_id, error=cls.third)
        return Result(id=item_id, label="positive", score=0.9)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> type[FakeClient]:
    fake = type("Fake", (FakeClient,), {})
    monkeypatch.setattr(phases, "Client", fake)
    monkeypatch.setattr(phases, "PAUSE", 0.001)
    return fake


def plan(seconds: float = 0.4, callers: int = 5) -> Plan:
    texts = Texts(source="made up", texts=["a good film", "bad"])
    return Plan(model="m", texts=texts, seconds=seconds, callers=callers)


async def test_every_item_is_counted_once(client: type[FakeClient]) -> None:
    told: list[tuple[str, float]] = []
    report = await measure(Settings(), plan(), lambda name, share: told.append((name, share)))
    assert report.items + 1 == client.asked  # one text before the first phase
    assert (report.failed, report.failures, report.version, report.workers) == (0, {}, "7", 1)
    assert [share for _, share in told] == pytest.approx([0, 0.15, 0.4, 0.6])
    assert sum(each.packs for each in report.mixed) >= 5
    assert report.unloaded.latency_seconds is not None
    assert report.bulk.latency_seconds is None


@pytest.mark.parametrize(
    ("third", "reason"), [(TOO_LATE, "TimeLimitExceeded"), (ERROR, "internal")]
)
async def test_failures_are_counted(
    client: type[FakeClient], third: Exception | ItemError, reason: str
) -> None:
    client.third = third
    report = await measure(Settings(), plan(), lambda *_: None)
    assert set(report.failures) == {reason}
    assert report.items + 1 == client.asked
    for each in (report.unloaded, report.concurrent):
        assert each.items / 4 <= each.failed <= each.items / 2


async def test_when_nobody_answers_any_more_it_ends(client: type[FakeClient]) -> None:
    client.lives = 10
    with pytest.raises(LmaasError, match=r"stopped answering \(TimeLimitExceeded: \d+\)"):
        await measure(Settings(), plan(), lambda *_: None)


async def test_the_first_error_is_told_as_it_is(client: type[FakeClient]) -> None:
    client.lives = 0
    with pytest.raises(TimeLimitExceeded, match="no answer"):
        await measure(Settings(), plan(), lambda *_: None)


async def test_packs_of_a_slow_model_are_small(client: type[FakeClient]) -> None:
    report = await measure(Settings(), plan(callers=1), lambda *_: None)
    assert report.rehearsal is not None
    window = report.bulk.pack_items * Settings().window
    assert window <= max(1_000 * 0.4, Settings().window)
