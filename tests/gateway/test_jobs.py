"""`/v1/jobs` over HTTP: every kind of body, results as they come, progress, cancelling."""

from __future__ import annotations

import asyncio
import base64
import csv
import errno
import gzip
import io
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web

from lmaas.broker_config.headers import Headers
from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.settings import Settings
from lmaas.producer.batch import Jobs
from lmaas.producer.gateway.settings import GatewaySettings
from tests.gateway.conftest import Gateway, listening
from tests.integration.lanes import LIMIT, channel_to, having, until
from tests.integration.stage import Stage

GOOD = "a wonderful, moving film"
PARQUET = "application/vnd.apache.parquet"
BAD = "dull and awful, a waste of time"
#: So long that no two packs are run together.
LONG = "good " * 15_000
CALL = {"model": "sentiment", "items": [GOOD, {"id": "b", "text": BAD}, "", {"id": "n", "text": 5}]}
EXPECTED = {"0": "positive", "b": "negative", "2": "empty_text", "n": "invalid_item"}


async def ended(gateway: Gateway, job: str) -> dict[str, Any]:
    """The job when it has ended."""
    found: dict[str, Any] = {}

    async def has_ended() -> bool:
        status, answer = await gateway.get(f"/v1/jobs/{job}")
        assert status == 200, answer
        found.update(answer)
        return answer["ended"] is not None

    await until(has_ended)
    return found


async def results(gateway: Gateway, job: str, **query: Any) -> list[dict[str, Any]]:
    """Those that there are."""
    url = f"{gateway.url}/v1/jobs/{job}/results"
    async with gateway.http.get(url, params=query) as answer:
        assert answer.status == 200, await answer.text()
        return [json.loads(line) for line in (await answer.read()).splitlines()]


def told(lines: list[dict[str, Any]]) -> dict[str, str]:
    """Id -> label or code; no id may be there twice."""
    found = {line["id"]: line.get("label") or line["error"]["code"] for line in lines}
    assert len(found) == len(lines)
    return found


@pytest.mark.usefixtures("worker")
async def test_a_job_from_its_submission_to_its_results(
    gateway: Gateway, settings: Settings
) -> None:
    async with gateway.http.post(gateway.url + "/v1/jobs", json=CALL) as answer:
        job = await answer.json()
        assert (answer.status, answer.headers["Location"]) == (202, f"/v1/jobs/{job['id']}")
    assert (job["state"], job["items"], job["done"]) == ("running", 4, 0)
    async with Jobs(settings) as jobs:
        assert (await jobs.progress(job["id"])).entry.items == 4
        job = await ended(gateway, job["id"])
        assert (job["state"], job["done"], job["failed"]) == ("finished", 4, 2)
        assert job["rate"] > 0
        assert job["seconds_left"] is None
        assert {one["id"]: one["error"]["code"] for one in job["errors"]} == {
            "2": "empty_text",
            "n": "invalid_item",
        }
        assert told(await results(gateway, job["id"])) == EXPECTED

        # What is in the file is not left on the broker.
        async def collected() -> bool:
            return (await jobs.progress(job["id"])).state == "collected"

        await until(collected)

    url = gateway.url + job["links"]["results"]
    async with gateway.http.get(url, headers={"Accept": "text/csv"}) as answer:
        assert answer.content_type == "text/csv"
        rows = list(csv.DictReader(io.StringIO(await answer.text())))
    assert [row["id"] for row in rows] == ["0", "b", "2", "n"]
    assert [row["label"] for row in rows] == ["positive", "negative", "", ""]
    async with gateway.http.get(url, headers={"Accept": PARQUET}) as answer:
        table = pq.read_table(io.BytesIO(await answer.read()))
    assert table.column_names == ["id", "label", "score", "error"]
    assert table["id"].to_pylist() == ["0", "b", "2", "n"]
    async with gateway.http.get(url, headers={"Accept": "image/png"}) as answer:
        assert answer.status == 406


def _form(**fields: str) -> aiohttp.FormData:
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields.items():
        form.add_field(name, value)
    return form


def _parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"name": ["x", "y"], "text": [GOOD, BAD]}), file)
    return file.getvalue()


LINES = b'{"id": "x", "text": "%s"}\n{broken\n{"id": "y", "text": "%s"}\n' % (
    GOOD.encode(),
    BAD.encode(),
)
CSV = f"id;text\nx;{GOOD}\nbroken\ny;{BAD} \u00e9\n"


@pytest.mark.usefixtures("worker")
async def test_files_of_every_kind_and_form(gateway: Gateway) -> None:
    form_after = _form()
    form_after.add_field("file", io.BytesIO(LINES), filename="rows.jsonl")
    form_after.add_field("model", "sentiment")
    form_after.add_field("id_column", "id")
    form_before = _form(model="sentiment", id_column="name")
    form_before.add_field("file", io.BytesIO(_parquet()), content_type=PARQUET)
    columns = {"model": "sentiment", "id_column": "id"}
    clean = {"x": "positive", "y": "negative"}
    broken = {**clean, "1": "unreadable_row"}
    short = {**clean, "broken": "unreadable_row"}
    cases: list[tuple[dict[str, str], Any, str | None, dict[str, str]]] = [
        (columns, LINES, "application/x-ndjson", broken),
        (columns, f'[{{"id": "x", "text": "{GOOD}"}}, {{"id": "y", "text": "{BAD}"}}]'.encode(),
         "application/json", clean),
        (columns, CSV.encode(), "text/csv", short),
        (columns, CSV.encode("cp1252"), "text/csv; charset=cp1252", short),
        ({"model": "sentiment"}, f"{GOOD}\n{BAD}\n".encode(), "text/plain",
         {"0": "positive", "1": "negative"}),
        ({**columns, "id_column": "name"}, _parquet(), PARQUET, clean),
        ({}, form_after, None, broken),
        ({}, form_before, None, clean),
    ]  # fmt: skip
    for query, data, kind, expected in cases:
        headers = {"Content-Type": kind} if kind else {}
        status, job = await gateway.post("/v1/jobs", params=query, data=data, headers=headers)
        assert status == 202, (kind, job)
        job = await ended(gateway, job["id"])
        assert job["state"] == "finished"
        assert told(await results(gateway, job["id"])) == expected, kind


@pytest.mark.usefixtures("lanes")
async def test_what_cannot_be_a_job_is_told(
    gateway_settings: GatewaySettings, settings: Settings
) -> None:
    """Without a worker: nothing of it comes so far."""
    small = msgspec.structs.replace(gateway_settings, max_job_bytes=1000, max_job_items=3)
    ndjson, text = {"Content-Type": "application/x-ndjson"}, {"Content-Type": "text/plain"}
    no_file = _form(model="sentiment")
    cases: list[tuple[dict[str, str], Any, dict[str, str], int, str]] = [
        ({}, b'{"model": "sentiment"}', {}, 422, "invalid"),
        ({}, b'{"model": "sentiment", "items": []}', {}, 422, "invalid"),
        ({}, b'{"model": "sentiment", "items": ["x"], "priority": "now"}', {}, 422, "invalid"),
        ({}, b'{"model": "sentiment", "items": ["x"], "deadline": "2001-01-01T00:00:00Z"}',
         {}, 422, "invalid"),
        ({}, b'{"model": "sentiment", "items": ["x"], "callback_url": "ftp://x"}',
         {}, 422, "invalid"),
        ({}, b'{"model": "sentiment", "items": ["x"], "callback_url": "http://169.254.169.254/"}',
         {}, 422, "invalid"),
        ({}, b'{"model": "nobody", "items": ["x"]}', {}, 404, "unknown_model"),
        ({}, LINES, ndjson, 422, "invalid"),
        ({"model": "sentiment", "colour": "red"}, LINES, ndjson, 422, "invalid"),
        ({"model": "sentiment", "text_column": "body"}, LINES, ndjson, 400, "unreadable"),
        ({"model": "sentiment"}, b"", ndjson, 400, "unreadable"),
        ({"model": "sentiment"}, b"PAR1", {"Content-Type": "application/x-parquet"},
         400, "unreadable"),
        ({"model": "sentiment"}, b"x", {"Content-Type": "image/png"}, 415,
         "unsupported_media_type"),
        ({"model": "sentiment"}, b"x" * 1001, text, 413, "too_large"),
        ({"model": "sentiment"}, b"x\n" * 4, text, 413, "too_many_items"),
        ({}, no_file, {}, 400, "bad_request"),
        ({"model": "sentiment"}, b"x\n", {**text, "Content-Encoding": "gzip"}, 400, "malformed"),
        ({"model": "sentiment"}, gzip.compress(b"x\n"), text, 400, "unreadable"),
    ]  # fmt: skip
    async with listening(small, settings) as gateway:
        for query, data, headers, status, code in cases:
            found, answer = await gateway.post("/v1/jobs", params=query, data=data, headers=headers)
            assert (found, answer["error"]["code"]) == (status, code), answer
            assert "gateway/uploads" not in answer["error"]["message"]
            assert code != "unreadable" or "--" not in answer["error"]["message"]
            assert "let its name end" not in answer["error"]["message"]  # it has none
        for path in ("/v1/jobs/nothing", "/v1/jobs/nothing/results", "/v1/jobs/nothing/events"):
            status, answer = await gateway.get(path)
            assert (status, answer["error"]["code"]) == (404, "not_found")
        status, answer = await gateway.get("/v1/jobs?limit=1000")
        assert (status, answer["error"]["code"]) == (422, "invalid")

        # Nothing of them is left.
        async def none() -> bool:
            return (await gateway.get("/v1/jobs"))[1] == {"jobs": [], "next": None}

        await until(none)
        folder = small.state_folder / "uploads"
        assert not list(folder.iterdir())


@pytest.mark.usefixtures("worker")
async def test_results_that_are_not_there_any_more_are_told(
    gateway: Gateway, gateway_settings: GatewaySettings
) -> None:
    """An empty answer 200 would be taken for all there is."""
    folder = gateway_settings.state_folder / "results"
    for suffix in ("ndjson", "index"):
        _, job = await gateway.post("/v1/jobs", json=CALL)
        await ended(gateway, job["id"])
        (folder / f"{job['id']}.{suffix}").unlink()
        for query in ("", "?follow=true", "?format=csv"):
            status, answer = await gateway.get(f"/v1/jobs/{job['id']}/results{query}")
            assert (status, answer["error"]["code"]) == (410, "results_lost")


@pytest.mark.usefixtures("worker")
async def test_a_file_of_results_that_cannot_be_written_is_not_the_callers_fault(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    _, job = await gateway.post("/v1/jobs", json=CALL)
    await ended(gateway, job["id"])
    monkeypatch.setattr(os, "fsync", full)
    status, answer = await gateway.get(f"/v1/jobs/{job['id']}/results?format=csv")
    assert (status, answer["error"]["code"]) == (503, "state_unavailable")
    assert "no space left" in answer["error"]["message"].lower()
    assert "--" not in answer["error"]["message"]
    monkeypatch.undo()
    async with gateway.http.get(f"{gateway.url}/v1/jobs/{job['id']}/results?format=csv") as found:
        assert found.status == 200


@pytest.fixture
async def stage(settings: Settings) -> AsyncIterator[Stage]:
    """A worker whose runs end when the test says so."""
    async with Stage().serving(settings) as stage:
        yield stage


async def test_results_and_progress_come_while_a_job_runs(
    stage: Stage, gateway_settings: GatewaySettings, settings: Settings
) -> None:
    stage.hold()
    items = [{"id": name, "text": LONG} for name in "abcdef"]
    async with listening(gateway_settings, having(settings, pack_items=2)) as gateway:
        _, job = await gateway.post("/v1/jobs", json={"model": "sentiment", "items": items})
        path = f"{gateway.url}/v1/jobs/{job['id']}"
        for form in ("csv", "parquet"):
            status, answer = await gateway.get(f"/v1/jobs/{job['id']}/results?format={form}")
            assert (status, answer["error"]["code"]) == (409, "not_finished")
        async with (
            asyncio.timeout(LIMIT),
            gateway.http.get(path + "/results?follow=true") as following,
            gateway.http.get(path + "/events") as events,
        ):
            assert await events.content.readuntil(b"\n\n")
            stage.step()
            first = [await following.content.readline() for _ in range(2)]
            seen = await events.content.readuntil(b"\n\n")
            assert seen.startswith(b"event: progress\n")
            assert json.loads(seen.partition(b"data: ")[2])["done"] == 2
            # An offset that was given goes on to the rest.
            async with gateway.http.get(path + "/results") as answer:
                offset = int(answer.headers["Lmaas-Next-Offset"])
                assert await answer.read() == b"".join(first)
            stage.release()
            rest = await following.content.read()
            assert told([json.loads(line) for line in first + rest.splitlines()]) == dict.fromkeys(
                "abcdef", "positive"
            )
            last = (await events.content.read()).split(b"\n\n")[-2]
            assert last.startswith(b"event: end\n")
        async with gateway.http.get(f"{path}/results?offset={offset}") as answer:
            assert await answer.read() == rest
        async with gateway.http.get(f"{path}/results?offset=1000000") as answer:
            assert answer.status == 416


async def test_cancelling_keeps_what_was_done(
    stage: Stage, gateway_settings: GatewaySettings, settings: Settings
) -> None:
    stage.hold()
    items = [{"id": name, "text": LONG} for name in "abcdef"]
    async with listening(gateway_settings, having(settings, pack_items=2)) as gateway:
        _, job = await gateway.post("/v1/jobs", json={"model": "sentiment", "items": items})
        stage.step()

        async def begun() -> bool:
            return len(await results(gateway, job["id"])) == 2

        await until(begun)
        async with gateway.http.delete(f"{gateway.url}/v1/jobs/{job['id']}") as answer:
            assert answer.status in {200, 202}  # the latter when it takes long
        cancelled = await ended(gateway, job["id"])
        assert (cancelled["state"], cancelled["done"]) == ("cancelled", 2)
        assert len(await results(gateway, job["id"])) == 2
        async with Jobs(settings) as jobs:
            assert (await jobs.progress(job["id"])).state == "cancelled"
        async with gateway.http.delete(f"{gateway.url}/v1/jobs/{job['id']}") as answer:
            assert (answer.status, (await answer.json())["state"]) == (200, "cancelled")
        async with gateway.http.get(
            f"{gateway.url}/v1/jobs/{job['id']}/results?format=csv"
        ) as answer:
            assert len((await answer.text()).splitlines()) == 3


async def test_what_others_cancel_on_the_broker_has_failed(
    stage: Stage, gateway: Gateway, settings: Settings
) -> None:
    stage.hold()
    _, job = await gateway.post("/v1/jobs", json=CALL)
    async with Jobs(settings) as jobs:

        async def collecting() -> bool:
            return (await jobs.progress(job["id"])).state == "collecting"

        await until(collecting)
        await jobs.cancel(job["id"])
    job = await ended(gateway, job["id"])
    assert job["state"] == "failed"
    assert "deleted" in job["reason"]


@pytest.mark.usefixtures("lanes")
async def test_who_leaves_before_the_answer_has_no_job(
    gateway_settings: GatewaySettings, settings: Settings
) -> None:
    """The lane is full, so that submitting waits; then the caller hangs up."""
    full = having(settings, max_waiting=2, pack_items=1)
    async with listening(gateway_settings, full) as gateway:
        sending = asyncio.create_task(
            gateway.post("/v1/jobs", json={"model": "sentiment", "items": ["x"] * 1000})
        )

        async def submitting() -> bool:
            jobs = (await gateway.get("/v1/jobs"))[1]["jobs"]
            return bool(jobs) and jobs[0]["state"] == "submitting"

        await until(submitting)
        job = (await gateway.get("/v1/jobs"))[1]["jobs"][0]["id"]
        async with Jobs(settings) as broker:

            async def known() -> bool:
                return job in {one.entry.job for one in await broker.list()}

            await until(known)
        sending.cancel()

        async def forgotten() -> bool:
            return (await gateway.get(f"/v1/jobs/{job}"))[0] == 404

        await until(forgotten)
        async with Jobs(settings) as jobs:
            assert (await jobs.progress(job)).state == "cancelled"

    impatient = msgspec.structs.replace(gateway_settings, wait=0.5)
    async with listening(impatient, full) as gateway:
        status, answer = await gateway.post(
            "/v1/jobs", json={"model": "sentiment", "items": ["x"] * 1000}
        )
        assert (status, answer["error"]["code"]) == (429, "busy")


async def test_an_unfinished_body_is_no_job(
    gateway: Gateway, gateway_settings: GatewaySettings
) -> None:
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = (
        "POST /v1/jobs?model=sentiment HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: application/x-ndjson\r\nContent-Length: 100000\r\n\r\n"
    )
    writer.write(head.encode() + LINES)
    await writer.drain()
    folder = gateway_settings.state_folder / "uploads"

    async def begun() -> bool:
        return folder.exists() and bool(list(folder.iterdir()))

    async def gone() -> bool:
        return not list(folder.iterdir())

    await until(begun)
    writer.close()
    await until(gone)
    assert (await gateway.get("/v1/jobs"))[1] == {"jobs": [], "next": None}


@pytest.mark.usefixtures("worker")
async def test_jobs_are_listed_page_by_page(gateway: Gateway) -> None:
    made = []
    for _ in range(5):
        _, job = await gateway.post("/v1/jobs", json={"model": "sentiment", "items": [GOOD]})
        made.append(job["id"])
    found, path = [], "/v1/jobs?limit=2"
    while path:
        _, page = await gateway.get(path)
        assert len(page["jobs"]) <= 2
        found += [job["id"] for job in page["jobs"]]
        path = page["next"]
    assert found == made[::-1]


@pytest.mark.usefixtures("worker")
async def test_results_expire(
    gateway_settings: GatewaySettings, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmaas.producer.gateway.jobs.collecting.SWEEP", 0.1)
    uploads = gateway_settings.state_folder / "uploads"
    uploads.mkdir(parents=True)
    (uploads / "new").touch()
    (uploads / "old").touch()
    os.utime(uploads / "old", (0, 0))
    brief = msgspec.structs.replace(gateway_settings, keep_results=0.2)
    async with listening(brief, settings) as gateway:
        _, job = await gateway.post("/v1/jobs", json={"model": "sentiment", "items": [GOOD]})
        results_of = brief.state_folder / "results"

        async def gone() -> bool:
            return (await gateway.get(f"/v1/jobs/{job['id']}"))[0] == 404

        async def deleted() -> bool:
            return not list(results_of.glob(f"{job['id']}.*"))

        await until(gone)
        await until(deleted)
        assert [path.name for path in uploads.iterdir()] == ["new"]


async def test_calls_that_take_longer_become_jobs(stage: Stage, gateway: Gateway) -> None:
    stage.hold()
    call = {"model": "sentiment", "items": [GOOD, BAD]}
    for prefer, timeout in (("respond-async", None), ("wait=0.2", None), (None, 0.2)):
        async with gateway.http.post(
            gateway.url + "/v1/classify",
            json=call | ({"timeout": timeout} if timeout else {}),
            headers={"Prefer": prefer} if prefer else {},
        ) as answer:
            assert answer.status == 202
            job = await answer.json()
            assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
            assert answer.headers.get("Preference-Applied") == (
                prefer if prefer == "respond-async" else None
            )
            assert job["items"] == 2
    stage.release()
    assert (await ended(gateway, job["id"]))["state"] == "finished"
    async with gateway.http.post(
        gateway.url + "/v1/classify", json=call, headers={"Prefer": "respond-async, wait=20"}
    ) as answer:
        assert answer.status == 200


@pytest.mark.usefixtures("worker")
async def test_requests_with_a_key_are_done_once(gateway: Gateway) -> None:
    key = {"Idempotency-Key": "one"}
    status, job = await gateway.post("/v1/jobs", json=CALL, headers=key)
    again = await gateway.post("/v1/jobs", json=CALL, headers=key)
    assert (status, again[0], again[1]["id"]) == (202, 202, job["id"])
    other = CALL | {"items": ["something else"]}
    status, answer = await gateway.post("/v1/jobs", json=other, headers=key)
    assert (status, answer["error"]["code"]) == (422, "idempotency_key_reused")
    assert len((await gateway.get("/v1/jobs"))[1]["jobs"]) == 1

    # Files, too; and what has failed is not kept.
    key = {"Idempotency-Key": "two", "Content-Type": "application/x-ndjson"}
    query = {"model": "sentiment", "text_column": "body"}
    assert (await gateway.post("/v1/jobs", data=LINES, headers=key, params=query))[0] == 400
    query = {"model": "sentiment"}
    _, first = await gateway.post("/v1/jobs", data=LINES, headers=key, params=query)
    _, second = await gateway.post("/v1/jobs", data=LINES, headers=key, params=query)
    assert first["id"] == second["id"]

    key = {"Idempotency-Key": "three"}
    call = {"model": "sentiment", "items": [GOOD]}
    answers = await asyncio.gather(
        *(gateway.post("/v1/classify", json=call, headers=key) for _ in range(8))
    )
    assert {status for status, _ in answers} <= {200, 409}
    assert [status for status, _ in answers].count(200) >= 1
    assert (await gateway.post("/v1/classify", json=call, headers=key))[0] == 200


async def test_a_key_whose_request_is_worked_on_is_told(stage: Stage, gateway: Gateway) -> None:
    stage.hold()
    key = {"Idempotency-Key": "one"}
    call = {"model": "sentiment", "items": [GOOD]}
    first = asyncio.create_task(gateway.post("/v1/classify", json=call, headers=key))
    await stage.began()
    status, answer = await gateway.post("/v1/classify", json=call, headers=key)
    assert (status, answer["error"]["code"]) == (409, "in_progress")
    stage.release()
    assert (await first)[0] == 200


async def test_the_end_of_a_job_is_told_to_its_callback(
    stage: Stage, gateway_settings: GatewaySettings, settings: Settings
) -> None:
    told: asyncio.Queue[tuple[dict[str, str], dict[str, Any]]] = asyncio.Queue()

    async def receive(request: web.Request) -> web.Response:
        told.put_nowait((dict(request.headers), await request.json()))
        return web.Response()

    receiver = web.Application()
    receiver.router.add_post("/here", receive)
    runner = web.AppRunner(receiver)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    near = msgspec.structs.replace(gateway_settings, allowed_networks=("127.0.0.0/8",))
    call = {
        "model": "sentiment",
        "items": [GOOD],
        "callback_url": f"http://127.0.0.1:{port}/here",
        "callback_secret": "whsec_" + base64.b64encode(bytes(24)).decode(),
    }
    try:
        async with listening(near, settings) as gateway:
            _, job = await gateway.post("/v1/jobs", json=call)
            async with asyncio.timeout(LIMIT):
                headers, event = await told.get()
            assert headers["webhook-signature"].startswith("v1,")
            assert (event["type"], event["data"]["id"]) == ("job.finished", job["id"])
            assert event["data"]["done"] == 1
            _, answer = await gateway.get(f"/v1/jobs/{job['id']}/deliveries")
            assert [one["event"] for one in answer["deliveries"]] == ["job.finished"]
            status, answer = await gateway.post("/v1/jobs", json=call | {"callback_secret": "x"})
            assert (status, answer["error"]["code"]) == (422, "invalid")
    finally:
        await runner.cleanup()


async def test_who_follows_a_job_does_not_keep_the_gateway_from_stopping(
    stage: Stage, gateway_settings: GatewaySettings, settings: Settings
) -> None:
    """What is followed is cut off, so that its missing end is seen."""
    stage.hold()
    async with aiohttp.ClientSession() as http, asyncio.timeout(LIMIT):
        async with listening(gateway_settings, settings) as gateway:
            _, job = await gateway.post("/v1/jobs", json=CALL)
            path = f"{gateway.url}/v1/jobs/{job['id']}"
            following = await http.get(path + "/results?follow=true")
            events = await http.get(path + "/events")
            assert (await events.content.readuntil(b"\n\n")).startswith(b"event: progress")
        for cut in (following, events):
            with pytest.raises(aiohttp.ClientError):
                await cut.read()


@pytest.mark.usefixtures("lanes")
async def test_after_its_deadline_a_job_is_not_run(
    gateway_settings: GatewaySettings, settings: Settings
) -> None:
    punctual = having(settings, clock_skew=0.0)
    async with listening(gateway_settings, punctual) as gateway:
        deadline = datetime.now(UTC) + timedelta(seconds=1)
        call = {"model": "sentiment", "items": [GOOD, BAD], "deadline": deadline.isoformat()}
        status, job = await gateway.post("/v1/jobs", json=call)
        assert status == 202

        async def passed() -> bool:
            return datetime.now(UTC) > deadline

        await until(passed)
        async with Stage().serving(punctual) as stage:
            job = await ended(gateway, job["id"])
            assert stage.packs == []
    assert (job["state"], job["failed"]) == ("finished", 2)
    assert {one["error"]["code"] for one in job["errors"]} == {"deadline_exceeded"}


@pytest.mark.usefixtures("lanes")
async def test_priority_changes_how_a_job_is_ordered(
    gateway_settings: GatewaySettings, settings: Settings
) -> None:
    """By what remains of it, as its packs say."""
    remaining = {}
    async with (
        listening(gateway_settings, settings) as gateway,
        channel_to(settings) as channel,
    ):
        for priority in ("low", "normal", "high"):
            call = {"model": "sentiment", "items": [GOOD], "priority": priority}
            assert (await gateway.post("/v1/jobs", json=call))[0] == 202
            for lane in LANES:
                queue = await channel.get_queue(settings.names.work_queue("sentiment", lane))
                if message := await queue.get(no_ack=True, fail=False):
                    remaining[priority] = Headers.from_table(message.headers).remaining or 0.0
    assert remaining["low"] / remaining["normal"] == pytest.approx(100)
    assert remaining["normal"] / remaining["high"] == pytest.approx(100)
