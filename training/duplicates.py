"""Texts that a data set has twice: figures are too good by those that are learnt and measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

#: Of the texts with two labels so many are shown, and so many characters of each.
SHOWN: Final = 3
_CHARACTERS: Final = 60


def shared(learnt: Sequence[str], measured: Sequence[str]) -> str | None:
    """A note on the measured texts that are among the learnt ones; None when there are none.

    Blanks at the ends and capital letters do not make another text.
    """
    known = set(map(_same, learnt))
    twice = sum(_same(text) in known for text in measured)
    if not twice:
        return None
    return (
        f"{twice:,} of the {len(measured):,} texts of the test are in the training too, so that "
        "the figures of the test are too good; leave duplicates out"
    )


def contradicting(texts: Sequence[str], labels: Sequence[str]) -> str | None:
    """A note on texts that have two labels or more; None when there are none."""
    first: dict[str, str] = {}
    found: dict[str, str] = {}
    for text, label in zip(texts, labels, strict=True):
        same = _same(text)
        if first.setdefault(same, label) != label:
            found.setdefault(same, f"{_short(text)!r} ({first[same]!r}, {label!r})")
    if not found:
        return None
    more = ", ..." if len(found) > SHOWN else ""
    subject = "1 text has" if len(found) == 1 else f"{len(found):,} texts have"
    told = ", ".join(list(found.values())[:SHOWN])
    return f"{subject} more than one label, so that nobody can be right about all: {told}{more}"


def _same(text: str) -> str:
    return text.strip().casefold()


def _short(text: str) -> str:
    line = " ".join(text[: 2 * _CHARACTERS].split())
    return line if len(line) <= _CHARACTERS else f"{line[: _CHARACTERS - 1]}…"
