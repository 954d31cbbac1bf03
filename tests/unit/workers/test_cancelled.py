"""What workers remember of what was given up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from lmaas.broker_config.messages import JSON, MAX_CANCELLED, MSGPACK, encode_cancellation
from lmaas.broker_config.sealing import (
    ENCODING,
    KEY_HEADER,
    Keyring,
    Label,
    parsed,
)
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import Names
from lmaas.workers import cancelled as module
from lmaas.workers.cancelled import Cancelled
from tests.payload_keys import new_keys


def message(
    body: bytes,
    reply_to: str | None = "mine",
    content_type: str = MSGPACK,
    encoding: str | None = None,
) -> Any:
    return SimpleNamespace(
        body=body,
        reply_to=reply_to,
        content_type=content_type,
        content_encoding=encoding,
        headers={KEY_HEADER: "k"},
        routing_key="sentiment",
        user_id=None,
    )


def delivery(reply_to: str | None, pack: str | None) -> Any:
    return SimpleNamespace(reply_to=reply_to, message=SimpleNamespace(correlation_id=pack))


def test_only_who_knows_the_queue_and_the_id_cancels() -> None:
    cancelled = Cancelled(Names())
    cancelled.hear(message(encode_cancellation(["a", "b"])))
    cancelled.hear(message(b'{"packs": ["c"]}', content_type=JSON))
    assert delivery("mine", "a") in cancelled
    assert delivery("mine", "c") in cancelled
    assert delivery("yours", "a") not in cancelled
    assert delivery("mine", "d") not in cancelled
    assert delivery(None, "a") not in cancelled


def test_with_payload_keys_only_who_has_one_cancels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = new_keys(tmp_path / "payload.keys", "k")
    settings = Settings(payload_keys=str(path))
    cancelled = Cancelled(Names(), Seals(settings))
    ring, label = Keyring(parsed(path.read_text())), Label("notice", "sentiment", "mine")

    def sealed(pack: str, **changes: str) -> Any:
        own = label._replace(content_type=MSGPACK, **changes)  # type: ignore[arg-type]
        body = ring.seal(encode_cancellation([pack]), own).body
        return message(body, encoding=ENCODING)

    cancelled.hear(sealed("a"))
    cancelled.hear(sealed("b", model="other"))
    cancelled.hear(sealed("c", queue="yours"))
    cancelled.hear(message(encode_cancellation(["d"])))
    assert [delivery("mine", pack) in cancelled for pack in "abcd"] == [True, False, False, False]
    assert caplog.text.count("the seal does not fit") == 2
    assert "this notice is not sealed" in caplog.text
    Cancelled(Names()).hear(sealed("a"))
    assert "there are no keys here" in caplog.text


def test_of_a_queue_that_is_gone_nothing_is_wanted() -> None:
    cancelled = Cancelled(Names())
    cancelled.close("job")
    assert delivery("job", "a") in cancelled
    assert delivery("job", None) in cancelled


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({"packs": "a"}),
        msgspec.msgpack.encode({"packs": [1]}),
        encode_cancellation(["a"] * (MAX_CANCELLED + 1)),
    ],
)
def test_what_is_none_is_told_and_ignored(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    cancelled = Cancelled(Names())
    cancelled.hear(message(body))
    assert len(cancelled) == 0
    assert "no cancellation" in caplog.text


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    cancelled = Cancelled(Names())
    cancelled.hear(message(encode_cancellation(["a", "b", "c"])))
    cancelled.hear(message(encode_cancellation(["a", "d"])))
    kept = [pack for pack in "abcd" if delivery("mine", pack) in cancelled]
    assert kept == ["a", "c", "d"]
