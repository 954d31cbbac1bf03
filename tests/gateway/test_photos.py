"""Photos as phones make them, and pictures that are none, through the queue and over HTTP."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image

from lmaas import testing
from lmaas.broker_config.messages import Item
from lmaas.broker_config.settings import DATA_BYTES, Settings
from lmaas.producer.client import Client
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.workers.manifest import Batching, Input
from tests import versions
from tests.gateway.conftest import Gateway, listening
from tests.gateway.test_forms import file, form, found
from tests.gateway.test_jobs import ended, results, told
from tests.integration.lanes import serving

COLOURS = ("red", "green", "blue")
#: Parts of a picture that are of its colour.
STRENGTH = {"red": (1.0, 0.3, 0.3), "green": (0.3, 1.0, 0.3), "blue": (0.3, 0.3, 1.0)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a model `colours` that says which colour a picture has most of."""
    root = tmp_path_factory.mktemp("models")
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Softmax", ["mean"], ["scores"], axis=1),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["rows", 3, 8, 8])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", 3])
    folder = root / "colours" / "1"
    versions.save_graph(folder, helper.make_graph(nodes, "colours", [pixels], [scores]))
    made = versions.manifest(
        {"kind": "image", "size": [8, 8]},
        [Input(name="pixels", dtype="float32", shape=[None, 3, 8, 8])],
        Batching(unit="pixels", most=2**15),
        labels=COLOURS,
    )
    versions.describe(folder, made)
    return root


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def photo(colour: str, side: int = 2000) -> bytes:
    """A JPEG of noise, of which nothing can be left out: 1.3 bytes a pixel."""
    noise = np.random.default_rng(side).integers(0, 256, (side, side, 3))
    return encoded(Image.fromarray((noise * STRENGTH[colour]).astype(np.uint8)), "JPEG", quality=97)


def bomb(side: int = 30_000) -> bytes:
    """A PNG that would take 2.7 GB in memory."""

    def part(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(b"\0" * 9_999))


def plain(colour: str, mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (20, 10), colour).convert(mode)


FILES = {
    "phone.jpg": (photo("green"), "green"),
    "words.jpg": (b"no picture", "invalid_item"),
    "animated.gif": (
        encoded(plain("red"), "GIF", save_all=True, append_images=[plain("blue")] * 3), "red",
    ),
    "huge.png": (bomb(), "too_large"),
    "cmyk.jpg": (encoded(plain("blue", "CMYK"), "JPEG"), "blue"),
    "cut.jpg": (photo("red", 64)[:900], "invalid_item"),
    "heavy.jpg": (photo("red", 16) + bytes(DATA_BYTES), "too_large"),
    "small.png": (encoded(plain("red"), "PNG"), "red"),
}  # fmt: skip
EXPECTED = [(name, answer) for name, (_, answer) in FILES.items()]
ITEMS = [Item(id=name, data=data, media_type="image/jpeg") for name, (data, _) in FILES.items()]


async def ask(client: Client) -> None:
    answers = [answer async for answer in client.classify_many("colours", ITEMS)]
    assert [(one.id, one.error.code if one.error else one.label) for one in answers] == EXPECTED
    large = next(one.error for one in answers if one.id.startswith("heavy"))
    assert large is not None
    assert "the limit is 10,485,760 (setting max_data_bytes)" in large.message
    assert (await client.classify("colours", ITEMS[0])).label == "green"


async def test_in_process(models: Path) -> None:
    assert 5_000_000 < len(FILES["phone.jpg"][0]) < 8_000_000
    async with testing.Client(settings=Settings(models=str(models))) as client:
        await ask(client)


async def test_through_the_queue_and_over_http(
    settings: Settings, gateway_settings: GatewaySettings, models: Path
) -> None:
    settings = msgspec.structs.replace(settings, models=str(models))
    async with (
        serving(settings),
        Client(settings) as client,
        listening(gateway_settings, settings) as gateway,
    ):
        await ask(client)
        await as_a_form(gateway)
        await as_json(gateway)
        await by_the_inference_protocol(gateway)
        await as_a_job(gateway)


async def as_a_form(gateway: Gateway) -> None:
    """Of less than `max_body_bytes`, so without the one that has too many bytes."""
    parts = [
        ("file", io.BytesIO(content), file(name, "image/jpeg"))
        for name, (content, _) in FILES.items()
        if len(content) < DATA_BYTES
    ]
    status, answer = await gateway.post("/v1/classify", data=form(("model", "colours"), *parts))
    assert status == 200, answer
    assert found(answer) == [one for one in EXPECTED if not one[0].startswith("heavy")]


async def as_json(gateway: Gateway) -> None:
    """The largest that may be, in base64, is less than `max_body_bytes`."""
    largest = FILES["phone.jpg"][0].ljust(DATA_BYTES, b"\0")
    item = {"data": base64.b64encode(largest).decode(), "media_type": "image/jpeg"}
    body = msgspec.json.encode({"model": "colours", "items": [item]})
    headers = {"Content-Type": "application/json"}
    status, answer = await gateway.post("/v1/classify", data=io.BytesIO(body), headers=headers)
    assert (status, answer["results"][0]["label"]) == (200, "green")


async def by_the_inference_protocol(gateway: Gateway) -> None:
    for name in ("phone.jpg", "heavy.jpg"):
        content, expected = FILES[name]
        headers = {"Inference-Header-Content-Length": "0"}
        status, answer = await gateway.post(
            "/v2/models/colours/infer", data=io.BytesIO(content), headers=headers
        )
        if status == 200:
            assert answer["outputs"][0]["data"] == [expected]
        else:
            assert (status, expected) == (413, "too_large")
            assert "max_data_bytes" in answer["error"]


async def as_a_job(gateway: Gateway) -> None:
    parts = [
        ("file", io.BytesIO(content), file(name, "image/jpeg"))
        for name, (content, _) in FILES.items()
    ]
    status, job = await gateway.post("/v1/jobs", data=form(("model", "colours"), *parts))
    assert status == 202, job
    await ended(gateway, job["id"])
    # As many results as files: `told` counts them.
    assert told(await results(gateway, job["id"])) == dict(EXPECTED)
