"""The page and the readable OpenAPI document, in a real Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from lmaas.broker_config.settings import Settings
from lmaas.producer.gateway.pages import serving as pages
from lmaas.producer.gateway.settings import GatewaySettings
from tests.gateway.chromium import Page, browsing
from tests.gateway.conftest import Gateway, listening
from tests.gateway.test_keys import made
from tests.gateway.test_monitoring import put_dead
from tests.integration.lanes import depth, until

GOOD = "a wonderful, moving film"
ROWS = "[...document.querySelectorAll('#{} tbody tr')]"
FOCUS = "document.activeElement.{}"


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    async with browsing(tmp_path / "browser") as page:
        yield page
        assert page.complaints == []


def rows(table: str) -> str:
    return ROWS.format(table)


async def tab_to(page: Page, name: str) -> None:
    """By the keyboard alone, to what has this id."""
    for _ in range(40):
        await page.presses("Tab", 9)
        if await page.does(FOCUS.format("id")) == name:
            return
    raise AssertionError(f"the keyboard does not reach {name}")


@pytest.mark.usefixtures("worker")
async def test_a_text_is_tried_by_the_keyboard(gateway: Gateway, page: Page) -> None:
    await page.go(f"{gateway.url}/")
    await page.shows("document.querySelector('#model').value === 'sentiment'")
    await tab_to(page, "text")
    await page.types(GOOD)
    await page.presses("Tab", 9)
    await page.presses("Enter", 13)
    label = await page.shows("document.querySelector('#answer .label')?.textContent")
    assert label.startswith("positive · ")
    assert await page.does("document.querySelectorAll('#answer meter').length") == 2


@pytest.mark.usefixtures("worker")
async def test_lanes_and_workers_are_shown(gateway: Gateway, page: Page) -> None:
    await page.go(f"{gateway.url}/")
    lanes = await page.shows(
        f"{rows('lanes')}.length && {rows('lanes')}.map((row) => row.cells[0].textContent)"
    )
    assert lanes == ["sentiment", "instant", "short", "medium", "long", "huge"]
    assert await page.shows(f"{rows('workers')}[0]?.cells[1].textContent") == "sentiment 1"
    await page.shows("document.getElementById('state').textContent === 'Live'")


@pytest.mark.usefixtures("worker")
async def test_dead_letters_are_replayed_and_dropped(
    gateway: Gateway, page: Page, settings: Settings
) -> None:
    for _ in range(2):
        await put_dead(settings)
    await page.go(f"{gateway.url}/")
    await page.shows(f"{rows('dead')}.length === 2")
    reason = await page.does(f"{rows('dead')}[0].cells[2].textContent")
    assert reason == "poison: it ended the process twice"

    buttons = "document.querySelectorAll('#dead tbody button')"
    await page.does(f"{buttons}[0].focus()")
    await page.presses("Enter", 13)
    await page.shows(f"{rows('dead')}.length === 1")
    assert await page.shows("document.activeElement.id") == "dead-title"

    await page.does(f"{buttons}[1].focus()")
    await page.presses("Enter", 13)
    assert await page.does(f"{buttons}[1].textContent") == "Drop for good?"
    assert await depth(settings, settings.names.dead) == 1
    await page.presses("Enter", 13)
    await page.shows(f"{rows('dead')}.length === 0")
    await until(lambda: _is_empty(settings))


async def _is_empty(settings: Settings) -> bool:
    return await depth(settings, settings.names.dead) == 0


@pytest.mark.usefixtures("worker")
async def test_what_has_the_focus_keeps_it_while_the_page_looks(
    gateway: Gateway, page: Page, settings: Settings
) -> None:
    await put_dead(settings)
    await page.go(f"{gateway.url}/")
    await page.shows(f"{rows('dead')}.length === 1")
    await page.does("document.querySelector('#dead tbody button').focus()")
    await put_dead(settings)
    await page.shows(f"{rows('dead')}.length === 2")
    assert await page.does(FOCUS.format("textContent")) == "Replay"


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_is_readable_on_a_telephone_and_in_the_dark(
    gateway: Gateway, page: Page, settings: Settings, scheme: str
) -> None:
    await put_dead(settings)
    await page.looks(360, scheme)
    await page.go(f"{gateway.url}/")
    await page.shows(f"{rows('dead')}.length && {rows('lanes')}.length")
    assert await page.does("document.documentElement.scrollWidth") <= 360
    light = await page.does(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
    )
    assert (light > 128) == (scheme == "light")


@pytest.mark.usefixtures("worker")
async def test_jobs_are_shown_with_their_progress(gateway: Gateway, page: Page) -> None:
    call = {"model": "sentiment", "items": [GOOD, ""] * 50}
    _, job = await gateway.post("/v1/jobs", json=call)
    await page.go(f"{gateway.url}/")
    done = f"{rows('jobs')}[0]?.cells[2].textContent === 'finished'"
    await page.shows(done)
    assert await page.does(f"{rows('jobs')}[0].cells[0].textContent") == job["id"]
    assert await page.does("document.querySelector('#jobs progress').position") == 1
    assert await page.does(f"{rows('jobs')}[0].cells[3].textContent") == "100 of 100"
    assert (await page.does(f"{rows('jobs')}[0].cells[6].textContent")).startswith("50, first: ")


async def test_without_workers_it_says_so(gateway: Gateway, page: Page) -> None:
    await page.go(f"{gateway.url}/")
    note = await page.shows("document.querySelector('[data-note=workers]').textContent")
    assert note.startswith("No worker answers.")


@pytest.mark.usefixtures("worker")
async def test_the_document_is_readable_and_can_be_tried(gateway: Gateway, page: Page) -> None:
    await page.go(f"{gateway.url}/docs")
    await page.shows("document.querySelectorAll('.opblock').length > 5")
    models = "document.getElementById('operations-Calls-get_v1_models')"
    await page.does(f"{models}.querySelector('.opblock-summary-control').click()")
    await page.shows(f"{models}.querySelector('.execute')")
    await page.does(f"{models}.querySelector('.execute').click()")
    told = await page.shows(f"{models}.querySelector('.live-responses-table')?.textContent")
    assert "sentiment" in told


@pytest.mark.parametrize("path", ["/", "/docs", *(f"/assets/{name}" for name in pages._ASSETS)])
async def test_what_a_browser_has_is_not_sent_again(gateway: Gateway, path: str) -> None:
    async with gateway.http.get(gateway.url + path) as first:
        assert first.status == 200
        assert "script-src" not in first.headers["Content-Security-Policy"]
        assert "unsafe" not in first.headers["Content-Security-Policy"]
        tag = first.headers["ETag"]
    async with gateway.http.get(gateway.url + path, headers={"If-None-Match": tag}) as again:
        assert again.status == 304


@pytest.mark.usefixtures("worker")
async def test_with_keys_the_page_asks_for_one_and_keeps_it_in_the_tab(
    gateway_settings: GatewaySettings, settings: Settings, page: Page
) -> None:
    keyed = msgspec.structs.replace(gateway_settings, access="keys")
    plain, _ = await made(keyed, "classify")
    admin, _ = await made(keyed, "admin")
    async with listening(keyed, settings) as gateway:
        await page.go(f"{gateway.url}/")
        await page.shows("!document.getElementById('key-form').hidden")
        for wrong in ("lmaas_wrong", plain):
            assert await page.shows("document.activeElement.id === 'key'")
            await page.types(wrong)
            await page.presses("Enter", 13)
            if wrong != plain:
                await page.shows("document.getElementById('key-words').className === 'bad'")
        await page.shows("document.getElementById('model').value === 'sentiment'")
        note = "document.querySelector('[data-note=workers]').textContent"
        assert "scope" in await page.shows(note)
        assert "scope" in await page.shows(note.replace("workers", "dead"))

        await page.does("document.getElementById('leave').click()")
        await page.shows("!document.getElementById('key-form').hidden")
        assert await page.does("sessionStorage.length + localStorage.length") == 0
        await page.types(admin)
        await page.presses("Enter", 13)
        await page.shows(f"{rows('workers')}.length === 1")
        assert await page.does("localStorage.length + document.cookie.length") == 0
