"""Messages that no client of ours would send, made of a seed. Pure.

Each is broken in its body, its headers, its other properties or its lane, or in several of them;
some are meant to do harm (`attacks`). All are such that the broker takes them: what it refuses
never reaches a worker.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import msgspec

from benchmarks.failures import raw
from benchmarks.failures.attacks import Attack, attacks
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.messages import JSON, MSGPACK
from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.topology import routing_key

#: A word of a real review in most of them, so that some packs are run.
_TEXT: Final = "a moving film with a fine cast"
#: Bytes of what is deep or long; a worker has to read each of them.
_LONG: Final = 20_000
#: How many of a hundred are so.
_LONG_SHARE: Final = 2
#: How many of a thousand mean harm.
_HARM_SHARE: Final = 20
_ITEM_FIELDS: Final = (
    "id",
    "text",
    "text_pair",
    "data",
    "media_type",
    "tensors",
    "error",
    "strange",
)
_FIELDS: Final = ("model", "items", "version", "options", "strange")


@dataclass(frozen=True, slots=True)
class Malformed:
    """One message, as `raw.RawChannel` sends it."""

    #: Comes back with whatever becomes of it: it begins its correlation id.
    number: int
    #: What was done to it, for people.
    kind: str
    key: str
    properties: bytes
    body: bytes
    #: Whether it says, readably, where its answer has to go.
    answerable: bool
    #: Messages that the broker makes of it.
    copies: int = 1


def malformed(seed: int, count: int, *, model: str, reply_to: str) -> Iterator[Malformed]:
    """`count` messages for the lanes of a model that ask for answers at `reply_to`."""
    source = Random(seed)
    for number in range(count):
        yield _message(source, number, model, reply_to)


def meant(number: int, attack: Attack, key: str, reply_to: str) -> Malformed:
    """An attack that asks for an answer."""
    values = {
        raw.CONTENT_TYPE: raw.short(attack.content_type.encode()),
        raw.CORRELATION_ID: raw.short(b"%d." % number),
        raw.REPLY_TO: raw.short(reply_to.encode()),
        raw.HEADERS: raw.long(attack.headers),
    }
    properties = raw.properties(values | dict(attack.properties))
    return Malformed(number, attack.kind, key, properties, attack.body, True, attack.copies)


def _message(source: Random, number: int, model: str, reply_to: str) -> Malformed:
    if source.randrange(1_000) < _HARM_SHARE:
        attack = source.choice(attacks(model))
        lane = source.choice(tuple(LANES))
        return meant(number, attack, routing_key(model, lane), reply_to)
    content_type, body, wrong = _body(source, model)
    values = {
        raw.CONTENT_TYPE: raw.short(content_type.encode()),
        raw.CORRELATION_ID: raw.short(b"%d." % number),
        raw.REPLY_TO: raw.short(reply_to.encode()),
    }
    kinds = [wrong]
    answerable = True
    if source.random() < 0.5:
        values[raw.HEADERS] = raw.long(_table(source))
        kinds.append("headers")
    if source.random() < 0.4:
        name, change = source.choice(_PROPERTIES)
        answerable = change(source, values)
        kinds.append(name)
    key = routing_key(model, source.choice(tuple(LANES)))
    properties = raw.properties(values)
    return Malformed(number, " + ".join(kinds), key, properties, body, answerable)


def number_of(properties: bytes) -> int | None:
    """The message that an answer, or a dead-lettered copy, belongs to."""
    number, _, _ = raw.correlation_id(properties).partition(b".")
    return int(number) if number.isdigit() else None


# ----------------------------------------------------------------------- bodies


def _body(source: Random, model: str) -> tuple[str, bytes, str]:
    """Content type, body and what is wrong with it."""
    content_type = source.choice((JSON, MSGPACK))
    name, make = source.choice(_BODIES)
    if source.randrange(100) < _LONG_SHARE:
        name, make = source.choice(_LONG_BODIES)
    return content_type, make(source, content_type, model), name


def _encoded(content: Any, content_type: str) -> bytes:
    if content_type == MSGPACK:
        return msgspec.msgpack.encode(content)
    return json.dumps(content, default=str).encode()


def _request(source: Random, model: str) -> dict[str, Any]:
    items = [{"id": str(place), "text": _TEXT} for place in range(source.randint(1, 4))]
    return {"model": model, "items": items}


def _noise(source: Random, content_type: str, model: str) -> bytes:
    return source.randbytes(source.randint(0, 300))


def _flipped(source: Random, content_type: str, model: str) -> bytes:
    body = bytearray(_encoded(_request(source, model), content_type))
    for _ in range(source.randint(1, 4)):
        body[source.randrange(len(body))] ^= 1 << source.randrange(8)
    return bytes(body)


def _truncated(source: Random, content_type: str, model: str) -> bytes:
    body = _encoded(_request(source, model), content_type)
    return body[: source.randrange(len(body))]


def _spliced(source: Random, content_type: str, model: str) -> bytes:
    body = _encoded(_request(source, model), content_type)
    place = source.randrange(len(body))
    return body[:place] + source.randbytes(source.randint(1, 20)) + body[place:]


def _other_language(source: Random, content_type: str, model: str) -> bytes:
    return _encoded(_request(source, model), MSGPACK if content_type == JSON else JSON)


def _wrong_field(source: Random, content_type: str, model: str) -> bytes:
    content = _request(source, model)
    content[source.choice(_FIELDS)] = _value(source)
    return _encoded(content, content_type)


def _wrong_item(source: Random, content_type: str, model: str) -> bytes:
    content = _request(source, model)
    content["items"][0][source.choice(_ITEM_FIELDS)] = _value(source)
    if source.random() < 0.2:
        content["items"].append(_value(source))
    return _encoded(content, content_type)


def _wrong_options(source: Random, content_type: str, model: str) -> bytes:
    options = {"top_k": _value(source), source.choice(("explain", "top_k")): _value(source)}
    return _encoded(_request(source, model) | {"options": options}, content_type)


def _wrong_tensor(source: Random, content_type: str, model: str) -> bytes:
    tensor = {
        "shape": source.choice(([-1], [2**62, 2**62], [], [0], "x", [1.5])),
        "datatype": source.choice(("FP32", "BYTES", "", "object", 7)),
        "data": source.choice(("AAAA", "no base64!", "", None)),
    }
    tensors = source.choice(({"ids": tensor}, {"": tensor}, {}, [tensor], tensor))
    return _encoded({"model": model, "items": [{"id": "t", "tensors": tensors}]}, content_type)


def _strange_model(source: Random, content_type: str, model: str) -> bytes:
    names = ("", "nobody", "../../etc/passwd", "a" * 3_000, "a\0b", model.upper(), f"{model}/1")
    content = _request(source, source.choice(names))
    if source.random() < 0.5:
        content = _request(source, model) | {"version": source.choice(("0", "..", "", "9" * 400))}
    return _encoded(content, content_type)


def _surrogates(source: Random, content_type: str, model: str) -> bytes:
    lone = b'"\\ud8%02x"' % source.randrange(256)
    body = _encoded(_request(source, model), JSON)
    return body.replace(source.choice((b'"0"', b'"id"', b'"text"', b'"%b"' % model.encode())), lone)


def _numbers(source: Random, content_type: str, model: str) -> bytes:
    numbers = (b"1e999", b"-1e999", b"NaN", b"Infinity", b"1" * 5_000, b"-0", b"1e-999", b"0x10")
    body = _encoded(_request(source, model), JSON)
    return body.replace(source.choice((b'"0"', b'"%b"' % _TEXT.encode())), source.choice(numbers))


def _deep(source: Random, content_type: str, model: str) -> bytes:
    if content_type == MSGPACK:
        return b"\x91" * _LONG
    opening = source.choice((b"[", b'{"items":', b'{"model":"m","items":['))
    return opening * (_LONG // len(opening))


def _claims(source: Random, content_type: str, model: str) -> bytes:
    """Far more than there is: of MessagePack, a map, an array, a text or bytes of 4 GiB."""
    heads = (b"\xdf", b"\xdd", b"\xdb", b"\xc6", b"\xc9")
    return b"\x82\xa5model\xa1m\xa5items" + source.choice(heads) + b"\xff" * 4


def _crowd(source: Random, content_type: str, model: str) -> bytes:
    items = [{"id": "", "text": source.choice(("", " ", "ok"))}] * (_LONG // 4)
    return _encoded({"model": model, "items": items}, content_type)


def _endless_text(source: Random, content_type: str, model: str) -> bytes:
    text = source.choice(("x", "word ", "\0", "é", "電 ")) * _LONG * 5
    return _encoded({"model": model, "items": [{"id": "0", "text": text}]}, content_type)


_Make = Callable[[Random, str, str], bytes]
_BODIES: Final[tuple[tuple[str, _Make], ...]] = (
    ("noise", _noise),
    ("flipped bits", _flipped),
    ("truncated", _truncated),
    ("spliced", _spliced),
    ("other language", _other_language),
    ("wrong field", _wrong_field),
    ("wrong item", _wrong_item),
    ("wrong options", _wrong_options),
    ("wrong tensor", _wrong_tensor),
    ("strange model", _strange_model),
    ("lone surrogates", _surrogates),
    ("numbers", _numbers),
    ("claims", _claims),
)
_LONG_BODIES: Final[tuple[tuple[str, _Make], ...]] = (
    ("deep", _deep),
    ("crowd", _crowd),
    ("endless text", _endless_text),
)


def _value(source: Random) -> Any:
    """Of any type that both languages have."""
    values: tuple[Any, ...] = (
        None, True, 0, -1, 2**31, 2**63, -(2**63), 1.5, 1e308, "", "\0", "電" * 100,
        [], [[]], {}, {"id": "x"}, {"code": "x", "message": "y"}, [{"a": [{}]}], ["x"] * 50,
    )  # fmt: skip
    return source.choice(values)


# -------------------------------------------------------------------- properties


def _table(source: Random) -> bytes:
    """Some of our own headers, and others, with values of all types."""
    names = [f"lmaas-{name.replace('_', '-')}" for name in Headers.__struct_fields__]
    # No x-death: of a message that expires, RabbitMQ 3.10 reads it, and its queue ends if it is an
    # array of anything but tables.
    names += ["traceparent", "x-delivery-count", "", "é", "a" * 200]
    return b"".join(
        raw.short(source.choice(names).encode()) + _field(source)
        for _ in range(source.randint(0, 5))
    )


def _packed(kind: str, *numbers: float) -> tuple[bytes, ...]:
    return tuple(struct.pack(kind, number) for number in numbers)


#: Values by the letter of their type. No NaN, no infinity, no unknown type, which the broker
#: refuses; no times that pamqp cannot read.
_FLAT: Final[dict[bytes, tuple[bytes, ...]]] = {
    b"S": tuple(map(raw.long, (b"", b"1", b"\xff\xfe", b"x" * 3_000, b"\0"))),
    b"x": tuple(map(raw.long, (b"", b"\xff\xfe"))),
    b"t": (b"\0", b"\1"),
    b"b": (b"\0", b"\x7f", b"\xff"),
    b"B": (b"\0", b"\xff"),
    b"s": _packed(">h", 0, -1, -(2**15)),
    b"u": _packed(">H", 0, 2**16 - 1),
    b"I": _packed(">i", 0, 1, -1, -(2**31), 2**31 - 1),
    b"i": _packed(">I", 0, 2**32 - 1),
    b"l": _packed(">q", 0, 1, -1, -(2**63), 2**63 - 1),
    b"L": _packed(">q", 0, -1),
    b"f": _packed(">f", 0.0, -0.0, -1.5, 3e38, 1e-40),
    b"d": _packed(">d", 0.0, -0.0, -1.5, 1e308, 5e-324),
    b"T": _packed(">Q", 0, 1, 2**32, 2**45),
    b"D": tuple(bytes([scale]) + struct.pack(">i", -7) for scale in (0, 2, 255)),
    b"V": (b"",),
}
#: Types whose values have values, to this depth.
_NESTED: Final = (b"F", b"A")
_DEEPEST: Final = 4


def _field(source: Random, depth: int = 0) -> bytes:
    """A value with its type."""
    kind: bytes = source.choice([*_FLAT, *(_NESTED * 3 if depth < _DEEPEST else ())])
    if kind == b"F":
        return kind + raw.long(raw.short(b"k") + _field(source, depth + 1))
    if kind == b"A":
        return kind + raw.long(_field(source, depth + 1) * source.randint(0, 3))
    return kind + source.choice(_FLAT[kind])


_Values = dict[int, bytes]
#: Changes the properties; False when nobody can be answered any more.
_Change = Callable[[Random, _Values], bool]


def _set(flag: int, *values: bytes, answerable: bool = True) -> _Change:
    def change(source: Random, properties: _Values) -> bool:
        properties[flag] = source.choice(values)
        return answerable

    return change


def _long_correlation_id(source: Random, properties: _Values) -> bool:
    properties[raw.CORRELATION_ID] = raw.short(_inside(properties).ljust(255, b"7"))
    return True


def _foreign_correlation_id(source: Random, properties: _Values) -> bool:
    properties[raw.CORRELATION_ID] = raw.short(_inside(properties) + b"\xff\xfe")
    return False


def _inside(properties: _Values) -> bytes:
    return properties[raw.CORRELATION_ID][1:]


def _no_reply_to(source: Random, properties: _Values) -> bool:
    del properties[raw.REPLY_TO]
    return False


def _other_lane(source: Random, properties: _Values) -> bool:
    """A worker moves it, with all its headers."""
    remaining = raw.short(b"lmaas-remaining") + b"I" + struct.pack(">i", 10**6)
    properties[raw.HEADERS] = raw.long(remaining + raw.short(b"other") + _field(source))
    return True


def _deep_table(source: Random, properties: _Values) -> bool:
    table = b""
    for _ in range(source.choice((10, 500, 2_000))):
        table = raw.short(b"t") + b"F" + raw.long(table)
    properties[raw.HEADERS] = raw.long(table)
    return False


def _far_header(source: Random, properties: _Values) -> bool:
    properties[raw.HEADERS] = raw.long(raw.short(b"t") + b"T" + source.choice(_FAR))
    return False


def _foreign_header_name(source: Random, properties: _Values) -> bool:
    properties[raw.HEADERS] = raw.long(raw.short(b"\xff\xfe") + _field(source))
    return False


#: Times after the year 9999, in seconds or milliseconds.
_FAR: Final = (struct.pack(">Q", 2**53), b"\x7f" + b"\xff" * 7, b"\xff" * 8)
_FOREIGN: Final = raw.short(b"\xff\xfe")
_NO_FORMATS: Final = ("", "text/html", "application/json; charset=latin-1", " ", "\0", "a" * 255)
_PROPERTIES: Final[tuple[tuple[str, _Change], ...]] = (
    ("content type", _set(raw.CONTENT_TYPE, *(raw.short(t.encode()) for t in _NO_FORMATS))),
    ("foreign content type", _set(raw.CONTENT_TYPE, _FOREIGN, answerable=False)),
    ("content encoding", _set(raw.CONTENT_ENCODING, raw.short(b"gzip"), raw.short(b"x" * 255))),
    ("transient", _set(raw.DELIVERY_MODE, b"\1")),
    ("priority", _set(raw.PRIORITY, b"\xff", b"\x00", b"\x05")),
    ("long correlation id", _long_correlation_id),
    ("foreign correlation id", _foreign_correlation_id),
    ("no reply to", _no_reply_to),
    ("reply to nobody", _set(raw.REPLY_TO, raw.short(b"nobody"), raw.short(b"q" * 255),
                             raw.short(b"amq.rabbitmq.reply-to.bogus"), answerable=False)),
    ("empty reply to", _set(raw.REPLY_TO, raw.short(b""), answerable=False)),
    ("foreign reply to", _set(raw.REPLY_TO, _FOREIGN, answerable=False)),
    ("expiration", _set(raw.EXPIRATION, raw.short(b"0"), raw.short(b"5"), raw.short(b"100000"))),
    ("message id", _set(raw.MESSAGE_ID, raw.short(b"m" * 255), raw.short(b""), raw.short(b"same"))),
    ("foreign message id", _set(raw.MESSAGE_ID, _FOREIGN, answerable=False)),
    ("time", _set(raw.TIMESTAMP, b"\0" * 8, struct.pack(">Q", 2**32))),
    ("far time", _set(raw.TIMESTAMP, *_FAR, answerable=False)),
    ("far time in the headers", _far_header),
    ("type", _set(raw.TYPE, raw.short(b"lmaas.reply.v1"), raw.short(b""), raw.short(b"x" * 255))),
    ("foreign type", _set(raw.TYPE, _FOREIGN, answerable=False)),
    ("application", _set(raw.APP_ID, raw.short(b"a" * 255))),
    ("other lane", _other_lane),
    ("deep headers", _deep_table),
    ("foreign header name", _foreign_header_name),
)  # fmt: skip
