"""Sealed bodies: encrypted, authenticated, and bound to the place that they were made for. Pure.

A body is FORMAT | salt | nonce | ciphertext and tag, of AES-256-GCM. The key of a salt is derived
from the payload key that the header `lmaas-key` names; each process makes a salt of its own for
each key, and counts its nonces, so that no two messages share both. docs/security.md has the format
to the byte.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import itertools
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, NoReturn

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import SealError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: The property content_encoding of what is sealed, and the header with the id of its payload key.
ENCODING: Final = "lmaas.sealed.v1"
KEY_HEADER: Final = "lmaas-key"
#: Bytes of a payload key, and of the parts of a sealed body.
KEY_BYTES: Final = 32
FORMAT: Final = b"\x01"
SALT: Final = 16
NONCE: Final = 12
TAG: Final = 16
_BEGIN: Final = len(FORMAT) + SALT + NONCE
#: By how many bytes a body grows.
OVERHEAD: Final = _BEGIN + TAG
#: What keys are derived for.
PAYLOAD: Final = b"lmaas.sealed.v1 payload"
DIGEST: Final = b"lmaas.sealed.v1 digest"
#: Derived keys that are remembered: about one for each process that sends.
REMEMBERED: Final = 4096

_KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

#: What a body is: a reply that is sent again as a request opens as neither. The last two are what
#: the gateway keeps: a part of a file, and a value of its database.
Direction = Literal["request", "reply", "notice", "journal", "file", "value"]

#: What labels tell apart, in words.
_PLACE: Final = "model, queue or request"
_PLACES: Final[dict[Direction, str]] = {"file": "file or place in it", "value": "row or column"}


class Label(NamedTuple):
    """What a body was made for; it opens for nothing else. Texts are "" where there is none."""

    direction: Direction
    #: The model that is asked; "" in the journal.
    model: str = ""
    #: Where the answers go. Of an entry of the journal the queue that it is in; of a file its name;
    #: of a value the table and the column.
    queue: str = ""
    #: The correlation id; of a file the number of the frame; of a value the row.
    id: str = ""
    #: Of a file what else is said of the frame.
    content_type: str = ""


class Sealed(NamedTuple):
    """A body to publish."""

    body: bytes
    #: The id of its payload key.
    key: str


def associated(key: str, label: Label) -> bytes:
    """The associated data: FORMAT, and each text after its length in bytes, as 16 bits."""
    texts = [text.encode(errors="surrogatepass") for text in (key, *label)]
    return FORMAT + b"".join(len(text).to_bytes(2) + text for text in texts)


class PayloadKey:
    """A key and its id. It is printed as its id, and cannot be pickled or copied."""

    __slots__ = ("_secret", "id")

    def __init__(self, key_id: str, secret: bytes) -> None:
        """Raises ValueError, which does not quote the secret."""
        if not _KEY_ID.fullmatch(key_id):
            raise ValueError("a key id has 1 to 64 letters, digits or . _ -")
        if len(secret) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(secret)}")
        self.id = key_id
        self._secret = secret

    def derived(self, purpose: bytes, salt: bytes = b"") -> bytes:
        """A key of 32 bytes: HKDF with SHA-256."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return HKDF(SHA256(), KEY_BYTES, salt, purpose).derive(self._secret)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PayloadKey):
            return NotImplemented
        return self.id == other.id and hmac.compare_digest(self._secret, other._secret)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"PayloadKey({self.id!r})"

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("a payload key is not pickled: give the other process the name of the file")


def parsed(text: str) -> list[PayloadKey]:
    """The keys of a file, one a line: its id, and 32 bytes in base64; the first one seals.

    Empty lines, and those that begin with #, are passed over. Raises ValueError, which names the
    line and does not quote it.
    """
    keys: dict[str, PayloadKey] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            key = _key_of(line.split())
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if key.id in keys:
            raise ValueError(f"line {number}: the key id {key.id!r} is there twice")
        keys[key.id] = key
    if not keys:
        raise ValueError("there is no key in it; `lmaas keys new FILE` makes one")
    return list(keys.values())


def _key_of(words: list[str]) -> PayloadKey:
    if len(words) != 2:
        raise ValueError(f"expected KEYID and {KEY_BYTES} bytes in base64, with a space between")
    try:
        secret = base64.b64decode(words[1], validate=True)
    except binascii.Error:
        raise ValueError("the key is no base64") from None
    return PayloadKey(words[0], secret)


def line_of_new_key(key_id: str) -> str:
    """A line for a file of keys, with a random key. Raises ValueError for an id that cannot be."""
    PayloadKey(key_id, secret := os.urandom(KEY_BYTES))
    return f"{key_id} {base64.b64encode(secret).decode()}\n"


class _Sender:
    """A derived key of this process alone; each number of its count is one nonce."""

    __slots__ = ("_cipher", "_counter", "_head", "process")

    def __init__(self, key: PayloadKey) -> None:
        salt = os.urandom(SALT)
        self._head = FORMAT + salt
        self._cipher = _cipher(key, salt)
        self._counter = itertools.count()
        self.process = os.getpid()

    def seal(self, body: bytes, data: bytes) -> bytes:
        nonce = next(self._counter).to_bytes(NONCE)  # one step, whatever other threads do
        return b"".join((self._head, nonce, self._cipher.encrypt(nonce, body, data)))


def _cipher(key: PayloadKey, salt: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key.derived(PAYLOAD, salt))


class Keyring:
    """Some payload keys: the first one seals, each one opens. For any number of threads."""

    def __init__(self, keys: Iterable[PayloadKey]) -> None:
        from cryptography.exceptions import InvalidTag

        self._invalid = InvalidTag
        self._keys = {key.id: key for key in keys}
        self.first = next(iter(self._keys))
        self._senders: dict[str, _Sender] = {}
        #: By key id and salt, the last ones that were used.
        self._ciphers: OrderedDict[tuple[str, bytes], AESGCM] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: object) -> bool:
        """Whether there is a key with this id."""
        return key in self._keys

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._keys)})"

    def seal(self, body: bytes, label: Label, key: str | None = None) -> Sealed:
        """With the key of this id, if there is one, else with the first."""
        name = key if key is not None and key in self._keys else self.first
        sender = self._senders.get(name)
        if sender is None or sender.process != os.getpid():  # a fork must not repeat its nonces
            sender = self._senders[name] = _Sender(self._keys[name])
        return Sealed(sender.seal(body, associated(name, label)), name)

    def open(self, body: bytes, key: str | None, label: Label) -> bytes:
        """What was sealed. Raises SealError: the key is unknown, or body or label another one."""
        if key is None or key not in self._keys:
            raise SealError(
                f"it is sealed with the key {key!r}, which is not in payload_keys here",
                Code.KEY_UNKNOWN,
            )
        if len(body) < OVERHEAD or not body.startswith(FORMAT):
            raise SealError(
                f"its {len(body):,} bytes are no sealed body of format {FORMAT[0]}",
                Code.SEAL_BROKEN,
            )
        salt = body[len(FORMAT) : len(FORMAT) + SALT]
        cipher = self._remembered(key, salt)
        fresh = cipher or _cipher(self._keys[key], salt)
        try:
            nonce = body[len(FORMAT) + SALT : _BEGIN]
            opened = fresh.decrypt(nonce, memoryview(body)[_BEGIN:], associated(key, label))
        except self._invalid:
            raise SealError(
                f"the seal does not fit: this {label.direction} was damaged, or made for another "
                f"{_PLACES.get(label.direction, _PLACE)}, or with another key of the same id",
                Code.SEAL_BROKEN,
            ) from None
        if cipher is None:  # only what was authentic may take the place of others
            self._remember(key, salt, fresh)
        return opened

    def _remembered(self, key: str, salt: bytes) -> AESGCM | None:
        with self._lock:
            cipher = self._ciphers.get((key, salt))
            if cipher is not None:
                self._ciphers.move_to_end((key, salt))
            return cipher

    def _remember(self, key: str, salt: bytes, cipher: AESGCM) -> None:
        with self._lock:
            self._ciphers[key, salt] = cipher
            if len(self._ciphers) > REMEMBERED:
                self._ciphers.popitem(last=False)

    def digest_key(self, key: str | None) -> bytes:
        """For a digest of what was sealed with this key, from which nobody can guess it."""
        name = key if key is not None and key in self._keys else self.first
        return self._keys[name].derived(DIGEST)

    def digest_keys(self) -> list[bytes]:
        """As `digest_key`, of each key, that of the first one first."""
        return [key.derived(DIGEST) for key in self._keys.values()]
