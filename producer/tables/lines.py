"""The lines of an input."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables.file_errors import DAMAGED, unreadable
from lmaas.producer.tables.inputs import Input
from lmaas.producer.tables.unicode import ENCODING_HINT

log = logging.getLogger(__name__)

#: A longer line means that the file is no file of lines; nothing holds more of it.
LINE_BYTES: Final = 64 * 1024 * 1024


class Lines:
    """The lines of an input as bytes, with their line ends; counts them and their bytes."""

    def __init__(self, source: Input, number: int = 0) -> None:
        """`number` lines were read before."""
        self.source = source
        self.number = number
        self.bytes = 0
        self._told = False

    def go_to(self, number: int, size: int, offset: int) -> None:
        """Go on at a byte of the file, after so many lines and bytes of them."""
        self.source.file.seek(offset)
        self.number, self.bytes = number, size

    def escaped(self, line: bytes, number: int) -> str:
        """The text of a line that is not UTF-8. The first is told: the file may have another
        encoding."""
        if not (self._told or self.source.decoded):
            self._tell(number)
        return line.decode("utf-8", "surrogateescape")

    def _tell(self, number: int) -> None:
        self._told = True
        log.warning(
            "%s: line %d is not UTF-8; its bytes are kept as they are (JSON and Parquet cannot "
            "hold them); %s",
            self.source.name,
            number,
            ENCODING_HINT,
            extra={"action": "not_utf8", "file": self.source.name, "line": number},
        )

    def __iter__(self) -> Iterator[bytes]:
        """Raises DataError where the file is damaged or has no lines."""
        readline = self.source.file.readline
        try:
            while line := readline(LINE_BYTES):
                if len(line) == LINE_BYTES:
                    raise DataError(
                        f"{self.source.name}: line {self.number + 1} is longer than "
                        f"{LINE_BYTES >> 20} MiB; is this a file of lines?"
                    )
                self.number += 1
                self.bytes += len(line)
                yield line
        except DAMAGED as error:
            raise unreadable(self.source.name, error, f"line {self.number:,}") from error
