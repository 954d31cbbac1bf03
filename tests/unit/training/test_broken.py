"""Files of a training that cannot be used: a few are left out, many are an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import Item
from lmaas.training.broken import told, without_broken
from lmaas.training.datasets.dataset import Dataset, Split
from lmaas.training.datasets.loading import load_dataset
from tests.unit.training.test_media import ids, many


def bad(*names: str) -> Callable[[Item], str | None]:
    return lambda item: "it is broken" if item.id in names else None


def split(*names: str) -> Split:
    items = [Item(id=name, data=b"x", media_type="image/png") for name in names]
    return Split(items=items, labels=np.array([name[0] == "d" for name in names], np.int32))


def small(train: Split, validation: Split, test: Split) -> Dataset:
    labels = ("cat", "dog")
    splits = {"train": train, "validation": validation, "test": test}
    return Dataset(name="pets", labels=labels, sha256="", **splits)


def test_what_is_whole_stays_as_it_is(tmp_path: Path) -> None:
    dataset = load_dataset(many(tmp_path))
    assert without_broken(dataset, bad()) == (dataset, [])


def test_a_few_are_left_out_of_every_split(tmp_path: Path) -> None:
    dataset = load_dataset(many(tmp_path / "pets", 50))
    splits = (dataset.train, dataset.validation, dataset.test)
    names = [*(split.items[1].id for split in splits), dataset.train.items[4].id]
    good, broken = without_broken(dataset, bad(*names))
    assert broken == [f"{name}: it is broken" for name in sorted(names)]
    for before, after in zip(splits, (good.train, good.validation, good.test), strict=True):
        assert ids(after) == ids(before) - set(names)
        kept = [place for place, item in enumerate(before.items) if item.id not in names]
        assert after.labels.tolist() == before.labels[kept].tolist()
    words = told(dataset, broken)
    assert words.startswith("4 of 100 pictures cannot be used: ")
    assert words.endswith("; and 1 more")
    assert words.count("it is broken") == 3


def test_many_are_an_error_that_names_some(tmp_path: Path) -> None:
    dataset = load_dataset(many(tmp_path / "pets", 50))
    names = [item.id for item in dataset.train.items[:6]]
    match = r"^pets: 6 of 100 pictures cannot be used: .*; and 3 more; that is more than 5% of them"
    with pytest.raises(DataError, match=match):
        without_broken(dataset, bad(*names))


@pytest.mark.parametrize(("name", "words"), [("d1", "too few of 'dog'"), ("c3", "too few are")])
def test_one_of_few_may_be_broken_unless_nothing_is_left(name: str, words: str) -> None:
    dataset = small(split("c1", "c2", "d1"), split("c3"), split("c4"))
    good, broken = without_broken(dataset, bad("c2"))
    assert (ids(good.train), broken) == ({"c1", "d1"}, ["c2: it is broken"])
    with pytest.raises(DataError, match=words):
        without_broken(dataset, bad(name))
