"""What is dead-lettered twice is one dead letter; everything else is a dead letter of its own."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest

from lmaas.broker_config.dead_letter_ids import dead_letter_id, has_duplicates
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.messages import Item, Request

#: A random one; the same in every process, as pytest-xdist wants the names of tests to be.
OURS = "9340cca4105348769e4fb17d5537f989"
REQUEST = Request(model="sentiment", items=[Item(id="7", text="a film")])


def name(content: Request | bytes = REQUEST, **changes: Any) -> str:
    headers = Headers(**changes.pop("headers", {}))
    given = {"correlation_id": OURS, "reply_to": "client.1"} | changes
    return dead_letter_id(headers, content=content, **given)


def test_the_same_items_of_the_same_pack_are_one_dead_letter() -> None:
    assert name() == name()
    assert has_duplicates(name())
    assert name(reply_to="client.2") == name()
    assert name(headers={"attempt": 3, "published_ms": 5}) == name()
    assert name(msgspec.structs.replace(REQUEST, version="1")) == name()
    assert name(b"unreadable") == name(b"unreadable")


@pytest.mark.parametrize(
    "other",
    [
        {"correlation_id": uuid.uuid4().hex},
        {"headers": {"replays": 1}},
        {"content": b"unreadable"},
        {"content": Request(model="other", items=REQUEST.items)},
        {"content": Request(model="sentiment", items=[Item(id="8", text="a film")])},
        {"content": Request(model="sentiment", items=[Item(id="7", text="a movie")])},
    ],
)
def test_other_packs_items_and_replays_are_other_dead_letters(other: dict[str, Any]) -> None:
    assert name(**other) != name()


@pytest.mark.parametrize("correlation_id", [None, "", "1", OURS.upper(), "7" * 31])
def test_a_pack_that_cannot_be_known_again_is_a_dead_letter_of_its_own(
    correlation_id: str | None,
) -> None:
    assert name(correlation_id=correlation_id) != name(correlation_id=correlation_id)
    assert not has_duplicates(name(correlation_id=correlation_id))


def test_a_chunk_of_a_job_is_known_by_its_submission_and_number() -> None:
    chunk = {"headers": {"job": "night", "chunk": 3}, "correlation_id": "night.3"}
    assert name(**chunk, reply_to="job.a") == name(**chunk, reply_to="job.a")
    assert name(**chunk, reply_to="job.a") != name(**chunk, reply_to="job.b")
    assert has_duplicates(name(**chunk, reply_to="job.a"))


@pytest.mark.parametrize("text", [None, "", OURS, "f" * 32, str(uuid.UUID(OURS))])
def test_only_ids_that_are_made_of_a_dead_letter_have_duplicates(text: str | None) -> None:
    assert not has_duplicates(text)
