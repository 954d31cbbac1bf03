"""Webhooks that come in: verified, mapped to items, classified once; through a real broker."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from standardwebhooks import Webhook

from lmaas.broker_config.errors import SettingsError
from lmaas.broker_config.settings import Settings
from lmaas.producer.gateway.callbacks.receivers import Receivers
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.hooks.configured import ready
from lmaas.producer.gateway.hooks.mapping import Items, parsed
from lmaas.producer.gateway.secret import Secret, Secrets
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.settings.hooks import Callback, Hook
from lmaas.producer.gateway.signatures import StandardWebhooks
from lmaas.producer.gateway.state import State, received
from tests.gateway.conftest import Gateway, listening
from tests.gateway.test_jobs import ended, results

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes, ok").decode()
GOOD = "a wonderful, moving film"
BAD = "dull and awful, a waste of time"

HOOKS = {
    "standard": Hook(
        scheme="standard",
        secret=Secrets(SECRET),
        items="data.reviews",
        text="body",
        id="number",
        model="sentiment",
    ),
    "github": Hook(
        scheme="github",
        secret=Secrets(["new secret", "old secret"]),
        items="action == 'opened' && issue",
        text="join('\n\n', [title, body || ''])",
        id="number",
        model="sentiment",
        top_k=2,
    ),
    "stripe": Hook(
        scheme="stripe", secret=Secrets("hush"), text="text", items="[@]", model="sentiment"
    ),
    "bearer": Hook(scheme="bearer", secret=Secrets("hush"), text="text", model="sentiment"),
    "open": Hook(scheme="none", text="@", model="sentiment"),
    "strict": Hook(scheme="none", text="@", model="sentiment", min_score=1.0),
    "strict-job": Hook(scheme="none", text="@", model="sentiment", min_score=1.0, reply="job"),
    "lost": Hook(scheme="none", text="@", model="nobody"),
}


@pytest.fixture
def gateway_settings(tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(
        access="open", port=0, folder=str(tmp_path / "gateway"), hooks=HOOKS, wait=10.0
    )


def signed(body: bytes, name: str = "msg_1", at: float | None = None) -> dict[str, str]:
    scheme = StandardWebhooks([Secret(SECRET)])
    return scheme.sign(name, int(time.time() if at is None else at), body)


def by_github(body: bytes, secret: str = "old secret") -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Event": "issues"}


ISSUE = {
    "action": "opened",
    "issue": {"number": 17, "title": "It is awful", "body": BAD},
    "repository": {"full_name": "a/b"},
}


@pytest.mark.usefixtures("worker")
class TestThroughTheQueue:
    async def test_what_is_signed_is_classified_once(self, gateway: Gateway) -> None:
        reviews = [{"number": 4, "body": GOOD}, {"number": 5, "body": 7}, {"body": GOOD}, {}]
        body = json.dumps({"data": {"reviews": reviews}}).encode()
        status, answer = await gateway.post("/hooks/standard", data=body, headers=signed(body))
        assert status == 200
        found = [(one["id"], one.get("label") or one["error"]["code"]) for one in answer["results"]]
        assert found == [
            ("4", "positive"),
            ("5", "invalid_item"),
            ("2", "invalid_item"),
            ("3", "invalid_item"),
        ]
        assert "hooks.standard.text gives a number" in answer["results"][1]["error"]["message"]
        # The sender tries again, a little later: the same answer, byte for byte.
        again = signed(body, at=time.time() + 1)
        assert await gateway.post("/hooks/standard", data=body, headers=again) == (200, answer)

    async def test_a_body_is_signed_as_it_was_before_it_was_compressed(
        self, gateway: Gateway
    ) -> None:
        body = json.dumps({"data": {"reviews": [{"number": 4, "body": GOOD}]}}).encode()
        packed = gzip.compress(body)
        for data, signed_body, expected in (
            (packed, packed, 401),
            (packed[:-1], body, 400),
            (packed, body, 200),
        ):
            headers = signed(signed_body) | {"Content-Encoding": "gzip"}
            status, _ = await gateway.post("/hooks/standard", data=data, headers=headers)
            assert status == expected

    async def test_their_library_signs_for_us(self, gateway: Gateway) -> None:
        from datetime import UTC, datetime

        body, now = json.dumps({"data": {"reviews": [{"number": 1, "body": GOOD}]}}), time.time()
        headers = {
            "webhook-id": "msg_2",
            "webhook-timestamp": str(int(now)),
            "webhook-signature": Webhook(SECRET).sign(
                "msg_2", datetime.fromtimestamp(int(now), UTC), body
            ),
        }
        status, answer = await gateway.post("/hooks/standard", data=body, headers=headers)
        assert (status, answer["results"][0]["label"]) == (200, "positive")

    async def test_an_issue_of_github_gets_its_label(self, gateway: Gateway) -> None:
        body = json.dumps(ISSUE).encode()
        status, answer = await gateway.post("/hooks/github", data=body, headers=by_github(body))
        assert status == 200
        (result,) = answer["results"]
        assert (result["id"], result["label"]) == ("17", "negative")
        # What it does not want is accepted, or GitHub would show failures: other actions, pings.
        for other in ({**ISSUE, "action": "closed"}, {"zen": "Keep it.", "hook_id": 5}):
            body = json.dumps(other).encode()
            headers = by_github(body, "new secret")
            status, answer = await gateway.post("/hooks/github", data=body, headers=headers)
            assert (status, answer["results"]) == (200, [])

    async def test_github_may_send_a_form(self, gateway: Gateway) -> None:
        from urllib.parse import urlencode

        body = urlencode({"payload": json.dumps(ISSUE)}).encode()
        headers = {**by_github(body), "Content-Type": "application/x-www-form-urlencoded"}
        status, answer = await gateway.post("/hooks/github", data=body, headers=headers)
        assert (status, answer["results"][0]["id"]) == (200, "17")

    async def test_a_timestamped_signature(self, gateway: Gateway) -> None:
        body = json.dumps({"text": GOOD}).encode()
        for off, expected in ((0, 200), (-1000, 401)):
            at = int(time.time()) + off
            digest = hmac.new(b"hush", b"%d." % at + body, hashlib.sha256).hexdigest()
            headers = {"Stripe-Signature": f"t={at},v1={digest}"}
            status, _ = await gateway.post("/hooks/stripe", data=body, headers=headers)
            assert status == expected

    async def test_a_token(self, gateway: Gateway) -> None:
        body = json.dumps({"text": GOOD}).encode()
        headers = {"Authorization": "Bearer hush"}
        status, answer = await gateway.post("/hooks/bearer", data=body, headers=headers)
        assert (status, answer["results"][0]["label"]) == (200, "positive")

    async def test_many_at_once_of_the_same_are_done_once(self, gateway: Gateway) -> None:
        body = json.dumps({"data": {"reviews": [{"number": 1, "body": GOOD}] * 500}}).encode()

        async def send() -> tuple[int, Any]:
            while True:
                found = await gateway.post("/hooks/standard", data=body, headers=signed(body))
                if found[0] != 503:
                    return found
                assert found[1]["error"]["code"] == "in_progress"

        first, *others = await asyncio.gather(*(send() for _ in range(10)))
        assert first[0] == 200
        assert len(first[1]["results"]) == 500
        assert all(other == first for other in others)

    async def test_what_could_not_be_done_may_come_again(self, gateway: Gateway) -> None:
        body = json.dumps({"data": {}}).encode()
        for _ in range(2):
            status, answer = await gateway.post("/hooks/standard", data=body, headers=signed(body))
            assert (status, answer["error"]["code"]) == (422, "unmapped")
        status, answer = await gateway.post(
            "/hooks/lost", json="a text", headers={"Idempotency-Key": "1"}
        )
        assert (status, answer["error"]["code"]) == (404, "unknown_model")
        # Not taken for one that is being worked on.
        assert (await gateway.post("/hooks/lost", json="a text", headers={"Idempotency-Key": "1"}))[
            0
        ] == 404

    async def test_a_hook_that_is_open_is_not_for_pages_of_others(self, gateway: Gateway) -> None:
        status, answer = await gateway.post("/hooks/open", json=GOOD)
        assert (status, answer["results"][0]["label"]) == (200, "positive")
        evil = {"Origin": "https://evil.example"}
        assert (await gateway.post("/hooks/open", json=GOOD, headers=evil))[0] == 403

    async def test_below_a_score_it_is_not_sure(self, gateway: Gateway) -> None:
        status, answer = await gateway.post("/hooks/strict", json=GOOD)
        assert (status, answer["results"][0]["label"]) == (200, "unsure")
        status, job = await gateway.post("/hooks/strict-job", json=GOOD)
        await ended(gateway, job["id"])
        (result,) = await results(gateway, job["id"])
        assert (status, result["label"]) == (202, "unsure")


@pytest.fixture
async def unserved(gateway_settings: GatewaySettings, settings: Settings) -> AsyncIterator[Gateway]:
    """No worker: what is refused is refused before it is read."""
    async with listening(gateway_settings, settings) as gateway:
        yield gateway


@pytest.mark.parametrize(
    "wrong",
    [
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": ""},
        {"webhook-id": "msg_3"},
        {"webhook-timestamp": "0"},
        {"webhook-timestamp": "yesterday"},
    ],
)
async def test_what_is_not_authentic_is_not_told_why(
    unserved: Gateway, wrong: dict[str, str]
) -> None:
    body = b"this is no JSON"
    expected = await unserved.post("/hooks/standard", data=body)
    assert expected[0] == 401
    assert expected == await unserved.post(
        "/hooks/standard", data=body, headers=signed(body) | wrong
    )
    assert (await unserved.post("/hooks/standard", data=body, headers=signed(body)))[0] == 400


async def test_old_requests_are_replays(unserved: Gateway) -> None:
    body = b"{}"
    for off in (-301, 302):
        headers = signed(body, at=time.time() + off)
        assert (await unserved.post("/hooks/standard", data=body, headers=headers))[0] == 401


async def test_what_there_is_not(unserved: Gateway) -> None:
    status, answer = await unserved.post("/hooks/none", data=b"{}")
    assert (status, answer["error"]["code"]) == (404, "not_found")
    async with unserved.http.get(unserved.url + "/hooks/standard") as response:
        assert response.status == 405


def items(**expressions: Any) -> Items:
    given = {"items": "@", "text": "@", "name": None, "place": "hooks.h"} | expressions
    return Items(**given)


def test_items_are_found_in_a_body() -> None:
    body = {"data": [{"n": 1, "t": "a"}, {"n": "two", "t": "b"}]}
    found = items(items="data", text="t", name="n")(body)
    assert [(item.id, item.text) for item in found] == [("1", "a"), ("two", "b")]
    assert [item.text for item in items(items="data[*].t")(body)] == ["a", "b"]
    assert [item.text for item in items(items="data[0]", text="t")(body)] == ["a"]
    assert items(items="data[?n == `7`]")(body) == []
    assert items(items="`false`")(body) == []
    # Falsy and no list: a text as any other.
    assert [item.text for item in items(items="''")(body)] == [""]


@pytest.mark.parametrize(
    ("expressions", "words"),
    [
        ({"items": "nothing.there"}, "hooks.h.items finds nothing"),
        ({"items": "length(`5`)"}, r"hooks.h.items: In function length\(\)"),
        ({"items": "sort_by(data, &t)"}, "hooks.h.items: .*sort_by"),
    ],
)
def test_a_body_in_which_items_cannot_be_found(expressions: Any, words: str) -> None:
    with pytest.raises(HttpError, match=words) as told:
        items(**expressions)({"data": [{"t": 1}, {"t": "x" * 5000}, {"t": None}]})
    assert told.value.failure.status == 422
    assert len(str(told.value)) < 400


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"n": 1, "t": 5}, "text gives a number"),
        ({"n": 1, "t": None}, "text gives nothing"),
        ({"n": 1, "t": ["a"]}, "text gives a list"),
        ({"n": 1, "t": {}}, "text gives an object"),
        ({"n": 1, "t": False}, "text gives true or false"),
        ({"n": None, "t": "a"}, "id gives nothing"),
        ({"n": 1.5, "t": "a"}, "id gives a number"),
        ({"n": True, "t": "a"}, "id gives true or false"),
        ("a", "text gives nothing"),
    ],
)
def test_an_item_that_is_wrong_leaves_its_neighbours_alone(value: Any, words: str) -> None:
    name = "n" if isinstance(value, dict) else None
    good = {"n": 7, "t": "good"}
    first, second = items(text="t", name=name)([value, good])
    assert words in first.error.message
    assert second.text == "good"


def test_bodies() -> None:
    form = "application/x-www-form-urlencoded"
    assert parsed(b'{"a": 1}', "application/json") == {"a": 1}
    assert parsed(b' {"a": 1}', form) == {"a": 1}
    assert parsed(b"a=1&b=", form) == {"a": "1", "b": ""}
    assert parsed(b"payload=%7B%22a%22%3A1%7D", form) == {"a": 1}
    for body, kind in (
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"\xff", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"payload=x", form),
        (b"\xff", form),
    ):
        with pytest.raises(HttpError) as told:
            parsed(body, kind)
        assert told.value.failure.status == 400


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"secret": None}, r"gateway\.hooks\.h has no secret"),
        ({"secret": Secrets("short")}, r"gateway\.hooks\.h: .*secret"),
        ({"header": "X"}, "fixed names"),
        ({"scheme": "none"}, "nothing is checked"),
        ({"text": "a["}, r"gateway\.hooks\.h\.text is no JMESPath"),
        ({"items": ""}, r"gateway\.hooks\.h\.items is no JMESPath"),
        ({"id": "[*].{a: to_txt(b)}"}, r"gateway\.hooks\.h\.id: JMESPath has no function to_txt"),
        ({"callback": Callback(url="https://e.example")}, 'set reply = "job"'),
        (
            {"reply": "job", "callback": Callback(url="http://127.0.0.1/")},
            r"gateway\.hooks\.h\.callback: .* loopback",
        ),
        (
            {"reply": "job", "callback": Callback(url="https://e.example")},
            r"gateway\.hooks\.h\.callback: a callback is signed",
        ),
    ],
)
def test_wrong_settings_are_told(wrong: dict[str, Any], words: str) -> None:
    hook = msgspec.structs.replace(HOOKS["standard"], **wrong)
    with pytest.raises(SettingsError, match=words) as told:
        ready({"h": hook}, Receivers(GatewaySettings()))
    assert "short" not in str(told.value)


@pytest.mark.parametrize("name", ["a/b", "a b", "", "ü", "a%2Fb"])
def test_a_name_that_no_path_has_is_told(name: str) -> None:
    with pytest.raises(SettingsError, match="part of a path"):
        ready({name: HOOKS["standard"]}, Receivers(GatewaySettings()))


async def test_deliveries_are_remembered_for_their_time(gateway_settings: GatewaySettings) -> None:
    answer = received.Answered(200, None, b"{}")
    async with State(gateway_settings) as state:

        async def begin(now: float) -> received.Answered | bool:
            async with state.writing() as connection:
                return await received.begin(connection, "h", "d", now, held=10.0, kept=100.0)

        assert await begin(0.0) is True
        assert await begin(5.0) is False
        # Who has begun has died meanwhile.
        assert await begin(11.0) is True
        assert await begin(12.0) is False
        async with state.writing() as connection:
            await received.finish(connection, "h", "d", answer)
            await received.give_up(connection, "h", "d")
        assert await begin(50.0) == answer
        assert await begin(101.0) is True


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('scheme = "x"', r"gateway\.hooks\.my-hook\.scheme \(.*\) is 'x': invalid enum value"),
        ('scheme = "none"', r"gateway\.hooks\.my-hook \(.*\): object missing required field text$"),
        (
            "scheme = 'none'\ntext = '@'\nmodle = 'x'",
            r"my-hook \(.*\): object contains unknown field",
        ),
        (
            "scheme = 'none'\ntext = '@'\ntop_k = -1",
            r"my-hook\.top_k \(.*\) is -1: expected a whole",
        ),
    ],
)
def test_a_wrong_file_is_told_by_the_name_of_the_hook_and_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, told: str
) -> None:
    secret = '\nmodel = "m"\nsecret = ["hush", "hush too"]\n'
    file = tmp_path / "s.toml"
    good = '[gateway.hooks.good]\nscheme = "bearer"\ntext = "@"' + secret
    file.write_text(f"{good}[gateway.hooks.my-hook]\n{content}{secret}")
    monkeypatch.setenv("LMAAS_CONFIG", str(file))
    with pytest.raises(SettingsError, match=told) as error:
        GatewaySettings.load()
    assert "hush" not in str(error.value)
    file.write_text(good.replace('"hush too"', "5"))
    with pytest.raises(SettingsError, match=r"hooks\.good\.secret \(.*\) is '\*\*\*': expected"):
        GatewaySettings.load()
    file.write_text(good)
    assert "hush" not in repr(GatewaySettings.load())
