"""The job: a file of reviews, some with poison, through the queue by a process of its own."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from benchmarks.failures.comparison import Row
from benchmarks.failures.log import Log
from benchmarks.failures.poison import Poison
from benchmarks.failures.processes import Process
from lmaas.broker_config.settings import Settings
from lmaas.cli.exits import Exit
from lmaas.producer.checkpoint import partial_path

#: Bytes of the end of an output that have its last whole row.
_TAIL: Final = 4096
#: Lines that are kept of what it said then.
_SHOWN: Final = 20
#: Times that a producer which gave up by itself is resumed.
_PATIENCE: Final = 5


def numbered(texts: Sequence[str], items: int) -> Iterator[str]:
    """`items` different texts; the number of each is its first word."""
    return (f"{number} {texts[number % len(texts)]}" for number in range(items))


def write(path: Path, texts: Sequence[str], items: int, poison: Mapping[int, Poison]) -> None:
    """A row of each of the `numbered` texts, with its number."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "review"])
        for number, text in enumerate(numbered(texts, items)):
            word = f" {poison[number]}" if number in poison else ""
            writer.writerow([number, text + word])


def read(path: Path) -> list[Row]:
    """The rows of an output."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Row(row["id"], row["label"], row["score"], row["error"]) for row in csv.DictReader(file)
        ]


class Producer:
    """`lmaas classify FILE --queue --resume`, which may be killed and resumed."""

    def __init__(self, settings: Settings, source: Path, target: Path, log: Log) -> None:
        self._settings = settings
        self._log = log
        self._source = source
        self.target = target
        self._process: Process | None = None
        #: What it said when it gave up by itself.
        self.gave_up: list[str] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls, settings: Settings, source: Path, target: Path, log: Log
    ) -> AsyncIterator[Producer]:
        """It does not outlive the block."""
        producer = cls(settings, source, target, log)
        await producer.start()
        try:
            yield producer
        finally:
            await producer.close()

    async def start(self) -> None:
        """Goes on where an earlier one was."""
        command = ("-m", "lmaas", "classify", str(self._source), "--text-column", "review")
        more = ("--keep", "id", "--queue", "--resume", "-o", str(self.target))
        self._process = await Process.start(self._settings, *command, *more, log=self._log)

    async def kill(self) -> None:
        """SIGKILL. Until it is started again, it is not done."""
        process, self._process = self._process, None
        assert process is not None
        await process.killed()

    async def aborted(self) -> None:
        """Ends it; it tells where it was."""
        if self._process is not None:
            await self._process.aborted()

    async def close(self) -> None:
        if self._process is not None:
            await self._process.close()

    async def done(self) -> bool:
        """Whether the output is whole; who gave up is resumed, a few times."""
        process = self._process
        if process is None or process.code is None:
            return False
        code = await process.ended()
        if code in {Exit.OK, Exit.SOME_FAILED}:
            return True
        said = "\n".join(process.lines[-_SHOWN:])
        self.gave_up.append(f"exit code {code}: {said}")
        if len(self.gave_up) > _PATIENCE:
            raise click.ClickException(f"the producer ended with {code}: {self.gave_up[-1]}")
        await self.start()
        return False

    def rows(self) -> int:
        """Rows that are in the output so far."""
        for path in (partial_path(self.target), self.target):
            try:
                with path.open("rb") as file:
                    size = file.seek(0, os.SEEK_END)
                    file.seek(max(0, size - _TAIL))
                    return rows_before(file.read())
            except FileNotFoundError:
                continue
        return 0


def rows_before(tail: bytes) -> int:
    """How many rows an output has that ends so; its ids count from 0."""
    whole, _, _ = tail.rpartition(b"\n")
    number, _, _ = whole[whole.rfind(b"\n") + 1 :].partition(b",")
    return int(number) + 1 if number.isdigit() else 0
