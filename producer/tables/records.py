"""The rows of a delimited file, each with its first line and why it cannot be read.

A quote that is opened by mistake takes in what follows. So the lines of a row are kept until it
is complete: when it cannot be read, its first line is the error, and the others are read again as
rows of their own.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from typing import Final

from lmaas.producer.tables.chunks import Mark
from lmaas.producer.tables.inputs import Input
from lmaas.producer.tables.lines import Lines
from lmaas.producer.tables.quoting import counted

#: The bytes of one row; the parser holds four for each character of a value.
ROW_BYTES: Final = 32 * 1024 * 1024


#: The values of a row, its first line from 1, and why it cannot be read, with all of its text. Of
#: an unreadable row the values are those that could be told, of any number.
Record = tuple[list[str], int, str | None]


class Lookahead:
    """The lines of an input as texts, which can be given again; bytes that are no UTF-8 escaped."""

    def __init__(self, source: Input) -> None:
        self.name = source.name
        self.decoded = source.decoded
        self._lines = Lines(source)
        self._iterator = iter(self._lines)
        self._again: deque[bytes] = deque()
        self._again_bytes = 0
        #: The byte where the first line begins; None when none can be returned to.
        self._origin = source.offset()
        #: The lines that `texts` gave since this was cleared.
        self.held: list[bytes] = []
        #: Whether the last line was read, given or not.
        self.ended = False

    @property
    def given_bytes(self) -> int:
        """Bytes of the lines that were given."""
        return self._lines.bytes - self._again_bytes

    @property
    def number(self) -> int:
        """Lines that were given."""
        return self._lines.number - len(self._again)

    def position(self) -> int:
        return self._lines.source.position()

    def mark(self, rows: int) -> Mark | None:
        """The place of the line that is given next."""
        if self._origin is None:
            return None
        return Mark(rows, self.number, self._origin + self.given_bytes)

    def go_to(self, mark: Mark) -> None:
        """Give the line at a mark next."""
        assert self._origin is not None, "there are no marks then"
        self._lines.go_to(mark.lines, mark.offset - self._origin, mark.offset)
        self._again.clear()
        self._again_bytes = 0
        self.held.clear()

    def first(self, count: int, size: int) -> list[str]:
        """The first lines, up to a count and a size in bytes; they are given again."""
        taken: list[bytes] = []
        while len(taken) < count and sum(map(len, taken)) < size:
            line = self._next()
            if line is None:
                break
            taken.append(line)
        self._put_back(taken)
        return [line.decode("utf-8", "surrogateescape") for line in taken]

    def skip(self) -> None:
        """Leave out a line."""
        self._next()

    def texts(self) -> Iterator[str]:
        """The lines from here on; raises csv.Error when those held are too much for a row."""
        held, again, lines = self.held, self._again, self._iterator
        size = 0
        while line := self._next() if again else next(lines, None):
            size = size + len(line) if held else len(line)
            held.append(line)
            if size > ROW_BYTES:
                raise csv.Error(f"longer than {ROW_BYTES >> 20} MiB")
            try:
                text = line.decode()
            except UnicodeDecodeError:
                text = self._lines.escaped(line, self.number)
            yield text

    def held_text(self, count: int | None = None) -> str:
        """The lines that are held, or the first of them, as they are but for the last line end."""
        text = b"".join(self.held[:count]).decode("utf-8", "surrogateescape")
        return text.removesuffix("\n").removesuffix("\r")

    def put_back(self) -> None:
        """Give again what is held, but not its first line."""
        self._put_back(self.held[1:])
        del self.held[1:]

    def _next(self) -> bytes | None:
        if not self._again:
            line = next(self._iterator, None)
            self.ended = line is None
            return line
        line = self._again.popleft()
        self._again_bytes -= len(line)
        return line

    def _put_back(self, lines: list[bytes]) -> None:
        self._again.extendleft(reversed(lines))
        self._again_bytes += sum(map(len, lines))


class Records:
    """Rows one after the other; an empty line is none."""

    def __init__(
        self, lines: Lookahead, delimiter: str, *, quotes: bool, suspicious: bool = False
    ) -> None:
        """`suspicious`: several lines in quotes that could be rows by themselves are an error."""
        allow_long_values()
        self.lines = lines
        self._delimiter = delimiter
        self._quotes = quotes
        self._suspicious = suspicious
        self._width: int | None = None
        #: The number of the first row, from 0, that comes after the header.
        self.start = 0
        self._parser = self._parse()

    def skip(self, mark: Mark) -> None:
        """Go on at a mark, before any row but the header was taken."""
        self.lines.go_to(mark)
        self.start = mark.rows
        self._parser = self._parse()

    def expect(self, width: int) -> None:
        """From here on a row has this many columns."""
        self._width = width

    def _parse(self) -> Iterator[list[str]]:
        texts = self.lines.texts()
        if self._quotes:
            return csv.reader(texts, delimiter=self._delimiter, strict=True)
        # The csv module would take a carriage return inside a line for its end.
        lines = (text.removesuffix("\n").removesuffix("\r") for text in texts)
        return (line.split(self._delimiter) if line else [] for line in lines)

    def __iter__(self) -> Iterator[Record]:
        held = self.lines.held
        line = self.lines.number + 1
        while True:
            held.clear()
            try:
                row = next(self._parser)
            except StopIteration:
                return
            except csv.Error as error:
                fault = self._unreadable(line, error)
                self.lines.put_back()
                self._parser = self._parse()
                yield [], line, fault
                line += 1
                continue
            if row:
                sound = len(row) == self._width and len(held) == 1
                yield row, line, None if sound else self._doubt(row, line)
            line += len(held)

    def _unreadable(self, line: int, error: csv.Error) -> str:
        last = line + len(self.lines.held) - 1
        why = str(error)
        if "unexpected end" in why:
            why = "the quote that opens here is never closed"
        elif "longer than" in why and last > line:
            why = f"{why} with the lines to {last:,}; is a closing quote missing?"
        elif "new-line character" in why:
            why = "some line ends are a lone CR: convert them, for example with: tr '\\r' '\\n'"
        elif last > line:
            why = f"the quote that opens here closes inside line {last:,}"
        if last > line:
            why += f" (the lines after it, to {last:,}, are read on their own)"
        return f"line {line}: {why}: {self.lines.held_text(1)}"

    def _doubt(self, row: list[str], line: int) -> str | None:
        """What is wrong with a row of another width, or of several lines; None for nothing."""
        if self._width is None:
            return None
        last = line + len(self.lines.held) - 1
        where = f"line {line}" if last == line else f"lines {line} to {last}"
        if len(row) != self._width:
            why = f"expected {counted(self._width, 'column')}, found {len(row)}"
            if not self._quotes and any('"' in value for value in row):
                why += " (quotes are text here; where they enclose values, say --quotes)"
        elif self._suspicious and self._are_rows():
            why = (
                "in quotes, yet each line is a row by itself; say --quotes if this is one value, "
                "--no-quotes if a quote is text"
            )
        else:
            return None
        return f"{where}: {why}: {self.lines.held_text()}"

    def _are_rows(self) -> bool:
        """Whether each line has the delimiters of a row, and none with a blank as in a sentence."""
        between = self._delimiter.encode()
        return self._width != 1 and all(
            line.count(between) + 1 == self._width and between + b" " not in line
            for line in self.lines.held
        )


def allow_long_values() -> None:
    """Let the csv module read what a row may have. Its limit is one for the process; ours only
    ever raises it."""
    csv.field_size_limit(max(csv.field_size_limit(), ROW_BYTES))
