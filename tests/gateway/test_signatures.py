"""Signatures of webhooks, against the reference's own vector and its Python package."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from standardwebhooks import Webhook, WebhookVerificationError

from lmaas.broker_config.errors import SettingsError
from lmaas.producer.gateway.secret import Secret, Secrets, WithSecrets
from lmaas.producer.gateway.signatures import (
    GitHub,
    Scheme,
    Signed,
    StandardWebhooks,
    Timestamped,
    Token,
    Unsigned,
    public_key,
)

KNOWN = "whsec_RdvaYFYUXuIFuEbvZHwMfYFhUf7aMYjYcmM24+Aj40c="
OTHER = "whsec_" + base64.b64encode(b"another secret of 32 bytes, yes!").decode()
SEED = bytes(range(32))
PUBLIC = Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()
PRIVATE = "whsk_" + base64.b64encode(SEED).decode()
BODY = (
    b'{"id": "evt_685c059ae3a481909bdc86819b066fb6", "object": "event", "created_at": 1750861210,'
    b' "type": "response.completed", "data": {"id": "resp_123"}}'
)
AT = 1_750_861_210
VECTOR = {
    "webhook-id": "wh_685c059ae39c8190af8c71ed1022a24d",
    "webhook-timestamp": str(AT),
    "webhook-signature": "v1,gUAg4R2hWouRZqRQG4uJypNS8YK885G838+EHb4nKBY=",
}


def standard(*secrets: str) -> StandardWebhooks:
    return StandardWebhooks([Secret(text) for text in secrets])


def test_the_vector_of_the_reference() -> None:
    scheme = standard(KNOWN)
    assert scheme.sign(VECTOR["webhook-id"], AT, BODY) == VECTOR
    assert scheme.verify(VECTOR, BODY, AT) == Signed(VECTOR["webhook-id"], AT)


def test_the_reference_package_and_we_verify_each_other() -> None:
    package, ours, now = Webhook(KNOWN), standard(KNOWN), int(time.time())
    assert package.verify(BODY, ours.sign("evt_1", now, BODY)) == json.loads(BODY)
    theirs = package.sign("evt_1", datetime.fromtimestamp(now, UTC), BODY.decode())
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(now),
        "webhook-signature": theirs,
    }
    assert ours.verify(headers, BODY, now) == Signed("evt_1", now)
    with pytest.raises(WebhookVerificationError):
        package.verify(BODY + b" ", ours.sign("evt_1", now, BODY))


def test_while_a_secret_is_rotated_both_verify() -> None:
    headers = standard(KNOWN, OTHER).sign("evt_1", AT, BODY)
    assert headers["webhook-signature"].count("v1,") == 2
    for one in (KNOWN, OTHER):
        assert standard(one).verify(headers, BODY, AT) is not None
        assert standard(KNOWN, OTHER).verify(standard(one).sign("a", AT, BODY), BODY, AT)


@pytest.mark.parametrize("key", [SEED, SEED + PUBLIC])
def test_a_public_key_verifies_what_the_private_one_signs(key: bytes) -> None:
    private = "whsk_" + base64.b64encode(key).decode()
    public = "whpk_" + base64.b64encode(PUBLIC).decode()
    assert public_key(Secret(private)) == public
    headers = standard(private).sign("evt_1", AT, BODY)
    assert headers["webhook-signature"].startswith("v1a,")
    assert standard(public).verify(headers, BODY, AT) == Signed("evt_1", AT)
    assert standard(private).verify(headers, BODY, AT) == Signed("evt_1", AT)
    assert standard(public).verify(headers, BODY + b" ", AT) is None
    assert standard(KNOWN).verify(headers, BODY, AT) is None


def test_what_of_both_kinds_is_signed_passes_with_either() -> None:
    headers = standard(PRIVATE, KNOWN).sign("evt_1", AT, BODY)
    assert [one[:3] for one in headers["webhook-signature"].split(" ")] == ["v1a", "v1,"]
    assert standard(KNOWN).verify(headers, BODY, AT)
    assert standard(public_key(Secret(PRIVATE))).verify(headers, BODY, AT)


@pytest.mark.parametrize(
    "wrong",
    [
        {"webhook-signature": "v1"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,é"},
        {"webhook-signature": "v1,\udcff"},
        {"webhook-signature": "v1a," + VECTOR["webhook-signature"][3:]},
        {"webhook-signature": "," + VECTOR["webhook-signature"]},
        {"webhook-signature": "v1,gUAg4R2hWouRZqRQG4uJypNS8YK885G838+EHb4nKBY"},
        {"webhook-id": "another"},
        {"webhook-id": ""},
        {"webhook-id": "a.b"},
        {"webhook-timestamp": str(AT + 1)},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "now"},
        {"webhook-timestamp": "1e9"},
        {"webhook-timestamp": "9" * 400},
        {"webhook-timestamp": "²"},
    ],
)
def test_a_header_that_is_wrong_is_no_match(wrong: dict[str, str]) -> None:
    assert standard(KNOWN, PRIVATE).verify(VECTOR | wrong, BODY, AT) is None


@pytest.mark.parametrize("name", VECTOR)
def test_a_header_that_is_missing_is_no_match(name: str) -> None:
    headers = {key: value for key, value in VECTOR.items() if key != name}
    assert standard(KNOWN).verify(headers, BODY, AT) is None


def test_a_signature_among_others_is_found() -> None:
    mixed = VECTOR | {"webhook-signature": "garbage v2,eA== " + VECTOR["webhook-signature"]}
    assert standard(KNOWN).verify(mixed, BODY, AT)


@pytest.mark.parametrize(("off", "good"), [(-301, False), (-300, True), (300, True), (301, False)])
def test_signatures_are_good_for_five_minutes(off: int, good: bool) -> None:
    assert (standard(KNOWN).verify(VECTOR, BODY, AT + off) is not None) is good
    scheme = Timestamped([Secret("s")])
    digest = hmac.new(b"s", b"%d." % AT + BODY, hashlib.sha256).hexdigest()
    headers = {"Stripe-Signature": f"t={AT},v1={digest}"}
    assert (scheme.verify(headers, BODY, AT + off) is not None) is good


@given(st.dictionaries(st.sampled_from(list(VECTOR)), st.text()), st.binary())
def test_nothing_makes_verification_fail_otherwise(headers: dict[str, str], body: bytes) -> None:
    schemes: list[Scheme] = [standard(KNOWN, PRIVATE)]
    for text in (*headers.values(), ""):
        for scheme in (GitHub([Secret("s")], "x"), Timestamped([Secret("s")], "x")):
            assert scheme.verify({"x": text}, body, AT) is None
        assert Token([Secret("long secret")]).verify({"Authorization": text}, body, AT) is None
    for scheme in schemes:
        assert scheme.verify(headers, body, AT) is None


def test_a_secret_has_the_form_that_it_should() -> None:
    for text in ("whsec_", "whsec_?", "whsec_eA==", "whsk_eA==", "whpk_eA==", "x" * 9):
        with pytest.raises(ValueError, match=r"key|secret") as failed:
            standard(text)
        assert text not in str(failed.value) or text == "whsec_"
    with pytest.raises(ValueError, match="second half"):
        standard("whsk_" + base64.b64encode(SEED + SEED).decode())
    with pytest.raises(ValueError, match="cannot sign"):
        standard(public_key(Secret(PRIVATE))).sign("a", AT, BODY)
    with pytest.raises(ValueError, match="no dots"):
        standard(KNOWN).sign("a.b", AT, BODY)
    # Without padding, and without its prefix, as some senders write it.
    assert standard(KNOWN.rstrip("=")).verify(VECTOR, BODY, AT)
    assert standard(KNOWN.removeprefix("whsec_")).verify(VECTOR, BODY, AT)


def test_github() -> None:
    """The example of GitHub's documentation."""
    scheme = GitHub([Secret("old"), Secret("It's a Secret to Everybody")])
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers: Mapping[str, str] = CIMultiDict({"x-hub-signature-256": f"sha256={digest}"})
    signed = scheme.verify(headers, b"Hello, World!", AT)
    assert signed is not None
    assert signed.at is None
    # The id that GitHub gives is not signed: it does not count.
    named = CIMultiDict(headers, **{"X-GitHub-Delivery": "x"})
    assert scheme.verify(named, b"Hello, World!", AT) == signed
    assert scheme.verify(headers, b"Hello, World", AT) is None
    assert scheme.verify({}, b"Hello, World!", AT) is None
    assert GitHub([Secret("old")]).verify(headers, b"Hello, World!", AT) is None


def test_timestamped() -> None:
    scheme = Timestamped([Secret("new"), Secret("s")])
    digest = hmac.new(b"s", b"%d." % AT + BODY, hashlib.sha256).hexdigest()
    for header in (f"t={AT},v1={digest}", f"t={AT}, v0=x, v1=00, v1={digest}"):
        signed = scheme.verify({"Stripe-Signature": header}, BODY, AT)
        assert signed is not None
        assert signed.at == AT
    for header in (f"v1={digest}", f"t={AT}", f"t={AT};v1={digest}", f"t={AT + 1},v1={digest}"):
        assert scheme.verify({"Stripe-Signature": header}, BODY, AT) is None


def test_tokens() -> None:
    headers: Mapping[str, str] = CIMultiDict({"authorization": "bearer abc", "Webhook-Id": "7"})
    assert Token([Secret("xyz"), Secret("abc")]).verify(headers, b"", AT) == Signed("7")
    assert Token([Secret("ab")]).verify(headers, b"", AT) is None
    assert Token([Secret("abc")]).verify({"Authorization": "Basic abc"}, b"", AT) is None
    gitlab = Token([Secret("abc")], "X-Gitlab-Token")
    assert gitlab.verify({"X-Gitlab-Token": "abc"}, b"", AT) == Signed()
    assert gitlab.verify({"X-Gitlab-Token": ""}, b"", AT) is None
    assert Unsigned().verify({}, b"", AT) == Signed()


def test_secrets_are_not_printed() -> None:
    class Table(WithSecrets, frozen=True, kw_only=True):
        pass

    one = Secret("hush")
    table = Table(secret=Secrets(["hush", "hush-hush"]))
    for told in (repr(one), str(one), f"{one}", "%s" % one, repr([one]), repr(table), str(table)):  # noqa: UP031
        assert "***" in told
        assert "hush" not in told
    assert one == Secret("hush ")
    assert one != Secret("hash")
    for wrong in ("", " ", 5):
        with pytest.raises(ValueError, match="secret"):
            Secret(wrong)  # type: ignore[arg-type]


def test_where_secrets_are_taken_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    file.write_text("new\n\nold\n")
    monkeypatch.setenv("HOOK", "of-env")
    table = WithSecrets(secret=Secrets("own"), secret_env="HOOK", secret_file=str(file))
    assert [one.reveal() for one in table.secrets("x")] == ["own", "of-env", "new", "old"]
    assert WithSecrets().secrets("x") == ()
    monkeypatch.delenv("HOOK")
    with pytest.raises(SettingsError, match=r"gateway\.hooks\.a\.secret_env: HOOK is not set"):
        table.secrets("gateway.hooks.a")
    file.write_text("\n")
    with pytest.raises(SettingsError, match="is empty"):
        msgspec.structs.replace(table, secret_env=None).secrets("x")
    file.unlink()
    with pytest.raises(SettingsError, match=r"secret_file: .*No such file"):
        msgspec.structs.replace(table, secret_env=None).secrets("x")
