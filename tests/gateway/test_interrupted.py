"""Submissions of jobs that are cancelled at any moment: each is accepted, or nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Generator
from typing import Any

import pytest
from aiohttp import web

from lmaas.broker_config.settings import Settings
from lmaas.producer.batch import Jobs
from lmaas.producer.gateway.app import create_app
from lmaas.producer.gateway.app_keys import BROKER_JOBS, STATE
from lmaas.producer.gateway.jobs import collecting
from lmaas.producer.gateway.jobs.accepting import Asked, accept
from lmaas.producer.gateway.jobs.collecting import COLLECTING
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.state import jobs as table
from lmaas.producer.gateway.state.jobs import Job
from lmaas.producer.journal import JobEntry
from tests.integration.lanes import LIMIT, until

ASKED = Asked(model="sentiment")


@contextlib.asynccontextmanager
async def running(settings: GatewaySettings, engine: Settings) -> AsyncIterator[web.Application]:
    """A gateway that nobody calls."""
    app = create_app(settings, engine)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        yield app
    finally:
        await runner.cleanup()


class Interrupted:
    """Awaits a coroutine, and cancels a task when it waits for the `place`-th time, from 0."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], place: int) -> None:
        self._coroutine = coroutine
        self._left = place
        #: Whom it cancels; None: who awaits this.
        self.task: asyncio.Task[Any] | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has been cancelled."""
        return self._left < 0

    def __await__(self) -> Generator[Any, Any, Any]:
        error: BaseException | None = None
        while True:
            try:
                send, value = self._coroutine.send, None
                waited = send(value) if error is None else self._coroutine.throw(error)
            except StopIteration as end:
                return end.value
            if self._left == 0:
                task = self.task or asyncio.current_task()
                assert task is not None
                task.cancel()
            self._left -= 1
            error = None
            try:
                yield waited
            except BaseException as thrown:
                error = thrown


async def submitted(app: web.Application) -> Job:
    return await accept(app, "", ASKED, ["a", "b"])


async def left(app: web.Application) -> dict[str, list[str]]:
    """The jobs that the gateway knows, by their states."""
    found: dict[str, list[str]] = {}
    async with app[STATE].reading() as connection:
        for job in await table.page(connection, "", limit=1_000, after=None):
            found.setdefault(job.state, []).append(job.id)
    return found


async def check(app: web.Application) -> None:
    """Nothing is left but what was accepted, here and on the broker."""

    async def is_settled() -> bool:
        return (await left(app)).keys() <= {"running"}

    await until(is_settled)
    accepted = (await left(app)).get("running", [])
    listed = {one.entry.job: one.entry.state for one in await app[BROKER_JOBS].list()}
    there = {job for job, state in listed.items() if state not in {"cancelled", "collected"}}
    assert there == set(accepted)


async def interrupted(app: web.Application, place: int) -> bool:
    """Whether a submission waits so often; it is cancelled then."""
    submitting = Interrupted(submitted(app), place)
    with contextlib.suppress(asyncio.CancelledError):
        async with asyncio.timeout(LIMIT):
            await asyncio.create_task(_awaited(submitting))
    return submitting.is_over


async def _awaited(awaitable: Interrupted) -> Any:
    return await awaitable


@pytest.mark.usefixtures("lanes")
async def test_a_submission_that_is_cancelled_at_any_await_leaves_nothing(
    settings: Settings, gateway_settings: GatewaySettings
) -> None:
    async with running(gateway_settings, settings) as app:
        place = 0
        while await interrupted(app, place):
            place += 1
        assert place > 10
        await check(app)


@pytest.mark.usefixtures("lanes")
async def test_a_submission_that_is_cancelled_while_it_publishes_leaves_nothing(
    settings: Settings, gateway_settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Jobs.publish
    publishing: Interrupted
    task: asyncio.Task[Job]
    place = 0

    async def cancels(self: Jobs, *arguments: Any, **options: Any) -> JobEntry:
        nonlocal publishing
        publishing = Interrupted(publish(self, *arguments, **options), place)
        publishing.task = task
        found: JobEntry = await publishing
        return found

    monkeypatch.setattr(Jobs, "publish", cancels)
    async with running(gateway_settings, settings) as app:
        while True:
            task = asyncio.create_task(submitted(app))
            async with asyncio.timeout(LIMIT):
                await asyncio.wait([task])
            if not publishing.is_over:
                break
            place += 1
        assert place > 5
        await check(app)


async def test_what_a_gateway_holds_and_does_not_do_is_free_soon(
    settings: Settings, gateway_settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever has led to that."""
    monkeypatch.setattr(collecting, "LEASE", 0.4)
    monkeypatch.setattr(collecting, "RENEWAL", 0.1)
    async with running(gateway_settings, settings) as app:
        mine = app[COLLECTING]
        draft = await app[BROKER_JOBS].draft("sentiment")
        async with app[STATE].writing() as connection:
            held = {"holder": mine.holder, "held_until": mine.until()}
            await table.begin(connection, draft, owner="", **held)
        await check(app)


async def test_an_error_that_nobody_has_thought_of_ends_no_collecting(
    settings: Settings, gateway_settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(gateway_settings, settings) as app:
        looks: asyncio.Queue[None] = asyncio.Queue()

        async def fails() -> None:
            looks.put_nowait(None)
            raise KeyError("not thought of")

        monkeypatch.setattr(app[COLLECTING], "_look", fails)
        async with asyncio.timeout(LIMIT):
            for _ in range(2):
                await looks.get()
