"""Bodies with a Content-Encoding are read whole or refused, at each route and by each way."""

from __future__ import annotations

import asyncio
import gzip
import io
import itertools
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from lmaas.broker_config.settings import Settings
from lmaas.producer.gateway.app import create_app
from lmaas.producer.gateway.decompression import Decompressor
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.settings import GatewaySettings
from tests.gateway.conftest import Gateway, listening
from tests.integration.lanes import LIMIT

CALL = b'{"model": "sentiment", "items": ["a wonderful, moving film"]}'
ROWS = b"text\n" + b"".join(b"film number %d was a delight\n" % n for n in range(500))
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nsentiment\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n%b\r\n--x--\r\n'
)
BATCH = (
    b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n%b\r\n--x--\r\n'
)
CALL_FORM = (
    b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nsentiment\r\n'
    b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\na film\r\n--x--\r\n'
)
JSON, MULTIPART = "application/json", "multipart/form-data; boundary=x"
#: Path, type, body, status when it is whole.
BODIES = {
    "call": ("/v1/classify", JSON, CALL, 200),
    "csv": ("/v1/jobs?model=sentiment", "text/csv", ROWS, 202),
    "ndjson": ("/v1/jobs?model=sentiment", "application/x-ndjson", b'{"text": "a"}\n' * 99, 202),
    "job": ("/v1/jobs", JSON, CALL, 202),
    "form": ("/v1/jobs", MULTIPART, FORM % ROWS, 202),
    "call as a form": ("/v1/classify", MULTIPART, CALL_FORM, 200),
    "file": ("/v1/files", MULTIPART, BATCH % CALL, 200),
    "event": ("/v1/events?model=sentiment", "application/cloudevents+json", json.dumps(
        {"specversion": "1.0", "id": "a", "source": "b", "type": "c", "data": "a film"}
    ).encode(), 200),
    "inference": ("/v2/models/sentiment/infer", JSON, json.dumps({"inputs": [
        {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a film"]}
    ]}).encode(), 200),
    "classification": ("/v1/classifications", JSON,
                       b'{"model": "sentiment", "input": "a film"}', 200),
}  # fmt: skip


def raw_deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()


def members(body: bytes) -> bytes:
    middle = len(body) // 2
    return gzip.compress(body[:middle]) + gzip.compress(b"") + gzip.compress(body[middle:])


WAYS = {
    "gzip": ("gzip", gzip.compress),
    "members": ("gzip", members),
    "deflate": ("Deflate", zlib.compress),
    "raw": ("deflate", raw_deflate),
}


async def send(
    url: str, path: str, headers: dict[str, str], body: bytes, *, chunked: bool, apart: bool
) -> tuple[int, str]:
    """Over a socket of its own. `apart`: the body follows when the server has read the head."""
    host, port = url.removeprefix("http://").split(":")
    size = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(body))}
    expect = {"Expect": "100-continue"} if apart else {}
    lines = {"Host": "127.0.0.1", "Connection": "close"} | headers | size | expect
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    if chunked:
        parts = (body[n : n + 100] for n in range(0, len(body), 100))
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    async with asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + b"\r\n" + (b"" if apart else body))
        if apart:
            told = await reader.readuntil(b"\r\n\r\n")
            if b" 100 " in told.partition(b"\r\n")[0]:
                writer.write(body)
                told = b""
        else:
            told = b""
        told += await reader.read()
        writer.close()
    return int(told.split(b" ", 2)[1]), told.decode()


FRAMES = list(itertools.product((False, True), (False, True)))


@pytest.fixture(params=FRAMES, ids=lambda one: f"chunked={one[0]}-apart={one[1]}")
def frame(request: pytest.FixtureRequest) -> tuple[bool, bool]:
    found: tuple[bool, bool] = request.param
    return found


@pytest.mark.usefixtures("worker")
async def test_what_is_whole_is_done_and_what_is_not_is_refused(
    gateway: Gateway, frame: tuple[bool, bool]
) -> None:
    wrong = []
    chunked, apart = frame
    for (name, (path, kind, body, done)), (way, (coding, compress)) in itertools.product(
        BODIES.items(), WAYS.items()
    ):
        packed = compress(body)
        cases = {
            "whole": (packed, done, ""),
            "cut in its check": (packed[:-1], 400, "is cut"),
            "cut": (packed[: len(packed) * 2 // 3], 400, "is cut"),
            "of nothing": (b"", 400, "is cut"),
            "garbage after it": (packed + b"garbage", 400, "bytes follow"),
            "plain": (b"\xff" + body, 400, "is damaged"),
        }
        if way == "members":
            cases["cut between two"] = (gzip.compress(body) + packed[:15], 400, "is cut")
        for case, (sent, status, words) in cases.items():
            headers = {"Content-Type": kind, "Content-Encoding": coding}
            found, answer = await send(
                gateway.url, path, headers, sent, chunked=chunked, apart=apart and bool(sent)
            )
            if found != status or words not in answer:
                wrong.append(f"{name}, {way}, {case}: {found}, {answer[-300:]!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.usefixtures("worker")
async def test_all_rows_come(gateway: Gateway) -> None:
    for coding, compress in WAYS.values():
        for kind, body in (("text/csv", ROWS), (MULTIPART, FORM % ROWS)):
            headers = {"Content-Type": kind, "Content-Encoding": coding}
            path = "/v1/jobs" + ("?model=sentiment" if kind == "text/csv" else "")
            status, job = await gateway.post(path, data=compress(body), headers=headers)
            assert (status, job["items"]) == (202, 500)


async def test_a_coding_that_is_not_known_is_told_which_are(gateway: Gateway) -> None:
    for path, kind, body, _ in BODIES.values():
        if path.startswith("/v2"):
            continue  # no worker: the model is not known first
        for coding in ("br", "zstd", "compress", "gzip, gzip", ""):
            headers = {"Content-Type": kind, "Content-Encoding": coding}
            async with gateway.http.post(gateway.url + path, data=body, headers=headers) as answer:
                assert (answer.status, path, coding) == (415, path, coding)
                assert answer.headers["Accept-Encoding"] == "gzip, deflate, identity"


@pytest.mark.usefixtures("worker")
async def test_other_names_of_a_coding(gateway: Gateway) -> None:
    for coding, body in (("identity", CALL), ("x-gzip", gzip.compress(CALL)), ("GZIP", None)):
        sent = gzip.compress(CALL) if body is None else body
        headers = {"Content-Type": JSON, "Content-Encoding": coding}
        status, _ = await gateway.post("/v1/classify", data=sent, headers=headers)
        assert (status, coding) == (200, coding)


async def test_a_bomb_is_given_up_at_the_limit(
    gateway_settings: GatewaySettings, settings: Settings
) -> None:
    """4 GiB in 4 MB; the limit counts what they become, and no more than that is ever held."""
    bomb = gzip.compress(bytes(1024**2)) * 4096
    small = msgspec.structs.replace(gateway_settings, max_body_bytes=10**6, max_job_bytes=10**7)
    async with listening(small, settings) as gateway:
        tracemalloc.start()
        try:
            for path, kind, before in (
                ("/v1/classify", JSON, b""),
                ("/v1/jobs?model=sentiment", "text/csv", b""),
                (
                    "/v1/classify",
                    MULTIPART,
                    gzip.compress((FORM % b"a").partition(b"\r\n--x--")[0]),
                ),
                ("/v1/jobs", MULTIPART, gzip.compress((FORM % b"text").partition(b"\r\n--x--")[0])),
            ):
                tracemalloc.reset_peak()
                base = tracemalloc.get_traced_memory()[0]
                found, answer = await send(
                    gateway.url,
                    path,
                    {"Content-Type": kind, "Content-Encoding": "gzip"},
                    before + bomb,
                    chunked=False,
                    apart=False,
                )
                assert (found, "too_large" in answer) == (413, True)
                # The caller's own buffers, and the gateway's, are of what is compressed.
                assert tracemalloc.get_traced_memory()[1] - base < 6 * len(bomb)
        finally:
            tracemalloc.stop()


async def test_what_follows_a_compressed_form_is_limited(gateway: Gateway) -> None:
    form = gzip.compress(FORM % ROWS) + gzip.compress(bytes(1024**2)) * 100
    headers = {"Content-Type": MULTIPART, "Content-Encoding": "gzip"}
    status, answer = await gateway.post("/v1/jobs", data=form, headers=headers)
    assert (status, answer["error"]["code"]) == (400, "malformed")


@pytest.fixture(params=[False, True], ids=["decompressing", "raw"])
async def mounted(
    request: pytest.FixtureRequest, gateway_settings: GatewaySettings, settings: Settings
) -> AsyncIterator[tuple[bool, str]]:
    """In an application of a user: whether its server leaves bodies as they are, and its URL."""
    app = web.Application()
    app.add_subapp("/ai", create_app(gateway_settings, settings))
    options = {"auto_decompress": False} if request.param else {}
    runner = web.AppRunner(app, handler_cancellation=True, **options)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield request.param, "http://{}:{}".format(*runner.addresses[0])
    finally:
        await runner.cleanup()


@pytest.mark.usefixtures("worker")
async def test_a_server_that_decompresses_itself_loses_no_rows(mounted: tuple[bool, str]) -> None:
    """It cannot be seen whether what it decompressed was whole: nothing such is taken."""
    is_raw, url = mounted
    path = "/ai/v1/jobs?model=sentiment"
    async with aiohttp.ClientSession() as http:
        for coding, packed, whole in (
            ("gzip", gzip.compress(ROWS), True),
            ("gzip", gzip.compress(ROWS)[:-20], False),
            ("deflate", zlib.compress(ROWS), True),
            ("deflate", zlib.compress(ROWS)[:-20], False),
            (None, ROWS, True),
        ):
            # aiohttp itself refuses a cut deflate stream that has come when it reads the head.
            refused = {400} if is_raw or (coding == "deflate" and not whole) else set()
            taken = coding is None or (is_raw and whole)
            expected = {202} if taken else refused if is_raw else {415} | refused
            headers = {"Content-Type": "text/csv"}
            headers |= {"Content-Encoding": coding} if coding else {}
            async with http.post(url + path, data=packed, headers=headers) as answer:
                told = await answer.text()
                assert answer.status in expected, (coding, whole, told)
                if answer.status == 415:
                    assert answer.headers["Accept-Encoding"] == "identity"
                    assert "auto_decompress=False" in told
                if answer.status == 202:
                    assert json.loads(told)["items"] == 500


async def test_a_mounted_gateway_has_its_own_limit(mounted: tuple[bool, str]) -> None:
    """And not that of the application around it, which is 1 MiB."""
    _, url = mounted
    body = b'{"model": "nobody", "items": ["%b"]}' % (b"a" * 2 * 1024**2)
    headers = {"Content-Type": JSON}
    async with (
        aiohttp.ClientSession() as http,
        http.post(url + "/ai/v1/classify", data=io.BytesIO(body), headers=headers) as answer,
    ):
        assert answer.status == 200
        assert "max_item_bytes" in await answer.text()


def decompressed(coding: str, body: bytes, size: int) -> tuple[bytes, int]:
    """And the largest piece."""
    decompressor, pieces = Decompressor(coding), [b""]
    for start in range(0, len(body), size):
        pieces += decompressor.steps(body[start : start + size])
    decompressor.check_end()
    return b"".join(pieces), max(map(len, pieces))


@given(
    bodies=st.lists(st.one_of(st.binary(), st.integers(0, 300_000).map(bytes)), min_size=1),
    size=st.sampled_from((1, 7, 1000, 10**6)),
)
def test_members_of_any_size_come_in_any_slices(bodies: list[bytes], size: int) -> None:
    packed = b"".join(map(gzip.compress, bodies))
    found, largest = decompressed("gzip", packed, size)
    assert found == b"".join(bodies)
    assert largest <= 64 * 1024


@given(
    body=st.one_of(st.binary(), st.integers(0, 300_000).map(bytes)),
    size=st.sampled_from((1, 7, 1000, 10**6)),
    way=st.sampled_from(sorted(WAYS)),
    data=st.data(),
)
def test_a_stream_is_whole_only_at_its_end(
    body: bytes, size: int, way: str, data: st.DataObject
) -> None:
    coding, compress = WAYS[way]
    packed = compress(body)
    assert decompressed(coding, packed, size)[0] == body
    ends = {0} if way != "members" else _ends(packed)
    at = data.draw(st.integers(0, len(packed) - 1).filter(lambda at: at == 0 or at not in ends))
    with pytest.raises(HttpError, match="is cut"):
        decompressed(coding, packed[:at], size)
    with pytest.raises(HttpError, match=r"bytes follow|is cut"):
        decompressed(coding, packed + data.draw(st.binary(min_size=1)), size)


def _ends(packed: bytes) -> set[int]:
    """Where members end: what is cut there is whole."""
    ends, rest = set(), packed
    while rest:
        stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
        stream.decompress(rest)
        rest = stream.unused_data
        ends.add(len(packed) - len(rest))
    return ends


def test_a_hundred_thousand_empty_members() -> None:
    assert decompressed("gzip", gzip.compress(b"") * 100_000, 256 * 1024) == (b"", 0)
