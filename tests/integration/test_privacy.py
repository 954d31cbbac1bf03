"""What the settings redact, keep_dead_letters and keep_results do, with a worker and a broker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import Item
from lmaas.broker_config.redaction import WITHHELD
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.producer.dead_letter import Filter, request_of
from lmaas.producer.dead_letters import DeadLetter, opened, read, replay
from lmaas.workers.runtime import Runtime
from lmaas.workers.settling.settler import Settler
from tests.integration.lanes import LIMIT, depth, having, make_lanes, serving, until
from tests.payload_keys import new_keys, sealed

GOOD = "a wonderful, moving film"
CANARY = "zz-somebody-zz"
CURSED = Item(id=f"id-{CANARY}", text=f"{GOOD} {CANARY}")


def hide(text: str) -> str:
    return text.replace(CANARY, "***")


def refuse(text: str) -> str:
    if CANARY in text:
        raise RuntimeError(text)
    return text


@pytest.fixture(params=["plain", "sealed"])
def settings(settings: Settings, request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    keys = tmp_path / "payload.keys"
    return settings if request.param == "plain" else sealed(settings, new_keys(keys))


@pytest.fixture
def _cursed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model fails over texts with the canary, and quotes them."""
    encode = Runtime.encode

    def failing(self: Runtime, items: Sequence[Item]) -> Any:
        for item in items:
            if CANARY in (item.text or ""):
                raise RuntimeError(item.text)
        return encode(self, items)

    monkeypatch.setattr(Runtime, "encode", failing)


async def letters(settings: Settings) -> list[DeadLetter]:
    async with asyncio.timeout(LIMIT), contextlib.aclosing(read(settings, Filter())) as pages:
        return [letter async for page in pages for letter in page]


def items(settings: Settings, letter: DeadLetter) -> list[Item]:
    request = request_of(opened(letter, Seals(settings)), letter.message.content_type)
    assert request is not None
    return request.items


@contextlib.asynccontextmanager
async def asked(settings: Settings) -> AsyncIterator[list[Any]]:
    """The answers to one pack of a cursed item beside a good one."""
    async with serving(settings), Client(settings) as client:
        given = [Item(id="good", text=GOOD), CURSED]
        yield [one async for one in client.classify_many("sentiment", given)]


@pytest.mark.usefixtures("_cursed")
@pytest.mark.parametrize(
    ("hook", "name", "text"),
    [("hide", "id-***", f"{GOOD} ***"), ("refuse", WITHHELD, WITHHELD)],
)
async def test_nothing_is_logged_or_parked_that_may_not_be(
    settings: Settings, caplog: pytest.LogCaptureFixture, hook: str, name: str, text: str
) -> None:
    caplog.set_level(logging.DEBUG, "lmaas")
    settings = having(settings, redact=f"{__name__}:{hook}")
    async with asked(settings) as found:
        # Who has asked gets everything.
        assert [one.label or one.error.code for one in found] == ["positive", Code.INTERNAL]
        assert CANARY in found[1].id + found[1].error.message
    [letter] = await letters(settings)
    assert (letter.summary.redacted, letter.summary.error) == (True, Code.INTERNAL)
    assert items(settings, letter) == [Item(id=name, text=text)]
    assert CANARY not in repr((letter.message.body, letter.message.info()))
    assert "dead-lettered" in caplog.text
    assert CANARY not in caplog.text
    outcome = await replay(settings, Filter())
    assert (outcome.done, outcome.redacted) == (0, 1)
    assert await depth(settings, settings.names.dead) == 1


@pytest.mark.parametrize("settings", ["plain"], indirect=True)
async def test_after_a_bug_the_broker_gets_no_text(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(*_: object) -> None:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(Settler, "_told", failing)
    settings = having(settings, redact=f"{__name__}:hide")
    async with serving(settings), Client(settings) as client:
        asking = asyncio.create_task(client.classify("sentiment", CURSED))

        async def parked() -> bool:
            return await depth(settings, settings.names.dead) == 1

        await until(parked)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    [letter] = await letters(settings)
    assert (opened(letter, Seals(settings)), letter.summary.redacted) == (b"", True)


@pytest.mark.usefixtures("_cursed")
@pytest.mark.parametrize("settings", ["plain"], indirect=True)
async def test_dead_letters_and_results_end_by_themselves(settings: Settings) -> None:
    settings = having(settings, keep_dead_letters=0.5, keep_results=0.5)

    async def gone(queue: str, left: int | None) -> bool:
        return await depth(settings, queue) == left

    async with asked(settings):
        await until(lambda: gone(settings.names.dead, 0))
    await make_lanes(settings)
    async with Jobs(settings) as jobs:
        entry = await jobs.submit("sentiment", [GOOD])
        async with asyncio.timeout(LIMIT):
            # A look counts as a use of the queue, which then lives on.
            while (await jobs.progress(entry.job)).state != "expired":  # noqa: ASYNC110
                await asyncio.sleep(1)
