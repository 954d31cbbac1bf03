"""Bytes of any encoding as UTF-8, block by block, so that every format reads one encoding."""

from __future__ import annotations

import codecs
import io
from typing import Any, BinaryIO, Final, cast

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables.cells import to_bytes

_BLOCK: Final = 1024 * 1024
#: Byte order mark -> encoding; that of UTF-32 begins with that of UTF-16.
_MARKS: Final = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_ERRORS: Final = "lmaas.invalid"
#: What to do with a file that is not UTF-8.
ENCODING_HINT: Final = (
    "if the file has another encoding, name it, for example --encoding cp1252 "
    "(over HTTP: encoding=cp1252)"
)


def as_utf8(file: BinaryIO, encoding: str | None, name: str) -> BinaryIO:
    """The file without its byte order mark, and its bytes as UTF-8.

    What cannot be decoded becomes a byte that no UTF-8 has, so that it spoils the value that it is
    in. Raises DataError when a byte order mark says something else than `encoding`.
    """
    start = cast("io.BufferedReader", file).peek(4)[:4]
    mark = next((mark for mark in _MARKS if start.startswith(mark)), b"")
    if mark and encoding is not None and not _is_same(encoding, _MARKS[mark]):
        raise DataError(
            f"{name}: begins with the byte order mark of {_MARKS[mark]}, so it is not {encoding}; "
            "leave out --encoding"
        )
    file.read(len(mark))
    codec = codecs.lookup(_MARKS.get(mark) or encoding or "utf-8").name
    if codec in {"utf-8", "utf-8-sig"}:
        return file
    return cast("BinaryIO", io.BufferedReader(_Transcoded(file, codec, name), _BLOCK))


def decoded(data: bytes, encoding: str | None, name: str) -> str:
    """All of a file as text; a byte that cannot be decoded becomes a lone surrogate.

    Raises DataError as `as_utf8`.
    """
    file = as_utf8(cast("BinaryIO", io.BufferedReader(io.BytesIO(data))), encoding, name)
    return file.read().decode("utf-8", "surrogateescape")


def is_utf16(start: bytes, encoding: str | None) -> bool:
    """Whether a file that begins so, and is said to have this encoding, is UTF-16."""
    mark = next((mark for mark in _MARKS if start.startswith(mark)), b"")
    return codecs.lookup(_MARKS.get(mark) or encoding or "utf-8").name.startswith("utf-16")


def _is_same(named: str, marked: str) -> bool:
    """utf-16 is either of its byte orders, utf-8-sig is utf-8."""
    name = codecs.lookup(named).name.removesuffix("-sig")
    return name == marked or name == marked.rpartition("-")[0]


def _invalid(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\udcff", error.end  # the byte 0xff


def with_line_feeds(file: BinaryIO) -> BinaryIO:
    """The file, with LF for its line ends where they are CR, as of Excel for Mac.

    They are when what can be seen of its beginning has CRs and no LF.
    """
    start = cast("io.BufferedReader", file).peek(1)
    # The LF of a CR at the end may not have been seen.
    if b"\r" not in start[:-1] or b"\n" in start:
        return file
    return cast("BinaryIO", io.BufferedReader(_LineFeeds(file), _BLOCK))


class _Converted(io.RawIOBase):
    """Reads other bytes than the file has."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._ready = memoryview(b"")
        self._ended = False

    def convert(self, block: bytes) -> bytes:
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self._ended:
            self._ready = memoryview(self._next())
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _next(self) -> bytes:
        block = cast("io.BufferedReader", self._file).read1(_BLOCK)
        self._ended = not block
        return self.convert(block)


class _LineFeeds(_Converted):
    """Reads LF where the file has CR or CRLF."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self._decoder = io.IncrementalNewlineDecoder(None, translate=True)

    def convert(self, block: bytes) -> bytes:
        text = self._decoder.decode(block.decode("latin-1"), final=self._ended)
        return text.encode("latin-1")


class _Transcoded(_Converted):
    """Reads UTF-8 where the file has another encoding."""

    def __init__(self, file: BinaryIO, codec: str, name: str) -> None:
        super().__init__(file)
        codecs.register_error(_ERRORS, _invalid)
        self._codec = codec
        self._name = name
        self._decoder = codecs.getincrementaldecoder(codec)(_ERRORS)
        self._is_first = True

    def convert(self, block: bytes) -> bytes:
        """Raises DataError when the file cannot have this encoding."""
        try:
            text = self._decoder.decode(block, final=self._ended)
        except UnicodeError as error:
            raise DataError(
                f"{self._name}: is not {self._codec} ({error}); leave out --encoding if it is "
                "UTF-8, or name the right one (utf-16-le and utf-16-be have no byte order mark)"
            ) from error
        if self._is_first and text:
            text = text.removeprefix("\ufeff")
            self._is_first = False
        return to_bytes(text)
