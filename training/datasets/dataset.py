"""A data set: labelled items in three splits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lmaas.broker_config.messages import Item
from lmaas.training.label_sets import Truth
from lmaas.training.media import Kind, kind_of


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
    #: Single sentences to learn from beside the texts of `train`; read by networks that learn from
    #: runs of those, and by no others.
    sentences: Split | None = None

    @property
    def multi_label(self) -> bool:
        """Whether an item may have several labels, or none."""
        return self.train.labels.ndim == 2

    @property
    def kind(self) -> Kind:
        """Of all its items; of some that cannot be read nobody knows it."""
        return next(filter(None, map(kind_of, self.train.items)), "text")
