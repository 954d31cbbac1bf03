"""Text outputs in another encoding than UTF-8, as Excel wants its CSV: `utf-8-sig`, `utf-16`.

What the encoding cannot have is escaped (`\\u4e2d`), and the first of it is told in a warning.
"""

from __future__ import annotations

import codecs
import logging
from pathlib import Path

from lmaas.producer.tables.chunks import Answers, Chunk, Encoding

log = logging.getLogger(__name__)


class Recoded:
    """The rows of a format that writes UTF-8, in the encoding of a Python codec.

    A byte order mark, if the encoding has one, comes before the header only. Bytes that are no
    UTF-8 stay as they are in UTF-8 with a mark, and are U+FFFD in any other encoding.
    """

    def __init__(self, inner: Encoding, codec: str, name: str) -> None:
        self._inner = inner
        self._codec = codec
        self._name = name
        #: What the codec begins every text with.
        self._mark = "".encode(codec)
        self._only_mark = codecs.lookup(codec).name == "utf-8-sig"
        self._told = False

    def header(self) -> bytes:
        return self._mark + self._recoded(self._inner.header(), "the header")

    def rows(self, chunk: Chunk, answers: Answers) -> bytes:
        rows = self._inner.rows(chunk, answers)
        return self._recoded(rows, f"line {chunk.lines[0]} of the input or after it")

    def finish(self, partial: Path) -> Path:
        return self._inner.finish(partial)

    def _recoded(self, data: bytes, where: str) -> bytes:
        if self._only_mark:
            return data
        text = data.decode("utf-8", "replace")
        try:
            encoded = text.encode(self._codec)
        except UnicodeEncodeError as error:
            self._tell(text[error.start], where)
            encoded = text.encode(self._codec, "backslashreplace")
        return encoded[len(self._mark) :]

    def _tell(self, character: str, where: str) -> None:
        if self._told:
            return
        self._told = True
        log.warning(
            "%s: %s has no %a (in %s); what it has not is written like that. "
            "--output-encoding utf-8-sig has every character",
            self._name,
            self._codec,
            character,
            where,
            extra={"action": "not_encodable", "file": self._name},
        )
