"""With payload keys, nothing that the gateway keeps has a text, an id or a label in the clear."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
import openai
import pyarrow.parquet as pq
import pytest

from lmaas.broker_config import payload_keys
from lmaas.broker_config.sealing import line_of_new_key
from lmaas.broker_config.settings import Settings
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.settings.callbacks import Callbacks
from lmaas.producer.gateway.settings.hooks import Hook
from tests.gateway.conftest import Gateway, listening
from tests.gateway.receivers import Receiver, receiving, statuses
from tests.gateway.test_jobs import PARQUET, ended, results, told
from tests.gateway.test_jobs_survive import CALL, EXPECTED, has, process
from tests.gateway.test_openai_batches import CLASSIFICATIONS, SECRET, calling, line
from tests.gateway.test_openai_batches import ended as batch_ended
from tests.integration.lanes import LIMIT, having, serving, until
from tests.integration.stage import Stage
from tests.payload_keys import sealed

CANARY = "zzcanaryzz"
ID = f"id-{CANARY}"
GOOD = f"a wonderful, moving film {CANARY}"
#: What is nowhere: any text, id or name of a user's, and any label.
HIDDEN = (CANARY.encode(), b"wonderful", b"positive")
KEY_A, KEY_B = line_of_new_key("a"), line_of_new_key("b")
ROWS = [{"id": ID, "text": GOOD}, {"id": f"{ID}-2", "text": 5}]
NDJSON = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
HOOK = {"webhook-id": f"delivery-{CANARY}"}
UPLOAD = "/v1/jobs?model=sentiment&id_column=id&text_column=text"
DONE = {ID: "positive", f"{ID}-2": "not_text"}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "payload.keys"
    path.touch(0o600)
    path.write_text(KEY_A)
    return path


@pytest.fixture
def settings(settings: Settings, keys: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(payload_keys, "LOOK", 0.0)  # a change of the file counts at once
    return sealed(settings, keys)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving(statuses(500, 204)) as receiver:
        yield receiver


@pytest.fixture
def gateway_settings(gateway_settings: GatewaySettings) -> GatewaySettings:
    return keeping(gateway_settings)


def keeping(settings: GatewaySettings) -> GatewaySettings:
    """With a hook, and callbacks that are tried once and then wait."""
    return msgspec.structs.replace(
        settings,
        allowed_networks=("127.0.0.0/8",),
        callbacks=Callbacks(delays=(0.0, 3600.0)),
        hooks={"open": Hook(scheme="none", text="text", id="id", model="sentiment")},
    )


def _write(keys: Path, *lines: str) -> None:
    keys.write_text("".join(lines))


def readable(folder: Path) -> list[tuple[str, bytes]]:
    """Files, and what can be read in them or in their names."""
    found = []
    for path in folder.rglob("*"):
        content = path.name.encode()
        with contextlib.suppress(IsADirectoryError, FileNotFoundError):  # an upload that has ended
            content += path.read_bytes()
        found += [(path.name, hidden) for hidden in HIDDEN if hidden in content]
    return found


def telling(receiver: Receiver) -> str:
    told = {"callback_url": f"{receiver.url}{CANARY}", "callback_secret": SECRET}
    return f"{UPLOAD}&{urlencode(told)}"


@dataclass
class Kept:
    """What a gateway was asked for."""

    job: dict[str, Any]
    batch: str
    output: str
    failed: str
    file: str
    answer: Any
    delivery: str


async def filled(gateway: Gateway, receiver: Receiver) -> Kept:
    """Every way in which the gateway keeps something."""
    call = {"data": NDJSON, "headers": {"Idempotency-Key": ID}}
    call["headers"] |= {"Content-Type": "application/x-ndjson"}
    status, job = await gateway.post(telling(receiver), **call)
    assert status == 202, job
    form = aiohttp.FormData()
    for name in ("one", "two"):  # several files become a tar
        form.add_field("file", GOOD, filename=f"{CANARY}-{name}.txt", content_type="text/plain")
    status, _ = await gateway.post("/v1/jobs?model=sentiment", data=form)
    assert status == 202
    status, answer = await gateway.post("/hooks/open", json=ROWS[:1], headers=HOOK)
    assert status == 200, answer
    async with calling(gateway) as client:
        batches = []
        for content in (line(ID, GOOD) + line(f"{ID}-2", 5), line(ID) * 2):
            file = await client.files.create(file=(f"{CANARY}.jsonl", content), purpose="batch")
            batch = await client.batches.create(
                input_file_id=file.id, endpoint=CLASSIFICATIONS, completion_window="24h",
                metadata={"for": CANARY},
            )  # fmt: skip
            batches.append(await batch_ended(client, batch))
    done, failed = batches
    assert (done.status, failed.status) == ("completed", "failed")
    await ended(gateway, job["id"])
    await receiver.received(1, LIMIT)
    await _converted(gateway, job["id"])
    _, log = await gateway.get(f"/v1/jobs/{job['id']}/deliveries")
    (delivery,) = log["deliveries"]
    return Kept(
        job, done.id, done.output_file_id or "", failed.id, done.input_file_id, answer,
        delivery["id"],
    )  # fmt: skip


async def _converted(gateway: Gateway, job: str) -> None:
    """The results of the job in each format."""
    assert told(await results(gateway, job)) == DONE
    url = f"{gateway.url}/v1/jobs/{job}/results"
    async with gateway.http.get(url, headers={"Accept": "text/csv"}) as answer:
        rows = list(csv.DictReader(io.StringIO(await answer.text())))
        assert [row["label"] for row in rows] == ["positive", ""]
    async with gateway.http.get(url, headers={"Accept": PARQUET}) as answer:
        assert answer.headers["Accept-Ranges"] == "bytes"
        table = pq.read_table(io.BytesIO(await answer.read()))
        assert table.column("id").to_pylist() == [ID, f"{ID}-2"]


async def check(gateway: Gateway, receiver: Receiver, kept: Kept) -> None:
    """Everything is as it was."""
    name = kept.job["id"]
    status, job = await gateway.get(f"/v1/jobs/{name}")
    assert (status, job["state"], job["failed"]) == (200, "finished", 1)
    assert job["errors"][0]["id"] == f"{ID}-2"
    assert job["callback_url"].endswith(CANARY)
    await _converted(gateway, name)
    lines = await results(gateway, name)
    first = len(json.dumps(lines[0], separators=(",", ":"))) + 1
    assert await results(gateway, name, offset=first) == lines[1:]
    headers = {"Idempotency-Key": ID, "Content-Type": "application/x-ndjson"}
    status, again = await gateway.post(telling(receiver), data=NDJSON, headers=headers)
    assert (status, again) == (202, kept.job)
    status, _ = await gateway.post(UPLOAD, data=NDJSON + b"\n", headers=headers)
    assert status == 422
    answer = await gateway.post("/hooks/open", json=[], headers=HOOK)
    assert answer == (200, kept.answer)
    async with calling(gateway) as client:
        await _check_batches(gateway, client, kept)
    count = len(receiver.came)
    status, _ = await gateway.post(f"/v1/deliveries/{kept.delivery}/redeliver")
    assert status == 202
    came = (await receiver.received(count + 1, LIMIT))[-1]
    assert (came.path, came.json["data"]["results"][0]["id"]) == (f"/{CANARY}", ID)


async def _check_batches(gateway: Gateway, client: openai.AsyncOpenAI, kept: Kept) -> None:
    batch = await client.batches.retrieve(kept.batch)
    assert batch.metadata == {"for": CANARY}
    output = (await client.files.content(kept.output)).text
    assert json.loads(output)["custom_id"] == ID
    assert (await client.files.content(kept.file)).text.count(CANARY) == 3
    assert (await client.files.retrieve(kept.file)).filename == f"{CANARY}.jsonl"
    failed = await client.batches.retrieve(kept.failed)
    assert failed.errors is not None
    assert CANARY in str(failed.errors)
    url, size = f"{gateway.url}/v1/files/{kept.output}/content", len(output)
    for asked, status, begin, end in (
        ("bytes=3-9", 206, 3, 10), ("bytes=-7", 206, size - 7, size), ("bytes=5-", 206, 5, size),
        (f"bytes={size}-", 416, 0, 0), ("bytes=x", 416, 0, 0), (f"bytes=0-{size}", 206, 0, size),
    ):  # fmt: skip
        async with gateway.http.get(url, headers={"Range": asked}) as answer:
            assert (answer.status, await answer.text()) == (status, output[begin:end])
            whole = f"bytes {begin}-{end - 1}/{size}" if status == 206 else f"bytes */{size}"
            assert answer.headers["Content-Range"] == whole


async def test_nothing_can_be_read_in_the_folder_and_all_of_it_by_a_gateway(
    settings: Settings, gateway_settings: GatewaySettings, receiver: Receiver, keys: Path
) -> None:
    folder = Path(gateway_settings.folder or "")
    async with serving(settings):
        async with listening(gateway_settings, settings) as gateway:
            kept = await filled(gateway, receiver)
            await _look_at_an_upload(gateway, folder)
            assert readable(folder) == []
        assert readable(folder) == []

        _write(keys, KEY_B, KEY_A)  # another key seals, and both open
        async with listening(gateway_settings, settings) as gateway:
            await check(gateway, receiver, kept)
            status, later = await gateway.post(
                UPLOAD, data=NDJSON, headers={"Content-Type": "application/x-ndjson"}
            )
            assert status == 202
            assert (await ended(gateway, later["id"]))["state"] == "finished"
            _write(keys, KEY_B)
            await _check_without_key(gateway, kept, later["id"])
            _write(keys, KEY_B, KEY_A)
            await check(gateway, receiver, kept)
        assert readable(folder) == []


async def _look_at_an_upload(gateway: Gateway, folder: Path) -> None:
    """While it is sent: the first part of it is in the folder of uploads."""
    goes_on = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield NDJSON * 10_000
        await goes_on.wait()
        yield NDJSON

    async def is_kept() -> bool:
        return sum(path.stat().st_size for path in (folder / "uploads").iterdir()) > 300_000

    headers = {"Content-Type": "application/x-ndjson"}
    sending = asyncio.create_task(gateway.post(UPLOAD, data=body(), headers=headers))
    try:
        await until(is_kept)
        assert readable(folder) == []
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _check_without_key(gateway: Gateway, kept: Kept, later: str) -> None:
    """A clear error for what was sealed with it; everything else goes on, and nothing is lost."""
    status, answer = await gateway.get(f"/v1/jobs/{kept.job['id']}/results")
    assert (status, answer["error"]["code"]) == (503, "key_unknown")
    assert "'a'" in answer["error"]["message"]
    status, answer = await gateway.get(f"/v1/files/{kept.output}/content")
    assert (status, answer["error"]["code"]) == (503, "key_unknown")
    status, answer = await gateway.get(f"/v1/batches/{kept.batch}")
    assert (status, answer["errors"]["data"][0]["code"]) == (200, "key_unknown")
    status, page = await gateway.get("/v1/jobs")
    reasons = {job["id"]: job["reason"] for job in page["jobs"]}
    assert (status, reasons[later]) == (200, None)
    assert "'a'" in reasons[kept.job["id"]]
    assert (await gateway.get("/v1/files"))[0] == 200
    assert told(await results(gateway, later)) == DONE


@pytest.mark.usefixtures("keys")
async def test_jobs_from_before_and_without_keys_go_on(
    settings: Settings, gateway_settings: GatewaySettings, receiver: Receiver
) -> None:
    folder = Path(gateway_settings.folder or "")
    plain = having(settings, payload_keys=None)
    begun = having(settings, accept_unsealed=True)
    async with serving(begun):
        async with listening(gateway_settings, plain) as gateway:
            kept = await filled(gateway, receiver)
        assert {hidden for _, hidden in readable(folder)} == set(HIDDEN)
        async with listening(gateway_settings, begun) as gateway:
            await check(gateway, receiver, kept)
        async with listening(gateway_settings, settings) as gateway:
            status, answer = await gateway.get(f"/v1/jobs/{kept.job['id']}/results")
            assert (status, answer["error"]["code"]) == (502, "not_sealed")
            assert (await gateway.get("/v1/jobs"))[0] == 200


@pytest.mark.chaos
async def test_a_gateway_that_is_killed_goes_on_with_its_sealed_results(
    settings: Settings, tmp_path: Path, keys: Path
) -> None:
    """Killed with 4 of 12 results, and half of a frame behind them."""
    few = {"LMAAS_PACK_ITEMS": "1", "LMAAS_PAYLOAD_KEYS": str(keys)}
    async with Stage().serving(settings) as stage:
        stage.hold()
        async with process(tmp_path / "state", settings, **few) as first:
            _, job = await first.gateway.post("/v1/jobs", json=CALL)
            for _ in range(4):
                stage.step()
            await has(first.gateway, job["id"], 4)
            seen = await results(first.gateway, job["id"])
            await first.kill()
        lines = tmp_path / "state" / "results" / f"{job['id']}.ndjson"
        with lines.open("ab") as file:
            file.write(lines.read_bytes()[100:200])
        stage.release()
        async with process(tmp_path / "state", settings, **few) as second:
            assert (await results(second.gateway, job["id"]))[:4] == seen
            found = await ended(second.gateway, job["id"])
            assert (found["state"], found["done"], found["failed"]) == ("finished", 12, 0)
            everything = await results(second.gateway, job["id"])
            assert everything[:4] == seen
            assert told(everything) == EXPECTED
    assert readable(tmp_path / "state") == []
