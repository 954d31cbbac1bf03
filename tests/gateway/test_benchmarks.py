"""The benchmarks of the gateway in small: what must not happen does not, and each ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from benchmarks import callbacks, fair_share, known_jobs, overload, rig, upload
from benchmarks.report import Report
from lmaas.broker_config.settings import Settings

#: A minute and a half: not in each run.
pytestmark = pytest.mark.small_benchmarks

#: Seconds for one of them, on a machine that does much else.
LIMIT = 240

Measure = Callable[..., Awaitable[Report]]


@pytest.fixture(autouse=True)
def _of_the_tests(settings: Settings, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker and the texts."""

    @contextlib.asynccontextmanager
    async def broker() -> AsyncIterator[Settings]:
        yield settings

    monkeypatch.setattr(rig, "broker", broker)
    monkeypatch.setattr(rig, "reviews", lambda: texts)
    monkeypatch.setattr(rig, "START_TIMEOUT", LIMIT)


@pytest.mark.parametrize(
    ("measure", "small"),
    [
        (upload.measure, {"rows": 3_000, "few": 500}),
        (callbacks.measure, {"count": 200}),
        (known_jobs.measure, {"count": 200, "requests": 50}),
        (overload.measure, {"seconds": 8.0, "a_text": 0.05}),
        (fair_share.measure, {"rows": 20, "times": 10_000, "jobs": 2}),
    ],
    ids=["upload", "callbacks", "known_jobs", "overload", "fair_share"],
)
async def test_in_small(measure: Measure, small: dict[str, Any]) -> None:
    async with asyncio.timeout(LIMIT):
        report = await measure(**small)
    assert [figure for figure in report.figures if figure.at_most == 0 and not figure.met] == []
