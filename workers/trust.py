"""Whose models are served: the public keys of the setting `model_keys`, and what they signed.

Nothing in a folder of models is believed but what one of these keys signed. Against a return to
older files, which were signed too, `lmaas.workers.marks` remembers what was served.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from lmaas.broker_config.errors import ModelDamaged, SettingsError
from lmaas.workers.plain_files import read_plain
from lmaas.workers.signing import Statement, key_id

#: Beside the manifest.
SIGNATURE: Final = "signature.json"
#: Bytes of it, and of a file with public keys, at most.
SIGNATURE_BYTES: Final = 16 * 1024
_KEY_BYTES: Final = 1024 * 1024
_END: Final = b"-----END PUBLIC KEY-----"
#: Characters of what a stranger wrote, in an error.
_SHOWN: Final = 40


class Trust:
    """The keys that are known, by their ids."""

    def __init__(self, keys: Mapping[str, Ed25519PublicKey], place: str) -> None:
        """`place` says in errors where the keys are from."""
        self.keys = dict(keys)
        self.place = place

    @classmethod
    def read(cls, place: Path) -> Self:
        """The keys in a PEM file, or in all files of a folder that end in `.pub` or `.pem`.

        Raises SettingsError when there is none, when a file has something else than public keys,
        or when everybody may write there.
        """
        try:
            paths = [place]
            if place.is_dir():
                _check_guarded(place)
                paths = sorted(path for path in place.iterdir() if path.suffix in {".pub", ".pem"})
            keys = {key_id(key): key for path in paths for key in _public_keys(path)}
        except OSError as error:
            name = error.filename or place
            raise SettingsError(f"model_keys {str(name)!r}: {error.strerror}") from error
        if not keys:
            raise SettingsError(
                f"model_keys {str(place)!r}: no file there ends in .pub or .pem, so that no model "
                "could be served; put public keys there (`lmaas models keys` makes a pair)"
            )
        return cls(keys, str(place))

    def version(self, folder: Path, model: str, version: str, manifest: bytes) -> Statement:
        """Who signed these bytes as the manifest of that version of that model.

        Raises ModelDamaged with the reason why they are not served, and OSError.
        """
        file = folder / SIGNATURE
        try:
            content = read_plain(folder, SIGNATURE, SIGNATURE_BYTES)
        except FileNotFoundError:
            raise ModelDamaged(
                f"{folder}: it is not signed, and only signed versions are served (setting "
                f"model_keys); `lmaas models sign {model} {version} --key FILE` signs it"
            ) from None
        return self.check(content, file, "version", model, version, manifest)

    def check(
        self, content: bytes, file: Path, what: str, model: str, version: str, manifest: bytes
    ) -> Statement:
        """The statement, which is by a known key, and on exactly that. Raises ModelDamaged."""
        try:
            statement = Statement.decoded(content)
        except ValueError as error:
            raise ModelDamaged(f"{file}: no signature: {error}; sign it again") from error
        known = self.keys.get(statement.key)
        if known is None:
            raise ModelDamaged(
                f"{file}: signed with the key {statement.key}, which is none of those in "
                f"{self.place}; add its public key there, if you trust its owner"
            )
        if not statement.is_by(known):
            raise ModelDamaged(
                f"{file}: the key {statement.key} did not sign this: it was changed; copy or sign "
                "the version again"
            )
        found = (statement.what, statement.model, statement.version)
        if found != (what, model, version):
            raise ModelDamaged(
                f"{file}: this was signed as {statement.model[:_SHOWN]!r} version "
                f"{statement.version} ({statement.what}), and not as {model!r} version {version} "
                f"({what}): it was copied here from elsewhere; sign it again if that is right"
            )
        if statement.manifest != hashlib.sha256(manifest).hexdigest():
            raise ModelDamaged(
                f"{file}: the manifest of {model!r} version {version} is not the one that was "
                "signed; copy the version again, or sign it again if the change is right"
            )
        return statement


def _public_keys(path: Path) -> list[Ed25519PublicKey]:
    """One at least. Raises SettingsError and OSError."""
    _check_guarded(path)
    with path.open("rb") as file:
        blocks = file.read(_KEY_BYTES).split(_END)[:-1]
    if not blocks:
        raise SettingsError(
            f"model_keys {str(path)!r}: no public key in PEM; it is the file ending in .pub of "
            "`lmaas models keys`, and never the private key"
        )
    try:
        keys = [load_pem_public_key(block + _END + b"\n") for block in blocks]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"model_keys {str(path)!r}: no public key: {error}") from error
    found = [key for key in keys if isinstance(key, Ed25519PublicKey)]
    if len(found) < len(keys):
        raise SettingsError(f"model_keys {str(path)!r}: a public key there is not of Ed25519")
    return found


def _check_guarded(path: Path) -> None:
    """Raises SettingsError when everybody may write there, and OSError."""
    if path.stat().st_mode & stat.S_IWOTH:
        raise SettingsError(
            f"model_keys {str(path)!r}: everybody may write there, and so decide whose models are "
            f"served: `chmod o-w {path}`"
        )
