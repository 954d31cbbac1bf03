"""API keys over HTTP: who may do what, how much of it, and what is counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from lmaas.broker_config.settings import Settings
from lmaas.producer.gateway import api_keys, callers
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.state import State, keys
from tests.gateway.conftest import Gateway, listening
from tests.integration.lanes import LIMIT

CALL = {"model": "sentiment", "items": ["a wonderful, moving film"]}


@pytest.fixture
def gateway_settings(tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(port=0, folder=str(tmp_path / "gateway"))


async def made(settings: GatewaySettings, *scopes: str, **limits: Any) -> tuple[str, str]:
    """A new key, and its id."""
    written, key = api_keys.make("test", scopes or ("classify",), time.time(), **limits)
    async with State(settings) as state, state.writing() as connection:
        await keys.add(connection, key)
    return written, key.id


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def call(gateway: Gateway, key: str, items: int = 1) -> aiohttp.ClientResponse:
    """The answer to a call."""
    body = CALL | {"items": ["a wonderful, moving film"] * items}
    url = f"{gateway.url}/v1/classify"
    async with gateway.http.post(url, json=body, headers=bearer(key)) as answer:
        return answer


async def until(gateway: Gateway, key: str, status: int) -> None:
    """Returns when what is asked for with a key is answered so."""
    async with asyncio.timeout(LIMIT):
        while (await gateway.get("/v1/usage", headers=bearer(key)))[0] != status:
            pass


# ---------------------------------------------------------------------- who


@pytest.mark.usefixtures("worker")
async def test_a_key_is_let_in_by_either_header(
    gateway: Gateway, gateway_settings: GatewaySettings
) -> None:
    """Also one that was made while the gateway runs, at once."""
    key, _ = await made(gateway_settings)
    for headers in (
        bearer(key),
        {"Authorization": f"bearer  {key} "},
        {"X-API-Key": key},
        {"X-API-Key": key, "Host": "any.example"},
    ):
        status, answer = await gateway.post("/v1/classify", json=CALL, headers=headers)
        assert (status, answer["results"][0]["label"]) == (200, "positive"), headers


async def test_whoever_has_no_key_is_not_told_what_is_wrong(
    gateway: Gateway, gateway_settings: GatewaySettings
) -> None:
    key, name = await made(gateway_settings)
    disabled, own = await made(gateway_settings)
    expired, _ = await made(gateway_settings, expires=time.time() - 1)
    async with State(gateway_settings) as state, state.writing() as connection:
        assert await keys.disable(connection, own, True)
    answers = []
    for headers in (
        {},
        bearer(""),
        bearer("nonsense"),
        bearer(key[:-1]),
        bearer(key + "x"),
        bearer(f"lmaas_{name}_"),
        bearer(f"lmaas_{'a' * 12}_{'b' * 43}"),
        bearer(key + "x" * 5000),
        bearer("lmaas_é_é"),
        bearer(disabled),
        bearer(expired),
        {"Authorization": f"Basic {key}"},
        {"X-API-Key": "nonsense"},
    ):
        async with gateway.http.post(
            f"{gateway.url}/v1/classify", json=CALL, headers=headers
        ) as answer:
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            answers.append((answer.status, await answer.text()))
    assert {status for status, _ in answers} == {401}
    assert len({body for _, body in answers}) == 1
    assert json.loads(answers[0][1])["error"]["code"] == "unauthorized"


async def test_a_scope_that_the_key_does_not_have(
    gateway: Gateway, gateway_settings: GatewaySettings
) -> None:
    key, _ = await made(gateway_settings, "jobs")
    status, answer = await gateway.post("/v1/classify", json=CALL, headers=bearer(key))
    assert (status, answer["error"]["code"]) == (403, "forbidden")
    assert "the scope classify" in answer["error"]["message"]


async def test_what_needs_no_key(gateway: Gateway) -> None:
    assert (await gateway.get("/health/ready"))[0] == 200
    status, answer = await gateway.get("/openapi.json")
    assert status == 200
    assert answer["paths"]["/v1/classify"]["post"]["security"][0] == {"key": ["classify"]}
    assert answer["paths"]["/v1/usage"]["get"]["security"][0] == {"key": []}


async def test_pages_of_others_are_given_nothing(
    gateway: Gateway, gateway_settings: GatewaySettings
) -> None:
    """CORS is off: a browser asks first, and hears nothing that lets a page go on."""
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    async with gateway.http.options(f"{gateway.url}/v1/classify", headers=headers) as answer:
        assert answer.status == 405
        assert not [name for name in answer.headers if name.startswith("Access-Control")]


@pytest.mark.usefixtures("worker")
async def test_a_key_that_is_disabled_stops_and_one_that_is_enabled_goes_on(
    gateway: Gateway, gateway_settings: GatewaySettings
) -> None:
    key, name = await made(gateway_settings)
    other, _ = await made(gateway_settings)
    assert (await call(gateway, key)).status == 200
    async with State(gateway_settings) as state:
        async with state.writing() as connection:
            assert await keys.disable(connection, name, True)
        await until(gateway, key, 401)
        assert (await call(gateway, other)).status == 200
        async with state.writing() as connection:
            assert await keys.disable(connection, name, False)
        await until(gateway, key, 200)
        async with state.writing() as connection:
            assert await keys.delete(connection, name)
        await until(gateway, key, 401)


@pytest.mark.usefixtures("worker")
async def test_requests_do_not_ask_the_database(
    gateway: Gateway, gateway_settings: GatewaySettings
) -> None:
    """They are answered while somebody else holds it: what is counted waits."""
    key, _ = await made(gateway_settings)
    assert (await call(gateway, key)).status == 200
    async with State(gateway_settings) as state, state.writing():
        answers = await asyncio.gather(*(call(gateway, key) for _ in range(50)))
    assert {answer.status for answer in answers} == {200}


async def test_a_flush_waits_for_one_that_has_begun(gateway_settings: GatewaySettings) -> None:
    """Else usage would be told without what the other one is just writing."""
    async with State(gateway_settings) as state, callers.Callers(state, with_keys=False) as those:
        those.count_items("somebody", 3)
        ended: list[str] = []

        async def flush(name: str) -> None:
            await those.flush()
            ended.append(name)

        async with State(gateway_settings) as other, other.writing():
            flushes = [asyncio.create_task(flush(name)) for name in ("first", "second")]
            await asyncio.sleep(0)
        await asyncio.gather(*flushes)
        assert ended == ["first", "second"]


@pytest.mark.usefixtures("worker")
async def test_a_job_is_there_for_the_key_that_made_it_only(
    gateway: Gateway, gateway_settings: GatewaySettings
) -> None:
    """Also for one that only classifies, whose call became a job."""
    key, name = await made(gateway_settings, "jobs")
    caller, _ = await made(gateway_settings, "classify")
    others = [(await made(gateway_settings, scope))[0] for scope in ("jobs", "admin")]
    status, job = await gateway.post("/v1/jobs", json=CALL, headers=bearer(key))
    assert status == 202
    headers = bearer(caller) | {"Prefer": "respond-async"}
    status, follows = await gateway.post("/v1/classify", json=CALL, headers=headers)
    assert status == 202
    assert (await gateway.post("/v1/jobs", json=CALL, headers=bearer(caller)))[0] == 403
    for mine, its in ((key, job), (caller, follows)):
        path = f"/v1/jobs/{its['id']}"
        assert (await gateway.get(path, headers=bearer(mine)))[0] == 200
        _, listed = await gateway.get("/v1/jobs", headers=bearer(mine))
        assert [one["id"] for one in listed["jobs"]] == [its["id"]]
        for other in others:
            for what in ("", "/results", "/events"):
                assert (await gateway.get(path + what, headers=bearer(other)))[0] == 404, what
            url = gateway.url + path
            async with gateway.http.delete(url, headers=bearer(other)) as answer:
                assert answer.status == 404
    _, answer = await gateway.get("/v1/usage", headers=bearer(key))
    assert [(day["owner"], day["items"]) for day in answer["usage"]] == [(name, 1)]


# ---------------------------------------------------------------------- how much


@pytest.mark.usefixtures("worker")
async def test_requests_a_second(gateway: Gateway, gateway_settings: GatewaySettings) -> None:
    key, _ = await made(gateway_settings, requests_per_second=0.01)
    other, _ = await made(gateway_settings)
    first = await call(gateway, key)
    assert first.status == 200
    assert first.headers["X-RateLimit-Limit-Requests"] == "1"
    assert first.headers["X-RateLimit-Remaining-Requests"] == "0"
    second = await call(gateway, key)
    assert second.status == 429
    assert 90 <= int(second.headers["Retry-After"]) <= 100
    assert 90 <= float(second.headers["X-RateLimit-Reset-Requests"]) <= 100
    free = await call(gateway, other)
    assert free.status == 200
    assert "X-RateLimit-Limit-Requests" not in free.headers


@pytest.mark.usefixtures("worker")
async def test_items_a_second(gateway: Gateway, gateway_settings: GatewaySettings) -> None:
    key, _ = await made(gateway_settings, items_per_second=1)
    assert (await call(gateway, key, items=100)).status == 200
    answer = await call(gateway, key)
    assert answer.status == 429
    assert 80 <= int(answer.headers["Retry-After"]) <= 100
    status, told = await gateway.post("/v1/classify", json=CALL, headers=bearer(key))
    assert (status, told["error"]["code"]) == (429, "rate_limited")


async def test_requests_at_a_time(gateway: Gateway, gateway_settings: GatewaySettings) -> None:
    """One whose body has not come yet counts, and no more when its caller has left."""
    key, _ = await made(gateway_settings, concurrency=1)
    usage = f"{gateway.url}/v1/usage"
    async with uploading(gateway, bearer(key)) as (_, writer):
        async with asyncio.timeout(LIMIT):
            while True:
                async with gateway.http.get(usage, headers=bearer(key)) as answer:
                    if answer.status == 429:
                        assert answer.headers["Retry-After"] == "1"
                        break
        writer.close()
    await until(gateway, key, 200)


# ---------------------------------------------------------------------- usage


@pytest.mark.usefixtures("worker")
async def test_usage_is_counted_a_key_and_a_day(
    gateway_settings: GatewaySettings, settings: Settings
) -> None:
    key, name = await made(gateway_settings)
    other, its = await made(gateway_settings)
    admin, _ = await made(gateway_settings, "admin")
    async with listening(gateway_settings, settings) as gateway:
        body = json.dumps(CALL | {"items": ["a", "b", "c"]}).encode()
        for _ in range(2):
            await gateway.post("/v1/classify", data=body, headers=bearer(key))
        await gateway.post("/v1/classify", data=b"{", headers=bearer(key))
        assert (await call(gateway, other)).status == 200
    # It has been stopped, and another one goes on.
    async with listening(gateway_settings, settings) as gateway:
        await gateway.post("/v1/classify", data=body, headers=bearer(key))
        status, answer = await gateway.get("/v1/usage", headers=bearer(key))
        assert status == 200
        (day,) = answer["usage"]
        assert day == day | {
            "owner": name,
            "requests": 5,  # this one, too
            "items": 9,
            "bytes": 3 * len(body) + 1,
            "errors": 1,
        }
        _, answer = await gateway.get("/v1/usage?days=1", headers=bearer(admin))
        assert {name, its} <= {day["owner"] for day in answer["usage"]}
        status, _ = await gateway.get("/v1/usage?days=x", headers=bearer(key))
        assert status == 422
    async with State(gateway_settings) as state, state.reading() as connection:
        used = {one.id: one.last_used for one in await keys.every(connection)}
    assert time.time() - (used[name] or 0.0) < 60


async def test_usage_is_counted_where_access_is_open(
    gateway_settings: GatewaySettings, settings: Settings
) -> None:
    free = msgspec.structs.replace(gateway_settings, access="open")
    async with listening(free, settings) as gateway:
        _, answer = await gateway.get("/v1/usage")
        assert [(day["owner"], day["requests"]) for day in answer["usage"]] == [("", 1)]


# ---------------------------------------------------------------------- bodies


@contextlib.asynccontextmanager
async def uploading(
    gateway: Gateway, headers: dict[str, str]
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A call of which the headers and no byte of the body have been sent."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = ["POST /v1/classify HTTP/1.1", f"Host: {host}", "Content-Length: 1000000"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    await writer.drain()
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_a_body_that_does_not_come_is_given_up(
    gateway_settings: GatewaySettings, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    impatient = msgspec.structs.replace(gateway_settings, body_timeout=0.2)
    key, _ = await made(gateway_settings)
    async with (
        listening(impatient, settings) as gateway,
        uploading(gateway, bearer(key)) as (reader, writer),
    ):
        writer.write(b"{")
        async with asyncio.timeout(LIMIT):
            answer = await reader.read()  # until the connection is closed
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"gateway.body_timeout" in answer
    assert not [one for one in caplog.records if one.levelname == "ERROR"]


@pytest.mark.usefixtures("worker")
async def test_a_body_that_comes_at_some_pace_is_read(
    gateway_settings: GatewaySettings, settings: Settings
) -> None:
    impatient = msgspec.structs.replace(gateway_settings, body_timeout=1.0)
    key, _ = await made(gateway_settings)
    piece = 4 * 1024  # of which one is enough for four periods
    body = json.dumps(CALL).encode().ljust(30 * piece)  # which takes longer than one

    async def slowly() -> AsyncIterator[bytes]:
        for start in range(0, len(body), piece):
            yield body[start : start + piece]
            await asyncio.sleep(0.05)

    async with listening(impatient, settings) as gateway:
        status, _ = await gateway.post("/v1/classify", data=slowly(), headers=bearer(key))
        assert status == 200


async def test_headers_that_do_not_end_are_given_up(
    gateway_settings: GatewaySettings, settings: Settings
) -> None:
    impatient = msgspec.structs.replace(gateway_settings, idle_timeout=0.2)
    async with listening(impatient, settings) as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\n")
        async with asyncio.timeout(LIMIT):
            assert await reader.read() == b""
        writer.close()


async def test_headers_that_are_too_large_are_refused(gateway: Gateway) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Large: " + b"x" * 100_000 + b"\r\n\r\n")
    async with asyncio.timeout(LIMIT):
        assert b" 400 Bad Request" in await reader.readline()
    writer.close()


# ---------------------------------------------------------------------- the command


async def lmaas(*arguments: str) -> tuple[int | None, str, str]:
    """Exit code, output and errors of a command."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "lmaas",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_keys_are_made_listed_and_taken_back_by_a_command(
    gateway: Gateway, gateway_settings: GatewaySettings
) -> None:
    group = ("gateway", "--folder", gateway_settings.folder or "", "keys")
    limits = ("--rate", "5", "--item-rate", "100", "--concurrency", "3", "--days", "30")
    code, key, words = await lmaas(
        *group, "create", "--name", "a [b] c", "--scope", "classify", "--scope", "jobs", *limits
    )
    assert code == 0, words
    key = key.strip()
    name = api_keys.id_of(key)
    assert name is not None
    assert (await gateway.get("/v1/usage", headers=bearer(key)))[0] == 200

    code, told, _ = await lmaas(*group, "list", "--json")
    assert code == 0
    kept = json.loads(told)
    assert kept == kept | {
        "id": name,
        "name": "a [b] c",
        "scopes": ["classify", "jobs"],
        "requests_per_second": 5.0,
        "concurrency": 3,
    }
    code, told, _ = await lmaas(*group, "list")
    assert name in told
    assert "a [b] c" in told
    assert key.rpartition("_")[2] not in told

    assert (await lmaas(*group, "disable", name))[0] == 0
    await until(gateway, key, 401)
    assert "disabled" in (await lmaas(*group, "list"))[1]
    assert (await lmaas(*group, "enable", name))[0] == 0
    assert (await lmaas(*group, "delete", name))[0] == 0
    await until(gateway, key, 401)
    code, _, words = await lmaas(*group, "delete", name)
    assert code == 1
    assert "there is no key with the id" in words
    assert (await lmaas(*group, "list"))[1].strip() == "no keys"
    assert (await lmaas(*group, "create", "--name", "x", "--scope", "all"))[0] == 2


async def test_a_start_without_keys_says_how_to_make_one(
    gateway_settings: GatewaySettings, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(gateway_settings, settings):
        assert "lmaas gateway keys create" in caplog.text
    caplog.clear()
    await made(gateway_settings)
    async with listening(gateway_settings, settings):
        assert "lmaas gateway keys create" not in caplog.text
