"""The published description is that of the code, and holds together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from lmaas.broker_config import asyncapi
from lmaas.broker_config.codes import Code
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.item_errors import item_error
from lmaas.broker_config.messages import ModelCard, Reply, Request

COMMITTED = Path(__file__).parents[3] / "docs" / "asyncapi.yaml"


@pytest.fixture(scope="module")
def document() -> Any:
    return yaml.safe_load(COMMITTED.read_text(encoding="utf-8"))


def test_the_committed_document_is_up_to_date() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == asyncapi.render(), (
        "run: python -m lmaas.broker_config.asyncapi > docs/asyncapi.yaml"
    )


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(reference := part.get("$ref"), str):
            yield reference
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_every_reference_leads_somewhere(document: Any) -> None:
    found = set(references(document))
    assert found
    for reference in found:
        place = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
        assert place


def test_it_has_what_asyncapi_asks_for(document: Any) -> None:
    assert document["asyncapi"] == "3.1.0"
    assert {"title", "version"} <= set(document["info"])
    for server in document["servers"].values():
        assert {"host", "protocol"} <= set(server)
    for operation in document["operations"].values():
        assert operation["action"] in {"send", "receive"}
        assert set(operation["channel"]) == {"$ref"}


def test_every_field_on_the_wire_is_described(document: Any) -> None:
    schemas = document["components"]["schemas"]
    for kind in (Request, Reply, ModelCard):
        assert list(schemas[kind.__name__]["properties"]) == list(kind.__struct_fields__)
        assert schemas[kind.__name__]["additionalProperties"] is False
    full = Headers(
        attempt=2,
        deadline_ms=1,
        items=2,
        cost=1.0,
        remaining=1.0,
        published_ms=1,
        job="j",
        chunk=0,
        tenant="t",
        key="k",
        traceparent="t",
        tracestate="t",
        baggage="t",
        first_error="e",
        error="e",
        reason="r",
        worker="w",
        parked_ms=1,
        replays=1,
        redacted=True,
    )
    assert set(schemas["Headers"]["properties"]) == set(full.table())


def test_the_examples_are_messages(document: Any) -> None:
    messages = document["components"]["messages"]
    for name, kind in (("request", Request), ("reply", Reply)):
        for example in messages[name]["examples"]:
            message = msgspec.convert(example["payload"], kind)
            assert msgspec.to_builtins(message) == example["payload"]
            if isinstance(message, Request):
                known = [item_error(item, 100) for item in message.items]
                assert [fault.code for fault in known if fault] in ([], [Code.EMPTY_TEXT])
