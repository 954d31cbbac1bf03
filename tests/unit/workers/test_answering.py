"""From request bodies to replies: each pack its own, whatever is run together."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import JSON, MSGPACK, Item, Options, Request, encode
from lmaas.broker_config.settings import Settings
from lmaas.workers.answering import Answerer
from lmaas.workers.pack import Pack, read
from tests.unit.workers import networks

TEXTS = ("a wonderful film", "dull and boring", "i loved every minute of it", "a waste of time")


@pytest.fixture(scope="module")
def answerer() -> Answerer:
    return Answerer(Settings(models=str(Path(__file__).parents[3] / "models")), "here")


@pytest.fixture
def versions(repository: Path) -> Answerer:
    """Versions 1, 2 and 10 of a model."""
    return Answerer(Settings(models=str(repository)), "here")


def pack(
    *texts: str,
    model: str = "sentiment",
    version: str | None = None,
    top_k: int = 0,
    min_score: float | None = None,
) -> Pack:
    items = [Item(id=str(place), text=text) for place, text in enumerate(texts)]
    options = Options(top_k=top_k, min_score=min_score)
    request = Request(model=model, version=version, items=items, options=options)
    return read(encode(request), MSGPACK, Settings())


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"model": 1}', b"\xff\xfe", b"\x81"])
@pytest.mark.parametrize("content_type", [None, JSON, MSGPACK, "text/plain", "\ud800"])
def test_a_body_that_cannot_be_read_is_an_answer_too(
    answerer: Answerer, body: bytes, content_type: str | None
) -> None:
    broken = read(body, content_type, Settings())
    assert len(broken) == 0
    good, bad = answerer.answer([pack("a wonderful film"), broken])
    assert good.results[0].label == "positive"
    assert bad.results == []
    assert bad.error is not None
    assert bad.error.code == Code.MALFORMED


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "\\ud800", "items": [{"id": "1", "text": "x"}]}',
        b'{"model": "sentiment", "version": "\\ud800", "items": [{"id": "1", "text": "x"}]}',
        b'{"model": "sentiment", "items": [{"id": "\\ud800", "text": "x"}]}',
        b'{"model": "sentiment", "items": [{"id": "1", "\\ud800": "x"}]}',
        b'{"model": "sentiment", "items": [{"id": "1", "text": "\\ud800"}]}',
        b'{"model": "sentiment", "items": [{"id": "1", "text": "x"}], "\\ud800": 1}',
        b'{"model": "m", "items": [{"id": "1", "error": {"code": "\\ud800", "message": ""}}]}',
        b'{"model": "sentiment", "items": [{"id": "\xff", "text": "x"}]}',
        b'{"model": "sentiment", "items": [{"id": "1", "text": "x", "\xff": 1}]}',
    ],
)
def test_every_reply_can_be_encoded_whatever_was_asked(answerer: Answerer, body: bytes) -> None:
    (reply,) = answerer.answer([read(body, JSON, Settings())])
    for content_type in (JSON, MSGPACK):
        assert encode(reply, content_type)
    assert reply.error or reply.results[0].error


def test_packs_that_run_together_get_their_own_results_in_order(answerer: Answerer) -> None:
    packs = [pack(*TEXTS), pack(TEXTS[2], "", TEXTS[0]), pack(TEXTS[1])]
    together = answerer.answer(packs)
    for one, reply in zip(packs, together, strict=True):
        (alone,) = answerer.answer([one])
        assert reply.results == alone.results
        assert (reply.model, reply.version, reply.worker) == ("sentiment", "1", "here")
        assert reply.error is None
    assert [result.error and result.error.code for result in together[1].results] == [
        None,
        Code.EMPTY_TEXT,
        None,
    ]


def test_a_reply_says_how_long_its_pack_waited_and_ran(answerer: Answerer) -> None:
    (reply,) = answerer.answer([pack(*TEXTS)])
    assert reply.timings is not None
    assert reply.timings.waited >= 0
    assert reply.timings.ran > 0


def test_packs_of_different_options_and_versions_do_not_mix(versions: Answerer) -> None:
    asked = [
        pack(TEXTS[0]),
        pack(TEXTS[0], version="1"),
        pack(TEXTS[0], version="2", top_k=2),
        pack(TEXTS[0], top_k=1),
    ]
    replies = versions.answer(asked)
    assert [reply.version for reply in replies] == ["10", "1", "2", "10"]
    assert [len(reply.results[0].scores or {}) for reply in replies] == [0, 0, 2, 1]
    assert {reply.results[0].label for reply in replies} == {"positive"}


@pytest.mark.parametrize(
    ("model", "version", "code"),
    [
        ("nope", None, Code.UNKNOWN_MODEL),
        ("nope", "1", Code.UNKNOWN_MODEL),
        ("../models/sentiment", None, Code.UNKNOWN_MODEL),
        ("sentiment", "7", Code.UNKNOWN_VERSION),
        ("sentiment", "../1", Code.UNKNOWN_VERSION),
    ],
)
def test_what_is_not_there_is_the_error_of_the_pack_and_of_every_item(
    answerer: Answerer, model: str, version: str | None, code: Code
) -> None:
    good, bad = answerer.answer([pack(TEXTS[0]), pack(*TEXTS, model=model, version=version)])
    assert good.error is None
    assert bad.error is not None
    assert bad.error.code == code
    assert [result.error for result in bad.results] == [bad.error] * len(TEXTS)


def test_a_damaged_version_is_an_answer_and_the_newest_goes_on(
    versions: Answerer, repository: Path
) -> None:
    (repository / "sentiment" / "2" / "model.onnx").write_bytes(b"")
    bad, good = versions.answer([pack(TEXTS[0], version="2"), pack(TEXTS[0])])
    assert bad.error is not None
    assert bad.error.code == Code.MODEL_DAMAGED
    assert good.error is None


def test_a_pack_stays_with_the_version_that_was_current_when_it_came(versions: Answerer) -> None:
    came, asked = pack(TEXTS[0]), pack(TEXTS[0], version="1")
    came.version = asked.version = "2"
    assert [reply.version for reply in versions.answer([came, asked, pack(TEXTS[0])])] == [
        "2",
        "1",
        "10",
    ]


def test_a_version_that_was_current_and_is_gone_is_answered_by_the_next(
    versions: Answerer,
) -> None:
    came, asked = pack(TEXTS[0]), pack(TEXTS[0], version="7")
    came.version = "8"
    answered, refused = versions.answer([came, asked])
    assert answered.version == "10"
    assert refused.error is not None
    assert refused.error.code == Code.UNKNOWN_VERSION


def test_a_pack_over_the_limits_is_refused_or_told_item_by_item() -> None:
    small = Settings(max_pack_items=2, max_item_bytes=5)
    too_many = read(
        encode(Request(model="m", items=[Item(id=i, text="x") for i in "abc"])), MSGPACK, small
    )
    assert too_many.error is not None
    assert "limit is 2" in too_many.error.message
    items = [Item(id="a", text="short"), Item(id="b", text="longer")]
    too_large = read(encode(Request(model="m", items=items)), MSGPACK, small)
    assert too_large.error is None
    assert {position: fault.code for position, fault in too_large.faults.items()} == {
        1: Code.TOO_LARGE
    }


def test_a_negative_top_k_is_refused() -> None:
    request = msgspec.to_builtins(Request(model="m", items=[Item(id="a", text="x")]))
    request["options"] = {"top_k": -1}
    refused = read(msgspec.json.encode(request), JSON, Settings())
    assert refused.error is not None
    assert refused.error.code == Code.MALFORMED


def test_packs_with_other_thresholds_run_apart(answerer: Answerer) -> None:
    packs = [pack(*TEXTS), pack(*TEXTS, min_score=1.0), pack(*TEXTS, min_score=0.5)]
    plain, strict, lax = (reply.results for reply in answerer.answer(packs))
    assert [result.label for result in strict] == ["unsure"] * len(TEXTS)
    assert [result.score for result in strict] == [result.score for result in plain]
    assert lax == plain


def test_a_threshold_is_refused_where_unsure_is_a_label(tmp_path: Path) -> None:
    folder = networks.save(tmp_path / "tiny" / "1")
    networks.describe(folder, ["sure", "unsure"])
    tiny = Answerer(Settings(models=str(tmp_path)), "here")
    with_it, without = tiny.answer(
        [pack("good", model="tiny", min_score=0.6), pack("good", model="tiny")]
    )
    assert without.results[0].label == "unsure"
    assert with_it.error is not None
    assert with_it.error.code == Code.MALFORMED
    assert "tiny has a label 'unsure' of its own" in with_it.error.message
    assert with_it.results[0].error == with_it.error
