"""Offline bulk: a file in, the same rows with their labels out.

Rows travel in packs, `settings.window` of them at a time; results are written in the order of the
input, whatever classifies them and however the packs are cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import msgspec

from lmaas.broker_config.errors import DataError, LmaasError, OptionError
from lmaas.broker_config.messages import Item, Options, Reply, Request, Result
from lmaas.broker_config.settings import Settings
from lmaas.producer.checkpoint import Output, PartialFile, Pipe, State, check_same, left
from lmaas.producer.packer import places
from lmaas.producer.rows import answers_of, packs_of
from lmaas.producer.tables import Answers, Chunk, Place, Wanted, encoding, footer, open_table
from lmaas.producer.tables.folders import covers
from lmaas.producer.tables.places import FILES, check_output
from lmaas.producer.tables.quoting import clipped, shown
from lmaas.producer.tables.wanted import check_names
from lmaas.producer.threads import beside, settled

#: A run can be resumed from the first chunk that ends at or after each multiple of this,
#: or that brings what was written since the last checkpoint to this many bytes, ...
CHECKPOINT_ROWS: Final = 16_384
CHECKPOINT_BYTES: Final = 64 * 1024 * 1024
#: ... or that is written so many seconds after it.
CHECKPOINT_SECONDS: Final = 0.5
#: Packs that are held at most, in windows: those that wait for their turn to be written while one
#: before them takes its time do not keep others from being sent.
HELD_WINDOWS: Final = 8
#: Failures that are shown at the end.
SHOWN_FAILURES: Final = 3
#: Of each so many characters are told: what is wrong, and what to do.
FAILURE_CHARACTERS: Final = 160

_VERSION: Final = "the model's version"
#: Of the names that files have.
_FILES: Final = uuid.UUID("6e2f0a51-8a0f-4c5c-9f6d-0f6b1d7f3f0a")


class Classifier(Protocol):
    """What answers packs: the pool of this machine, or the queue's client."""

    async def run(self, request: Request) -> Reply: ...

    def seconds(self, model: str, items: int, size: int) -> float:
        """What a pack of `items` of `size` bytes is expected to take."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What to classify, and where the results go."""

    source: Place
    target: Place
    model: str
    #: The newest when None. A run stays with the version that answered first.
    version: str | None = None
    #: Checksum of the model version's manifest where it is known: a resumed run compares it.
    model_sha256: str | None = None
    wanted: Wanted = field(default_factory=Wanted)
    #: The scores of this many labels in a column `scores`, as a JSON object; 0 for no column.
    top_k: int = 0
    #: Below this score the label is `unsure`; None: below what the model says, if it does.
    min_score: float | None = None
    #: Comes before `label`, `score`, `scores` and `error` in the names of the columns.
    result_prefix: str = ""

    @property
    def results(self) -> tuple[str, ...]:
        names = ("label", "score", "scores", "error") if self.top_k else ("label", "score", "error")
        return tuple(self.result_prefix + name for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is."""

    rows: int
    #: Of the input, in the units of `size`, which is None for a pipe.
    consumed: int
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a run did."""

    rows: int
    failed: int
    #: The first failures: "line 17: empty_text: the text is empty".
    failures: list[str]
    #: Rows that an earlier run had done.
    resumed_at: int
    #: Version that answered; None when nothing had to be classified.
    version: str | None
    #: Of this run, from the first row on.
    seconds: float


class Run:
    """One file on its way. Opening it raises DataError for all that can be known before work."""

    def __init__(self, task: Task, settings: Settings, *, resume: bool = False) -> None:
        self.task = task
        self.settings = settings
        _check_places(task, resume=resume)
        with contextlib.ExitStack() as stack:
            self.table = open_table(task.source, task.wanted)
            stack.callback(self.table.close)
            check_names(self.table.name, self.table.columns, task.results)
            self._encoding = encoding(task.target, self.table, task.results)
            self.state = State(fingerprint=self._fingerprint(), version=task.version)
            #: Of the file and what is done with it: the same in a run that is resumed, or begun
            #: anew. None of a pipe, which cannot be read twice.
            self.identity = None if task.source.piped else self._identity(task.source.path)
            #: What an earlier run left.
            self.found = None if task.target.piped else left(task.target.path)
            self.output: Output = self._open_output(resume=resume)
            stack.callback(self.output.close)
            self._stack = stack.pop_all()
        #: Rows that an earlier run had done.
        self.resumed_at = self.state.rows
        #: Rows that are safe on disk.
        self.saved_rows = self.state.rows
        self._unsaved_bytes = 0
        self._saved = time.monotonic()
        self._window = asyncio.Semaphore(settings.window)
        #: Set whenever a pack has been answered, or failed.
        self._answered = asyncio.Event()

    def _fingerprint(self) -> dict[str, Any]:
        task = self.task
        taking = task.wanted.taking
        path = Path(task.source.path)
        stat = path.stat() if path.is_file() else None
        return {
            "the size of the input": stat and stat.st_size,
            "the time of the input's last change": stat
            and str(datetime.fromtimestamp(stat.st_mtime, UTC)),
            "the list of the input's files": self.table.listing,
            "the format of the input": task.source.format,
            "the sheet of the input": task.source.dialect.sheet or "",
            "the encoding of the input": task.source.dialect.encoding or "",
            "the delimiter of the input": self.table.delimiter,
            "quotes in the input": self.table.quotes,
            "the format of the output": task.target.format,
            "the encoding of the output": task.target.dialect.encoding or "",
            "the text column": task.wanted.text or "",
            "the pair column": task.wanted.pair or "",
            "the bytes column": task.wanted.data or "",
            "the path column": task.wanted.path or "",
            "what the model takes of files": taking.media_types and list(taking.media_types),
            "--outside": taking.outside,
            "the kept columns": list(self.table.columns),
            "the model": task.model,
            _VERSION: task.version,
            "the model's manifest (sha256)": task.model_sha256,
            "--top-k": task.top_k,
            "--min-score": task.min_score,
            "--result-prefix": task.result_prefix,
            "max_item_bytes": self.settings.max_item_bytes,
            "max_data_bytes": self.settings.largest_data,
        }

    def _identity(self, source: str) -> uuid.UUID:
        name = os.fsencode(Path(source).resolve()).decode(errors="backslashreplace")
        what = {"the input": name} | self.state.fingerprint
        return uuid.uuid5(_FILES, msgspec.json.encode(what, order="sorted").decode())

    def _open_output(self, *, resume: bool) -> Output:
        header = self._encoding.header()
        if self.task.target.piped:
            pipe = Pipe()
            pipe.write(header)
            return pipe
        file = PartialFile(self.task.target)
        try:
            if resume and self.found:
                then = self.found.fingerprint | {_VERSION: self.found.version}
                check_same(then, self.state.fingerprint, str(self.task.target.path))
                file.go_on(self.found)
                self.state = self.found
                if self.found.mark and self.table.skip:
                    self.table.skip(self.found.mark)
                if self.table.start_at:
                    self.table.start_at(self.found.rows)
            else:
                file.start(header)
        except BaseException:
            file.close()
            raise
        return file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    async def classify(
        self, classifier: Classifier, report: Callable[[Progress], None] | None = None
    ) -> Summary:
        """Classify what is left of the file; `report` is called after every chunk.

        Raises DataError when a file cannot be used any more, and what the classifier raises.
        `saved_rows` are then on disk, and can be resumed from.
        """
        started = time.monotonic()
        chunks = (chunk for chunk in self.table.chunks if chunk.start >= self.resumed_at)
        pending: deque[_Sent] = deque()
        more = True
        try:
            while more or pending:
                self._answered.clear()
                if pending and pending[0].is_answered:
                    chunk, answers = pending[0].chunk, self._answers(pending[0])
                    pending.popleft()
                    await settled(self._write, chunk, answers)
                    if report:
                        report(self._progress(chunk))
                elif more and self._has_room(pending):
                    read = await beside(lambda: next(chunks, None))
                    if more := read is not None:
                        pending.append(self._send(read, classifier))
                else:
                    await self._answered.wait()
        finally:
            await _cancelled([pack for sent in pending for pack in sent.packs])
        await settled(self._finish)
        return self._summary(time.monotonic() - started)

    def _has_room(self, pending: Iterable[_Sent]) -> bool:
        """Whether another chunk may be read: for the window, and for what memory may hold."""
        unanswered = sum(
            size
            for sent in pending
            for pack, size in zip(sent.packs, sent.places, strict=True)
            if not pack.done()
        )
        held = sum(sent.held for sent in pending)
        window = self.settings.window
        return unanswered < window and held < HELD_WINDOWS * window

    def _send(self, chunk: Chunk, classifier: Classifier) -> _Sent:
        estimate = functools.partial(classifier.seconds, self.task.model)
        packs, errors = packs_of(chunk, self.settings, estimate)
        tasks = [asyncio.create_task(self._answer(pack, classifier)) for pack in packs]
        for task in tasks:
            task.add_done_callback(lambda _: self._answered.set())
        # Rows that are not sent take memory all the same: 30 MB that no model takes, or none.
        unsent = sum(chunk.characters(row) + len(error) for row, error in errors.items())
        sizes = [places(pack) for pack in packs]
        held = max(1, sum(sizes) + unsent // self.settings.pack_bytes)
        return _Sent(chunk, errors, tasks, sizes, held)

    def _answers(self, sent: _Sent) -> Answers:
        """Raises what any of its packs raised."""
        results = [pack.result() for pack in sent.packs]
        return answers_of(sent.chunk, sent.errors, results, ranked=self.task.top_k > 0)

    async def _answer(self, items: list[Item], classifier: Classifier) -> list[Result]:
        async with self._window:
            request = Request(
                model=self.task.model,
                version=self.state.version,
                items=items,
                options=Options(top_k=self.task.top_k, min_score=self.task.min_score),
            )
            reply = await _ask(classifier, request)
        self._stay_with(reply.version)
        return reply.results

    def _stay_with(self, version: str | None) -> None:
        if version is None or version == self.state.version:
            return
        if self.state.version is not None:
            raise LmaasError(
                f"model {self.task.model!r} answered with version {self.state.version}, and now "
                f"with {version}; start over with --model-version {version}"
            )
        self.state.version = version

    def _write(self, chunk: Chunk, answers: Answers) -> None:
        data = self._encoding.rows(chunk, answers)
        self.output.write(data)
        state = self.state
        self._unsaved_bytes += len(data)
        before, state.rows, state.mark = state.rows, chunk.start + len(chunk), chunk.mark
        for position, error in enumerate(answers.errors):
            if error is not None:
                state.failed += 1
                if len(state.failures) < SHOWN_FAILURES:
                    line = chunk.lines[position]
                    state.failures.append(_failure(self.table.unit, line, error))
        if before // CHECKPOINT_ROWS != state.rows // CHECKPOINT_ROWS or self._is_due():
            self._save()

    def _is_due(self) -> bool:
        seconds = time.monotonic() - self._saved
        # A compressed output has a border at each checkpoint: at the same rows in every run.
        late = seconds >= CHECKPOINT_SECONDS and not self.task.target.compression
        return late or self._unsaved_bytes >= CHECKPOINT_BYTES

    def _save(self) -> None:
        self.output.checkpoint(self.state)
        self._unsaved_bytes = 0
        self._saved = time.monotonic()
        self.saved_rows = self.state.rows

    def _finish(self) -> None:
        self._save()
        # After the checkpoint: a run that goes on from it cuts this off and writes it again.
        self.output.write(footer(self.task.target))
        self.output.finish(self._encoding.finish)

    def _progress(self, chunk: Chunk) -> Progress:
        rows = chunk.start + len(chunk)
        return Progress(rows=rows, consumed=chunk.consumed, size=self.table.size)

    def _summary(self, seconds: float) -> Summary:
        state = self.state
        return Summary(
            rows=state.rows,
            failed=state.failed,
            failures=state.failures,
            resumed_at=self.resumed_at,
            version=state.version,
            seconds=seconds,
        )


@dataclass(slots=True)
class _Sent:
    """A chunk on its way: the tasks of its packs, and the errors of rows that were not sent."""

    chunk: Chunk
    errors: dict[int, str]
    packs: list[asyncio.Task[list[Result]]]
    #: What each of them takes of the window.
    places: list[int]
    #: What it takes of memory, in packs.
    held: int

    @property
    def is_answered(self) -> bool:
        return all(pack.done() for pack in self.packs)


async def classify_texts(
    texts: Sequence[str],
    classifier: Classifier,
    settings: Settings,
    *,
    model: str,
    version: str | None = None,
    top_k: int = 0,
    min_score: float | None = None,
) -> tuple[Chunk, Answers]:
    """A few texts as one chunk, with their answers. Raises what the classifier raises."""
    chunk = Chunk(0, {"text": texts}, texts, range(1, len(texts) + 1), {})
    packs, errors = packs_of(chunk, settings)
    options = Options(top_k=top_k, min_score=min_score)
    requests = [
        Request(model=model, version=version, items=items, options=options) for items in packs
    ]
    replies = await asyncio.gather(*(_ask(classifier, request) for request in requests))
    results = [reply.results for reply in replies]
    return chunk, answers_of(chunk, errors, results, ranked=top_k > 0)


async def _ask(classifier: Classifier, request: Request) -> Reply:
    reply = await classifier.run(request)
    if reply.error is not None:
        from lmaas.producer.client import refusal  # the queue's library, which most runs do without

        raise refusal(reply.error)
    if [result.id for result in reply.results] != [item.id for item in request.items]:
        raise LmaasError(
            f"rows {request.items[0].id} to {request.items[-1].id} were answered with other rows; "
            "are all workers of one release?"
        )
    return reply


def _failure(unit: str, line: int | str, error: str) -> str:
    """One short line; all of it is in the output. An unreadable row says its line itself."""
    where = f"{unit} {line}: "
    return shown(where) + clipped(error.replace(where, "", 1), FAILURE_CHARACTERS)


def _check_places(task: Task, *, resume: bool) -> None:
    source, target = task.source, task.target
    check_output(target)
    if resume and (source.piped or target.piped):
        raise OptionError("a pipe cannot be resumed: name an input file and an output file")
    if target.piped and target.format == "parquet":
        raise OptionError("Parquet cannot be written to a pipe; name a file with -o")
    if not (source.piped or target.piped) and _same_file(source.path, target.path):
        raise DataError(f"{target.path}: is the input; choose another output")
    if source.format == FILES and not target.piped and covers(source, target.path):
        raise DataError(
            f"{target.path}: would be a file of the input {source.path} the next time; write it to "
            "another folder"
        )


def _same_file(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except OSError:
        return False


async def _cancelled(tasks: list[asyncio.Task[list[Result]]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
