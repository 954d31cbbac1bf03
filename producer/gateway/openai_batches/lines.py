"""The lines of an input file: each is one call, whose `input` is one or several items."""

from __future__ import annotations

import asyncio
import itertools
import threading
from array import array
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Annotated, BinaryIO, Final, Literal

import msgspec

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import Item, ItemError
from lmaas.producer.gateway.items import GivenItem, named
from lmaas.producer.gateway.state.batches import Problem

#: Problems of one file that are told.
SHOWN: Final = 100
#: Lines, and bytes of lines, that are read at a time.
_BLOCK: Final = 256
_BLOCK_BYTES: Final = 1024 * 1024
_BUCKETS: Final = 256
_BOM: Final = b"\xef\xbb\xbf"


class Given(GivenItem):
    """An item; `{"type": "text", "text": ...}` is one, too."""

    type: Literal["text"] | None = None


class _Body(msgspec.Struct):
    model: str
    #: Looked at by itself: what is wrong with it fails this line only.
    input: msgspec.Raw = msgspec.Raw(b"")


class _Line(msgspec.Struct):
    custom_id: Annotated[str, msgspec.Meta(min_length=1)]
    method: str
    url: str
    body: _Body


_line: Final = msgspec.json.Decoder(_Line)
_input: Final = msgspec.json.Decoder(str | Given | list[str | Given])
_raws: Final = msgspec.json.Decoder(list[msgspec.Raw])
_one: Final = msgspec.json.Decoder(str | Given)
#: What a decoder raises of JSON that is wrong, is no UTF-8, or is nested too deep.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def items_of(name: str, given: bytes) -> list[Item]:
    """Those of an `input`, all with the same id; at least one. One that is wrong has an error."""
    try:
        found = _input.decode(given)
    except _UNREADABLE:
        return _loose(name, given)
    each = found if isinstance(found, list) else [found]
    return [named(name, one) for one in each] or [_wrong(name, "`input` is an empty list")]


def _loose(name: str, given: bytes) -> list[Item]:
    if not given:
        return [_wrong(name, "the body has no `input`")]
    try:
        each = _raws.decode(given)
    except _UNREADABLE:
        each = [msgspec.Raw(given)]
    items = []
    for raw in each:
        try:
            items.append(named(name, _one.decode(raw)))
        except _UNREADABLE as error:
            items.append(_wrong(name, f"`input`: {error}"))
    return items


def _wrong(name: str, message: str) -> Item:
    return Item(id=name, error=ItemError(code=Code.INVALID_ITEM, message=message))


#: What opens an input file.
Opening = Callable[[], BinaryIO]


def lines(file: Opening, limit: int) -> Iterator[tuple[int, bytes]]:
    """Each line that is not blank, with its number from 1.

    One that is longer than `limit` bytes is the last one, and not complete.
    """
    with file() as opened:
        for number in itertools.count(1):
            line = opened.readline(limit + 2)
            if not line:
                return
            if number == 1:
                line = line.removeprefix(_BOM)
            if not line.isspace():
                yield number, line
            if len(line) > limit:
                return


@dataclass
class Checked:
    """What a look at all lines has shown."""

    #: The one of all lines.
    model: str | None = None
    lines: int = 0
    problems: list[Problem] = field(default_factory=list)


def check(file: Opening, endpoint: str, *, limit: int, most: int, stop: threading.Event) -> Checked:
    """Whether a file can be a batch of this endpoint.

    `limit`: bytes of a line; `most`: lines. Ends early when `stop` is set.
    Raises OSError, and SealError.
    """
    checked, seen = Checked(), _Seen()
    for number, raw in lines(file, limit):
        checked.lines += 1
        if checked.lines > most:
            told = f"more than {most:,} lines (setting gateway.max_job_items)"
            checked.problems.append(Problem("too_many_tasks", told, line=number))
        elif len(raw) > limit:
            told = f"line {number:,} is longer than {limit:,} bytes (gateway.max_body_bytes)"
            checked.problems.append(Problem("invalid_json_line", told, line=number))
        else:
            checked.problems += _looked_at(number, raw, endpoint, checked, seen)
        if checked.lines > most or len(checked.problems) >= SHOWN or stop.is_set():
            return checked
    if not checked.lines:
        checked.problems.append(Problem("empty_file", "the input file has no lines"))
    if twice := seen.twice():
        checked.problems += itertools.islice(_twice(file, limit, twice), SHOWN)
    checked.problems.sort(key=lambda problem: problem.line or 0)
    return checked


def _looked_at(
    number: int, raw: bytes, endpoint: str, checked: Checked, seen: _Seen
) -> list[Problem]:
    try:
        line = _line.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return [Problem("invalid_json_line", f"line {number:,}: {error}", line=number)]
    seen.add(line.custom_id)
    found = []
    if line.method != "POST":
        told = f"line {number:,}: method {line.method!r} must be POST"
        found.append(Problem("invalid_method", told, "method", number))
    if line.url != endpoint:
        told = f"line {number:,}: url {line.url!r} is not the endpoint of the batch, {endpoint!r}"
        found.append(Problem("url_mismatch", told, "url", number))
    if checked.model is None:
        checked.model = line.body.model
    elif line.body.model != checked.model:
        told = (
            f"line {number:,}: model {line.body.model!r} is not that of the lines before, "
            f"{checked.model!r}; make a batch for each model"
        )
        found.append(Problem("model_mismatch", told, "body.model", number))
    return found


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode("utf-8", "replace"), digest_size=8).digest())


class _Seen:
    """Ids by their hashes, in 8 bytes each: there may be a hundred million."""

    def __init__(self) -> None:
        self._buckets = [array("Q") for _ in range(_BUCKETS)]

    def add(self, name: str) -> None:
        hashed = _hash(name)
        self._buckets[hashed % _BUCKETS].append(hashed)

    def twice(self) -> set[int]:
        """Hashes that are there more than once."""
        return {
            hashed
            for bucket in self._buckets
            if len(set(bucket)) < len(bucket)
            for hashed, count in Counter(bucket).items()
            if count > 1
        }


def _twice(file: Opening, limit: int, hashes: set[int]) -> Iterator[Problem]:
    """The lines with an id that a line before has; `hashes` of the ids that may be such."""
    first: dict[str, int] = {}
    for number, raw in lines(file, limit):
        try:
            name = _line.decode(raw).custom_id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if _hash(name) not in hashes:
            continue
        before = first.setdefault(name, number)
        if before != number:
            told = f"line {number:,}: custom_id {name!r} is that of line {before:,}, too"
            yield Problem("duplicate_custom_id", told, "custom_id", number)


def calls(file: Opening, limit: int) -> Iterator[list[Item]]:
    """The items of each line of a file that was checked. Raises OSError."""
    for _, raw in lines(file, limit):
        line = _line.decode(raw)
        yield items_of(line.custom_id, line.body.input)


async def items(file: Opening, limit: int) -> AsyncGenerator[Item, None]:
    """Those of all lines; the file is read beside the event loop."""
    source = calls(file, limit)
    while block := await asyncio.to_thread(_block, source):
        for call in block:
            for item in call:
                yield item


def _block(source: Iterator[list[Item]]) -> Sequence[list[Item]]:
    block, size = [], 0
    for call in source:
        block.append(call)
        size += sum(item.size for item in call)
        if len(block) >= _BLOCK or size >= _BLOCK_BYTES:
            break
    return block
