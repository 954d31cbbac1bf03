"""Pictures or sounds, a class each, as a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from lmaas.broker_config.errors import DataError
from lmaas.training import labels as labelling
from lmaas.training.datasets.cutting import TEST_SHARE, VALIDATION_SHARE, cut
from lmaas.training.datasets.dataset import Dataset, Split
from lmaas.training.media import Examples, Media


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
        rest, held = cut(whole.labels, TEST_SHARE)
        whole, measured = whole.take(rest), whole.take(held)
    if validation is None:
        rest, held = cut(whole.labels, VALIDATION_SHARE)
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
        spellings = {**spellings, **labelling.spellings_of_others(examples.labels, labels)}
    indices = {label: index for index, label in enumerate(labels)}
    named = [spellings.get(label, label) for label in examples.labels]
    for item, label in zip(examples.items, named, strict=True):
        if label not in indices:
            raise DataError(f"{item.id}: its class {label!r} is not in the training")
    return Split(
        items=examples.items, labels=np.array([indices[label] for label in named], np.int32)
    )
