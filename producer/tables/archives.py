"""Archives (.zip, .tar, .tar.gz, ...): each file in one is a row, in the order of the archive.

Nothing is written anywhere: a member is read when it is its turn, and no more of it than an item
may have. What is no file (folders, links, devices) is passed over. A member that cannot be read
(encrypted, damaged, with a name that leads out of the archive) is the error of its row.
"""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Final, Self

from lmaas.broker_config.errors import DataError, OptionError
from lmaas.producer.tables import contents
from lmaas.producer.tables.chunks import Table
from lmaas.producer.tables.contents import Files, Member, TooLarge, Unreadable
from lmaas.producer.tables.file_errors import DAMAGED, unreadable
from lmaas.producer.tables.inputs import Input, open_bytes
from lmaas.producer.tables.places import Place
from lmaas.producer.tables.quoting import quoted
from lmaas.producer.tables.taking import NO_FILE, Sieve, is_left
from lmaas.producer.tables.wanted import Wanted

#: An archive that unpacks to more than so many times its size is refused, from so many bytes on.
MOST_RATIO: Final = 200
SMALL: Final = 1024 * 1024 * 1024
#: Bytes of a name, or of other headers, of a member of a tar.
HEADER_BYTES: Final = 1024 * 1024
#: Bytes of the list of files of a zip: some 700,000 files.
DIRECTORY_BYTES: Final = 64 * 1024 * 1024
#: The end of a zip, with a comment; what it begins with, and where it has the size of the list.
_END_BYTES: Final = 66_000
_ENDS: Final = ((b"PK\5\6", 12, 16), (b"PK\6\6", 40, 48))
_ELSEWHERE: Final = 0xFFFFFFFF
_BLOCK: Final = 1024 * 1024
_ENCRYPTED: Final = 0x1
_UTF8: Final = 0x800
#: Types of members of a tar that are headers of the next one, as long as they say.
_HEADERS: Final = {
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
}
#: How compressed bytes begin -> suffix.
_COMPRESSED: Final = {
    b"\x1f\x8b": ".gz",
    b"BZh": ".bz2",
    b"\xfd7zXZ\0": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
}


def read_zip(place: Place, wanted: Wanted) -> Table:
    """Raises DataError when it is no zip, or has no file that the model takes."""
    if place.piped:
        raise DataError(f"{place.path}: of a pipe no zip is read; name a file, or pipe a tar")
    if place.compression:
        raise OptionError(f"{place.path}: a zip compresses itself; leave out {place.compression}")
    source = open_bytes(place)
    try:
        _check_directory(source.name, source.file)
        archive = zipfile.ZipFile(source.file)
        files = _zip_files(archive, source, wanted)
        return contents.read(files, wanted, place.dialect.encoding)
    except DataError:
        source.close()
        raise
    except (*DAMAGED, zipfile.BadZipFile, NotImplementedError) as error:
        source.close()
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        told = f"{place.path}: is no zip, or is damaged ({words}); fetch it again"
        raise DataError(told) from error


def _zip_files(archive: zipfile.ZipFile, source: Input, wanted: Wanted) -> Files:
    """Raises DataError."""
    named = [(_zip_name(info), info) for info in archive.infolist() if not info.is_dir()]
    _check_no_bomb(source, [info for _, info in named])
    taken = wanted.taking.known(name for name, _ in named)
    sieve = Sieve(source.name, taken)
    found = []
    for name, info in named:
        if stat.S_ISLNK(info.external_attr >> 16):
            sieve.count(NO_FILE, name)
        elif sieve.takes(name):
            found.append((name, info))
    if not found:
        raise _nothing(source.name, sieve)
    sieve.tell()

    def members() -> Iterator[Member]:
        return (_zip_member(archive, name, info) for name, info in found)

    return Files(
        name=source.name,
        members=members,
        taken=taken,
        close=source.close,
        size=len(found),
        passed_over=sieve.passed_over,
    )


def _check_directory(name: str, file: BinaryIO) -> None:
    """Raises DataError when the list of its files, which is read as a whole, is very long."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - _END_BYTES))
    end = file.read()
    found = [
        int.from_bytes(end[at + first : at + last], "little")
        for mark, first, last in _ENDS
        if (at := end.rfind(mark)) >= 0
    ]
    listed = max((size for size in found if size != _ELSEWHERE), default=0)
    if listed > DIRECTORY_BYTES:
        raise DataError(
            f"{name}: the list of its files alone has {listed:,} bytes; make several archives of "
            "it, or a tar"
        )
    file.seek(0)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Many write UTF-8 without saying so; else it is the encoding of DOS."""
    if not info.flag_bits & _UTF8:
        try:
            return info.filename.encode("cp437").decode()
        except UnicodeError:
            pass
    return info.filename


def _check_no_bomb(source: Input, infos: Iterable[zipfile.ZipInfo]) -> None:
    """Raises DataError for members that share their bytes, or unpack to far too much."""
    packed = unpacked = 0
    for info in infos:
        packed += info.compress_size
        unpacked += info.file_size
    size = source.size or 0
    if packed > size:
        raise DataError(f"{source.name}: is damaged, or a bomb: its files share their bytes")
    _check_ratio(source, unpacked)


def _check_ratio(source: Input, unpacked: int) -> None:
    if source.size is not None and unpacked > max(SMALL, MOST_RATIO * source.size):
        raise DataError(
            f"{source.name}: takes {unpacked:,} bytes and more when it is unpacked, over "
            f"{MOST_RATIO} times its size; if you trust it, unpack it, and name the folder"
        )


def _zip_member(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> Member:
    def read(most: int) -> bytes:
        _check_name(name)
        if info.flag_bits & _ENCRYPTED:
            raise Unreadable("it is encrypted; unpack the archive, and name the folder")
        if info.file_size > most:
            raise TooLarge(info.file_size)
        try:
            with archive.open(info) as file:
                return file.read(most)
        except (*DAMAGED, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise Unreadable(f"it is damaged, or packed in another way ({error})") from error

    return Member(name, read)


class _Header(tarfile.TarInfo):
    """One that is damaged is an error, where tarfile would take it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> Self:
        """Raises ValueError."""
        try:
            found = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if type(error).__name__ in {"InvalidHeaderError", "TruncatedHeaderError"}:
                raise ValueError(f"no header of a tar: {error}") from error
            raise
        if found.type in _HEADERS and found.size > HEADER_BYTES:
            raise ValueError(f"a header of {found.size:,} bytes")
        return found


def read_tar(place: Place, wanted: Wanted) -> Table:
    """Raises DataError when it is no tar, or has no file that the model takes."""
    source = open_bytes(place, _compression)
    try:
        return contents.read(_tar_files(source, wanted), wanted, place.dialect.encoding)
    except DataError:
        source.close()
        raise


def _compression(start: bytes) -> str:
    return next((suffix for mark, suffix in _COMPRESSED.items() if start.startswith(mark)), "")


def _tar_files(source: Input, wanted: Wanted) -> Files:
    """Raises DataError."""
    try:
        tar = tarfile.open(  # noqa: SIM115 - its file is closed as others are
            fileobj=source.file, mode="r|", bufsize=_BLOCK, tarinfo=_Header
        )
    except (*DAMAGED, tarfile.TarError) as error:
        raise DataError(f"{source.name}: is no tar, or is damaged ({error})") from error
    infos = _infos(tar, source)
    # Only reading on tells what is in it: its first file says what all of them are.
    begin = []
    for info in infos:
        begin.append(info)
        if info.isreg() and not is_left(info.name):
            break
    taken = wanted.taking.known(info.name for info in begin[-1:])
    sieve = Sieve(source.name, taken)
    members = _tar_members(tar, source, chain(begin, infos), sieve)
    first = next(members, None)
    if first is None:
        raise _nothing(source.name, sieve)
    return Files(
        name=source.name,
        members=lambda: chain((first,), members),
        taken=taken,
        close=source.close,
        size=source.size,
        consumed=lambda _rows: source.position(),
        passed_over=sieve.passed_over,
    )


def _infos(tar: tarfile.TarFile, source: Input) -> Iterator[tarfile.TarInfo]:
    """Of each member. Raises DataError where the archive is damaged."""
    count = 0
    while True:
        try:
            info = tar.next()
        except (*DAMAGED, tarfile.TarError) as error:
            raise unreadable(source.name, error, f"file {count:,}") from error
        if info is None:
            return
        tar.members = []  # type: ignore[attr-defined]  # else it would hold all of them
        count += 1
        _check_ratio(source, info.offset_data + info.size)
        yield info


def _tar_members(
    tar: tarfile.TarFile, source: Input, infos: Iterable[tarfile.TarInfo], sieve: Sieve
) -> Iterator[Member]:
    for info in infos:
        name = str(PurePosixPath(info.name))  # without ./
        if info.isdir():
            continue
        if not info.isreg():
            sieve.count(NO_FILE, name)
        elif sieve.takes(name):
            yield _tar_member(tar, source, name, info)
    sieve.tell()


def _tar_member(tar: tarfile.TarFile, source: Input, name: str, info: tarfile.TarInfo) -> Member:
    def read(most: int) -> bytes:
        _check_name(name)
        if info.size > most:
            raise TooLarge(info.size)
        try:
            file = tar.extractfile(info)
            return b"" if file is None else file.read()
        except (*DAMAGED, tarfile.TarError) as error:
            raise unreadable(source.name, error, f"the beginning of {quoted(name)}") from error

    return Member(name, read)


def _check_name(name: str) -> None:
    """Raises Unreadable for one that who unpacks it would find in another folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise Unreadable("its name leads out of the archive")


def _nothing(path: str, sieve: Sieve) -> DataError:
    if sieve.has_others:
        return sieve.nothing()
    return DataError(f"{path}: is an archive, and there is no file in it")
