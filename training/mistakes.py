"""What a model gets wrong and is the surest of: the first examples that somebody should look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from lmaas.broker_config.messages import Item

#: How many there are at most, and the characters of one.
MOST: Final = 50
CHARACTERS: Final = 400


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
) -> list[Mistake]:
    """The MOST with the highest score, the highest first; of equal ones the first.

    `scores` are [items, labels], `truth` has the index of the right label of each item.
    """
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


def _shown(item: Item, place: int) -> str:
    """On one line, and not too long."""
    if item.text is None:
        return item.id or f"item {place + 1:,} of the test"
    both = item.text if item.text_pair is None else f"{item.text} ‖ {item.text_pair}"
    line = " ".join(both.split())
    return line if len(line) <= CHARACTERS else f"{line[: CHARACTERS - 1]}…"
