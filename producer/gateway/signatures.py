"""Signatures of webhooks, those that come and those that go: pure, and in constant time.

A scheme says whether a request is from who has the secret, by its headers and its raw body.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lmaas.producer.gateway.secret import Secret

#: Seconds by which the moment of signing may differ from the receiver's clock (Standard Webhooks).
TOLERANCE: Final = 300.0

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"

_SYMMETRIC: Final = "whsec_"
_PRIVATE: Final = "whsk_"
_PUBLIC: Final = "whpk_"
_KEY_BYTES: Final = 32
#: Bytes of a symmetric key that we sign with.
_LENGTHS: Final = range(24, 65)
#: Signatures of one header that are looked at; each costs time before anybody is known.
_MOST: Final = 16
#: Digits of a moment in Unix seconds, until the year 5138.
_DIGITS: Final = 11


@dataclass(frozen=True, slots=True)
class Signed:
    """What a scheme knows of a request that is authentic."""

    #: The same when the sender tries again; None when the scheme has no such thing.
    id: str | None = None
    #: Unix seconds when it was signed; None when the scheme does not say.
    at: int | None = None


class Scheme(Protocol):
    """How a sender shows who it is."""

    def verify(self, headers: Mapping[str, str], body: bytes, now: float) -> Signed | None:
        """None when it does not, whatever the reason. `headers` ignore case; `now`: Unix time."""


@dataclass(frozen=True, slots=True)
class _Key:
    """One key of Standard Webhooks."""

    version: str
    matches: Callable[[bytes, bytes], bool]
    #: None for a public key.
    sign: Callable[[bytes], bytes] | None


class StandardWebhooks:
    """Standard Webhooks 1.0.0: `whsec_` (HMAC-SHA256, v1), `whsk_` and `whpk_` (Ed25519, v1a)."""

    def __init__(self, secrets: Sequence[Secret]) -> None:
        """Raises ValueError for a secret of another form, without quoting it."""
        self._keys = [_key(secret.reveal()) for secret in secrets]

    def sign(self, message: str, at: int, body: bytes) -> dict[str, str]:
        """The headers of one try; with several secrets a signature of each.

        Raises ValueError for an id with a dot, which would make signatures ambiguous, and when
        there is no secret to sign with.
        """
        if "." in message:
            raise ValueError("the id of a webhook has no dots")
        signed = _content(message, str(at), body)
        signatures = [
            f"{key.version},{base64.b64encode(key.sign(signed)).decode()}"
            for key in self._keys
            if key.sign is not None
        ]
        if not signatures:
            raise ValueError("a public key (whpk_) cannot sign; use whsec_ or whsk_")
        return {ID: message, TIMESTAMP: str(at), SIGNATURE: " ".join(signatures)}

    def verify(self, headers: Mapping[str, str], body: bytes, now: float) -> Signed | None:
        """See Scheme. An id with a dot is refused."""
        message, moment = headers.get(ID, ""), headers.get(TIMESTAMP, "")
        at = _recent(moment, now)
        if not message or "." in message or at is None:
            return None
        signed = _content(message, moment, body)
        given = [one.partition(",") for one in headers.get(SIGNATURE, "").split(" ")[:_MOST]]
        found = [
            key.matches(signed, _decoded(signature))
            for key in self._keys
            for version, _, signature in given
            if version == key.version
        ]
        return Signed(message, at) if any(found) else None


class GitHub:
    """`X-Hub-Signature-256: sha256=` and the hexadecimal HMAC of the body.

    The id of the delivery is not signed, and nothing says when it was made: the same body is the
    same delivery.
    """

    def __init__(self, secrets: Sequence[Secret], header: str = "X-Hub-Signature-256") -> None:
        self._secrets = secrets
        self._header = header

    def verify(self, headers: Mapping[str, str], body: bytes, _now: float) -> Signed | None:
        given = headers.get(self._header, "").removeprefix("sha256=").lower()
        if not _one_of(given, (_hex(secret, body) for secret in self._secrets)):
            return None
        return Signed(hashlib.sha256(body).hexdigest())


class Timestamped:
    """Stripe's way: `t=SECONDS,v1=HEX[,v1=HEX]`, the HMAC of `SECONDS.BODY`.

    A sender that tries again signs again, so the same body is the same delivery.
    """

    def __init__(self, secrets: Sequence[Secret], header: str = "Stripe-Signature") -> None:
        self._secrets = secrets
        self._header = header

    def verify(self, headers: Mapping[str, str], body: bytes, now: float) -> Signed | None:
        pairs = [
            (name.strip(), value.strip())
            for name, _, value in (
                part.partition("=") for part in headers.get(self._header, "").split(",")[:_MOST]
            )
        ]
        moment = next((value for name, value in pairs if name == "t"), "")
        at = _recent(moment, now)
        if at is None:
            return None
        expected = [_hex(secret, moment.encode() + b"." + body) for secret in self._secrets]
        found = [_one_of(value, expected) for name, value in pairs if name == "v1"]
        return Signed(hashlib.sha256(body).hexdigest(), at) if any(found) else None


class Token:
    """A secret that is sent along: `Authorization: Bearer SECRET`, or alone in another header."""

    def __init__(self, secrets: Sequence[Secret], header: str = "Authorization") -> None:
        self._secrets = secrets
        self._header = header

    def verify(self, headers: Mapping[str, str], _body: bytes, _now: float) -> Signed | None:
        given = headers.get(self._header, "")
        if self._header.lower() == "authorization":
            scheme, _, given = given.partition(" ")
            if scheme.lower() != "bearer":
                return None
        if not _one_of(given.strip(), (secret.reveal() for secret in self._secrets)):
            return None
        return Signed(_named(headers))


class Unsigned:
    """Whoever reaches the hook may use it."""

    def verify(self, headers: Mapping[str, str], _body: bytes, _now: float) -> Signed | None:
        return Signed(_named(headers))


def _named(headers: Mapping[str, str]) -> str | None:
    """The id that a sender who is believed gives its request."""
    return headers.get(ID) or headers.get("Idempotency-Key") or None


def _content(message: str, moment: str, body: bytes) -> bytes:
    return f"{message}.{moment}.".encode("utf-8", "surrogateescape") + body


def _recent(moment: str, now: float) -> int | None:
    """Unix seconds, if they are near `now`."""
    if not (moment.isascii() and moment.isdigit() and len(moment) <= _DIGITS):
        return None
    at = int(moment)
    return at if abs(now - at) <= TOLERANCE else None


def _decoded(text: str) -> bytes:
    """Of base64; empty for anything else, which is no signature."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def _hex(secret: Secret, signed: bytes) -> str:
    return hmac.new(secret.reveal().encode(), signed, hashlib.sha256).hexdigest()


def _one_of(given: str, expected: Iterable[str]) -> bool:
    """Compares with each, in a time that does not depend on where they differ."""
    raw = given.encode("utf-8", "surrogateescape")
    found = [hmac.compare_digest(raw, one.encode()) for one in expected]
    return any(found)


def _key(text: str) -> _Key:
    if text.startswith(_PRIVATE):
        return _private(_key_bytes(text, _PRIVATE))
    if text.startswith(_PUBLIC):
        raw = _key_bytes(text, _PUBLIC)
        if len(raw) != _KEY_BYTES:
            raise ValueError(f"a public key ({_PUBLIC}) has {_KEY_BYTES} bytes, in base64")
        return _Key("v1a", _checks(Ed25519PublicKey.from_public_bytes(raw)), None)
    return _symmetric(_key_bytes(text, _SYMMETRIC))


def _key_bytes(text: str, prefix: str) -> bytes:
    plain = text.removeprefix(prefix).rstrip("=")
    try:
        raw = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not raw:
        raise ValueError(f"a secret of Standard Webhooks is {prefix} and base64")
    return raw


def _symmetric(key: bytes) -> _Key:
    if len(key) not in _LENGTHS:
        raise ValueError(
            f"the key in a secret {_SYMMETRIC} has {_LENGTHS.start} to {_LENGTHS.stop - 1} bytes"
        )

    def sign(content: bytes) -> bytes:
        return hmac.new(key, content, hashlib.sha256).digest()

    return _Key("v1", lambda content, given: hmac.compare_digest(sign(content), given), sign)


def _private(raw: bytes) -> _Key:
    """Of a seed, or of a seed and the public key that belongs to it."""
    if len(raw) not in {_KEY_BYTES, 2 * _KEY_BYTES}:
        raise ValueError(f"a private key ({_PRIVATE}) has 32 bytes, or 64 with its public key")
    key = Ed25519PrivateKey.from_private_bytes(raw[:_KEY_BYTES])
    public = key.public_key()
    if raw[_KEY_BYTES:] not in {b"", public.public_bytes(Encoding.Raw, PublicFormat.Raw)}:
        raise ValueError(f"the second half of a private key ({_PRIVATE}) is not its public key")
    return _Key("v1a", _checks(public), key.sign)


def _checks(public: Ed25519PublicKey) -> Callable[[bytes, bytes], bool]:
    def matches(content: bytes, given: bytes) -> bool:
        try:
            public.verify(given, content)
        except InvalidSignature:
            return False
        return True

    return matches


def public_key(secret: Secret) -> str:
    """`whpk_`, for receivers, of a secret `whsk_`. Raises ValueError for any other secret."""
    text = secret.reveal()
    if not text.startswith(_PRIVATE):
        raise ValueError(f"only a private key ({_PRIVATE}) has a public key")
    raw = _key_bytes(text, _PRIVATE)
    _private(raw)
    public = Ed25519PrivateKey.from_private_bytes(raw[:_KEY_BYTES]).public_key()
    encoded = base64.b64encode(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
    return _PUBLIC + encoded
