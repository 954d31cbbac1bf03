"""Signatures of model versions, and of which version answers: Ed25519 over a few lines of text.

A version is signed by `signature.json` beside its manifest: it holds the sha256 of the manifest's
bytes, and the manifest holds that of every other file. What is signed also names the model and the
version, so that the files mean nothing under another name, and a moment, so that older ones can be
told from newer ones (`lmaas.workers.trust`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.new_files import write_new

#: Added to the name of a private key's file.
PUBLIC: Final = ".pub"
#: Bits of a file's mode by which others than its owner may do something with it.
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

_Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_KeyId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]


class Statement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was signed, and its signature."""

    #: "version": these files are that version. "active": that version answers who names none.
    what: Literal["version", "active"]
    model: str
    version: Annotated[str, msgspec.Meta(pattern="^[1-9][0-9]{0,8}$")]
    #: sha256 of the manifest's bytes.
    manifest: _Sha256
    #: Milliseconds since 1970, UTC; of two statements on a model the later one has more.
    time: Annotated[int, msgspec.Meta(ge=1, lt=1 << 53)]
    #: Which key signed; see `key_id`.
    key: _KeyId
    #: Base64 of 64 bytes.
    signature: str

    @property
    def signed(self) -> bytes:
        """The bytes that are signed."""
        lines = ("LMaaS model signature 1", self.what, self.model, self.version, self.manifest,
                 str(self.time), self.key)  # fmt: skip
        return "".join(f"{line}\n" for line in lines).encode()

    def is_by(self, key: Ed25519PublicKey) -> bool:
        """Whether the owner of this key signed it."""
        try:
            key.verify(base64.b64decode(self.signature, validate=True), self.signed)
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True

    def encoded(self) -> bytes:
        """As JSON in one line."""
        return msgspec.json.encode(self)

    @classmethod
    def decoded(cls, content: bytes) -> Self:
        """Raises ValueError with what is wrong with the content."""
        try:
            return msgspec.json.decode(content, type=cls)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValueError(str(error)) from error


class SigningKey:
    """A private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @property
    def public(self) -> Ed25519PublicKey:
        return self._key.public_key()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Of a PEM file that only its owner may read. Raises DataError."""
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                content = file.read()
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; `lmaas models keys` makes a key") from error
        try:
            key = load_pem_private_key(content, password=None)
        except TypeError:
            raise DataError(f"{path}: the key has a password; give one without") from None
        except (ValueError, UnsupportedAlgorithm):
            raise DataError(
                f"{path}: no private key in PEM; `lmaas models keys` makes one"
            ) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise DataError(f"{path}: no Ed25519 key; `lmaas models keys` makes one")
        if mode & _OTHERS:
            raise DataError(
                f"{path}: others than its owner may use this private key (mode "
                f"{stat.S_IMODE(mode):04o}): `chmod 600 {path}`, and if others may have read it, "
                "make a new one"
            )
        return cls(key)

    def sign(
        self, what: Literal["version", "active"], model: str, version: str, manifest: bytes,
        time: int,
    ) -> Statement:  # fmt: skip
        """A statement on the version with these bytes as its `manifest.json`."""
        blank = Statement(
            what=what,
            model=model,
            version=version,
            manifest=hashlib.sha256(manifest).hexdigest(),
            time=time,
            key=key_id(self.public),
            signature="",
        )
        signature = base64.b64encode(self._key.sign(blank.signed)).decode()
        return msgspec.structs.replace(blank, signature=signature)


def key_id(key: Ed25519PublicKey) -> str:
    """The first 32 hexadecimal digits of the sha256 of the key's 32 bytes."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:32]


def write_pair(path: Path) -> tuple[Path, str]:
    """Makes a pair: the private key in `path`, mode 0600, the public one in `path.pub`.

    Returns the public key's file and id. Nothing that is there is overwritten. Raises DataError.
    """
    key = Ed25519PrivateKey.generate()
    public = path.with_name(path.name + PUBLIC)
    private_text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public_text = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if os.path.lexists(public):
        raise DataError(f"{public} is there already, and nothing is overwritten; name another file")
    write_new(path, private_text, 0o600)
    write_new(public, public_text, 0o644)
    return public, key_id(key.public_key())
