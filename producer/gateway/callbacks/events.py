"""The body of an event: what Standard Webhooks and OpenAI's clients both read; pure."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

#: The types that there are.
EVENTS: Final = (
    "job.finished", "job.failed", "job.cancelled",
    "batch.completed", "batch.failed", "batch.expired", "batch.cancelled",
)  # fmt: skip

_encode: Final = msgspec.json.Encoder().encode


def new_id() -> str:
    """Of an event: without a dot, as Standard Webhooks asks for."""
    return f"evt_{secrets.token_hex(16)}"


def body(name: str, event: str, at: float, data: Mapping[str, Any]) -> bytes:
    """JSON of an event of a type like "job.completed"; `data` has the `id` of what it is about.

    `name`: of the event itself. `at`: Unix time.
    """
    moment = datetime.datetime.fromtimestamp(at, datetime.UTC)
    return _encode(
        {
            "id": name,
            "object": "event",
            "type": event,
            "created_at": int(at),
            "timestamp": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "data": data,
        }
    )


def wanted(event: str, patterns: tuple[str, ...]) -> bool:
    """Whether an endpoint with these patterns gets an event; without any it gets all."""
    return not patterns or any(fnmatchcase(event, pattern) for pattern in patterns)
