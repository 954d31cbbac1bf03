"""The items of a JSON array, cut out of a stream of bytes without holding more than one of them.

No library does this: those that read JSON in pieces (ijson) hand out Python values, which have lost
the digits, escapes and repeated keys of the file, and stop at the first mistake. Here only brackets
and strings are looked at, so that each item is parsed by itself, and a bad one costs no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables.file_errors import damaged
from lmaas.producer.tables.inputs import Input
from lmaas.producer.tables.lines import LINE_BYTES

#: What JSON allows between its tokens.
BLANK: Final = b" \t\r\n"

_READ_BYTES: Final = 1024 * 1024
_BETWEEN_ITEMS = re.compile(rb'["\[\]{},]')
_INSIDE_ITEM = re.compile(rb'["\[\]{}]')
_NOT_BLANK = re.compile(rb"[^ \t\r\n]")
#: Characters of a string. Some escapes at a time, as each of them takes memory while it matches.
_STRETCH = re.compile(rb'[^"\\]*(?:\\.[^"\\]*){0,500}', re.DOTALL)


class Items:
    """The items of the arrays in an input: bytes, or a str that says why there is none.

    Arrays may follow each other. Counts what it has read, as `Lines` does.
    """

    def __init__(self, source: Input, line: int = 1) -> None:
        """`line` is the number of the line on which the first array begins."""
        self.source = source
        #: Line on which the last item begins, from 1.
        self.number = line
        #: Number of the last item, from 1.
        self.item = 0
        #: Bytes up to the end of the last item.
        self.bytes = 0
        self._line = line
        #: What was read: its first `_at` bytes are done, and `_done` bytes before it.
        self._data = b""
        self._at = 0
        self._done = 0

    def __iter__(self) -> Iterator[bytes | str]:
        """Raises DataError where the file is damaged, or an item never ends."""
        while self._skip_blank():
            if not self._data.startswith(b"[", self._at):
                yield self._fault("something stands after the array, which is not an array")
                return
            self._pass(self._at + 1)
            yield from self._array()

    def _array(self) -> Iterator[bytes | str]:
        while self._skip_blank():
            end = self._end()
            if end is None:
                self.item += 1
                self.number = self._line
                item = self._data[self._at :].rstrip(BLANK)
                self._pass(len(self._data))
                yield item
                break
            closed = self._data.startswith(b"]", end)
            # Nothing before the bracket is an empty array, or a comma too many.
            if end > self._at or not closed:
                self.item += 1
                self.number = self._line
                item = self._data[self._at : end].rstrip(BLANK)
                self._pass(end + 1)
                yield item or "nothing stands between two commas"
            else:
                self._pass(end + 1)
            if closed:
                return
        yield self._fault("the array is never closed; is the file cut off?")

    def _fault(self, why: str) -> str:
        self.number = self._line
        return why

    def _pass(self, end: int) -> None:
        self._line += self._data.count(b"\n", self._at, end)
        self._at = end
        self.bytes = self._done + end

    def _skip_blank(self) -> bool:
        """Whether there is anything after blanks."""
        while not (found := _NOT_BLANK.search(self._data, self._at)):
            self._pass(len(self._data))
            if not self._more():
                return False
        self._pass(found.start())
        return True

    def _end(self) -> int | None:
        """Index of the comma or bracket after the next item; None when the input ends before."""
        done = depth = 0  # relative to where the item begins, which moves when more is read
        while True:
            token = (_INSIDE_ITEM if depth else _BETWEEN_ITEMS).search(self._data, self._at + done)
            after = None
            if token is not None:
                found = token.group()
                if not depth and found in b",]":
                    return token.start()
                after = self._string_end(token.end()) if found == b'"' else token.end()
            if after is None:
                if not self._more():
                    return None
                continue
            done = after - self._at
            if found != b'"':
                depth = max(0, depth + (1 if found in b"[{" else -1))

    def _string_end(self, at: int) -> int | None:
        """Index after the closing quote of the string whose characters begin at `at`."""
        data = self._data
        while (stretch := _STRETCH.match(data, at)) and stretch.end() > at:
            at = stretch.end()
        return at + 1 if data.startswith(b'"', at) else None

    def _more(self) -> bool:
        """Read on: as much as is held already, so that a long item is not searched too often."""
        held = len(self._data) - self._at
        if held >= LINE_BYTES:
            raise DataError(
                f"{self.source.name}: item {self.item + 1}, which begins on line {self._line}, is "
                f"longer than {LINE_BYTES >> 20} MiB; is a quote or a bracket missing?"
            )
        with damaged(self.source.name, self._line):
            more = self.source.file.read1(max(_READ_BYTES, held))  # type: ignore[attr-defined]
        self._done += self._at
        self._data, self._at = self._data[self._at :] + more, 0
        return bool(more)
