"""Pictures and sounds of a data set that cannot be used: a few are left out, many are an error."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

import numpy as np

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import Item
from lmaas.training.datasets.dataset import Dataset, Split
from lmaas.training.media import UNITS

#: The share of all of them that may be broken; one always may.
MOST: Final = 0.05
#: Files that a message names.
NAMED: Final = 3


def without_broken(
    dataset: Dataset, problem: Callable[[Item], str | None]
) -> tuple[Dataset, list[str]]:
    """The data set without the items that have a `problem`, and these: `FILE: why`, in order.

    Raises DataError when there are too many of them, or when nothing is left of a split or, in the
    training, of a class.
    """
    splits = (dataset.train, dataset.validation, dataset.test)
    # Decoders let go of Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        found = [list(threads.map(problem, split.items)) for split in splits]
    broken = [
        f"{item.id}: {why}"
        for split, whys in zip(splits, found, strict=True)
        for item, why in zip(split.items, whys, strict=True)
        if why is not None
    ]
    if not broken:
        return dataset, []
    broken.sort()
    whole = sum(map(len, splits))
    if len(broken) > max(1, MOST * whole):
        raise DataError(
            f"{dataset.name}: {told(dataset, broken)}; that is more than {MOST:.0%} of them: mend "
            "or delete them"
        )
    train, validation, test = (
        _without(split, whys) for split, whys in zip(splits, found, strict=True)
    )
    lost = set(dataset.train.labels.tolist()) - set(train.labels.tolist())
    if lost or not (len(validation) and len(test)):
        of = f" of {dataset.labels[min(lost)]!r}" if lost else ""
        raise DataError(
            f"{dataset.name}: {told(dataset, broken)}; too few{of} are left: mend "
            "them, or give more"
        )
    return replace(dataset, train=train, validation=validation, test=test), broken


def told(dataset: Dataset, broken: list[str]) -> str:
    """How many there are, and what the first few are, in words."""
    units = UNITS[dataset.kind]
    whole = len(dataset.train) + len(dataset.validation) + len(dataset.test)
    more = f"; and {len(broken) - NAMED:,} more" if len(broken) > NAMED else ""
    return f"{len(broken):,} of {whole:,} {units} cannot be used: {'; '.join(broken[:NAMED])}{more}"


def _without(split: Split, whys: list[str | None]) -> Split:
    return split.take(np.flatnonzero([why is None for why in whys]))
