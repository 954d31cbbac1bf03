"""Which columns of a file are wanted, and which it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables.quoting import listed, quoted, shown
from lmaas.producer.tables.taking import AS_NAMED, Taking

#: The options that name the columns of texts.
TEXT_OPTION: Final = "--text-column"
PAIR_OPTION: Final = "--pair-column"
#: ... of bytes, and of paths of files.
BYTES_OPTION: Final = "--bytes-column"
PATH_OPTION: Final = "--path-column"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the caller wants of a file."""

    #: The column to classify; None takes `text`, or the only one.
    text: str | None = None
    #: The columns to keep; None keeps all.
    keep: tuple[str, ...] | None = None
    #: Whether nobody wants the texts, so that any column will do for them.
    any_text: bool = False
    #: The column of second texts, for models that judge two texts together; None has none.
    pair: str | None = None
    #: The column of bytes (Parquet), or of paths of files, in the place of one of texts.
    data: str | None = None
    path: str | None = None
    #: What becomes of the contents of files.
    taking: Taking = AS_NAMED
    #: What the text column has, and the option that names it: words for messages.
    told: tuple[str, str] = ("texts", TEXT_OPTION)
    #: What the columns are kept for: words as well.
    kept: str = "to keep"

    def has_contents(self, has_files: bool) -> bool:
        """Whether items are contents of files, or bytes, so that it counts what the model takes;
        `has_files` is of the place.
        """
        return has_files or self.data is not None or self.path is not None

    @property
    def column(self) -> str:
        """The name of the text column where there are several; one may be called ""."""
        return "text" if self.text is None else self.text

    def names(self) -> set[str]:
        """The columns that must be there, when there is more than one."""
        text = () if self.any_text else (self.column,)
        pair = () if self.pair is None else (self.pair,)
        return {shown(name) for name in (*text, *pair, *(self.keep or ()))}

    def text_of(self, columns: Sequence[str], name: str, inner: Sequence[str] = ()) -> str:
        """The name of the text column; raises DataError when there is none, or several.

        `inner` are names of nested fields, which the message lists too.
        """
        if self.any_text or (self.text is None and len(columns) == 1):
            return columns[0]
        text = shown(self.column)
        if text not in columns:
            raise _missing(name, text, *self.told, [*columns, *inner])
        _check_only(text, columns, name)
        return text

    def pair_of(
        self, columns: Sequence[str], name: str, text: str, inner: Sequence[str] = ()
    ) -> str | None:
        """The name of the column of second texts, None when none is wanted; as `text_of`.

        Raises DataError also when it is `text`, the column of the first ones.
        """
        if self.pair is None:
            return None
        pair = shown(self.pair)
        if pair not in columns:
            raise _missing(name, pair, "second texts", PAIR_OPTION, [*columns, *inner])
        if pair == text:
            raise DataError(
                f"{name}: column {quoted(pair)} has the first texts; name another one with "
                f"{PAIR_OPTION} ({listed([*columns, *inner])})"
            )
        _check_only(pair, columns, name)
        return pair

    def kept_of(self, columns: Sequence[str], name: str) -> tuple[str, ...]:
        """The columns to keep, in the order of the file.

        Raises DataError when one that is named is missing, or there several times.
        """
        if self.keep is None:
            return tuple(columns)
        keep = [shown(column) for column in self.keep]
        for column in keep:
            if column not in columns:
                raise DataError(
                    f"{name}: there is no column {quoted(column)} {self.kept} ({listed(columns)})"
                )
            _check_only(column, columns, name)
        return tuple(column for column in columns if column in keep)


def no_text(file: str, name: str, inner: Sequence[str], option: str) -> DataError:
    """For a column of objects, with fields of these names, that an option names as one of texts."""
    return DataError(
        f"{file}: {quoted(name)} is an object and no text; name one of its fields with "
        f"{option} ({listed(inner)})"
    )


def _missing(
    file: str, column: str, content: str, option: str, columns: Sequence[str]
) -> DataError:
    return DataError(
        f"{file}: there is no column {quoted(column)}; name the one with the {content} with "
        f"{option} ({listed(columns)})"
    )


def _check_only(column: str, columns: Sequence[str], name: str) -> None:
    places = [str(number) for number, each in enumerate(columns, 1) if each == column]
    if len(places) > 1:
        raise DataError(
            f"{name}: columns {', '.join(places)} are all called {quoted(column)}; rename all but "
            "one"
        )


def distinct(names: Sequence[str]) -> list[str]:
    """The names; one that was there before has a number that makes it another: a, b, a_2."""
    taken = set(names)
    counts: dict[str, int] = {}
    distinct = []
    for name in names:
        fresh = name
        counts[name] = number = counts.get(name, 0) + 1
        while number > 1 and fresh in taken:
            fresh, number = f"{name}_{number}", number + 1
        taken.add(fresh)
        distinct.append(fresh)
    return distinct


def check_names(name: str, columns: tuple[str, ...], results: tuple[str, ...]) -> None:
    """Raises DataError when a column has the name of one of the results."""
    for result in results:
        if result in columns:
            raise DataError(
                f"{name}: has a column {result!r} already; name the results otherwise "
                "(--result-prefix lmaas_), or leave it out with --keep"
            )
