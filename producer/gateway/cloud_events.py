"""CloudEvents 1.0 over HTTP: an event as it comes, in each of the three modes, and as it goes.

Pure. Binary mode has the attributes in headers `ce-NAME`, percent-encoded, and the data as the
body; structured mode has all in one JSON object, batched mode has a list of these.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
PREFIX: Final = "ce-"
VERSION: Final = "1.0"
CLASSIFIED: Final = "lmaas.classified"
ACCEPTED: Final = "lmaas.accepted"
FAILED: Final = "lmaas.failed"

_JSON: Final = "application/json"
#: All that a header may have as it is: printable ASCII but the space, the quote and the percent.
_PLAIN: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


class Event(msgspec.Struct):
    """What is of use of an event; other attributes are passed over."""

    id: str
    source: str
    type: str
    specversion: str
    subject: str | None = None
    datacontenttype: str | None = None
    correlationid: str | None = None
    #: JSON; empty: there is none.
    data: msgspec.Raw = msgspec.Raw()
    #: What is no JSON, or what a sender did not want to write as such.
    data_base64: bytes | None = None


_decoder: Final = msgspec.json.Decoder(Event)
_batch: Final = msgspec.json.Decoder(list[msgspec.Raw])


def structured(body: bytes | msgspec.Raw) -> Event:
    """Raises ValueError saying what is wrong."""
    return _checked(_decoder.decode(body))


def batch(body: bytes) -> list[msgspec.Raw]:
    """The events, each as it was written. Raises ValueError."""
    return _batch.decode(body)


def binary(headers: Mapping[str, str], content_type: str, body: bytes) -> Event:
    """Raises ValueError saying what is wrong."""
    found: dict[str, Any] = {}
    for name, value in headers.items():
        if name.lower().startswith(PREFIX):
            text = unquote(value)
            text.encode()  # raises UnicodeEncodeError, a ValueError, for what is no UTF-8
            found[name.lower().removeprefix(PREFIX)] = text
    for name in ("data", "data_base64"):  # no attributes
        found.pop(name, None)
    event = msgspec.convert(found, Event)
    event.datacontenttype = content_type
    if is_json(event):
        event.data = msgspec.Raw(body)
    else:
        event.data_base64 = body
    return _checked(event)


def _checked(event: Event) -> Event:
    if event.specversion != VERSION:
        raise ValueError(f"specversion is {event.specversion!r}; it must be {VERSION!r}")
    for name in ("id", "source", "type"):
        if not getattr(event, name):
            raise ValueError(f"the attribute {name} is empty")
    return event


def is_json(event: Event) -> bool:
    """Whether the data is JSON, as it is unless another type is given."""
    kind = (event.datacontenttype or _JSON).partition(";")[0].strip().lower()
    return kind == _JSON or kind.endswith("+json")


def answer(asked: Event | None, kind: str, source: str, subject: str | None) -> dict[str, str]:
    """The attributes of the answer to an event; None: to one that could not be read.

    An event that comes again has an answer of the same id, if it is of the same kind.
    """
    if asked is None:
        name = uuid.uuid4()
    else:
        name = uuid.uuid5(uuid.NAMESPACE_URL, f"{asked.source} {asked.id} {kind}")
    attributes = {
        "specversion": VERSION,
        "id": str(name),
        "source": source,
        "type": kind,
        "time": datetime.fromtimestamp(time.time(), UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": _JSON,
    }
    if subject:
        attributes["subject"] = subject
    if asked is not None:
        attributes["causationid"] = asked.id
        if asked.correlationid:
            attributes["correlationid"] = asked.correlationid
    return attributes


def headers_of(attributes: Mapping[str, str]) -> dict[str, str]:
    """Those of binary mode."""
    return {
        f"{PREFIX}{name}": quote(value, safe=_PLAIN)
        for name, value in attributes.items()
        if name != "datacontenttype"
    }
