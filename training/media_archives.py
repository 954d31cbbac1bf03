"""Pictures and sounds in a folder a class, in an archive (.zip, .tar, .tar.gz, ...): read as
`lmaas classify` reads archives, so that nothing is written anywhere, and bombs are refused.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from pathlib import Path, PurePosixPath
from typing import Final

from lmaas.broker_config import media_types
from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import Item
from lmaas.producer.rows import data_of
from lmaas.producer.tables import Place, Taking, Wanted, open_table
from lmaas.producer.tables.file_errors import DAMAGED
from lmaas.training.media import (
    SUFFIXES,
    Media,
    check_kind,
    in_classes,
    is_example,
    of_names,
    shown_name,
)

#: What is read of an archive.
_TYPES: Final = tuple(sorted({media_types.by_name(f"_{end}") or "" for end in SUFFIXES}))
#: Members of a tar that are looked at: only reading all of it would tell all names.
_LOOKED_AT: Final = 256


def has_media(path: Path) -> bool | None:
    """Whether an archive has pictures or sounds; of a tar its first files are looked at. None when
    it cannot be looked into, which its reader can or explains.
    """
    try:
        names = _names_of_zip(path) if zipfile.is_zipfile(path) else _names_of_tar(path)
        return any(is_example(PurePosixPath(name)) for name in names)
    except (*DAMAGED, tarfile.TarError, zipfile.BadZipFile, NotImplementedError):
        return None


def _names_of_zip(path: Path) -> Iterator[str]:
    with zipfile.ZipFile(path) as archive:
        yield from archive.namelist()


def _names_of_tar(path: Path) -> Iterator[str]:
    with tarfile.open(path) as archive:
        yield from (member.name for member in islice(archive, _LOOKED_AT) if member.isfile())


def read_archive(place: Place) -> Media:
    """Its files in the order of their names, as those of a folder; folders that all of them are in
    (`photos/` of photos.zip) are no classes.

    The item of a file that cannot be read has an error. Raises DataError as `read_folder` does, and
    when the archive is damaged.
    """
    found, others = _read(place)
    path = Path(place.path)
    if not found:
        raise DataError(f"{path}: no pictures or sounds in it ({', '.join(SUFFIXES)})")
    names = sorted(found, key=PurePosixPath.as_posix)
    check_kind(path, of_names(names))
    depth = _shared(names)
    inner = [PurePosixPath(*name.parts[depth:]) for name in names]
    items = [_named(found[name], below) for name, below in zip(names, inner, strict=True)]
    return in_classes(path, path.name.split(".")[0], inner, items, others)


def _read(place: Place) -> tuple[dict[PurePosixPath, Item], int]:
    """Of each name the last one, as who unpacks it has it; and how many others there were."""
    found: dict[PurePosixPath, Item] = {}
    others = 0
    table = open_table(place, Wanted(taking=Taking(_TYPES, sys.maxsize)))
    try:
        for chunk in table.chunks:
            for position, told in enumerate(chunk.lines):
                name = PurePosixPath(told)
                if is_example(name) and not (name.is_absolute() or ".." in name.parts):
                    found[name] = data_of(chunk, position, "", sys.maxsize)
                else:
                    others += 1
        passed_over = table.passed_over()
    finally:
        table.close()
    return found, others + (passed_over.files if passed_over else 0)


def _shared(names: Sequence[PurePosixPath]) -> int:
    """How many folders at the top all of them are in, below which there still are classes."""
    depth = min(len(name.parts) for name in names) - 2
    level = takewhile(lambda at: len({name.parts[at] for name in names}) == 1, range(depth))
    return sum(1 for _ in level)


def _named(item: Item, name: PurePosixPath) -> Item:
    media_type = media_types.by_name(name.name)  # also of one that cannot be read
    return Item(id=shown_name(name), data=item.data, media_type=media_type, error=item.error)
