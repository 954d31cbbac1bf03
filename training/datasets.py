"""Labelled texts: the IMDB reviews, and any CSV or JSON Lines file with a text and a label.

Every data set comes in three splits. `train` is learnt from, `validation` (cut from the training
examples) decides when to stop, `test` is looked at once, at the end.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import re
import tarfile
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from lmaas.broker_config.errors import DataError

IMDB_URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
IMDB_SHA256 = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"
IMDB_ARCHIVE = "aclImdb_v1.tar.gz"
#: Reviews of one film are neighbours in the archive (30 at most) and no film is in both official
#: splits. Validation takes runs of neighbours, so that it measures unknown films as the test does:
#: a validation split of single reviews promises 2 points of accuracy too much.
IMDB_NEIGHBOURS = 50

VALIDATION_SHARE = 0.1
#: Share of a table without a separate test file.
TEST_SHARE = 0.1
#: Decides which examples validation and test take; fixed, so that figures can be compared.
SPLIT_SEED = 17
#: Seconds without a byte before a download is given up.
DOWNLOAD_TIMEOUT = 30.0

_IMDB_LABELS = {"neg": "negative", "pos": "positive"}
_IMDB_MEMBER = re.compile(r"(?:^|/)(train|test)/(neg|pos)/(\d+)_\d+\.txt$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Texts, and for each the index of its label in `Dataset.labels`."""

    texts: list[str]
    labels: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: npt.NDArray[np.int64]) -> Split:
        return Split(texts=[self.texts[i] for i in indices], labels=self.labels[indices])


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Examples to learn from, to stop by and to measure with."""

    name: str
    #: In the order of the model's outputs.
    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    #: Of the file, or of all files of a folder in order.
    sha256: str


def load_dataset(
    path: Path, *, test: Path | None = None, text: str = "text", label: str | None = None
) -> Dataset:
    """IMDB (its archive or folder, or a folder that has them), or a CSV or JSON Lines file.

    `test`, `text` and `label` are for tables: see `load_table`. Raises DataError.
    """
    if path.is_dir() or path.name.endswith((".tar.gz", ".tgz")):
        return load_imdb(path)
    return load_table(path, test=test, text=text, label=label)


# --- IMDB ----------------------------------------------------------------------------------------


class _Review(NamedTuple):
    split: str
    label: str
    number: int
    text: str


def load_imdb(path: Path) -> Dataset:
    """The 25,000 + 25,000 reviews of Maas et al. (2011), split as their authors did.

    `path` is their archive, the unpacked folder, or a folder that holds either.
    Raises DataError when there are no reviews or one of them is not UTF-8.
    """
    source = _imdb_source(path)
    digest = hashlib.sha256()
    read = _archive_reviews if source.is_file() else _folder_reviews
    reviews = sorted(read(source, digest.update))
    splits = {name: _imdb_split(reviews, name) for name in ("train", "test")}
    for name, split in splits.items():
        if len(set(split.labels.tolist())) < len(_IMDB_LABELS):
            raise DataError(f"{source}: no reviews aclImdb/{name}/{{neg,pos}}/ID_RATING.txt in it")
    rest, validation = _cut(splits["train"].labels, VALIDATION_SHARE, IMDB_NEIGHBOURS)
    return Dataset(
        name="imdb",
        labels=tuple(_IMDB_LABELS.values()),
        train=splits["train"].take(rest),
        validation=splits["train"].take(validation),
        test=splits["test"],
        sha256=digest.hexdigest(),
    )


def download_imdb(folder: Path, *, url: str = IMDB_URL, sha256: str = IMDB_SHA256) -> Path:
    """The authors' archive (80 MB) in `folder`, downloaded unless it is there; raises DataError."""
    target = folder / IMDB_ARCHIVE
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


def _imdb_source(path: Path) -> Path:
    if path.is_file() or (path / "train").is_dir():
        return path
    for found in (path / IMDB_ARCHIVE, path / "aclImdb"):
        if found.exists():
            return found
    raise DataError(
        f"{path}: no IMDB reviews here; give {IMDB_ARCHIVE} or the aclImdb folder with --data PATH"
    )


def _archive_reviews(path: Path, digest: Callable[[bytes], None]) -> Iterator[_Review]:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest(block)
    try:
        # `tarfile` alone takes a cut file for a short one; `gzip` raises EOFError.
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content and (match := _IMDB_MEMBER.search(member.name)):
                    yield _review(match, content.read(), f"{path}: {member.name}")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: not a whole tar archive ({error}); download it again") from error


def _folder_reviews(path: Path, digest: Callable[[bytes], None]) -> Iterator[_Review]:
    for file in sorted(path.glob("*/*/*.txt")):
        name = file.relative_to(path).as_posix()
        if match := _IMDB_MEMBER.search(name):
            data = file.read_bytes()
            digest(f"{name}\0{len(data)}\0".encode() + data)
            yield _review(match, data, str(file))


def _review(match: re.Match[str], data: bytes, place: str) -> _Review:
    try:
        return _Review(match[1], match[2], int(match[3]), data.decode())
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: not UTF-8 ({error}); download the data set again") from error


def _imdb_split(reviews: Sequence[_Review], name: str) -> Split:
    """`reviews` in order: by split, label and number."""
    chosen = [review for review in reviews if review.split == name]
    indices = {label: index for index, label in enumerate(_IMDB_LABELS)}
    return Split(
        texts=[review.text for review in chosen],
        labels=np.array([indices[review.label] for review in chosen], np.int32),
    )


# --- tables --------------------------------------------------------------------------------------


class _Row(NamedTuple):
    line: int
    text: str
    label: str


def load_table(
    path: Path, *, test: Path | None = None, text: str = "text", label: str | None = None
) -> Dataset:
    """A CSV (with a header) or JSON Lines file, `.gz` or not, with a text and a label column.

    `label` may be left out when there are two columns. Without a `test` file a tenth of every
    class is kept for the test. Labels are sorted. Raises DataError with the file and the line.
    """
    digest = hashlib.sha256()
    rows = _rows(path, text, label, digest.update)
    labels = tuple(sorted({row.label for row in rows}))
    if len(labels) < 2:
        raise DataError(f"{path}: every row has the label {labels[0]!r}; two or more are needed")
    whole = _table_split(path, rows, labels)
    if test is None:
        rest, held = _cut(whole.labels, TEST_SHARE)
        whole, measured = whole.take(rest), whole.take(held)
    else:
        measured = _table_split(test, _rows(test, text, label, digest.update), labels)
    rest, validation = _cut(whole.labels, VALIDATION_SHARE)
    if not (len(measured) and len(validation)):
        raise DataError(f"{path}: {len(rows)} rows are too few; give three or more of a label")
    return Dataset(
        name=path.absolute().parent.name
        if path.name.startswith("train.")
        else path.name.split(".")[0],
        labels=labels,
        train=whole.take(rest),
        validation=whole.take(validation),
        test=measured,
        sha256=digest.hexdigest(),
    )


def _table_split(path: Path, rows: Sequence[_Row], labels: Sequence[str]) -> Split:
    indices = {label: index for index, label in enumerate(labels)}
    for row in rows:
        if row.label not in indices:
            raise DataError(f"{path}:{row.line}: the label {row.label!r} is not in the training")
    return Split(
        texts=[row.text for row in rows],
        labels=np.array([indices[row.label] for row in rows], np.int32),
    )


def _rows(path: Path, text: str, label: str | None, digest: Callable[[bytes], None]) -> list[_Row]:
    data = _content(path)
    digest(data)
    suffix = path.name.removesuffix(".gz").rpartition(".")[2].lower()
    if suffix not in ("csv", "jsonl", "ndjson"):
        raise DataError(f"{path}: give a .csv or .jsonl file (or with .gz), or the IMDB archive")
    records = _csv_records(path, data) if suffix == "csv" else _json_records(path, data)
    rows = []
    for line, record in records:
        column = label or _other_column(path, line, record, text)
        try:
            row = _Row(line, record[text], record[column])
        except KeyError as error:
            known = ", ".join(record)
            raise DataError(f"{path}:{line}: no column {error} (there are: {known})") from error
        if not row.label.strip():
            raise DataError(f"{path}:{line}: the label is empty; fill it in or delete the row")
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: no rows; give a file with a text and a label a row")
    return rows


def _content(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.name.endswith(".gz") else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: not UTF-8; convert the file to UTF-8") from error
    return data.removeprefix(b"\xef\xbb\xbf")


def _csv_records(path: Path, data: bytes) -> Iterator[tuple[int, dict[str, str]]]:
    csv.field_size_limit(2**31 - 1)  # a text may be longer than the module's 128 kB
    lines = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
    try:
        header = next(lines, [])
        for fields in lines:
            if len(fields) != len(header) and fields:
                raise DataError(
                    f"{path}:{lines.line_num}: {len(fields)} columns, the header has {len(header)}"
                    "; quote texts that contain commas"
                )
            if fields:
                yield lines.line_num, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}:{lines.line_num}: not CSV ({error})") from error


def _json_records(path: Path, data: bytes) -> Iterator[tuple[int, dict[str, str]]]:
    decoder = msgspec.json.Decoder(dict[str, object])
    for line, record in enumerate(data.split(b"\n"), start=1):
        if record.strip():
            try:
                fields = decoder.decode(record)
            except msgspec.DecodeError as error:
                raise DataError(f"{path}:{line}: not a JSON object ({error})") from error
            yield line, {key: _scalar(path, line, key, value) for key, value in fields.items()}


def _scalar(path: Path, line: int, key: str, value: object) -> str:
    """Labels are often numbers in JSON; anything deeper is a mistake."""
    if isinstance(value, bool | int | float | str):
        return value if isinstance(value, str) else msgspec.json.encode(value).decode()
    raise DataError(f"{path}:{line}: {key!r} is neither a text nor a number")


def _other_column(path: Path, line: int, record: dict[str, str], text: str) -> str:
    if "label" in record:
        return "label"
    others = [column for column in record if column != text]
    if len(others) != 1:
        raise DataError(
            f"{path}:{line}: which column is the label? (there are: {', '.join(record)})"
        )
    return others[0]


# --- splits --------------------------------------------------------------------------------------


def _cut(
    labels: npt.NDArray[np.int32], share: float, run: int = 1
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices that stay and indices that are cut: `share` of each class, in runs of neighbours.

    A class of three or more gives at least one, a smaller class none.
    """
    generator = np.random.default_rng(SPLIT_SEED)
    taken = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        runs = [members[i : i + run] for i in range(0, len(members), run)]
        shuffled = np.concatenate([runs[i] for i in generator.permutation(len(runs))])
        taken[shuffled[: max(round(share * len(members)), int(len(members) >= 3))]] = True
    return np.flatnonzero(~taken), np.flatnonzero(taken)
