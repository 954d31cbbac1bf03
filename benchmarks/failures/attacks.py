"""Messages of somebody who may publish and means harm: one of each kind. Pure.

The broker takes all of them. Each is made to cost others more than its sender: to multiply, to stop
an event loop, to fill a memory, to break a connection.
"""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from benchmarks.failures import raw
from lmaas.broker_config.messages import JSON, MSGPACK
from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.topology import routing_key

_MIB: Final = 2**20
#: Bytes of a header with which a message just fits into a frame, so that nothing can be added.
_GIANT: Final = 130_900
_TEXT: Final = "a moving film with a fine cast"


@dataclass(frozen=True, slots=True)
class Attack:
    """One message but for its properties that say who sent it."""

    kind: str
    content_type: str
    body: bytes
    #: The encoded header table, and other properties by flag.
    headers: bytes = b""
    properties: tuple[tuple[int, bytes], ...] = ()
    #: Messages that the broker makes of it when it is published.
    copies: int = 1


def attacks(model: str) -> list[Attack]:
    """One of each kind, for the lanes of a model that accepts texts."""
    return list(_all(model))


@functools.cache
def _all(model: str) -> tuple[Attack, ...]:
    return tuple(attack for make in _MAKERS for attack in make(model))


def _request(model: str, **changes: object) -> dict[str, object]:
    return {"model": model, "items": [{"id": "0", "text": _TEXT}], **changes}


def _json(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _string(name: str, value: bytes) -> bytes:
    return raw.short(name.encode()) + b"S" + raw.long(value)


def _whole(name: str, value: int) -> bytes:
    return raw.short(name.encode()) + b"l" + struct.pack(">q", value)


def _array(name: str, entries: bytes) -> bytes:
    return raw.short(name.encode()) + b"A" + raw.long(entries)


def _multiplying(model: str) -> Iterator[Attack]:
    """It goes to every lane, and every lane's worker moves it to the one where it belongs."""
    lanes = b"".join(b"S" + raw.long(routing_key(model, lane).encode()) for lane in LANES)
    far = _whole("lmaas-remaining", 100)
    good, broken = _json(_request(model)), b"{"
    for name in ("CC", "BCC"):
        names = _array(name, lanes)
        yield Attack(f"{name}, moved", JSON, good, names + far, copies=len(LANES))
        yield Attack(f"{name}, dead-lettered", JSON, broken, names, copies=len(LANES))


def _crowds(model: str) -> Iterator[Attack]:
    """Far more items than a pack may have, of a byte or two each."""
    half = _MIB // 2
    for size in (_MIB, 3 * half):
        body = msgspec.msgpack.encode({"model": model, "items": [0] * size})
        yield Attack(f"{size / _MIB:g} Mi items", MSGPACK, body)
    kinds = {"numbers": b"0", "items": b'{"id":""}', "lists": b"[]", "texts": b'""'}
    for kind, item in kinds.items():
        items = b",".join([item] * (_MIB // (len(item) + 1)))
        yield Attack(
            f"1 MiB of {kind}", JSON, b'{"model":"%b","items":[%b]}' % (model.encode(), items)
        )
    few = _request(model, items=[0] * 4_000)
    yield Attack("4,000 bad items", MSGPACK, msgspec.msgpack.encode(few))


def _depths(model: str) -> Iterator[Attack]:
    yield Attack("deep", MSGPACK, b"\x91" * _MIB)
    yield Attack("deep JSON", JSON, b'{"model":"m","items":' + b"[" * _MIB)


def _giants(model: str) -> Iterator[Attack]:
    """One large part of an otherwise small message, which answers might repeat."""
    giant = "x" * _MIB
    yield Attack("giant id", JSON, _json(_request(model, items=[{"id": giant, "text": _TEXT}])))
    yield Attack("giant field", JSON, _json(_request(model, items=[{"id": "0", giant: 1}])))
    many = [{"id": str(place), "text": _TEXT} for place in range(2_000)]
    for field in ("model", "version"):
        yield Attack(f"giant {field}", JSON, _json(_request(model, items=many) | {field: giant}))
    shape = {"shape": [70_000] * (_MIB // 5), "datatype": "FP32", "data": b""}
    yield Attack(
        "giant shape",
        MSGPACK,
        msgspec.msgpack.encode(_request(model, items=[{"id": "0", "tensors": {"x": shape}}])),
    )
    yield Attack("11 MiB", JSON, b" " * 11 * _MIB)


def _frames(model: str) -> Iterator[Attack]:
    """Headers that fill a frame, in all ways by which a worker makes a copy, and of all names."""
    good = _json(_request(model))
    for name in ("foreign", "lmaas-job", "lmaas-first-error", "traceparent", "baggage"):
        giant = _string(name, b"x" * _GIANT)
        yield Attack(f"giant {name}, dead-lettered", JSON, b"{", giant)
        yield Attack(f"giant {name}, moved", JSON, good, giant + _whole("lmaas-remaining", 100))


def _lies(model: str) -> Iterator[Attack]:
    good = _json(_request(model))
    for top_k in (2**31, 2**62):
        body = _json(_request(model, options={"top_k": top_k}))
        yield Attack(f"top_k {top_k}", JSON, body)
    for name in ("attempt", "replays", "chunk", "cost", "remaining", "published-ms", "parked-ms"):
        for value in (1, 2**31 - 1, 2**62, -1):
            yield Attack(f"{name} {value}", JSON, good, _whole(f"lmaas-{name}", value))
    death = raw.short(b"count") + b"l" + struct.pack(">q", -1)
    entry = _array("x-death", b"F" + raw.long(death))
    yield Attack("x-death", JSON, good, entry)
    yield Attack("x-death, dead-lettered", JSON, b"{", entry)
    yield Attack("priority", JSON, good, properties=((raw.PRIORITY, b"\xff"),))
    yield Attack("expiration", JSON, good, properties=((raw.EXPIRATION, raw.short(b"600000")),))
    yield Attack("type", JSON, good, properties=((raw.TYPE, raw.short(b"lmaas.reply.v1")),))


_MAKERS: Final[tuple[Callable[[str], Iterator[Attack]], ...]] = (
    _multiplying,
    _crowds,
    _depths,
    _giants,
    _frames,
    _lies,
)
