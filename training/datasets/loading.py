"""Which kind of data set a file or folder is."""

from __future__ import annotations

from pathlib import Path

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables import Dialect, Place
from lmaas.producer.tables.dialect import FOUND
from lmaas.training import media_archives, media_tables
from lmaas.training.datasets.dataset import Dataset
from lmaas.training.datasets.of_imdb import IMDB_SUFFIXES, load_imdb
from lmaas.training.datasets.of_media import load_media
from lmaas.training.datasets.of_tables import load_table
from lmaas.training.idx import has_idx, read_idx
from lmaas.training.media import Media, has_media, held_out, read_folder
from lmaas.training.media_tables import Contents
from lmaas.training.spoken_digits import has_digits, read_digits


def load_dataset(
    path: Path,
    *,
    test: Path | None = None,
    text: str | None = None,
    label: str | None = None,
    format: str | None = None,  # noqa: A002
    dialect: Dialect = FOUND,
    normalize: bool = False,
    hold_out: str | None = None,
    separator: str | None = None,
    contents: Contents | None = None,
) -> Dataset:
    """Pictures or sounds (a folder of them, or of MNIST's files, or spoken digits; with `contents`
    those of a table), IMDB (its archive or folder, or a folder that has them), or a table of texts:
    by what `path` is.

    The options are for tables: how the files are written is as in `Place.of`, the rest as in
    `load_table`; `normalize` is for folders as well, and `hold_out`, as in `media.held_out`, for
    pictures and sounds alone. Raises DataError.
    """

    def place(path: Path) -> Place:
        return Place.of(str(path), format, dialect)

    media = (
        _media(path, format)
        if contents is None
        else media_tables.read_table(place(path), contents, label)
    )
    if media is not None:
        if contents is None:
            _check_no_columns(path, text, label)
        if separator is not None:
            raise DataError(f"{path}: a picture or a sound has one label; leave --multi-label out")
        if hold_out is not None:
            media = held_out(media, hold_out)
        if test is None:
            return load_media(media, normalize=normalize)
        tested = (
            _media_to_test_with(test)
            if contents is None
            else media_tables.read_table(place(test), contents, label)
        )
        return load_media(media, tested, normalize=normalize)
    if hold_out is not None:
        raise DataError(f"{path}: no pictures or sounds, of which files could be held out")
    if _is_imdb(path):
        _check_no_columns(path, text, label)
        return load_imdb(path)
    return load_table(
        place(path),
        test=None if test is None else place(test),
        text=text,
        label=label,
        normalize=normalize,
        separator=separator,
    )


def _check_no_columns(path: Path, text: str | None, label: str | None) -> None:
    """Raises DataError when columns are named of what has none."""
    if text or label:
        option = "--text-column" if text else "--label-column"
        raise DataError(f"{path}: is no table, whose column {option} could name; leave it out")


def _is_imdb(path: Path) -> bool:
    """Of what has no pictures and no sounds."""
    return path.is_dir() or path.name.endswith(IMDB_SUFFIXES)


def _media(path: Path, format: str | None) -> Media | None:  # noqa: A002
    """What is in there of pictures and sounds, if it is for them. Raises DataError."""
    if has_digits(path):
        return read_digits(path)
    if not path.is_dir():
        return _media_of_archive(path, format) if path.is_file() else None
    if has_idx(path):
        return read_idx(path)
    return read_folder(path) if has_media(path) else None


def _media_of_archive(path: Path, format: str | None) -> Media | None:  # noqa: A002
    """None of what is no archive, or is IMDB's. Raises DataError."""
    place = Place.of(str(path), format)
    if place.format not in {"zip", "tar"}:
        return None
    is_imdb = path.name.endswith(IMDB_SUFFIXES)
    found = media_archives.has_media(path)
    if found or (found is None and not is_imdb):
        return media_archives.read_archive(place)
    if is_imdb:
        return None
    raise DataError(
        f"{path}: an archive without pictures or sounds; of a table in it, unpack it and name the "
        "table"
    )


def _media_to_test_with(path: Path) -> Media:
    """Raises DataError."""
    archive = None if path.is_dir() else _media_of_archive(path, None)
    return read_folder(path) if archive is None else archive
