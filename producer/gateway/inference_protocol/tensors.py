"""Values of tensors: from JSON, from bytes, and back. Pure.

Values of numbers and booleans are kept as bytes, in row-major order and little-endian; those of the
datatype BYTES as a list of their elements, which are `str` where they came as JSON.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final

from lmaas.producer.gateway.failures import HttpError

BYTES: Final = "BYTES"
#: Datatype of a number or boolean -> its code in `struct`.
CODES: Final = {
    "BOOL": "?",
    "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q",
    "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip
#: Dimensions of a tensor.
MAX_RANK: Final = 32

#: Length of an element of BYTES.
_LENGTH: Final = struct.Struct("<I")

Element = str | bytes
Content = bytes | list[Element]


def bad(message: str) -> HttpError:
    """400: the caller's mistake."""
    return HttpError(HTTPStatus.BAD_REQUEST, "invalid", message)


def shown(value: object) -> str:
    """A value of JSON in the words of a mistake, not longer than these."""
    match value:
        case list():
            return "an array"
        case dict():
            return "an object"
        case int() if value.bit_length() > 64:
            return "a number of more than 64 bits"
        case _:
            return repr(str(value)[:50])


def from_json(where: str, datatype: str, shape: Sequence[int], data: object) -> Content:
    """Of an array of values, flat or nested as the shape says.

    `where` names the tensor in the words of a mistake. Raises HttpError.
    """
    values = _flat(where, shape, data)
    if datatype == BYTES:
        for place, value in enumerate(values):
            if type(value) is not str:
                raise _misfit(where, place, value, "a string")
        return values
    if datatype == "BOOL":
        for place, value in enumerate(values):
            if type(value) is not bool and value not in (0, 1):
                raise _misfit(where, place, value, "true or false")
    try:
        return packed(datatype, values)
    except (struct.error, OverflowError, TypeError) as error:
        raise _culprit(where, datatype, values) from error


def from_binary(where: str, datatype: str, shape: Sequence[int], blob: bytes) -> Content:
    """Of what the binary extension has for a tensor. Raises HttpError."""
    count = math.prod(shape)
    if datatype == BYTES:
        return _elements(where, count, blob)
    needed = count * struct.calcsize("<" + CODES[datatype])
    if len(blob) != needed:
        raise bad(
            f"{where}: {len(blob):,} bytes; {datatype} of the shape {list(shape)} has {needed:,}"
        )
    return blob


def packed(datatype: str, values: Iterable[Any]) -> bytes:
    """Values of any datatype as bytes. Raises struct.error, OverflowError or TypeError."""
    if datatype != BYTES:
        values = list(values)
        return struct.pack(f"<{len(values)}{CODES[datatype]}", *values)
    parts = (value.encode() if isinstance(value, str) else value for value in values)
    return b"".join(
        itertools.chain.from_iterable((_LENGTH.pack(len(part)), part) for part in parts)
    )


def rows(datatype: str, shape: Sequence[int], content: Content) -> list[bytes]:
    """The bytes of each row, `shape[0]` of them."""
    count = math.prod(shape[1:])
    if isinstance(content, bytes):
        width = count * struct.calcsize("<" + CODES[datatype])
        return [content[row * width : (row + 1) * width] for row in range(shape[0])]
    return [packed(datatype, content[row * count : (row + 1) * count]) for row in range(shape[0])]


def _flat(where: str, shape: Sequence[int], data: object) -> list[Any]:
    if not isinstance(data, list):
        raise bad(f"{where}: data must be an array")
    count = math.prod(shape)
    if not any(isinstance(value, list) for value in data):
        if len(data) != count:
            raise bad(f"{where}: {len(data):,} values; the shape {list(shape)} has {count:,}")
        return data
    level = [data]
    for size in shape:
        if any(not isinstance(part, list) or len(part) != size for part in level):
            raise bad(f"{where}: the nested data has not the shape {list(shape)}")
        level = list(itertools.chain.from_iterable(level))
    return level


def _elements(where: str, count: int, blob: bytes) -> list[Element]:
    found: list[Element] = []
    place = 0
    while place < len(blob) and len(found) < count:
        start = place + _LENGTH.size
        if start > len(blob):
            break
        end = start + _LENGTH.unpack_from(blob, place)[0]
        if end > len(blob):
            break
        found.append(blob[start:end])
        place = end
    if len(found) != count or place != len(blob):
        raise bad(
            f"{where}: its {len(blob):,} bytes are not {count:,} elements, each after its length "
            "in 4 bytes, little-endian"
        )
    return found


def _culprit(where: str, datatype: str, values: Sequence[Any]) -> HttpError:
    for place, value in enumerate(values):
        try:
            packed(datatype, [value])
        except (struct.error, OverflowError, TypeError):
            return _misfit(where, place, value, datatype)
    return bad(f"{where}: the values are not {datatype}")


def _misfit(where: str, place: int, value: object, expected: str) -> HttpError:
    return bad(f"{where}: value {place} is {shown(value)}, which is not {expected}")
