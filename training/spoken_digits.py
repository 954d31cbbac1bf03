"""The Free Spoken Digit Dataset: recordings/DIGIT_SPEAKER_INDEX.wav, in its archive or a folder.

Its authors' split: of each speaker's recordings of a digit those with an index below 5 are the
test. A speaker is in both then; `media.held_out` makes the other split.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import tarfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import Item
from lmaas.training.media import Examples, Media

#: Recordings of each speaker and digit that are the test.
TESTED: Final = 5
_MEMBER: Final = re.compile(r"(?:^|/)recordings/((\d)_\w+_(\d+)\.wav)$")
#: Of an archive so many members are looked at: its first ones are folders and a few texts.
_LOOKED_AT: Final = 64


def has_digits(path: Path) -> bool:
    """Whether this is its archive, or a folder that has `recordings`."""
    if path.is_dir():
        return any(True for _ in _in_folder(path))
    if not path.name.endswith((".tar.gz", ".tgz")):
        return False
    try:
        with tarfile.open(path, mode="r|gz") as archive:
            return any(_MEMBER.search(member.name) for member in islice(archive, _LOOKED_AT))
    except (tarfile.TarError, EOFError, OSError, zlib.error):
        return False


def read_digits(path: Path) -> Media:
    """In the order of the files' names, which are the ids of their items. Raises DataError."""
    digest = hashlib.sha256()
    train, test = Examples(), Examples()
    found = _in_folder(path) if path.is_dir() else _in_archive(path)
    for name, data in sorted(found):
        match = _MEMBER.search(f"recordings/{name}")
        assert match is not None
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
        examples = test if int(match[3]) < TESTED else train
        examples.items.append(Item(id=name, data=data, media_type="audio/wav"))
        examples.labels.append(match[2])
    if not train:
        raise DataError(
            f"{path}: no recordings/DIGIT_SPEAKER_INDEX.wav with an index from {TESTED}"
        )
    return Media(name="spoken digits", train=train, test=test or None, sha256=digest.hexdigest())


def _in_folder(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each recording. Raises DataError."""
    for file in sorted((path / "recordings").glob("*.wav")):
        if _MEMBER.search(f"recordings/{file.name}"):
            try:
                yield file.name, file.read_bytes()
            except OSError as error:
                raise DataError(f"{file}: {error.strerror}") from error


def _in_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each recording. Raises DataError."""
    try:
        # `tarfile` alone takes a cut file for a short one; `gzip` raises EOFError.
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content and (match := _MEMBER.search(member.name)):
                    yield match[1], content.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: not a whole tar archive ({error}); download it again") from error
