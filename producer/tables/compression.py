"""Compressed files: read by libraries, and written as members that follow each other."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, Final

from lmaas.producer.tables.arrow import arrow

#: By suffix.
COMPRESSIONS: Final = (".gz", ".bz2", ".xz", ".zst")
_BUFFER = 1024 * 1024


def decompressed(raw: BinaryIO, compression: str) -> BinaryIO:
    """What is in a file, read as it is asked for; with the compression "" the file itself."""
    stream: Any
    match compression:
        case ".gz":
            stream = gzip.GzipFile(fileobj=raw)
        case ".bz2":
            stream = bz2.BZ2File(raw)
        case ".xz":
            stream = lzma.LZMAFile(raw)  # noqa: SIM115
        case ".zst":
            stream = arrow("zstd").CompressedInputStream(raw, "zstd")
        case _:
            return raw
    return io.BufferedReader(stream, _BUFFER)


def compressor(compression: str) -> Callable[[bytes], bytes]:
    """Bytes -> one complete member; members after each other are a valid file.

    Levels are for speed: of 1.3 kB reviews, gzip 1 takes 13 µs each and 6 takes 63 µs to save
    another seventh.
    """
    match compression:
        case ".gz":
            return lambda data: zlib.compress(data, level=1, wbits=31)
        case ".bz2":
            return bz2.compress
        case ".xz":
            return lambda data: lzma.compress(data, preset=1)
        case ".zst":
            codec = arrow("zstd").Codec("zstd")
            return lambda data: bytes(codec.compress(data, asbytes=True))
        case _:
            return bytes
