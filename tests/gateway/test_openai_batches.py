"""Files, batches, moderations and classifications, as the `openai` client uses them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import openai
import pytest
import sqlalchemy as sa
from openai.types import Batch

from lmaas.broker_config.settings import Settings
from lmaas.producer.batch import Jobs
from lmaas.producer.gateway import api_keys
from lmaas.producer.gateway.openai_batches import work
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.state import State, keys
from lmaas.producer.gateway.state import jobs as jobs_table
from lmaas.producer.gateway.state.batches import batches as batches_table
from lmaas.producer.journal import JobEntry
from tests.gateway.conftest import Gateway, listening
from tests.gateway.receivers import receiving
from tests.gateway.test_jobs_survive import process
from tests.integration.lanes import LIMIT, having, serving, until
from tests.integration.stage import Stage

GOOD = "a wonderful, moving film"
BAD = "dull and awful, a waste of time"
#: So long that no two packs are run together.
LONG = "good " * 15_000
CLASSIFICATIONS: Any = "/v1/classifications"
MODERATIONS: Any = "/v1/moderations"
SECRET = "whsec_RdvaYFYUXuIFuEbvZHwMfYFhUf7aMYjYcmM24+Aj40c="


def line(name: str, given: Any = GOOD, url: str = CLASSIFICATIONS, **others: Any) -> bytes:
    """Of an input file."""
    body = {"model": "sentiment", "input": given} | others.pop("body", {})
    told = {"custom_id": name, "method": "POST", "url": url, "body": body} | others
    return json.dumps(told).encode() + b"\n"


@contextlib.asynccontextmanager
async def calling(gateway: Gateway, **options: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    options = {"api_key": "nobody asks", "max_retries": 0, "timeout": LIMIT} | options
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", **options) as client:
        yield client


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with calling(gateway) as client:
        yield client


async def submitted(
    client: openai.AsyncOpenAI, content: bytes, endpoint: Any = CLASSIFICATIONS, **options: Any
) -> Batch:
    """A batch of what is sent up."""
    file = await client.files.create(file=("in.jsonl", content), purpose="batch")
    options = {"completion_window": "24h"} | options
    return await client.batches.create(input_file_id=file.id, endpoint=endpoint, **options)


async def ended(client: openai.AsyncOpenAI, batch: Batch) -> Batch:
    """The batch when it has ended."""
    found = batch

    async def has_ended() -> bool:
        nonlocal found
        found = await client.batches.retrieve(batch.id)
        return found.status in {"completed", "failed", "expired", "cancelled"}

    await until(has_ended)
    return found


async def told(client: openai.AsyncOpenAI, file: str | None) -> dict[str, Any]:
    """The lines of a file by their custom ids, in their order."""
    if file is None:
        return {}
    content = (await client.files.content(file)).content
    lines = [json.loads(line) for line in content.splitlines()]
    found = {line["custom_id"]: line for line in lines}
    assert len(found) == len({line["id"] for line in lines}) == len(lines)
    return found


async def is_too_late(settings: GatewaySettings, batch: Batch) -> None:
    """Ends the batch's time, as if it were over: who waits for that depends on the machine."""
    mine = sa.update(batches_table).where(batches_table.c.id == batch.id)
    async with State(settings) as state, state.writing() as connection:
        await connection.execute(mine.values(due=time.time()))


def within(settings: GatewaySettings, folder: str) -> list[str]:
    """The names in one of the gateway's folders."""
    return sorted(path.name for path in (settings.state_folder / folder).iterdir())


def counts(batch: Batch) -> tuple[int, int, int]:
    found = batch.request_counts
    assert found is not None
    return found.total, found.completed, found.failed


# ---------------------------------------------------------------------- batches


@pytest.mark.usefixtures("worker")
async def test_a_batch_from_the_upload_to_its_files(client: openai.AsyncOpenAI) -> None:
    content = b"\xef\xbb\xbf" + b"".join(
        [
            line("good"),
            b"\n",
            line("several", [BAD, {"text": GOOD}, {"text": 5}]),
            line("empty", ""),
            line("bad", BAD),
            line("number", 5),
            line("nothing", body={"input": []}),
        ]
    )
    metadata = {"who": "me"}
    batch = await submitted(client, content, metadata=metadata)
    assert (batch.status, batch.object, batch.metadata) == ("validating", "batch", metadata)
    assert batch.expires_at is not None
    assert batch.expires_at - batch.created_at == 24 * 3600
    batch = await ended(client, batch)
    assert (batch.status, batch.model, batch.errors) == ("completed", "sentiment", None)
    assert counts(batch) == (6, 3, 3)
    moments = (batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at)
    assert list(moments) == sorted(moments)  # type: ignore[type-var]
    assert abs(batch.created_at - time.time()) < LIMIT

    output = await told(client, batch.output_file_id)
    assert list(output) == ["good", "several", "bad"]
    good = output["good"]
    assert good["error"] is None
    assert good["response"]["status_code"] == 200
    assert good["response"]["request_id"]
    body = good["response"]["body"]
    assert (body["object"], body["model"]) == ("classification", "sentiment")
    (result,) = body["results"]
    assert result["label"] == "positive"
    assert set(result["scores"]) == {"positive", "negative"}
    assert result["scores"]["positive"] == result["score"]
    several = output["several"]["response"]["body"]["results"]
    assert [one.get("label") for one in several] == ["negative", "positive", None]
    assert several[2]["error"]["code"] == "invalid_item"

    errors = await told(client, batch.error_file_id)
    codes = {
        name: (one["response"]["status_code"], one["response"]["body"]["error"]["code"])
        for name, one in errors.items()
    }
    assert codes == {
        "empty": (400, "empty_text"),
        "number": (400, "invalid_item"),
        "nothing": (400, "invalid_item"),
    }
    assert batch.output_file_id is not None
    file = await client.files.retrieve(batch.output_file_id)
    assert (file.purpose, file.status) == ("batch_output", "processed")
    assert file.bytes == len((await client.files.content(file.id)).content)


@pytest.mark.usefixtures("worker")
async def test_moderations_and_all_lines_failed(client: openai.AsyncOpenAI) -> None:
    content = line("a", BAD, MODERATIONS) + line("b", [GOOD, BAD], MODERATIONS)
    batch = await ended(client, await submitted(client, content, MODERATIONS))
    output = await told(client, batch.output_file_id)
    flags = {
        name: [one["flagged"] for one in found["response"]["body"]["results"]]
        for name, found in output.items()
    }
    assert flags == {"a": [True], "b": [False, True]}
    assert batch.error_file_id is None

    content = line("a", "", MODERATIONS) + line("b", [GOOD, ""], MODERATIONS)
    batch = await ended(client, await submitted(client, content, MODERATIONS))
    assert (batch.status, counts(batch)) == ("completed", (2, 0, 2))
    assert batch.output_file_id is None
    errors = await told(client, batch.error_file_id)
    assert errors["b"]["response"]["body"]["error"]["message"].startswith("input 1: ")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", [("empty_file", None)]),
        (b"\n \n", [("empty_file", None)]),
        (line("a") + b"{broken\n" + line("b"), [("invalid_json_line", 2)]),
        (line("a") + b'{"custom_id": "b"}\n', [("invalid_json_line", 2)]),
        (line(""), [("invalid_json_line", 1)]),
        (line("a", body={"model": None}), [("invalid_json_line", 1)]),
        (line("a") + line("a", BAD), [("duplicate_custom_id", 2)]),
        (line("a") + b"\n" + line("b", url=MODERATIONS), [("url_mismatch", 3)]),
        (line("a", method="GET"), [("invalid_method", 1)]),
        (line("a") + line("b", body={"model": "other"}), [("model_mismatch", 2)]),
        (b"\xff\xfe\x00", [("invalid_json_line", 1)]),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_a_file_is_told_by_its_batch(
    client: openai.AsyncOpenAI, content: bytes, expected: list[tuple[str, int | None]]
) -> None:
    batch = await submitted(client, content)
    assert batch.status == "validating"
    batch = await ended(client, batch)
    assert batch.status == "failed"
    assert batch.failed_at is not None
    assert batch.errors is not None
    found = [(one.code, one.line) for one in batch.errors.data or []]
    assert found == expected
    assert (batch.output_file_id, batch.error_file_id) == (None, None)


async def test_a_model_that_nobody_serves(client: openai.AsyncOpenAI) -> None:
    batch = await submitted(client, line("a", body={"model": "nobody_has_this"}))
    batch = await ended(client, batch)
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [one.code for one in batch.errors.data or []] == ["model_not_found"]


async def test_what_was_done_before_a_cancel_is_kept(
    settings: Settings, gateway_settings: GatewaySettings
) -> None:
    engine = having(settings, pack_items=1)
    async with (
        Stage().serving(engine) as stage,
        listening(gateway_settings, engine) as gateway,
        calling(gateway) as client,
    ):
        stage.hold()
        batch = await submitted(client, b"".join(line(str(number), LONG) for number in range(8)))
        for _ in range(3):
            stage.step()

        async def has_three() -> bool:
            return counts(await client.batches.retrieve(batch.id)) == (8, 3, 0)

        await until(has_three)
        batch = await client.batches.cancel(batch.id)
        assert batch.status in {"cancelling", "cancelled"}
        batch = await ended(client, batch)
        assert (batch.status, counts(batch)) == ("cancelled", (8, 3, 0))
        assert batch.cancelled_at
        assert len(await told(client, batch.output_file_id)) == 3
        errors = await told(client, batch.error_file_id)
        assert {(one["response"], one["error"]["code"]) for one in errors.values()} == {
            (None, "batch_cancelled")
        }
        assert len(errors) == 5
        # Once more is no error, and changes nothing.
        assert (await client.batches.cancel(batch.id)).status == "cancelled"
        stage.release()


async def test_what_is_not_done_in_its_time_is_expired(
    settings: Settings, gateway_settings: GatewaySettings
) -> None:
    engine = having(settings, pack_items=1)
    async with (
        Stage().serving(engine) as stage,
        listening(gateway_settings, engine) as gateway,
        calling(gateway) as client,
    ):
        stage.hold()
        content = b"".join(line(str(number), LONG) for number in range(4))
        batch = await submitted(client, content, completion_window="90m")
        assert batch.expires_at
        assert batch.expires_at - batch.created_at == 90 * 60
        stage.step()

        async def has_one() -> bool:
            return counts(await client.batches.retrieve(batch.id)) == (4, 1, 0)

        await until(has_one)
        await is_too_late(gateway_settings, batch)
        batch = await ended(client, batch)
        assert (batch.status, counts(batch)) == ("expired", (4, 1, 0))
        assert batch.expired_at
        assert batch.expires_at
        assert batch.expired_at >= batch.expires_at
        errors = await told(client, batch.error_file_id)
        assert {one["error"]["code"] for one in errors.values()} == {"batch_expired"}
        assert len(await told(client, batch.output_file_id)) == 1
        with pytest.raises(openai.ConflictError):
            await client.batches.cancel(batch.id)
        stage.release()


@pytest.mark.usefixtures("lanes")
async def test_what_waits_for_room_is_cancelled_and_expires(
    settings: Settings, gateway_settings: GatewaySettings
) -> None:
    """Nobody works, and the lane is full before all of it is published."""
    engine = having(settings, pack_items=1, max_waiting=2)
    content = b"".join(line(str(number), LONG) for number in range(6))
    async with listening(gateway_settings, engine) as gateway, calling(gateway) as client:
        for status, code in (("cancelled", "batch_cancelled"), ("expired", "batch_expired")):
            batch = await submitted(client, content)

            async def begins(name: str = batch.id) -> bool:
                return (await client.batches.retrieve(name)).status == "in_progress"

            await until(begins)
            if status == "cancelled":
                await client.batches.cancel(batch.id)
            else:
                await is_too_late(gateway_settings, batch)
            batch = await ended(client, batch)
            assert (batch.status, counts(batch)) == (status, (6, 0, 0))
            errors = await told(client, batch.error_file_id)
            assert [one["error"]["code"] for one in errors.values()] == [code] * 6

            async def nothing_is_left() -> bool:
                return bool((await gateway.get("/v1/jobs"))[1]["jobs"] == [])

            await until(nothing_is_left)


@pytest.mark.parametrize("moment", ["while it waits for room", "when all of it is published"])
async def test_who_cancels_a_job_that_is_being_submitted_ends_its_batch(
    settings: Settings,
    gateway_settings: GatewaySettings,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    """It is not submitted again."""
    engine = having(settings, pack_items=1, max_waiting=2 if "room" in moment else 100)
    published, cancelled = asyncio.Event(), asyncio.Event()
    publish = Jobs.publish

    async def held_up(self: Jobs, *arguments: Any, **options: Any) -> JobEntry:
        entry = await publish(self, *arguments, **options)
        published.set()
        await cancelled.wait()
        return entry

    monkeypatch.setattr(Jobs, "publish", held_up)
    content = b"".join(line(str(number), LONG) for number in range(6))
    async with serving(settings):  # makes the lanes
        pass
    async with listening(gateway_settings, engine) as gateway, calling(gateway) as client:
        batch = await submitted(client, content)

        async def submits() -> bool:
            return bool((await gateway.get("/v1/jobs"))[1]["jobs"])

        await until(submits)
        (job,) = (await gateway.get("/v1/jobs"))[1]["jobs"]
        assert job["state"] == "submitting"
        if "room" not in moment:
            await published.wait()
            # As another gateway does it, before this one looks.
            async with State(gateway_settings) as state, state.writing() as connection:
                await jobs_table.cancel(connection, job["id"])
                cancelled.set()
        async with gateway.http.delete(f"{gateway.url}/v1/jobs/{job['id']}") as answer:
            assert answer.status in {200, 202}
        batch = await ended(client, batch)
        assert (batch.status, counts(batch)) == ("cancelled", (6, 0, 0))
        (job,) = (await gateway.get("/v1/jobs"))[1]["jobs"]
        assert job["state"] in {"cancelling", "cancelled"}
        assert published.is_set() == ("room" not in moment)


@pytest.mark.usefixtures("worker")
async def test_the_same_within_a_minute_is_the_same_batch(client: openai.AsyncOpenAI) -> None:
    file = await client.files.create(file=line("a"), purpose="batch")
    made = [
        await client.batches.create(
            input_file_id=file.id, endpoint=CLASSIFICATIONS, completion_window="24h"
        )
        for _ in range(2)
    ]
    assert made[0].id == made[1].id
    other = await submitted(client, line("a"))
    assert other.id != made[0].id
    for batch in (made[0], other):
        assert (await ended(client, batch)).status == "completed"


@pytest.mark.usefixtures("worker")
async def test_pages_of_batches(client: openai.AsyncOpenAI) -> None:
    made = [(await submitted(client, line("a"))).id for _ in range(5)]
    page = await client.batches.list(limit=2)
    assert [batch.id for batch in page.data] == made[:2:-1]
    assert page.has_more
    assert [batch.id async for batch in client.batches.list(limit=2)] == made[::-1]
    with pytest.raises(openai.BadRequestError, match="limit"):
        await client.batches.list(limit=101)


async def test_an_event_tells_the_end(
    settings: Settings, gateway_settings: GatewaySettings
) -> None:
    """It is verified and read by the client's own `webhooks.unwrap`."""
    mine = msgspec.structs.replace(gateway_settings, allowed_networks=("127.0.0.0/8",))
    async with (
        Stage().serving(settings),
        listening(mine, settings) as gateway,
        calling(gateway, webhook_secret=SECRET) as client,
        receiving() as receiver,
    ):
        callback = {"callback_url": receiver.url, "callback_secret": SECRET}
        batch = await submitted(client, line("a"), extra_body=callback)
        wrong = await submitted(client, b"{", extra_body=callback)
        came = await receiver.received(2)
        events = [client.webhooks.unwrap(one.body, dict(one.headers)) for one in came]
        found = {(event.type, event.data.id) for event in events}  # type: ignore[union-attr]
        assert found == {("batch.completed", batch.id), ("batch.failed", wrong.id)}
        assert {event.object for event in events} == {"event"}
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(came[0].body + b" ", dict(came[0].headers))
        refused = {**callback, "callback_url": "http://169.254.169.254/"}
        with pytest.raises(openai.BadRequestError, match="callback_url"):
            await submitted(client, line("b"), extra_body=refused)


async def test_a_gateway_that_is_killed_ends_its_batches_when_it_is_back(
    settings: Settings, tmp_path: Path
) -> None:
    small = {"LMAAS_PACK_ITEMS": "1"}
    content = b"".join(line(str(number), LONG) for number in range(6))
    async with Stage().serving(settings) as stage:
        stage.hold()
        async with process(tmp_path / "state", settings, **small) as first:
            async with calling(first.gateway) as client:
                batch = await submitted(client, content)
                for _ in range(2):
                    stage.step()

                async def has_two() -> bool:
                    return counts(await client.batches.retrieve(batch.id)) == (6, 2, 0)

                await until(has_two)
                fresh = await submitted(client, content)
            await first.kill()
        stage.release()
        async with (
            process(tmp_path / "state", settings, **small) as second,
            calling(second.gateway) as client,
        ):
            for one in (batch, fresh):
                found = await ended(client, one)
                assert (found.status, counts(found)) == ("completed", (6, 6, 0))
                assert list(await told(client, found.output_file_id)) == list("012345")


@pytest.mark.usefixtures("worker")
async def test_the_synchronous_client(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(line("a"))

    def go() -> str:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as client:
            file = client.files.create(file=tmp_path / "in.jsonl", purpose="batch")
            assert (file.filename, file.bytes) == ("in.jsonl", len(line("a")))
            batch = client.batches.create(
                input_file_id=file.id, endpoint=CLASSIFICATIONS, completion_window="24h"
            )
            give_up = time.monotonic() + LIMIT
            while batch.status not in {"completed", "failed"} and time.monotonic() < give_up:
                batch = client.batches.retrieve(batch.id)
            assert batch.output_file_id is not None
            return client.files.content(batch.output_file_id).text

    assert '"label":"positive"' in await asyncio.to_thread(go)


async def test_a_large_batch_takes_no_memory(settings: Settings, tmp_path: Path) -> None:
    """200,000 lines, 70 MB, before workers that answer at once."""
    psutil = pytest.importorskip("psutil")
    path = tmp_path / "in.jsonl"
    with path.open("wb") as file:
        file.writelines(line(str(number), "good " * 50) for number in range(200_000))
    async with (
        Stage().serving(settings),
        process(tmp_path / "state", settings) as one,
        calling(one.gateway, timeout=120) as client,
    ):
        running = psutil.Process(one._process.pid)
        before = most = running.memory_info().rss
        sent = await client.files.create(file=path, purpose="batch")
        batch = await client.batches.create(
            input_file_id=sent.id, endpoint=CLASSIFICATIONS, completion_window="24h"
        )
        while batch.status not in {"completed", "failed"}:
            most = max(most, running.memory_info().rss)
            batch = await client.batches.retrieve(batch.id)
        assert (batch.status, counts(batch)) == ("completed", (200_000, 200_000, 0))
        assert most - before < 100 * 1024 * 1024, (before, most)


# ---------------------------------------------------------------------- files


async def test_files_are_listed_by_pages_and_deleted(
    client: openai.AsyncOpenAI, gateway_settings: GatewaySettings
) -> None:
    made = [(await client.files.create(file=b"x" * n, purpose="batch")).id for n in range(5)]
    assert [file.id async for file in client.files.list(limit=2)] == made[::-1]
    assert [file.id async for file in client.files.list(limit=2, order="asc")] == made
    assert [file.id async for file in client.files.list()] == made[::-1]
    assert (await client.files.list(purpose="batch_output")).data == []
    deleted = await client.files.delete(made[2])
    assert (deleted.id, deleted.deleted) == (made[2], True)
    with pytest.raises(openai.NotFoundError) as missing:
        await client.files.content(made[2])
    assert missing.value.code == "file_not_found"
    assert within(gateway_settings, "files") == sorted(made[:2] + made[3:])
    file = await client.files.create(
        file=b"x", purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at == file.created_at + 3600


async def test_a_form_in_any_order_and_one_that_breaks_off(
    gateway: Gateway, gateway_settings: GatewaySettings
) -> None:
    form = aiohttp.FormData()
    form.add_field("file", io.BytesIO(line("a")), filename="in.jsonl")
    form.add_field("purpose", "batch")
    status, file = await gateway.post("/v1/files", data=form)
    assert (status, file["bytes"], file["filename"]) == (200, len(line("a")), "in.jsonl")
    for fields, param in (
        ({"file": b"x"}, "purpose"),
        ({"file": b"x", "purpose": "fine-tune"}, "purpose"),
        ({"purpose": "batch"}, "file"),
        ({"purpose": "batch", "file": b"x", "expires_after[seconds]": "5"}, "expires_after"),
    ):
        form = aiohttp.FormData(default_to_multipart=True)
        for name, value in fields.items():
            form.add_field(name, value, filename="f" if name == "file" else None)
        status, answer = await gateway.post("/v1/files", data=form)
        assert (status, answer["error"]["param"]) == (400, param), answer
    status, answer = await gateway.post("/v1/files", data=b"{}")
    assert (status, answer["error"]["type"]) == (415, "invalid_request_error")

    async def half() -> AsyncIterator[bytes]:
        yield (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + b"x" * 99
        )
        raise RuntimeError("half-way")

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    with pytest.raises((aiohttp.ClientError, RuntimeError)):
        await gateway.post("/v1/files", data=half(), headers=headers)

    async def is_gone() -> bool:
        return not within(gateway_settings, "uploads")

    await until(is_gone)
    assert within(gateway_settings, "files") == [file["id"]]


async def test_a_file_that_is_read_stays_and_what_has_expired_goes(
    stage_of_one: Stage, gateway_settings: GatewaySettings, settings: Settings
) -> None:
    mine = msgspec.structs.replace(gateway_settings, keep_files=1.0)
    async with listening(mine, settings) as gateway, calling(gateway) as client:
        stage_of_one.hold()
        batch = await submitted(client, line("a"))
        with pytest.raises(openai.BadRequestError) as refused:
            await client.files.delete(batch.input_file_id)
        assert refused.value.code == "file_in_use"
        await asyncio.sleep(1.1)  # that is what it is about
        stage_of_one.release()
        assert (await ended(client, batch)).status == "completed"


@pytest.fixture
async def stage_of_one(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """Files are looked at for their expiry all the time."""
    monkeypatch.setattr(work, "SWEEP", 0.05)
    async with Stage().serving(settings) as stage:
        yield stage


async def test_what_belongs_to_others_is_not_there(
    settings: Settings, gateway_settings: GatewaySettings
) -> None:
    mine = msgspec.structs.replace(gateway_settings, access="keys")
    async with (
        Stage().serving(settings),
        listening(mine, settings) as gateway,
        calling(gateway, api_key=await _key(mine)) as one,
        calling(gateway, api_key=await _key(mine)) as other,
        calling(gateway, api_key=await _key(mine, "classify")) as lesser,
        calling(gateway, api_key="wrong") as nobody,
    ):
        batch = await submitted(one, line("a"))
        assert (await ended(one, batch)).status == "completed"
        file = batch.input_file_id
        for call in (
            other.files.retrieve(file), other.files.content(file), other.files.delete(file),
            other.batches.retrieve(batch.id), other.batches.cancel(batch.id),
        ):  # fmt: skip
            with pytest.raises(openai.NotFoundError):
                await call
        with pytest.raises(openai.BadRequestError):
            await other.batches.create(
                input_file_id=file, endpoint=CLASSIFICATIONS, completion_window="24h"
            )
        assert (await other.files.list()).data == (await other.batches.list()).data == []
        with pytest.raises(openai.PermissionDeniedError):
            await lesser.batches.list()
        with pytest.raises(openai.AuthenticationError) as refused:
            await nobody.files.list()
        assert refused.value.type == "authentication_error"
        assert (await lesser.moderations.create(model="sentiment", input="x")).results


async def _key(settings: GatewaySettings, *scopes: str) -> str:
    written, key = api_keys.make("test", scopes or ("classify", "jobs"), time.time())
    async with State(settings) as state, state.writing() as connection:
        await keys.add(connection, key)
    return written


# ---------------------------------------------------------------------- calls and errors


@pytest.mark.usefixtures("worker")
async def test_moderations_as_a_call(client: openai.AsyncOpenAI) -> None:
    answer = await client.moderations.create(model="sentiment", input=[BAD, GOOD])
    assert answer.model == "sentiment"
    flagged, fine = answer.results
    assert (flagged.flagged, fine.flagged) == (True, False)
    assert flagged.categories.model_extra == {"negative": True, "positive": False}
    assert fine.categories.model_extra == {"positive": False, "negative": False}
    scores = flagged.category_scores.model_extra
    assert scores is not None
    assert sum(scores.values()) == pytest.approx(1.0, abs=1e-5)
    # Without a model: the only one that is served.
    only = await client.moderations.create(input=[{"type": "text", "text": BAD}])
    assert only.results[0].flagged
    with pytest.raises(openai.BadRequestError, match="input 1") as refused:
        await client.moderations.create(model="sentiment", input=[GOOD, ""])
    assert (refused.value.code, refused.value.param) == ("empty_text", "input")


@pytest.mark.usefixtures("worker")
async def test_classifications_as_a_call(gateway: Gateway) -> None:
    url = f"{gateway.url}{CLASSIFICATIONS}"
    call = {"model": "sentiment", "input": [GOOD, ""]}
    async with gateway.http.post(url, json=call) as response:
        answer = await response.json()
        assert response.status == 200, answer
        assert response.headers["x-request-id"]
    assert answer["object"] == "classification"
    assert answer["results"][0]["label"] == "positive"
    assert answer["results"][1]["error"]["code"] == "empty_text"


@pytest.mark.usefixtures("worker")
async def test_models_are_listed_and_retrieved(
    gateway: Gateway, client: openai.AsyncOpenAI
) -> None:
    listed = [model async for model in client.models.list()]
    found = await client.models.retrieve("sentiment")
    for model in (*listed, found):
        told = (model.id, model.object, model.created, model.owned_by)
        assert told == ("sentiment", "model", 0, "lmaas")
    assert len(listed) == 1
    with pytest.raises(openai.NotFoundError) as refused:
        await client.models.retrieve("nobody")
    assert refused.value.code == "unknown_model"

    def synchronous() -> list[str]:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="-", max_retries=0) as other:
            return [*(one.id for one in other.models.list()), other.models.retrieve("sentiment").id]

    assert await asyncio.to_thread(synchronous) == ["sentiment", "sentiment"]


async def test_errors_have_the_shape_of_the_protocol(client: openai.AsyncOpenAI) -> None:
    calls: list[tuple[Any, type[openai.APIStatusError], str | None]] = [
        (client.batches.retrieve("batch_x"), openai.NotFoundError, "batch_not_found"),
        (client.batches.cancel("batch_x"), openai.NotFoundError, "batch_not_found"),
        (client.files.retrieve("file-x"), openai.NotFoundError, "file_not_found"),
        (client.files.list(limit=0), openai.BadRequestError, "invalid_value"),
        (client.moderations.create(model="no", input="x"), openai.NotFoundError, "unknown_model"),
        (client.moderations.create(model="no", input=[]), openai.BadRequestError, "invalid_item"),
    ]  # fmt: skip
    for call, kind, code in calls:
        with pytest.raises(kind) as refused:
            await call
        error = refused.value
        assert (error.code, error.type) == (code, "invalid_request_error")
        assert error.request_id
    file = await client.files.create(file=line("a"), purpose="batch")
    good = {"input_file_id": file.id, "endpoint": CLASSIFICATIONS, "completion_window": "24h"}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"endpoint": "/v1/chat/completions"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"input_file_id": "file-x"}, "input_file_id"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"metadata": {"k" * 65: "x"}}, "metadata"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 5}},
            "output_expires_after",
        ),
    ]  # fmt: skip
    for change, param in wrong:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.batches.create(**{**good, **change})
        assert refused.value.param == param, refused.value
    assert (await client.batches.list()).data == []
