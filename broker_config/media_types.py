"""The media types of files, by their names and by how they begin, and which a model takes. Pure."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final

#: Of what nobody knows.
UNKNOWN: Final = "application/octet-stream"
#: The first so many bytes of a file tell its type, if any do.
START: Final = 16
#: Kinds of media that are no texts.
_MEDIA: Final = ("image/", "audio/", "video/", "font/")

#: Suffix -> type, where Python has none, or one that differs between its versions.
_BY_SUFFIX: Final = {
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".jxl": "image/jxl",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
    ".md": "text/markdown",
    ".log": "text/plain",
    ".jsonl": "application/jsonl",
    ".ndjson": "application/jsonl",
    ".parquet": "application/vnd.apache.parquet",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".gz": "application/gzip",
    ".bz2": "application/x-bzip2",
    ".xz": "application/x-xz",
    ".zst": "application/zstd",
    ".zip": "application/zip",
}
#: Those of Python itself: what is installed beside it differs from machine to machine.
_OF_PYTHON: Final = mimetypes.MimeTypes()
#: The first bytes -> type.
_BY_START: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"BM": "image/bmp",
    b"II*\0": "image/tiff",
    b"MM\0*": "image/tiff",
    b"fLaC": "audio/flac",
    b"OggS": "audio/ogg",
    b"ID3": "audio/mpeg",
    b"%PDF-": "application/pdf",
    b"PK\x03\x04": "application/zip",
    b"\x1f\x8b": "application/gzip",
}
#: Of a RIFF file and of one of ISO's: what stands at the ninth byte.
_RIFF: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_ISO: Final = {b"avif": "image/avif", b"heic": "image/heic", b"M4A ": "audio/mp4"}


def by_name(name: str) -> str | None:
    """By the suffix of a file's name, the same on every machine; None when that says nothing."""
    suffix = PurePosixPath(name).suffix.lower()
    return _BY_SUFFIX.get(suffix) or _OF_PYTHON.types_map[1].get(suffix)


def by_start(start: bytes) -> str | None:
    """By the first `START` bytes; None when they say nothing."""
    if start.startswith(b"RIFF"):
        return _RIFF.get(start[8:12])
    if start[4:8] == b"ftyp":
        return _ISO.get(start[8:12], "video/mp4")
    return next((kind for mark, kind in _BY_START.items() if start.startswith(mark)), None)


def fits(media_type: str, taken: Iterable[str]) -> bool:
    """Whether it is one of these, which may be ranges: `image/*`, `*/*`."""
    return any(
        one in {media_type, "*/*"} or (one.endswith("/*") and media_type.startswith(one[:-1]))
        for one in taken
    )


def of_content(name: str, start: bytes, taken: Iterable[str]) -> str:
    """By the name, else by the first bytes, else the only type that a model takes."""
    found = by_name(name) or by_start(start)
    if found is None:
        taken = list(taken)
        only = taken[0] if len(taken) == 1 else "*/*"
        found = UNKNOWN if only.endswith("/*") else only
    return found


def is_media(media_type: str | None) -> bool:
    """Whether it is a picture, a sound or the like, and so no text."""
    return media_type is not None and media_type.startswith(_MEDIA)
