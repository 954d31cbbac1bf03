"""How a process seals what it publishes and opens what comes: by the settings, in one place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

import msgspec

from lmaas.broker_config.codes import Code
from lmaas.broker_config.decoding import COUNTED
from lmaas.broker_config.errors import SealError
from lmaas.broker_config.payload_keys import KeyFile, key_file
from lmaas.broker_config.sealing import ENCODING, KEY_HEADER, Keyring, Label, Sealed
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import DIRECT_REPLY_TO

#: A body -> what was sealed in it. Raises SealError.
Opening = Callable[[bytes], bytes]


class Seal(msgspec.Struct, frozen=True):
    """What a message says of its seal: of one that has none, and should, too."""

    #: Whether it is sealed.
    there: bool
    #: The id of the payload key.
    key: str | None
    label: Label


#: Direct reply-to as the caller writes it; the broker puts a name of its own behind it.
_DIRECT: Final = DIRECT_REPLY_TO.rstrip(".")


def queue_of(reply_to: str | None) -> str:
    """A results queue as labels name it."""
    if reply_to is None:
        return ""
    return _DIRECT if reply_to.startswith(DIRECT_REPLY_TO) else reply_to


class Seals:
    """Without payload keys nothing is sealed, and nothing sealed is opened."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError when there are no usable keys in the file that is named."""
        named = settings.payload_keys
        self._file: KeyFile | None = key_file(named) if named else None
        self._needed = self._file is not None and not settings.accept_unsealed

    @classmethod
    def none(cls) -> Self:
        """For what stays within a process."""
        return cls(Settings())

    @property
    def are_used(self) -> bool:
        """Whether there are payload keys."""
        return self._file is not None

    def found(
        self, encoding: str | None, headers: Mapping[str, Any], label: Callable[[], Label]
    ) -> Seal | None:
        """The seal of a message with this content_encoding; None: its body is read as it is."""
        there = encoding == ENCODING
        if not there and not self._needed:
            return None
        key = headers.get(KEY_HEADER)
        return Seal(there, key if isinstance(key, str) else None, label())

    def open(self, body: bytes, seal: Seal) -> bytes:
        """Raises SealError."""
        if not seal.there:
            raise SealError(
                f"this {seal.label.direction} is not sealed, and with payload_keys only what is "
                "sealed is taken: set it for who has sent this, too; accept_unsealed takes both, "
                "while clients and workers are given keys",
                Code.NOT_SEALED,
            )
        if self._file is None:
            raise SealError(
                f"it is sealed with the key {seal.key!r}, and there are no keys here (setting "
                "payload_keys)",
                Code.KEY_MISSING,
            )
        return self._file.keyring(seal.key).open(body, seal.key, seal.label)

    def opening(self, seal: Seal | None) -> Opening | None:
        """What opens a body with this seal."""
        return None if seal is None else lambda body: self.open(body, seal)

    async def seal(self, body: bytes, label: Label, key: str | None = None) -> Sealed:
        """With the key of this id, else the first; a large body is sealed in a thread.

        There must be keys.
        """
        keyring = self.keyring()
        if len(body) > COUNTED:
            return await asyncio.to_thread(keyring.seal, body, label, key)
        return keyring.seal(body, label, key)

    def keyring(self) -> Keyring:
        """As the file of keys is now. There must be keys."""
        assert self._file is not None, "the caller has asked whether there are keys"
        return self._file.keyring()

    @property
    def takes_unsealed(self) -> bool:
        """Whether what is not sealed is read."""
        return not self._needed

    def digest_key(self, seal: Seal | None) -> bytes:
        """Of a digest of what had this seal; empty for what was not sealed."""
        if self._file is None or seal is None or not seal.there:
            return b""
        return self._file.keyring().digest_key(seal.key)
