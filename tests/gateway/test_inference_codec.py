"""Bodies of the Open Inference Protocol, as NumPy and Triton's client write and read them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.http import InferInput, InferRequestedOutput, InferResult
from tritonclient.http._utils import _get_inference_request
from tritonclient.utils import np_to_triton_dtype

from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.inference_protocol.codec import (
    Call,
    Input,
    Output,
    decode,
    encode,
    header_length,
)
from lmaas.producer.gateway.inference_protocol.tensors import BYTES, packed, rows

KINDS = [
    np.bool_, np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int16, np.int32, np.int64,
    np.float16, np.float32, np.float64,
]  # fmt: skip

shapes = arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)
numbers = st.sampled_from(KINDS).flatmap(
    lambda kind: arrays.arrays(
        kind,
        shapes,
        elements=(
            {"allow_nan": False, "allow_infinity": False}
            if np.issubdtype(kind, np.floating)
            else None
        ),
    )
)
words = arrays.arrays(np.object_, shapes, elements=st.text(st.characters(codec="utf-8")))


def read(body: bytes, length: int | None) -> Call:
    """With any number of rows."""
    return decode(body, length, lambda _rows: None)


def as_json(inputs: list[Any], **more: Any) -> bytes:
    return json.dumps({"inputs": inputs, **more}).encode()


def sent(tensors: dict[str, npt.NDArray[Any]], *, binary: bool) -> Call:
    """What Triton's client makes of arrays, read."""
    inputs = []
    for name, array in tensors.items():
        one = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        inputs.append(one.set_data_from_numpy(array, binary_data=binary))
    outputs = [InferRequestedOutput("scores", binary_data=binary, class_count=3)]
    body, length = _get_inference_request(inputs, "7", outputs, 0, False, False, 0, 5, {"top_k": 3})
    return read(body, header_length(None if length is None else str(length)))


def restored(one: Input) -> npt.NDArray[Any]:
    if isinstance(one.content, list):
        found = [part if isinstance(part, str) else part.decode() for part in one.content]
        array = np.array(found, dtype=np.object_)
    else:
        kind = next(kind for kind in KINDS if np_to_triton_dtype(np.dtype(kind)) == one.datatype)
        array = np.frombuffer(one.content, np.dtype(kind).newbyteorder("<"))
    return array.reshape(one.shape)


@given(st.lists(st.one_of(numbers, words), min_size=1, max_size=3), st.booleans())
def test_what_tritons_client_sends_is_read(tensors: list[npt.NDArray[Any]], binary: bool) -> None:
    named = {f"in{place}": array for place, array in enumerate(tensors)}
    call = sent(named, binary=binary)
    assert (call.id, call.parameters) == ("7", {"timeout": 5, "top_k": 3})
    assert call.outputs is not None
    assert (call.outputs[0].classes, call.outputs[0].binary) == (3, binary)
    assert list(call.inputs) == list(named)
    for name, array in named.items():
        np.testing.assert_array_equal(restored(call.inputs[name]), array)


@given(numbers)
def test_nested_data_is_flat_data(array: npt.NDArray[Any]) -> None:
    datatype = np_to_triton_dtype(array.dtype)
    tensor = {"name": "x", "shape": list(array.shape), "datatype": datatype}
    nested, flat = (
        read(as_json([{**tensor, "data": data}]), None).inputs["x"]
        for data in (array.tolist(), array.ravel().tolist())
    )
    assert nested == flat
    assert b"".join(rows(datatype, nested.shape, nested.content)) == array.tobytes()


@given(words)
def test_rows_of_strings_have_each_its_length(array: npt.NDArray[Any]) -> None:
    one = sent({"x": array}, binary=False).inputs["x"]
    found = rows(BYTES, one.shape, one.content)
    assert len(found) == len(array)
    assert found[0] == packed(BYTES, array[0].ravel().tolist() if array.ndim > 1 else [array[0]])


@given(
    st.lists(st.one_of(numbers, words), min_size=1, max_size=3, unique_by=id),
    st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_tritons_client_reads_what_is_sent(
    tensors: list[npt.NDArray[Any]], binary: list[bool]
) -> None:
    outputs = [
        Output(
            f"out{place}",
            np_to_triton_dtype(array.dtype),
            list(array.shape),
            array.ravel().tolist(),
            is_binary,
        )
        for place, (array, is_binary) in enumerate(zip(tensors, binary, strict=False))
    ]
    body, length = encode("m", "1", "7", outputs)
    assert (length is None) == (not any(one.binary for one in outputs))
    result = InferResult.from_response_body(body, header_length=length)
    assert result.get_response()["id"] == "7"
    for one, array in zip(outputs, tensors, strict=True):
        found = result.as_numpy(one.name)
        if one.datatype == BYTES and one.binary:
            found = np.vectorize(bytes.decode, otypes=[np.object_])(found)
        np.testing.assert_array_equal(found, array)


@given(st.binary(max_size=200), st.one_of(st.none(), st.integers(0, 300)))
def test_any_bytes_are_a_request_or_a_bad_one(body: bytes, length: int | None) -> None:
    with pytest.raises(HttpError) as refused:
        read(body, length)
    assert refused.value.failure.status == 400


X = {"name": "x", "shape": [2], "datatype": "INT32"}
B = {"name": "b", "shape": [1], "datatype": "BYTES"}


def sized(size: object, **more: Any) -> dict[str, Any]:
    return {**B, "parameters": {"binary_data_size": size}, **more}


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "length >= 1"),
        ([{"name": "x"}], "shape"),
        ([{**X, "shape": [], "data": []}], "length >= 1"),
        ([{**X, "shape": [-1], "data": []}], ">= 0"),
        ([{**X, "shape": [1] * 33, "data": [1]}], "length <= 32"),
        ([{**X, "datatype": "INT33", "data": [1, 2]}], "unknown datatype 'INT33'"),
        ([X], "input 'x' has neither data nor binary_data_size"),
        ([{**X, "data": [1, 2]}, {**X, "data": [1, 2]}], "input 'x' is there twice"),
        ([{**X, "data": 5}], "input 'x': data must be an array"),
        ([{**X, "data": [1]}], "input 'x': 1 values; the shape [2] has 2"),
        ([{**X, "data": [1, 2.5]}], "input 'x': value 1 is '2.5', which is not INT32"),
        ([{**X, "data": [1, None]}], "value 1 is 'None', which is not INT32"),
        ([{**X, "data": [1, 2**31]}], "value 1 is '2147483648', which is not INT32"),
        ([{**X, "datatype": "FP32", "data": [1, 1e39]}], "value 1 is '1e+39', which is not FP32"),
        (
            [{**X, "datatype": "FP64", "data": [1, 10**400]}],
            "value 1 is a number of more than 64 bits, which is not FP64",
        ),
        ([{**X, "datatype": "BOOL", "data": [True, 2]}], "value 1 is '2', which is not true"),
        ([{**X, "datatype": "BYTES", "data": ["a", 1]}], "value 1 is '1', which is not a string"),
        ([{**X, "shape": [2, 1], "data": [[{"a": 1}], [2]]}], "value 0 is an object"),
        ([{**X, "shape": [2, 2], "data": [[1, 2], [3]]}], "not the shape [2, 2]"),
        ([{**X, "shape": [2, 2], "data": [[1, 2, 3], [4]]}], "not the shape [2, 2]"),
        ([{**X, "shape": [2, 2], "data": [[1, 2], 3]}], "not the shape [2, 2]"),
        ([{**X, "shape": [2, 1], "data": [[[1]], [2]]}], "value 0 is an array"),
        ([sized(5)], "no header Inference-Header-Content-Length"),
        ([{**X, "data": "x" * 5}], "data must be an array"),
    ],
)
def test_a_bad_request_is_told(inputs: list[Any], words: str) -> None:
    with pytest.raises(HttpError) as refused:
        read(as_json(inputs), None)
    assert refused.value.failure.status == 400
    assert words in refused.value.failure.message


@pytest.mark.parametrize(
    ("given_input", "blob", "words"),
    [
        (sized(6), b"\x02\0\0\0ab", ""),
        (sized("6"), b"\x02\0\0\0ab", "binary_data_size is '6'"),
        (sized(-1), b"", "binary_data_size is '-1'"),
        (sized(True), b"x", "binary_data_size is 'True'"),
        (sized(7), b"\x02\0\0\0ab", "7 bytes; 6 are left"),
        (sized(5), b"\x02\0\0\0ab", "its 5 bytes are not 1 elements"),
        (sized(2), b"\x02\0", "its 2 bytes are not 1 elements"),
        (sized(8), b"\x02\0\0\0abcd", "its 8 bytes are not 1 elements"),
        (sized(6), b"\x02\0\0\0ab-", "1 bytes of the body belong to no input"),
        (sized(6, data=["x"]), b"\x02\0\0\0ab", "both data and binary_data_size"),
        ({**sized(6), "datatype": "INT64"}, b"abcdef", "6 bytes; INT64 of the shape [1] has 8"),
    ],
)
def test_bad_binary_values_are_told(given_input: dict[str, Any], blob: bytes, words: str) -> None:
    head = as_json([given_input])
    if not words:
        assert read(head + blob, len(head)).inputs["b"].content == [b"ab"]
        return
    with pytest.raises(HttpError) as refused:
        read(head + blob, len(head))
    assert refused.value.failure.status == 400
    assert words in refused.value.failure.message


def test_rows_are_counted_before_their_values_are_read() -> None:
    def check(count: int) -> None:
        raise HttpError(413, "too_many_items", str(count))

    with pytest.raises(HttpError, match="9") as refused:
        decode(as_json([{**X, "shape": [9], "data": "no values at all"}]), None, check)
    assert refused.value.failure.status == 413


def test_shared_memory_is_not_there() -> None:
    parameters = {"shared_memory_region": "r", "shared_memory_byte_size": 4}
    for body in (
        as_json([{**X, "parameters": parameters}]),
        as_json([{**X, "data": [1, 2]}], outputs=[{"name": "o", "parameters": parameters}]),
    ):
        with pytest.raises(HttpError) as refused:
            read(body, None)
        assert refused.value.failure.status == 501


@pytest.mark.parametrize("header", ["", "-1", "1.5", "x", "٣", "9" * 30])
def test_a_bad_length_is_told(header: str) -> None:
    with pytest.raises(HttpError, match="must be the number of bytes"):
        header_length(header)


def test_what_clients_add_passes() -> None:
    """Nulls, as Pydantic writes them, and fields that nobody knows."""
    more = {"parameters": None, "outputs": None, "id": None, "extra": 1}
    call = read(as_json([{**X, "data": [1, 2], "parameters": None, "unit": "m"}], **more), None)
    assert call.outputs is None
    assert len(call.id) == 32

    def asked(one: dict[str, Any]) -> Call:
        return read(as_json([{**X, "data": [1, 2]}], **one), None)

    assert asked({"parameters": {"binary_data_output": True}}).binary
    wanted = asked({"outputs": [{"name": "o"}], "parameters": {"binary_data_output": True}}).outputs
    assert wanted is not None
    assert wanted[0].binary
