"""What the protocol tells of the server and of models. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

import msgspec

from lmaas.broker_config.messages import ModelCard
from lmaas.producer.gateway.inference_protocol.mapping import Port, inputs_of, outputs_of
from lmaas.producer.gateway.inference_protocol.tensors import BYTES

EXTENSIONS: Final = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
]
PLATFORM: Final = "onnx_onnxv1"
BACKEND: Final = "onnxruntime"
_VERSION: Final = version("lmaas")


class Server(msgspec.Struct):
    """The answer to `GET /v2`."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(msgspec.Struct):
    """A tensor; -1 is a size that is free."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct):
    """The answer to `GET /v2/models/{model}`."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class Live(msgspec.Struct):
    """The answer to `GET /v2/health/live`."""

    live: bool


class Ready(msgspec.Struct):
    """The answer to `GET /v2/health/ready`."""

    ready: bool
    live: bool


class ModelReady(msgspec.Struct):
    """The answer to `GET /v2/models/{model}/ready`."""

    name: str
    ready: bool


class Indexed(msgspec.Struct):
    """One version of a model in the answer to `POST /v2/repository/index`."""

    name: str
    version: str
    state: str = "READY"
    reason: str = ""


def server() -> Server:
    return Server("lmaas", _VERSION, EXTENSIONS)


def metadata(card: ModelCard, version: str | None) -> ModelMetadata:
    """Of all versions, or of one."""
    return ModelMetadata(
        name=card.model,
        versions=[version] if version else card.versions,
        platform=PLATFORM,
        inputs=[_tensor(port) for port in inputs_of(card)],
        outputs=[_tensor(port) for port in outputs_of(card)],
    )


def index(cards: Sequence[ModelCard]) -> list[Indexed]:
    """Every version: workers load one when it is asked for."""
    found = {(card.model, version): None for card in cards for version in card.versions}
    return [Indexed(model, version) for model, version in found]


def config(card: ModelCard, max_items: int) -> dict[str, Any]:
    """As Triton describes a model to its own tools, which then send `[items, 1]` for `[items]`."""
    return {
        "name": card.model,
        "platform": PLATFORM,
        "backend": BACKEND,
        "version_policy": {"specific": {"versions": card.versions}},
        "max_batch_size": max_items,
        "input": [_configured(port) for port in inputs_of(card)],
        "output": [_configured(port) for port in outputs_of(card)],
        "parameters": {"labels": {"string_value": ",".join(card.labels)}},
    }


def _tensor(port: Port) -> TensorMetadata:
    return TensorMetadata(port.name, port.datatype, port.shape)


def _configured(port: Port) -> dict[str, Any]:
    one = port.shape[1:]
    told: dict[str, Any] = {
        "name": port.name,
        "data_type": "TYPE_STRING" if port.datatype == BYTES else f"TYPE_{port.datatype}",
        "dims": one or [1],
    }
    if not one:
        told["reshape"] = {"shape": []}
    if port.optional:
        told["optional"] = True
    return told
