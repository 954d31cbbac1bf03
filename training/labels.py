"""Labels as people write them: which are one label in two spellings, and which are no labels."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lmaas.broker_config.errors import DataError

#: A column with more different values is told: it may be an id, a date or a number.
MANY = 1000
#: A label needs so many examples to be in the training, the validation and the test.
SPLITS = 3
#: Of fewer examples little can be learnt.
FEW = 10
#: A label that more than this share of the rows have rules.
RULING = 0.8
#: Groups, labels or lines that a message names.
NAMED = 5


def look_alikes(counts: Mapping[str, int]) -> list[list[str]]:
    """Labels that differ only in case, blanks or Unicode's forms of the same characters.

    The most frequent of a group is its first.
    """
    groups: dict[str, list[str]] = {}
    for label in sorted(counts, key=lambda label: (-counts[label], label)):
        groups.setdefault(_folded(label), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def spellings(counts: Mapping[str, int]) -> dict[str, str]:
    """Look-alike -> the most frequent label of its group, for those that are another."""
    return {label: first for first, *others in look_alikes(counts) for label in others}


def like(label: str, known: Iterable[str]) -> str | None:
    """The label of `known` that differs only as look-alikes do."""
    return next((each for each in known if _folded(each) == _folded(label)), None)


def spellings_of_others(used: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """Labels of a test -> the look-alikes that were learnt."""
    alike = {each: like(each, labels) for each in set(used).difference(labels)}
    return {each: label for each, label in alike.items() if label is not None}


def check(counts: Mapping[str, int], name: str, advice: str | None = None) -> None:
    """Raises DataError for labels that nothing can be learnt from, with the advice."""
    rows = sum(counts.values())
    more = f". {advice}" if advice else ""
    if not counts:
        raise DataError(f"{name}: no row has a label (--label-column names the column)")
    if len(counts) == 1:
        (label,) = counts
        raise DataError(
            f"{name}: each of the {rows:,} rows has the label {label!r}; two labels or more are "
            f"needed (--label-column names the column){more}"
        )
    if len(counts) * 2 > rows:
        raise DataError(
            f"{name}: {len(counts):,} different labels in {rows:,} rows "
            f"({_listed([repr(label) for label in counts])}); give two rows or more a label, or "
            f"name another column with --label-column{more}"
        )


def notes(counts: Mapping[str, int], rows: int | None = None) -> list[str]:
    """What a user should know of labels that can be used; without `rows` each row has one."""
    whole = sum(counts.values()) if rows is None else rows
    found = _alike(counts), _rare(counts), _few(counts), _ruling(counts, whole), _many(counts)
    return [note for note in found if note]


def _alike(counts: Mapping[str, int]) -> str | None:
    groups = look_alikes(counts)
    if not groups:
        return None
    told = [", ".join(f"{label!r} ({counts[label]:,})" for label in group) for group in groups]
    return (
        "these labels differ only in case or blanks, and stay different: "
        f"{_listed(told, '; ')}. With --normalize-labels all of a group become its first"
    )


def _rare(counts: Mapping[str, int]) -> str | None:
    rare = [f"{label!r} ({count})" for label, count in counts.items() if count < SPLITS]
    if not rare:
        return None
    subject = "1 label has" if len(rare) == 1 else f"{len(rare):,} labels have"
    return f"{subject} fewer than {SPLITS} examples, too few to be measured: {_listed(rare)}"


def _few(counts: Mapping[str, int]) -> str | None:
    few = [f"{label!r} ({count})" for label, count in counts.items() if SPLITS <= count < FEW]
    if not few:
        return None
    subject = "1 label has" if len(few) == 1 else f"{len(few):,} labels have"
    return f"{subject} fewer than {FEW} examples, few to learn from: {_listed(few)}"


def _ruling(counts: Mapping[str, int], rows: int) -> str | None:
    label = max(counts, key=lambda label: counts[label])
    share = counts[label] / rows
    if share <= RULING:
        return None
    return (
        f"{share:.0%} of the rows have the label {label!r}: whoever always says that is right as "
        "often, so that the figures of each class, and macro F1, say more"
    )


def _many(counts: Mapping[str, int]) -> str | None:
    if len(counts) <= MANY:
        return None
    return f"{len(counts):,} different labels; is this the column of the labels?"


def _listed(things: list[str], between: str = ", ") -> str:
    more = f"{between}and {len(things) - NAMED:,} more" if len(things) > NAMED else ""
    return between.join(things[:NAMED]) + more


def _folded(label: str) -> str:
    """Without blanks, as `sign up` and `signup` are rather one label than two."""
    return "".join(unicodedata.normalize("NFKC", label).casefold().split())


def counted(labels: Iterable[str]) -> dict[str, int]:
    """Label -> its rows, in the order of the labels."""
    return dict(sorted(Counter(labels).items()))
