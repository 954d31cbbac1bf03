"""Values of the database: sealed for their row and column. Pure but for the file of keys.

A sealed value is a line as that of a sealed file, and a sealed body; a text is that in base64,
behind the mark and the id of the key.
"""

from __future__ import annotations

import base64
import binascii
from hashlib import blake2b
from typing import Final

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import SealError
from lmaas.broker_config.sealing import Label
from lmaas.broker_config.seals import Seal, Seals
from lmaas.producer.gateway.at_rest.frames import MARK, head_of, key_of

_TEXT: Final = MARK.decode()
#: Bytes of a digest.
_DIGEST: Final = 32


class Values:
    """Without payload keys they are kept as they are."""

    def __init__(self, seals: Seals) -> None:
        self._seals = seals

    def sealed(self, value: bytes, column: str, row: str) -> bytes:
        """`column`: TABLE.COLUMN, `row`: what names the row."""
        if not self._seals.are_used:
            return value
        body, key = self._seals.keyring().seal(value, _label(column, row))
        return head_of(key) + body

    def opened(self, value: bytes, column: str, row: str) -> bytes:
        """Raises SealError."""
        label = _label(column, row)
        try:
            key = key_of(value)
            if key is not None:
                return self._seals.open(value[len(head_of(key)) :], Seal(True, key, label))
            if not self._seals.takes_unsealed:
                self._seals.open(value, Seal(False, None, label))
        except SealError as error:
            raise SealError(f"{column}: {error}", error.code) from None
        return value

    def sealed_text(self, value: str | None, column: str, row: str) -> str | None:
        """As `sealed`."""
        if value is None or not self._seals.are_used:
            return value
        sealed = self.sealed(value.encode("utf-8", "surrogatepass"), column, row)
        key = key_of(sealed) or ""
        return f"{_TEXT}{key} {base64.b64encode(sealed[len(head_of(key)) :]).decode()}"

    def opened_text(self, value: str | None, column: str, row: str) -> str | None:
        """As `opened`."""
        if value is None:
            return None
        stored = value.encode("utf-8", "surrogatepass")
        if value.startswith(_TEXT):
            key, _, body = value[len(_TEXT) :].partition(" ")
            try:
                stored = head_of(key) + base64.b64decode(body, validate=True)
            except (binascii.Error, ValueError):
                raise SealError(f"{column}: no base64", Code.SEAL_BROKEN) from None
        return self.opened(stored, column, row).decode("utf-8", "surrogatepass")

    def names(self, text: str, column: str) -> list[str]:
        """What a text may be called in a column by which rows are found: as it is, or a digest.

        There is one for each payload key; new rows have the first one.
        """
        if not self._seals.are_used:
            return [text]
        content = f"{column}\0{text}".encode("utf-8", "surrogatepass")
        found = [
            blake2b(content, digest_size=_DIGEST, key=key).hexdigest()
            for key in self._seals.keyring().digest_keys()
        ]
        return [*found, text] if self._seals.takes_unsealed else found


def _label(column: str, row: str) -> Label:
    return Label("value", queue=column, id=row)
