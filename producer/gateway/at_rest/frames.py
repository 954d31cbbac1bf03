"""A sealed file: a line that names its payload key, and frames. Pure.

Each frame is a sealed body of its own (see `broker_config.sealing`). It is bound to the name of the
file, its own number and what is noted of it, so that it opens in no other file and at no other
place. docs/security.md has the format.
"""

from __future__ import annotations

from typing import Final

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import SealError
from lmaas.broker_config.sealing import ENCODING, OVERHEAD, Label
from lmaas.broker_config.seals import Seal, Seals

#: How a sealed file begins; the id of its key and a line feed follow.
MARK: Final = f"{ENCODING} ".encode()
#: The longest first line.
HEAD: Final = len(MARK) + 64 + 1
#: What is noted of the last frame of a file.
LAST: Final = "last"

__all__ = ["HEAD", "LAST", "MARK", "OVERHEAD", "Frames", "head_of", "key_of"]


def head_of(key: str) -> bytes:
    """The first line of a file that is sealed with this key."""
    return MARK + key.encode() + b"\n"


def key_of(start: bytes) -> str | None:
    """The id of the key, by the first HEAD bytes; None of what is not sealed. Raises SealError."""
    if not start.startswith(MARK):
        return None
    name, end, _ = start[len(MARK) : HEAD].partition(b"\n")
    if not end:
        raise SealError("its first line names no payload key", Code.SEAL_BROKEN)
    return name.decode("ascii", "replace")


class Frames:
    """Those of one file, all with one key."""

    def __init__(self, seals: Seals, name: str, key: str) -> None:
        """`name`: what the file is called, wherever it is at the moment."""
        self._seals = seals
        self.name = name
        self.key = key

    @classmethod
    def new(cls, seals: Seals, name: str) -> Frames:
        """Of a file that begins now. There must be keys."""
        return cls(seals, name, seals.keyring().first)

    @property
    def head(self) -> bytes:
        """The first line of the file."""
        return head_of(self.key)

    def seal(self, content: bytes, number: int, note: str = "") -> bytes:
        """OVERHEAD bytes more. Raises SealError when the key is there no more."""
        keyring = self._seals.keyring()
        if self.key not in keyring:
            raise SealError(
                f"{self.name} was begun with the payload key {self.key!r}, which is not in "
                "payload_keys any more; put it back until the file is complete",
                Code.KEY_UNKNOWN,
            )
        return keyring.seal(content, self._label(number, note), self.key).body

    def open(self, frame: bytes, number: int, note: str = "") -> bytes:
        """Raises SealError."""
        try:
            return self._seals.open(frame, Seal(True, self.key, self._label(number, note)))
        except SealError as error:
            raise SealError(f"{self.name}: {error}", error.code) from None

    def _label(self, number: int, note: str) -> Label:
        return Label("file", queue=self.name, id=str(number), content_type=note)
