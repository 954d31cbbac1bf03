"""Labelled items: the IMDB reviews, any table with a text and a label column, and pictures or
sounds in a folder a class.

Every data set comes in three splits. `train` is learnt from, `validation` (cut from the training
examples) decides when to stop, `test` is looked at once, at the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import Item
from lmaas.producer.tables import Dialect, Place
from lmaas.producer.tables.dialect import FOUND
from lmaas.training import duplicates, label_sets, media_archives, media_tables
from lmaas.training import labels as labelling
from lmaas.training.idx import has_idx, read_idx
from lmaas.training.imdb import Review, read_reviews
from lmaas.training.label_sets import Truth
from lmaas.training.media import (
    Examples,
    Kind,
    Media,
    has_media,
    held_out,
    kind_of,
    read_folder,
)
from lmaas.training.media_tables import Contents
from lmaas.training.rows import Rows, read_rows
from lmaas.training.spoken_digits import has_digits, read_digits

#: Reviews of one film are neighbours in the archive (30 at most) and no film is in both official
#: splits. Validation takes runs of neighbours, so that it measures unknown films as the test does:
#: a validation split of single reviews promises 2 points of accuracy too much.
IMDB_NEIGHBOURS = 50

#: Of the archives that are taken for theirs.
IMDB_SUFFIXES = (".tar.gz", ".tgz")

VALIDATION_SHARE = 0.1
#: Share of a table or folder without a test of its own.
TEST_SHARE = 0.1
#: So many validation texts tell two networks apart.
ENOUGH = 400
#: Decides which examples validation and test take; fixed, so that figures can be compared.
SPLIT_SEED = 17

_IMDB_LABELS = {"neg": "negative", "pos": "positive"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Items, and which of `Dataset.labels` each has."""

    items: list[Item]
    labels: Truth

    def __len__(self) -> int:
        return len(self.items)

    @property
    def texts(self) -> list[str]:
        """Of items that are texts."""
        return texts_of(self.items)

    @classmethod
    def of(cls, *splits: Split) -> Split:
        """The examples of all of them."""
        return cls(
            items=[item for split in splits for item in split.items],
            labels=np.concatenate([split.labels for split in splits]),
        )

    def take(self, indices: npt.NDArray[np.int64]) -> Split:
        return Split(items=[self.items[i] for i in indices], labels=self.labels[indices])


def text_items(texts: Iterable[str]) -> list[Item]:
    """Texts as workers get them."""
    return [Item(id="", text=text) for text in texts]


def texts_of(items: Iterable[Item]) -> list[str]:
    return [item.text or "" for item in items]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Examples to learn from, to stop by and to measure with."""

    name: str
    #: In the order of the model's outputs.
    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    #: Of the archive, or of all files of a folder in order; of a table: of its texts and labels, so
    #: that it is the same in every format.
    sha256: str
    #: What a user should know before the training, a line each.
    notes: tuple[str, ...] = ()

    @property
    def multi_label(self) -> bool:
        """Whether an item may have several labels, or none."""
        return self.train.labels.ndim == 2

    @property
    def kind(self) -> Kind:
        """Of all its items; of some that cannot be read nobody knows it."""
        return next(filter(None, map(kind_of, self.train.items)), "text")


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
    if media is None and hold_out is not None:
        raise DataError(f"{path}: no pictures or sounds, of which files could be held out")
    if media is None and not _is_imdb(path):
        return load_table(
            place(path),
            test=None if test is None else place(test),
            text=text,
            label=label,
            normalize=normalize,
            separator=separator,
        )
    if contents is None and (text or label):
        option = "--text-column" if text else "--label-column"
        raise DataError(f"{path}: is no table, whose column {option} could name; leave it out")
    if media is None:
        return load_imdb(path)
    if separator is not None:
        raise DataError(f"{path}: a picture or a sound has one label; leave --multi-label out")
    if hold_out is not None:
        media = held_out(media, hold_out)
    tested = None
    if test is not None:
        tested = (
            _media_to_test_with(test)
            if contents is None
            else media_tables.read_table(place(test), contents, label)
        )
    return load_media(media, tested, normalize=normalize)


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


# --- IMDB ----------------------------------------------------------------------------------------


def load_imdb(path: Path) -> Dataset:
    """The 25,000 + 25,000 reviews of Maas et al. (2011), split as their authors did.

    `path` is their archive, the unpacked folder, or a folder that holds either.
    Raises DataError when there are no reviews or one of them is not UTF-8.
    """
    reviews, digest = read_reviews(path)
    splits = {name: _imdb_split(reviews, name) for name in ("train", "test")}
    rest, validation = _cut(splits["train"].labels, VALIDATION_SHARE, IMDB_NEIGHBOURS)
    return Dataset(
        name="imdb",
        labels=tuple(_IMDB_LABELS.values()),
        train=splits["train"].take(rest),
        validation=splits["train"].take(validation),
        test=splits["test"],
        sha256=digest,
    )


def _imdb_split(reviews: Sequence[Review], name: str) -> Split:
    chosen = [review for review in reviews if review.split == name]
    indices = {label: index for index, label in enumerate(_IMDB_LABELS)}
    return Split(
        items=text_items(review.text for review in chosen),
        labels=np.array([indices[review.label] for review in chosen], np.int32),
    )


# --- tables --------------------------------------------------------------------------------------


def load_table(
    place: Place,
    *,
    test: Place | None = None,
    text: str | None = None,
    label: str | None = None,
    normalize: bool = False,
    separator: str | None = None,
) -> Dataset:
    """Any file that `lmaas classify` reads, with a text and a label column: see `read_rows`.

    Without a `test` file a tenth of every class is kept for the test. Labels are sorted;
    `normalize` makes of those that differ only in case or blanks the most frequent one. Rows
    without a text or a label are left out. What a user should know of that is in `notes`.
    Raises DataError with the file and the line.
    """
    digest = hashlib.sha256()
    rows = read_rows(place, text, label, separator)
    rows.digest(digest.update)
    counts = labelling.counted(chain.from_iterable(rows.labels))
    spellings = labelling.spellings(counts) if normalize else {}
    rows.rename(spellings)
    counts = labelling.counted(chain.from_iterable(rows.labels))
    cells = None if rows.multi_label else label_sets.written_as_one(counts)
    labelling.check(counts, rows.name, cells)
    labels = tuple(counts)
    whole = _table_split(rows, labels, multi_label=rows.multi_label)
    told = [*rows.notes(), *labelling.notes(counts, len(rows.texts)), cells]
    told.append(duplicates.contradicting(rows.texts, [*map(label_sets.joined, rows.labels)]))
    notes = [f"{rows.name}: {note}" for note in told if note]
    if test is None:
        rest, held = _cut(label_sets.strata(whole.labels), TEST_SHARE)
        whole, measured = whole.take(rest), whole.take(held)
    else:
        measuring = read_rows(test, text, label, separator)
        measuring.digest(digest.update)
        notes += [f"{measuring.name}: {note}" for note in measuring.notes()]
        if normalize:
            used = list(chain.from_iterable(measuring.labels))
            measuring.rename(spellings | _spellings_of_others(used, labels))
        measured = _table_split(measuring, labels, multi_label=rows.multi_label)
    if twice := duplicates.shared(whole.texts, measured.texts):
        notes.append(twice)
    rest, validation = _cut(label_sets.strata(whole.labels), VALIDATION_SHARE)
    if not (len(measured) and len(validation)):
        raise DataError(
            f"{rows.name}: {len(rows.texts):,} rows are too few; give three or more of a label"
        )
    return Dataset(
        name=_name(Path(rows.name)),
        labels=labels,
        train=whole.take(rest),
        validation=whole.take(validation),
        test=measured,
        sha256=digest.hexdigest(),
        notes=tuple(notes),
    )


def _name(path: Path) -> str:
    """That of the file, or of its folder when the file is called `train`."""
    name = path.name.split(".")[0]
    return path.absolute().parent.name if name == "train" else name


def _spellings_of_others(used: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """Labels of a test -> the look-alikes that were learnt."""
    alike = {each: labelling.like(each, labels) for each in set(used).difference(labels)}
    return {each: label for each, label in alike.items() if label is not None}


def _table_split(rows: Rows, labels: Sequence[str], *, multi_label: bool) -> Split:
    indices = {label: index for index, label in enumerate(labels)}
    numbers = [[indices.get(label, -1) for label in own] for own in rows.labels]
    if unknown := [place for place, own in enumerate(numbers) if -1 in own]:
        raise _unknown(rows, unknown, labels)
    if rows.multi_label and not multi_label:
        raise DataError(f"{rows.name}: rows have lists of labels, and those of the training one")
    truth = label_sets.matrix(numbers, len(labels)) if multi_label else np.array(numbers)[:, 0]
    return Split(items=text_items(rows.texts), labels=truth.astype(np.int32))


def _unknown(rows: Rows, places: Sequence[int], labels: Sequence[str]) -> DataError:
    """The first row with a label that was not learnt."""
    position, count = places[0], len(places)
    label = next(label for label in rows.labels[position] if label not in labels)
    more = f", nor are those of {count - 1:,} other rows" if count > 1 else ""
    like = labelling.like(label, labels)
    advice = f"; --normalize-labels takes it for {like!r}" if like else ""
    return DataError(
        f"{rows.name}: {rows.unit} {rows.lines[position]:,}: the label {label!r} is not in the "
        f"training{more}{advice}"
    )


# --- pictures and sounds -------------------------------------------------------------------------


def load_media(media: Media, test: Media | None = None, *, normalize: bool = False) -> Dataset:
    """What was read from a folder; `test` is another one to measure with.

    Splits that it does not have are cut from its training, as those of a table are. Labels are
    sorted; `normalize` is as in `load_table`. Raises DataError.
    """
    counts = labelling.counted(media.train.labels)
    spellings = labelling.spellings(counts) if normalize else {}
    counts = labelling.counted(spellings.get(each, each) for each in media.train.labels)
    if test is not None and test.train.kind != media.train.kind:
        raise DataError(
            f"{test.name} has {test.train.units}, and {media.name} has {media.train.units}; test "
            "with such as are learnt from"
        )
    if len(counts) < 2:
        raise DataError(
            f"{media.name}: all of it is of one class, {next(iter(counts))!r}; give two folders or "
            "more, one a class"
        )
    labels = tuple(counts)

    def split(examples: Examples) -> Split:
        return _media_split(examples, labels, spellings, normalize=normalize)

    tested = media.test if test is None else test.train
    whole = split(media.train)
    measured = None if tested is None else split(tested)
    validation = None if media.validation is None else split(media.validation)
    if measured is None:
        rest, held = _cut(whole.labels, TEST_SHARE)
        whole, measured = whole.take(rest), whole.take(held)
    if validation is None:
        rest, held = _cut(whole.labels, VALIDATION_SHARE)
        whole, validation = whole.take(rest), whole.take(held)
    if not (len(measured) and len(validation)):
        raise DataError(
            f"{media.name}: {len(media.train):,} files are too few; give three or more of a class"
        )
    both = media.sha256 + test.sha256 if test else ""
    return Dataset(
        name=media.name,
        labels=labels,
        train=whole,
        validation=validation,
        test=measured,
        sha256=hashlib.sha256(both.encode()).hexdigest() if both else media.sha256,
        notes=(*media.notes, *labelling.notes(counts)),
    )


def _media_split(
    examples: Examples, labels: Sequence[str], spellings: Mapping[str, str], *, normalize: bool
) -> Split:
    """Raises DataError for a class that was not learnt."""
    if normalize:
        spellings = {**spellings, **_spellings_of_others(examples.labels, labels)}
    indices = {label: index for index, label in enumerate(labels)}
    named = [spellings.get(label, label) for label in examples.labels]
    for item, label in zip(examples.items, named, strict=True):
        if label not in indices:
            raise DataError(f"{item.id}: its class {label!r} is not in the training")
    return Split(
        items=examples.items, labels=np.array([indices[label] for label in named], np.int32)
    )


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
