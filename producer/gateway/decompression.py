"""Decompresses bodies that have a content coding (RFC 9110, 8.4) in steps, and checks their end.

Pure. aiohttp's own decompression takes a gzip stream that is cut at its end for a whole one: the
last rows of a file would be lost, and nobody told.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from lmaas.producer.gateway.failures import HttpError

if TYPE_CHECKING:  # the type has a name only where it is declared
    from zlib import _Decompress

#: For the sender of what cannot be decompressed.
ACCEPTED: Final = "gzip, deflate, identity"

#: Bytes that go into a step, and that come out of it at most. The end of each of several gzip
#: members copies what is left of a step, so that they are small.
_SLICE: Final = 16 * 1024
_PIECE: Final = 64 * 1024

_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS
#: The low half of the first byte of a zlib stream; no encoder begins a raw one like that.
_ZLIB_METHOD: Final = 8


class Decompressor:
    """One body of a content coding."""

    def __init__(self, coding: str) -> None:
        """`coding`: gzip, or deflate: a zlib stream, or a raw one, as some send.

        Raises HttpError 415 for any other.
        """
        self._coding = coding.strip().lower().removeprefix("x-")
        if self._coding not in {"gzip", "deflate"}:
            raise HttpError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                f"the body's Content-Encoding is {coding!r}; send gzip or deflate, or none",
                headers=(("Accept-Encoding", ACCEPTED),),
            )
        self._stream: _Decompress | None = None
        #: Bytes that have come, and those of them that the streams so far have.
        self._come = 0
        self._ended = 0

    def steps(self, data: bytes) -> Iterator[bytes]:
        """What the next bytes of the body become, in pieces of up to 64 KiB; some are empty.

        Each step is short work, however much the bytes become. Raises HttpError 400.
        """
        for start in range(0, len(data), _SLICE):
            rest = data[start : start + _SLICE]
            self._come += len(rest)
            while True:
                stream = self._at(rest)
                piece = self._decompressed(stream, rest)
                yield piece
                rest = stream.unused_data if stream.eof else stream.unconsumed_tail
                if not rest and (stream.eof or len(piece) < _PIECE):
                    break

    def check_end(self) -> None:
        """Raises HttpError 400 unless the body is whole."""
        if self._stream is None or not self._stream.eof:
            raise _malformed(
                f"the body is cut: its {self._coding} stream does not end in the {self._come:,} "
                "bytes that came; send it again"
            )

    def _at(self, data: bytes) -> _Decompress:
        """The stream that goes on with some bytes. Gzip may have several (RFC 1952, 2.2)."""
        if self._stream is None:
            is_raw = self._coding == "deflate" and data[0] & 0x0F != _ZLIB_METHOD
            wbits = _RAW if is_raw else _ZLIB
            self._stream = zlib.decompressobj(_GZIP if self._coding == "gzip" else wbits)
        elif self._stream.eof:
            if self._coding != "gzip":
                raise self._after_end()
            self._stream = zlib.decompressobj(_GZIP)
        return self._stream

    def _decompressed(self, stream: _Decompress, data: bytes) -> bytes:
        try:
            piece = stream.decompress(data, _PIECE)
        except zlib.error as error:
            if self._ended and "header" in str(error):
                raise self._after_end() from error
            raise _malformed(f"the body is no {self._coding}, or is damaged: {error}") from error
        if stream.eof:
            self._ended = self._come - len(stream.unused_data)
        return piece

    def _after_end(self) -> HttpError:
        return _malformed(
            f"the body's {self._coding} stream ends after {self._ended:,} bytes, and bytes follow "
            "that are not of it; send it without them"
        )


def _malformed(words: str) -> HttpError:
    return HttpError(HTTPStatus.BAD_REQUEST, "malformed", words)
