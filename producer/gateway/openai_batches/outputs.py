"""The output and the error file of a batch, in the order of its input file."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from lmaas.broker_config.messages import Item, Result
from lmaas.producer.gateway.at_rest.keeping import sync
from lmaas.producer.gateway.openai_batches.answers import Answering, CallFailed, Harmless
from lmaas.producer.gateway.openai_batches.protocol import refusal

_encode: Final = msgspec.json.Encoder().encode


class Response(msgspec.Struct):
    """What a call would have been answered."""

    status_code: int
    request_id: str
    body: Any


class Unanswered(msgspec.Struct):
    """Why there is no answer."""

    code: str
    message: str


class Line(msgspec.Struct):
    """One line of either file."""

    id: str
    custom_id: str
    response: Response | None
    error: Unanswered | None


@dataclass(frozen=True)
class Written:
    """Lines with an answer and with an error of their own, and bytes of each file; 0: none."""

    done: int
    failed: int
    output: int
    errors: int


@dataclass(frozen=True)
class Batched:
    """What the files say of every line."""

    #: Unique to the batch.
    token: str
    model: str
    answering: Answering
    harmless: Harmless
    #: Of a line without results.
    unfinished: Unanswered


def joined(
    calls: Iterable[Sequence[Item]], results: Iterator[Result]
) -> Iterator[tuple[str, list[Result] | None]]:
    """The id and the results of each call, None if some are lacking.

    Both are in the same order, in which results may be lacking; the items of a call have its id.
    """
    following = next(results, None)
    for items in calls:
        name = items[0].id
        found: list[Result] = []
        while following is not None and following.id == name and len(found) < len(items):
            found.append(following)
            following = next(results, None)
        yield name, found if len(found) == len(items) else None


def write(
    output: Path,
    errors: Path,
    create: Callable[[Path], BinaryIO],
    calls: Iterable[Sequence[Item]],
    results: Iterator[Result],
    batch: Batched,
    stop: threading.Event,
) -> Written:
    """Writes the files, and leaves out one without lines. Both are on disk when it returns.

    Raises OSError, SealError, and InterruptedError when `stop` was set.
    """
    done = failed = 0
    with create(output) as good, create(errors) as bad:
        for number, (name, found) in enumerate(joined(calls, results)):
            if stop.is_set():
                raise InterruptedError("writing the files of a batch was stopped")
            line = _line(number, name, found, batch)
            if line.response is None:
                _put(bad, line)
            elif line.response.status_code == 200:
                done += 1
                _put(good, line)
            else:
                failed += 1
                _put(bad, line)
        sizes = [good.tell(), bad.tell()]
    for path, size in zip((output, errors), sizes, strict=True):
        if size:
            sync(path)
        else:
            path.unlink()
    return Written(done, failed, *sizes)


def _line(number: int, name: str, found: list[Result] | None, batch: Batched) -> Line:
    token = f"{batch.token}{number:08x}"
    line = f"batch_req_{token}"
    if found is None:
        return Line(line, name, None, batch.unfinished)
    try:
        body = batch.answering(token, batch.model, found, batch.harmless)
    except CallFailed as error:
        told = refusal(error.status, error.code, error.message)
        return Line(line, name, Response(error.status, f"req_{token}", told), None)
    return Line(line, name, Response(200, f"req_{token}", body), None)


def _put(file: BinaryIO, line: Line) -> None:
    file.write(_encode(line) + b"\n")


def flat(chunks: Iterable[list[Result]]) -> Iterator[Result]:
    """The results of all chunks; none when there is no file of them."""
    try:
        yield from itertools.chain.from_iterable(chunks)
    except FileNotFoundError:
        return
