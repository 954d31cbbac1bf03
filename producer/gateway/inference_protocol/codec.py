"""Requests and responses of inference: JSON, and the binary extension. Pure.

With the extension the JSON, whose length a header tells, is followed by the values of the tensors
whose parameters have a `binary_data_size`, in their order.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec

from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.inference_protocol.tensors import (
    BYTES,
    CODES,
    MAX_RANK,
    Content,
    bad,
    from_binary,
    from_json,
    packed,
    shown,
)

#: The header with the length of the JSON, in requests and responses.
LENGTH: Final = "Inference-Header-Content-Length"
SIZE: Final = "binary_data_size"

Parameters = dict[str, Any]
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
_Shape = Annotated[list[_Size], msgspec.Meta(min_length=1, max_length=MAX_RANK)]
_Datatype = Annotated[str, msgspec.Meta(extra_json_schema={"enum": [*CODES, BYTES]})]


class InferInput(msgspec.Struct):
    """A tensor of a request; its first dimension counts the items."""

    name: str
    shape: _Shape
    datatype: _Datatype
    parameters: Parameters | None = None
    #: Row-major values, flat or nested; left out where they follow the JSON.
    data: Any = None


class InferWanted(msgspec.Struct):
    """An output that the caller wants."""

    name: str
    parameters: Parameters | None = None


class InferRequest(msgspec.Struct):
    """The body of `POST .../infer`."""

    inputs: Annotated[list[InferInput], msgspec.Meta(min_length=1)]
    id: str | None = None
    parameters: Parameters | None = None
    #: All, when it is left out.
    outputs: list[InferWanted] | None = None


class InferOutput(msgspec.Struct, omit_defaults=True):
    """A tensor of a response."""

    name: str
    shape: list[int]
    datatype: _Datatype
    parameters: Parameters | None = None
    data: list[Any] | None = None


class InferResponse(msgspec.Struct):
    """The answer to `POST .../infer`."""

    model_name: str
    model_version: str
    id: str
    outputs: list[InferOutput]


@dataclass(frozen=True, slots=True)
class Input:
    """A tensor that was read, with as many values as its shape has."""

    name: str
    datatype: str
    shape: list[int]
    content: Content
    #: What the values of BYTES are: MLServer's word for it, as "base64", or a media type.
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output, as the caller wants it."""

    name: str
    #: The best so many labels, as strings; 0: the values themselves.
    classes: int
    binary: bool


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor to send: values of a datatype in row-major order; those of BYTES are `str`."""

    name: str
    datatype: str
    shape: list[int]
    values: Sequence[Any]
    binary: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was read."""

    inputs: dict[str, Input]
    #: None: all outputs.
    outputs: list[Wanted] | None
    #: Whether outputs are binary unless they say otherwise.
    binary: bool
    id: str
    parameters: Parameters


_decoder: Final = msgspec.json.Decoder(InferRequest)
_encode: Final = msgspec.json.Encoder().encode


def header_length(header: str | None) -> int | None:
    """Of the header LENGTH: bytes of the JSON; None: all of the body. Raises HttpError."""
    if header is None:
        return None
    if not (header.isascii() and header.isdecimal()) or len(header) > 18:
        raise bad(f"{LENGTH} is {header[:50]!r}; it must be the number of bytes of the JSON")
    return int(header)


def decode(body: bytes, length: int | None, check: Callable[[int], None]) -> Call:
    """A request of which the JSON has `length` bytes; None: it is all of the body.

    `check` raises when a tensor may not have so many rows, before its values are read.
    Raises HttpError: 400, or 501 for shared memory.
    """
    if length is not None and length > len(body):
        raise bad(f"{LENGTH} is {length:,}; the body has {len(body):,} bytes")
    try:
        request = _decoder.decode(body if length is None else memoryview(body)[:length])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad(f"the body is not a request: {error}") from error
    for one in request.inputs:
        check(one.shape[0])
    parameters = request.parameters or {}
    binary = parameters.get("binary_data_output") is True
    return Call(
        inputs=_inputs(request.inputs, body, length),
        outputs=[_wanted(one, binary) for one in request.outputs] if request.outputs else None,
        binary=binary,
        id=request.id or new_id(),
        parameters=parameters,
    )


def _inputs(given: Sequence[InferInput], body: bytes, length: int | None) -> dict[str, Input]:
    found: dict[str, Input] = {}
    place = len(body) if length is None else length
    for one in given:
        where = f"input {one.name!r}"
        if one.name in found:
            raise bad(f"{where} is there twice")
        if one.datatype not in CODES and one.datatype != BYTES:
            raise bad(f"{where}: unknown datatype {one.datatype!r}; known: {_KNOWN}")
        size = _binary_size(where, one, length)
        if size is None:
            content = from_json(where, one.datatype, one.shape, one.data)
        else:
            if place + size > len(body):
                raise bad(f"{where}: {size:,} bytes; {len(body) - place:,} are left in the body")
            blob = body[place : place + size]
            place += size
            content = from_binary(where, one.datatype, one.shape, blob)
        kind = (one.parameters or {}).get("content_type")
        content_type = kind if isinstance(kind, str) else None
        found[one.name] = Input(one.name, one.datatype, one.shape, content, content_type)
    if place != len(body):
        raise bad(f"{len(body) - place:,} bytes of the body belong to no input")
    return found


_KNOWN: Final = ", ".join([*CODES, BYTES])


def _binary_size(where: str, given: InferInput, length: int | None) -> int | None:
    """Bytes of the values that follow the JSON; None: they are in it."""
    parameters = given.parameters or {}
    check_shared_memory(where, parameters)
    size = parameters.get(SIZE)
    if size is None:
        if given.data is None:
            raise bad(f"{where} has neither data nor {SIZE}")
        return None
    if length is None:
        raise bad(f"{where} has {SIZE}, and the request has no header {LENGTH}")
    if type(size) is not int or size < 0:
        raise bad(f"{where}: {SIZE} is {shown(size)}; it must be a number of bytes")
    if given.data is not None:
        raise bad(f"{where} has both data and {SIZE}")
    return size


def check_shared_memory(where: str, parameters: Parameters) -> None:
    """Raises HttpError 501 when a tensor is in shared memory."""
    if "shared_memory_region" in parameters:
        raise HttpError(
            HTTPStatus.NOT_IMPLEMENTED,
            "not_implemented",
            f"{where}: there is no shared memory here; send values in the body",
        )


def _wanted(given: InferWanted, binary: bool) -> Wanted:
    where = f"output {given.name!r}"
    parameters = given.parameters or {}
    check_shared_memory(where, parameters)
    classes = parameters.get("classification", 0)
    if type(classes) is not int or classes < 0:
        raise bad(f"{where}: classification is {shown(classes)}; it must be a number")
    return Wanted(given.name, classes, parameters.get("binary_data", binary) is True)


def new_id() -> str:
    """Of a request that has none."""
    return uuid.uuid4().hex


def encode(
    model: str, version: str, call_id: str, outputs: Sequence[Output]
) -> tuple[bytes, int | None]:
    """The body of a response, and the bytes of its JSON where more follows them."""
    told: list[InferOutput] = []
    blobs: list[bytes] = []
    for one in outputs:
        if one.binary:
            blobs.append(packed(one.datatype, one.values))
            parameters = {SIZE: len(blobs[-1])}
            told.append(InferOutput(one.name, one.shape, one.datatype, parameters))
        else:
            told.append(InferOutput(one.name, one.shape, one.datatype, data=list(one.values)))
    head = _encode(InferResponse(model, version, call_id, told))
    return b"".join([head, *blobs]), len(head) if blobs else None
