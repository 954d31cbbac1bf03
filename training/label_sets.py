"""Several labels a row: as people write them, and as a matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from lmaas.broker_config.messages import LABEL_SEPARATOR
from lmaas.producer.tables.cells import cell
from lmaas.training.labels import SPLITS

#: Of each row the place of its label, [rows]; or, where a row may have several labels, 1 for those
#: that it has and 0 for the others, [rows, labels].
Truth = npt.NDArray[np.int32]

#: Rows that have no label, and those whose rarest label is the rarest of too few, as strata.
_NONE: Final = -1
_REST: Final = -2


def listed(value: object) -> list[str] | None:
    """The labels that a list of a column has, as texts; None of what is no list of plain values."""
    if isinstance(value, str):
        return None
    text = cell(value)
    if not text.startswith("["):
        return None
    given = [cell(_plain(raw)) for raw in msgspec.json.decode(text, type=list[msgspec.Raw])]
    return None if any(label[:1] in ("[", "{") for label in given) else given


def _plain(raw: msgspec.Raw) -> Any:
    """A string or nothing as such; all else keeps the digits that it has."""
    return msgspec.json.decode(raw) if bytes(raw)[:1] in (b'"', b"n") else raw


def matrix(sets: Sequence[Iterable[int]], labels: int) -> Truth:
    """[rows, labels] of the places of each row's labels."""
    found = np.zeros((len(sets), labels), np.int32)
    for row, places in zip(found, sets, strict=True):
        row[list(places)] = 1
    return found


def decisions(
    scores: npt.NDArray[np.float32], truth: Truth
) -> tuple[npt.NDArray[np.float32], Truth]:
    """Each score of [rows, labels] as that of an example with two classes, of which the second is
    that the row has the label: [decisions, 2], and [decisions]. What has one label stays.
    """
    if truth.ndim == 1:
        return scores, truth
    second = scores.reshape(-1, 1)
    return np.hstack([1 - second, second]), truth.reshape(-1)


def joined(labels: Iterable[str]) -> str:
    """Labels of a row as one text, the same in whatever order they are."""
    return LABEL_SEPARATOR.join(sorted(labels))


def strata(truth: Truth) -> npt.NDArray[np.int32]:
    """What each row is taken to be when rows are split so that each part has a share of everything.

    That is its label; of several the one that the fewest rows have, so that those are in each part.
    Too few of one to be split, of a label that others are rarer beside, are split together.
    """
    if truth.ndim == 1:
        return truth
    counts = truth.sum(axis=0)
    rarest = np.where(truth > 0, counts, len(truth) + 1).argmin(axis=1)
    found = np.where(truth.any(axis=1), rarest, _NONE)
    members = np.bincount(found + 1, minlength=len(counts) + 1)[1:]
    scattered = (members < SPLITS) & (counts >= SPLITS)
    return np.where((found >= 0) & scattered[found], _REST, found).astype(np.int32)


def written_as_one(counts: Iterable[str]) -> str | None:
    """A note on labels that look as if they were several; None when none does."""
    suspect = [label for label in counts if LABEL_SEPARATOR in label or _is_list(label)]
    if not suspect:
        return None
    subject = "1 label looks" if len(suspect) == 1 else f"{len(suspect):,} labels look"
    return (
        f"{subject} like several in one cell, such as {suspect[0]!r}: with --multi-label a row may "
        f"have several, with {LABEL_SEPARATOR!r} between them (--label-separator), or as a list in "
        "JSON Lines or Parquet"
    )


def _is_list(label: str) -> bool:
    return label.startswith("[") and label.endswith("]")
