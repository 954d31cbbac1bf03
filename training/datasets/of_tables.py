"""A table with a text and a label column as a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables import Place
from lmaas.training import duplicates, label_sets
from lmaas.training import labels as labelling
from lmaas.training.datasets.cutting import TEST_SHARE, VALIDATION_SHARE, cut
from lmaas.training.datasets.dataset import Dataset, Split, text_items
from lmaas.training.rows import Rows, read_rows


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
    notes = _notes(rows, counts, cells)
    if test is None:
        rest, held = cut(label_sets.strata(whole.labels), TEST_SHARE)
        whole, measured = whole.take(rest), whole.take(held)
    else:
        measuring = read_rows(test, text, label, separator)
        measuring.digest(digest.update)
        notes += [f"{measuring.name}: {note}" for note in measuring.notes()]
        if normalize:
            used = list(chain.from_iterable(measuring.labels))
            measuring.rename(spellings | labelling.spellings_of_others(used, labels))
        measured = _table_split(measuring, labels, multi_label=rows.multi_label)
    if twice := duplicates.shared(whole.texts, measured.texts):
        notes.append(twice)
    rest, validation = cut(label_sets.strata(whole.labels), VALIDATION_SHARE)
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


def _notes(rows: Rows, counts: Mapping[str, int], cells: str | None) -> list[str]:
    """What a user should know of the rows that are learnt from; `cells` is of their labels."""
    told = [*rows.notes(), *labelling.notes(counts, len(rows.texts)), cells]
    told.append(duplicates.contradicting(rows.texts, [*map(label_sets.joined, rows.labels)]))
    return [f"{rows.name}: {note}" for note in told if note]


def _name(path: Path) -> str:
    """That of the file, or of its folder when the file is called `train`."""
    name = path.name.split(".")[0]
    return path.absolute().parent.name if name == "train" else name


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
