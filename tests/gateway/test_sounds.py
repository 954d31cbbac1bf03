"""Sounds through the queue and over HTTP, good ones and bad ones together."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from lmaas import testing
from lmaas.broker_config.messages import Item
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.workers.manifest import Batching, Input
from tests import versions
from tests.gateway.conftest import listening
from tests.gateway.test_forms import file, form, found
from tests.integration.lanes import serving
from tests.unit.workers.sounds import encoded, saying, tone

MELS = 20


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """With a model `pitches` that weighs the lower half of a spectrogram against the upper."""
    halves = np.repeat(np.eye(2, dtype=np.float32), MELS // 2, axis=0)
    rank3, rank2 = ["rows", "frames", MELS], ["rows", 2]
    nodes = [
        helper.make_node("ReduceMean", ["features"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "halves"], ["weights"]),
        helper.make_node("Softmax", ["weights"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "pitches",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, rank3)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, rank2)],
        [numpy_helper.from_array(halves, "halves")],
    )
    folder = tmp_path / "models" / "pitches" / "1"
    versions.save_graph(folder, graph)
    made = versions.manifest(
        {
            "kind": "audio",
            "rate": 8_000,
            "features": {"kind": "log_mel", "n_fft": 256, "hop": 80, "mels": MELS},
            "max_seconds": 10,
            "input": "features",
        },
        [Input(name="features", dtype="float32", shape=[None, None, MELS])],
        Batching(unit="frames", most=4096),
        labels=["low", "high"],
    )
    versions.describe(folder, made)
    return tmp_path / "models"


def stereo(hertz: float, rate: int, kind: str) -> bytes:
    one = tone(hertz, rate=rate)
    return encoded(np.stack([one, one / 2], axis=1), rate, kind)


SPOILT = tone(300)
SPOILT[7] = np.nan
FILES = {
    "low.wav": (encoded(tone(300)), "low"),
    "cut.wav": (encoded(tone(300))[:-9], "invalid_item"),
    "high.flac": (stereo(2500, 44_100, "FLAC"), "high"),
    "picture.wav": (b"\x89PNG\r\n\x1a\n" + bytes(50), "invalid_item"),
    "high.ogg": (stereo(2500, 16_000, "OGG"), "high"),
    "empty.wav": (encoded(np.zeros(0)), "invalid_item"),
    "lying.wav": (saying(encoded(tone(300)), 57_600_000), "invalid_item"),
    "nan.wav": (encoded(SPOILT, subtype="FLOAT"), "invalid_item"),
    "hour.flac": (encoded(np.zeros(3_600_000, np.int16), 1_000, "FLAC"), "too_large"),
    "low.ogg": (encoded(tone(300, 0.02), kind="OGG"), "low"),
}
EXPECTED = [(name, answer) for name, (_, answer) in FILES.items()]


ITEMS = [Item(id=name, data=content) for name, (content, _) in FILES.items()]


async def ask(client: Client) -> None:
    results = [result async for result in client.classify_many("pitches", ITEMS)]
    assert [(one.id, one.error.code if one.error else one.label) for one in results] == EXPECTED
    # Also where nothing else is run with it.
    alone = await client.classify("pitches", ITEMS[1], errors="return")
    assert alone.error is not None
    assert alone.error.message.startswith("the file is cut")


async def test_neighbours_of_bad_sounds_are_answered_in_process(models: Path) -> None:
    async with testing.Client(settings=Settings(models=str(models))) as client:
        await ask(client)


async def test_neighbours_of_bad_sounds_are_answered_by_a_worker(
    settings: Settings, gateway_settings: GatewaySettings, models: Path
) -> None:
    settings = msgspec.structs.replace(settings, models=str(models))
    async with (
        serving(settings),
        Client(settings) as client,
        listening(gateway_settings, settings) as gateway,
    ):
        await ask(client)
        parts = [("file", content, file(name, "audio/wav")) for name, (content, _) in FILES.items()]
        status, answer = await gateway.post("/v1/classify", data=form(("model", "pitches"), *parts))
        assert status == 200, answer
        assert found(answer) == EXPECTED
