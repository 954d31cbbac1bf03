"""What to do with what people name as a table and is none: URLs, archives, pictures. No I/O."""

from __future__ import annotations

import codecs
import re
from pathlib import PurePath
from typing import Final

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
#: A URL that was a Path in between, which makes one slash of two.
_COLLAPSED: Final = re.compile(r"(?i)(https?|s3|gs|ftp|file):/(?!/)")
#: Scheme -> what fetches it.
_FETCHERS: Final = {
    "http": "curl -LO URL",
    "https": "curl -LO URL",
    "s3": "aws s3 cp URL .",
    "gs": "gcloud storage cp URL .",
}

_WORKBOOK: Final = "is a workbook of another kind: save it as .xlsx or .csv, and name that"
_ARCHIVE: Final = "is an archive: unpack it, and name the file or the folder of texts in it"
_DOCUMENT: Final = "is a document: save it as plain text (.txt), and name that"
_MEDIA: Final = "is neither text nor a table with texts; name a file that is"
_SUFFIXES: Final = {
    _WORKBOOK: ".xls .xlsb .ods .numbers",
    _ARCHIVE: ".7z .rar",
    _DOCUMENT: ".pdf .doc .docx .odt .rtf .ppt .pptx .epub",
    _MEDIA: ".png .jpg .jpeg .gif .webp .bmp .tif .tiff .mp3 .wav .mp4",
}
_BY_SUFFIX: Final = {
    suffix: words for words, suffixes in _SUFFIXES.items() for suffix in suffixes.split()
}

_OLD: Final = (
    "is a file of an old Excel (.xls), or protected by a password: save it as .xlsx without a "
    "password, and name that"
)
_COMPRESSED: Final = "is compressed with {0}: let its name end in {1}, or unpack it"
#: How a file begins -> what it is.
_BY_START: Final = {
    b"PK\x03\x04": "is a zip: say --format zip; if it is an Excel file, --format xlsx",
    b"PAR1\x15": "is Parquet: say --format parquet",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": _OLD,
    b"\x1f\x8b": _COMPRESSED.format("gzip", ".gz"),
    b"BZh91AY&SY": _COMPRESSED.format("bzip2", ".bz2"),
    b"\xfd7zXZ\0": _COMPRESSED.format("xz", ".xz"),
    b"\x28\xb5\x2f\xfd": _COMPRESSED.format("zstd", ".zst"),
    b"7z\xbc\xaf\x27\x1c": _ARCHIVE,
    b"Rar!\x1a\x07": _ARCHIVE,
    b"%PDF-": _DOCUMENT,
    b"\x89PNG\r\n": _MEDIA,
    b"\xff\xd8\xff": _MEDIA,
    b"GIF87a": _MEDIA,
    b"GIF89a": _MEDIA,
    b"\x7fELF": _MEDIA,
}
#: Of the beginning, so much is looked at.
_LOOK: Final = 8192


def of_url(path: str) -> str | None:
    """What to do when a path is a URL; its login and query, which may be secret, are left out."""
    path = _COLLAPSED.sub(r"\1://", path, count=1) if _COLLAPSED.match(path) else path
    found = _URL.match(path)
    if found is None:
        return None
    scheme = found[1].lower()
    shown = re.sub(r"(?<=://)[^/]*@", "", path.partition("?")[0])
    if scheme == "file":
        return f"{shown}: name the file without file://"
    fetcher = _FETCHERS.get(scheme)
    how = f", for example with: {fetcher}" if fetcher else ""
    return f"{shown}: only files are read; fetch it first{how}"


def of_suffix(path: str) -> str | None:
    """What to do with a file that has the name of something else than a table."""
    suffixes = [suffix.lower() for suffix in PurePath(path).suffixes]
    words = next((_BY_SUFFIX[one] for one in suffixes[-2:] if one in _BY_SUFFIX), None)
    return words and f"{path}: {words}"


def of_start(name: str, start: bytes, *, encoded: bool) -> str | None:
    """What to do with a file that begins so; `encoded` says that it has a known encoding."""
    words = next((words for mark, words in _BY_START.items() if start.startswith(mark)), None)
    if words is None and start[257:262] == b"ustar":
        words = "is a tar: say --format tar"
    if words is None and not encoded and _is_binary(start[:_LOOK]):
        words = "is binary, and no text; if it is UTF-16, say --encoding utf-16"
    return words and f"{name}: {words}"


def _is_binary(start: bytes) -> bool:
    """NUL bytes, and others that are neither UTF-8 nor begin with a byte order mark."""
    if b"\0" not in start or start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return not start.startswith(codecs.BOM_UTF32_BE)
    return False
