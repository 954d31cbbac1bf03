"""The film reviews of Maas et al. (2011): their authors' archive, downloaded and read."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import tarfile
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from lmaas.broker_config.errors import DataError

URL: Final = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
SHA256: Final = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"
ARCHIVE: Final = "aclImdb_v1.tar.gz"
#: Seconds without a byte before a download is given up.
DOWNLOAD_TIMEOUT: Final = 30.0

_MEMBER: Final = re.compile(r"(?:^|/)(train|test)/(neg|pos)/(\d+)_\d+\.txt$")


class Review(NamedTuple):
    """A review, as its place in the archive says."""

    #: "train" or "test".
    split: str
    #: "neg" or "pos".
    label: str
    #: Reviews of one film are neighbours by it.
    number: int
    text: str


def read_reviews(path: Path) -> tuple[list[Review], str]:
    """All reviews, in order, and the sha256 of the archive or of the files.

    `path` is the archive, the unpacked folder, or a folder that holds either. Raises DataError when
    a split or a label has no reviews, or one of them is not UTF-8.
    """
    source = _source(path)
    digest = hashlib.sha256()
    read = _in_archive if source.is_file() else _in_folder
    reviews = sorted(read(source, digest.update))
    there = {(review.split, review.label) for review in reviews}
    for split in ("train", "test"):
        if not there >= {(split, "neg"), (split, "pos")}:
            raise DataError(f"{source}: no reviews aclImdb/{split}/{{neg,pos}}/ID_RATING.txt in it")
    return reviews, digest.hexdigest()


def download(folder: Path, *, url: str = URL, sha256: str = SHA256) -> Path:
    """The authors' archive (80 MB) in `folder`, downloaded unless it is there; raises DataError."""
    target = folder / ARCHIVE
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}.part")
    digest = hashlib.sha256()
    try:
        with (
            urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT) as source,  # noqa: S310
            partial.open("wb") as file,
        ):
            while block := source.read(1 << 20):
                digest.update(block)
                file.write(block)
        if digest.hexdigest() != sha256:
            raise DataError(f"{url}: sha256 is {digest.hexdigest()}, expected {sha256}")
        partial.replace(target)
    except OSError as error:
        raise DataError(
            f"could not download {url} ({error}); give the archive with --data PATH"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return target


def _source(path: Path) -> Path:
    if path.is_file() or (path / "train").is_dir():
        return path
    for found in (path / ARCHIVE, path / "aclImdb"):
        if found.exists():
            return found
    raise DataError(
        f"{path}: no IMDB reviews here, and no pictures or sounds in a folder a class; give one of "
        f"them ({ARCHIVE}, aclImdb, or the folder of the classes) with --data PATH"
    )


def _in_archive(path: Path, digest: Callable[[bytes], None]) -> Iterator[Review]:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest(block)
    try:
        # `tarfile` alone takes a cut file for a short one; `gzip` raises EOFError.
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content and (match := _MEMBER.search(member.name)):
                    yield _review(match, content.read(), f"{path}: {member.name}")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: not a whole tar archive ({error}); download it again") from error


def _in_folder(path: Path, digest: Callable[[bytes], None]) -> Iterator[Review]:
    for file in sorted(path.glob("*/*/*.txt")):
        name = file.relative_to(path).as_posix()
        if match := _MEMBER.search(name):
            data = file.read_bytes()
            digest(f"{name}\0{len(data)}\0".encode() + data)
            yield _review(match, data, str(file))


def _review(match: re.Match[str], data: bytes, place: str) -> Review:
    try:
        return Review(match[1], match[2], int(match[3]), data.decode())
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: not UTF-8 ({error}); download the data set again") from error
