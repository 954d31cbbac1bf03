"""What a model gets wrong and is the surest of: the first examples that somebody should look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from lmaas.broker_config.messages import LABEL_SEPARATOR, Item
from lmaas.workers.manifest import THRESHOLD

#: How many there are at most, and the characters of one.
MOST: Final = 50
CHARACTERS: Final = 400
#: What is shown of an item that has none of the labels.
NO_LABEL: Final = "no label"


class Mistake(msgspec.Struct, frozen=True, kw_only=True):
    """One example."""

    #: What it says; of an item without a text its id, or its place among the examples.
    shown: str
    true: str
    predicted: str
    #: Of `predicted`.
    score: float


def mistakes(
    scores: npt.NDArray[np.float32],
    truth: npt.NDArray[np.int32],
    labels: Sequence[str],
    items: Sequence[Item],
    threshold: float = THRESHOLD,
) -> list[Mistake]:
    """The MOST with the highest score, the highest first; of equal ones the first.

    `scores` are [items, labels], `truth` has the index of the right label of each item. Where an
    item may have several labels, what it gets and has is shown as one text, and it counts by the
    label that is the furthest on the wrong side: its score, or what that leaves to 1.
    """
    if truth.ndim == 2:
        return _of_several(scores, truth.astype(bool), labels, items, threshold)
    predicted = scores.argmax(axis=1)
    best = scores.max(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    first = wrong[np.argsort(-best[wrong], kind="stable")][:MOST]
    return [
        Mistake(
            shown=_shown(items[place], place),
            true=labels[truth[place]],
            predicted=labels[predicted[place]],
            score=float(best[place]),
        )
        for place in first.tolist()
    ]


def _of_several(
    scores: npt.NDArray[np.float32],
    wanted: npt.NDArray[np.bool_],
    labels: Sequence[str],
    items: Sequence[Item],
    threshold: float,
) -> list[Mistake]:
    given = scores >= np.float32(threshold)
    surest = np.where(given == wanted, 0, np.where(given, scores, 1 - scores)).max(axis=1)
    wrong = np.flatnonzero((given != wanted).any(axis=1))
    first = wrong[np.argsort(-surest[wrong], kind="stable")][:MOST]

    def told(flags: npt.NDArray[np.bool_]) -> str:
        return (
            f"{LABEL_SEPARATOR} ".join(labels[at] for at in np.flatnonzero(flags).tolist())
            or NO_LABEL
        )

    return [
        Mistake(
            shown=_shown(items[place], place),
            true=told(wanted[place]),
            predicted=told(given[place]),
            score=float(surest[place]),
        )
        for place in first.tolist()
    ]


def _shown(item: Item, place: int) -> str:
    """On one line, and not too long."""
    if item.text is None:
        return item.id or f"item {place + 1:,} of the test"
    both = item.text if item.text_pair is None else f"{item.text} ‖ {item.text_pair}"
    line = " ".join(both.split())
    return line if len(line) <= CHARACTERS else f"{line[: CHARACTERS - 1]}…"
