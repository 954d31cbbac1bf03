"""The Open Inference Protocol over HTTP: Triton's client as it is, and what KServe's sends."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from aiohttp import test_utils, web
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.http import aio as aio_http
from tritonclient.utils import InferenceServerException

from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client
from lmaas.producer.gateway.app import create_app
from lmaas.producer.gateway.inference_protocol.codec import LENGTH
from lmaas.producer.gateway.settings import GatewaySettings
from tests.gateway.conftest import Gateway, listening
from tests.integration.lanes import serving
from tests.integration.test_kinds import installed, letters

__all__ = ["installed", "letters"]

GOOD = "a wonderful, moving film"
BAD = "dull and awful, a waste of time"
MODEL = "sentiment"
LABELS = ["negative", "positive"]
INFER = f"/v2/models/{MODEL}/infer"


def texts_input(*texts: str | bytes, binary: bool = True, column: bool = False) -> InferInput:
    """The input of the model, of the shape [n], or of [n, 1]."""
    array = np.array(texts, dtype=np.object_)
    array = array.reshape(-1, 1) if column else array
    return InferInput("text", list(array.shape), "BYTES").set_data_from_numpy(array, binary)


def place(gateway: Gateway) -> str:
    return gateway.url.removeprefix("http://")


def told(gateway_error: pytest.ExceptionInfo[InferenceServerException]) -> tuple[str, str]:
    return gateway_error.value.status(), gateway_error.value.message()


@pytest.mark.usefixtures("worker")
async def test_tritons_client(gateway: Gateway, client: Client) -> None:
    expected = [await client.classify(MODEL, text, top_k=2) for text in (GOOD, BAD)]
    await asyncio.to_thread(everything_that_it_does, place(gateway), expected)


def everything_that_it_does(url: str, expected: list[Any]) -> None:
    with InferenceServerClient(url) as triton:
        what_there_is(triton)
        inference(triton, expected)
        classification(triton)
        what_is_told_of_mistakes(triton)
        what_there_is_not(triton)
        statistics(triton)


def what_there_is(triton: InferenceServerClient) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready(MODEL)
    assert triton.is_model_ready(MODEL, "1")
    assert not triton.is_model_ready(MODEL, "99")
    assert not triton.is_model_ready("nobody")
    assert triton.get_server_metadata()["name"] == "lmaas"
    assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
    metadata = triton.get_model_metadata(MODEL)
    assert metadata["name"] == MODEL
    assert metadata["versions"][0] == "1"
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert metadata["outputs"] == [
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "score", "datatype": "FP32", "shape": [-1]},
        {"name": "scores", "datatype": "FP32", "shape": [-1, 2]},
    ]
    assert triton.get_model_metadata(MODEL, "1")["versions"] == ["1"]
    config = triton.get_model_config(MODEL)
    assert (config["max_batch_size"], config["input"][0]["data_type"]) == (4096, "TYPE_STRING")
    assert config["output"][2]["dims"] == [2]
    index = triton.get_model_repository_index()
    assert {"name": MODEL, "version": "1", "state": "READY", "reason": ""} in index


def inference(triton: InferenceServerClient, expected: list[Any]) -> None:
    for binary in (True, False):
        for column in (False, True):
            found = triton.infer(
                MODEL,
                [texts_input(GOOD, BAD, binary=binary, column=column)],
                request_id="seven",
                outputs=[
                    InferRequestedOutput(name, binary_data=binary)
                    for name in ("scores", "label", "score")
                ],
                timeout=60_000_000,
                priority=1,
                parameters={"top_k": 3},
            )
            response = found.get_response()
            assert (response["id"], response["model_name"]) == ("seven", MODEL)
            assert [one["name"] for one in response["outputs"]] == ["scores", "label", "score"]
            labels = found.as_numpy("label").tolist()
            assert [one.decode() if isinstance(one, bytes) else one for one in labels] == [
                one.label for one in expected
            ]
            np.testing.assert_allclose(found.as_numpy("score"), [one.score for one in expected])
            np.testing.assert_allclose(
                found.as_numpy("scores"),
                [[one.scores[label] for label in LABELS] for one in expected],
            )
    every = triton.infer(MODEL, [texts_input(GOOD)], model_version="1").get_response()
    assert [one["name"] for one in every["outputs"]] == ["label", "score", "scores"]
    assert all("binary_data_size" in one["parameters"] for one in every["outputs"])
    assert every["model_version"] == "1"
    unsure = triton.infer(MODEL, [texts_input(GOOD)], parameters={"min_score": 1.0})
    assert unsure.as_numpy("label").tolist() == [b"unsure"]
    for algorithm in ("gzip", "deflate"):
        found = triton.infer(
            MODEL,
            [texts_input(*[GOOD] * 100)],
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
        assert found.as_numpy("label").tolist() == [b"positive"] * 100


def classification(triton: InferenceServerClient) -> None:
    for binary in (True, False):
        wanted = InferRequestedOutput("scores", binary_data=binary, class_count=1)
        found = triton.infer(MODEL, [texts_input(GOOD, BAD)], outputs=[wanted]).as_numpy("scores")
        best = [one.decode() if isinstance(one, bytes) else one for one in found.ravel().tolist()]
        assert found.shape == (2, 1)
        assert [one.split(":")[1:] for one in best] == [["1", "positive"], ["0", "negative"]]
        assert all(0.5 < float(one.split(":")[0]) <= 1 for one in best)
    wanted = InferRequestedOutput("scores", class_count=9)
    found = triton.infer(MODEL, [texts_input(GOOD)], outputs=[wanted]).as_numpy("scores")
    assert found.shape == (1, 2)


def what_is_told_of_mistakes(triton: InferenceServerClient) -> None:
    array = np.array([1.0], dtype=np.float32)
    wrong = InferInput("text", [1], "FP32").set_data_from_numpy(array)
    other = InferInput("words", [1], "FP32").set_data_from_numpy(array)
    output = InferRequestedOutput("nothing")
    classes = InferRequestedOutput("label", class_count=2)
    for options, status, words in (
        ({"inputs": [texts_input(GOOD, "", BAD)]}, "400", "item 1: empty_text"),
        ({"inputs": [texts_input(GOOD, b"\xff")]}, "400", "item 1: input 'text' is not valid"),
        ({"inputs": [wrong]}, "400", "input 'text' is FP32; it must be BYTES"),
        ({"inputs": [other]}, "400", "no input 'words'; it takes text (BYTES [-1])"),
        ({"inputs": [texts_input()]}, "400", "no items"),
        ({"inputs": [texts_input(*["x"] * 4097)]}, "413", "4,097 items"),
        ({"inputs": [texts_input(GOOD)], "outputs": [output]}, "400", "no output 'nothing'"),
        ({"inputs": [texts_input(GOOD)], "outputs": [classes]}, "400", "no classification"),
        ({"inputs": [texts_input(GOOD)], "timeout": -1}, "400", "timeout is '-1'"),
        ({"inputs": [texts_input(GOOD)], "model_version": "9"}, "404", "no version '9'"),
    ):
        with pytest.raises(InferenceServerException) as refused:
            triton.infer(MODEL, **options)
        assert told(refused)[0] == status, words
        assert words in told(refused)[1]
    with pytest.raises(
        InferenceServerException, match="no worker serves model 'nobody'"
    ) as refused:
        triton.infer("nobody", [texts_input(GOOD)])
    assert told(refused)[0] == "404"


def what_there_is_not(triton: InferenceServerClient) -> None:
    for ask in (
        lambda: triton.load_model(MODEL, config="{}", files={"file:1/model.onnx": b"x"}),
        lambda: triton.unload_model(MODEL),
        triton.get_trace_settings,
        lambda: triton.get_trace_settings(MODEL),
        lambda: triton.update_trace_settings(settings={"trace_rate": "1"}),
        triton.get_log_settings,
        lambda: triton.update_log_settings({"log_info": True}),
        triton.get_system_shared_memory_status,
        lambda: triton.register_system_shared_memory("r", "/r", 8),
        triton.unregister_system_shared_memory,
        lambda: triton.get_cuda_shared_memory_status("r"),
        lambda: triton.register_cuda_shared_memory("r", b"h", 0, 8),
        lambda: triton.unregister_cuda_shared_memory("r"),
    ):
        with pytest.raises(InferenceServerException) as refused:
            ask()
        assert told(refused)[0] == "501"
        assert told(refused)[1]


def statistics(triton: InferenceServerClient) -> None:
    (one,) = triton.get_inference_statistics(MODEL)["model_stats"]
    times = one["inference_stats"]
    assert (one["name"], one["inference_count"]) == (MODEL, 2 * 4 + 1 + 1 + 200 + 2 * 2 + 1)
    assert 8 <= one["execution_count"] <= one["inference_count"]
    assert one["last_inference"] > 1_700_000_000_000
    assert (times["success"]["count"], times["fail"]["count"]) == (11, 9)
    assert times["success"]["ns"] > times["compute_infer"]["ns"] > 0
    assert times["queue"]["count"] == times["compute_infer"]["count"] == one["execution_count"]
    assert triton.get_inference_statistics()["model_stats"] == [one]
    version = triton.get_inference_statistics(MODEL, one["version"])["model_stats"]
    assert version == [one]


@pytest.mark.usefixtures("worker")
async def test_tritons_client_in_asyncio(gateway: Gateway) -> None:
    async with aio_http.InferenceServerClient(place(gateway)) as triton:
        assert await triton.is_server_ready()
        assert (await triton.get_model_metadata(MODEL))["platform"] == "onnx_onnxv1"
        answers = await asyncio.gather(
            *(triton.infer(MODEL, [texts_input(GOOD, BAD)]) for _ in range(50))
        )
        assert all(one.as_numpy("label").tolist() == [b"positive", b"negative"] for one in answers)
        many = await triton.infer(
            MODEL,
            [texts_input(*[GOOD] * 1000)],
            outputs=[InferRequestedOutput("scores", class_count=2)],
            request_compression_algorithm="gzip",
        )
        assert many.as_numpy("scores").shape == (1000, 2)
        # `mlserver infer` says that it sends JSON, also where it does not.
        as_mlserver = await triton.infer(
            MODEL,
            [InferInput("text", [1, 1], "BYTES").set_data_from_numpy(np.array([[GOOD.encode()]]))],
            outputs=[],
            request_id="r",
            headers={"content-type": "application/json", "x-request-id": "r"},
        )
        assert as_mlserver.as_numpy("label").tolist() == [b"positive"]
        with pytest.raises(InferenceServerException, match="item 1: empty_text"):
            await triton.infer(MODEL, [texts_input(GOOD, " ")])
        with pytest.raises(InferenceServerException, match="workers load models"):
            await triton.load_model(MODEL)


@pytest.mark.usefixtures("worker")
async def test_what_kserve_sends(gateway: Gateway) -> None:
    """Plain JSON, with a content type, and answers as it reads them."""
    request = {
        "id": "k",
        "inputs": [
            {
                "name": "text",
                "shape": [2],
                "datatype": "BYTES",
                "data": [GOOD, BAD],
                "parameters": {"content_type": "str"},
            }
        ],
        "parameters": {"anything": "passes"},
    }
    async with gateway.http.post(gateway.url + INFER, json=request) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
        found = await answer.json()
    assert (found["id"], found["model_name"], found["model_version"]) == ("k", MODEL, "1")
    assert found["outputs"][0] == {
        "name": "label",
        "shape": [2],
        "datatype": "BYTES",
        "data": ["positive", "negative"],
    }
    assert await gateway.get("/v2/health/live") == (200, {"live": True})
    assert await gateway.get("/v2/health/ready") == (200, {"ready": True, "live": True})
    ready = f"/v2/models/{MODEL}/ready"
    assert await gateway.get(ready) == (200, {"name": MODEL, "ready": True})
    assert await gateway.get("/v2/models/x/ready") == (400, {"name": "x", "ready": False})
    request["inputs"][0]["data"][1] = ""  # type: ignore[index]
    for method, path, status in (
        ("POST", INFER, 400),
        ("DELETE", INFER, 405),
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/models/x", 404),
        ("POST", "/v2/models/x/infer", 404),
    ):
        async with gateway.http.request(method, gateway.url + path, json=request) as answer:
            assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json")
            assert list(await answer.json()) == ["error"]


async def test_it_can_be_mounted(gateway_settings: GatewaySettings, settings: Settings) -> None:
    """Errors have the protocol's shape there, too."""
    app = web.Application()
    app.add_subapp("/ai", create_app(gateway_settings, settings))
    async with test_utils.TestClient(test_utils.TestServer(app)) as http:
        for method, path, status in (
            ("GET", "/ai/v2/health/ready", 200),
            ("DELETE", "/ai/v2/health/ready", 405),
            ("GET", "/ai/v2/nothing", 404),
        ):
            async with http.request(method, path) as answer:
                assert answer.status == status
                found = await answer.json()
                assert found == ({"ready": True, "live": True} if status == 200 else found)
                assert status == 200 or type(found["error"]) is str
        async with http.get("/ai/v1/nothing") as answer:
            assert (await answer.json())["error"]["code"] == "not_found"


@pytest.mark.usefixtures("worker")
async def test_bodies_of_any_other_kind(gateway: Gateway) -> None:
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "text",
                    "shape": [1],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": 4 + len(GOOD)},
                }
            ],
            "outputs": [{"name": "label", "parameters": {"binary_data": True}}],
        }
    ).encode()
    body = head + struct.pack("<I", len(GOOD)) + GOOD.encode()
    length = {LENGTH: str(len(head))}
    for data, headers in (
        (body, length),
        (zlib.compress(body), {**length, "Content-Encoding": "deflate"}),
    ):
        async with gateway.http.post(gateway.url + INFER, data=data, headers=headers) as answer:
            content, size = await answer.read(), int(answer.headers[LENGTH])
            told_size = json.loads(content[:size])["outputs"][0]["parameters"]["binary_data_size"]
            assert content[size:] == struct.pack("<I", 8) + b"positive"
            assert told_size == 12
    status, found = await gateway.post(INFER, data=GOOD.encode(), headers={LENGTH: "0"})
    assert (status, found["outputs"][0]["data"]) == (200, ["positive"])
    for data, headers, status, words in (
        (body, {LENGTH: "99999"}, 400, "the body has"),
        (body, {LENGTH: "-1"}, 400, "must be the number of bytes"),
        (body, {}, 400, "not a request"),
        (b"", {}, 400, "not a request"),
        (body, {**length, "Content-Encoding": "br"}, 415, "gzip or deflate"),
        (b"\xff", {LENGTH: "0"}, 400, "item 0: input 'text' is not valid UTF-8"),
    ):
        found_status, found = await gateway.post(INFER, data=data, headers=headers)
        assert found_status == status, words
        assert words in found["error"]


@pytest.mark.usefixtures("worker")
async def test_limits(gateway_settings: GatewaySettings, settings: Settings) -> None:
    """Of bytes as they are when they are decompressed."""
    small = msgspec.structs.replace(gateway_settings, max_body_bytes=2000)
    async with (
        listening(small, settings) as gateway,
        aio_http.InferenceServerClient(place(gateway)) as triton,
    ):
        for algorithm in (None, "gzip", "deflate"):
            with pytest.raises(InferenceServerException, match="2,000 bytes") as refused:
                await triton.infer(
                    MODEL, [texts_input("x" * 3000)], request_compression_algorithm=algorithm
                )
            assert told(refused)[0] == "413"


async def test_a_time_limit(gateway: Gateway, settings: Settings) -> None:
    """The model is known, and its worker has left."""
    async with aio_http.InferenceServerClient(place(gateway)) as triton:
        async with serving(settings):
            await triton.infer(MODEL, [texts_input(GOOD)])
        assert not await triton.is_model_ready(MODEL)
        for count in (1, 100):
            with pytest.raises(InferenceServerException, match=r"within 0\.2 s") as refused:
                await triton.infer(MODEL, [texts_input(*[GOOD] * count)], timeout=200_000)
            assert told(refused)[0] == "503"


PAIR = 'Item(id="1", text="a", text_pair="b")'
TENSORS = (
    'Item(id="1", tensors={"letters": Tensor(shape=[2], datatype="UINT8", data=b"ab")}), '
    'Item(id="2", tensors={"letters": Tensor(shape=[1], datatype="UINT8", data=b"a")})'
)


@pytest.fixture
def examples(
    request: pytest.FixtureRequest, letters: Settings, tmp_path: Path
) -> Iterator[Settings]:
    """A model that takes whatever its examples are, and counts the letters a and b in it."""
    module = tmp_path / "site" / "letters_for_lmaas.py"
    code = module.read_text().replace("import Item,", "import Item, Tensor,")
    if request.param:
        code = code.replace('Item(id="1", data=b"ab", media_type="text/letters")', request.param)
    module.write_text(code)
    sys.modules.pop(module.stem, None)
    yield letters
    sys.modules.pop(module.stem, None)


def array_input(name: str, datatype: str, values: Any, dtype: Any, *, binary: bool) -> InferInput:
    array = np.array(values, dtype=dtype)
    return InferInput(name, list(array.shape), datatype).set_data_from_numpy(array, binary)


@pytest.mark.parametrize(
    "examples", ["", PAIR, TENSORS], ids=["data", "pair", "tensors"], indirect=True
)
async def test_models_of_every_kind(
    gateway_settings: GatewaySettings, examples: Settings, request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.id
    async with (
        serving(examples),
        listening(gateway_settings, examples) as gateway,
        aio_http.InferenceServerClient(place(gateway)) as triton,
    ):
        inputs = (await triton.get_model_metadata("letters"))["inputs"]
        for binary in (True, False):
            match kind:
                case "data":
                    given = [
                        array_input("data", "BYTES", [b"aaab", b"abbb"], object, binary=binary)
                    ]
                    assert inputs == [{"name": "data", "datatype": "BYTES", "shape": [-1]}]
                case "pair":
                    given = [
                        array_input("text", "BYTES", ["aa", "ab"], object, binary=binary),
                        array_input("text_pair", "BYTES", ["ab", "bb"], object, binary=binary),
                    ]
                    assert [one["name"] for one in inputs] == ["text", "text_pair"]
                case "tensors":
                    values = [list(b"aaab"), list(b"abbb")]
                    given = [array_input("letters", "UINT8", values, np.uint8, binary=binary)]
                    assert inputs == [{"name": "letters", "datatype": "UINT8", "shape": [-1, -1]}]
            found = await triton.infer("letters", given)
            assert found.as_numpy("label").tolist() == [b"a", b"b"]
            assert found.as_numpy("scores").tolist() == [[0.75, 0.25], [0.25, 0.75]]
        with pytest.raises(InferenceServerException, match="has no input 'x'"):
            await triton.infer("letters", [array_input("x", "UINT8", [1], np.uint8, binary=True)])
