"""Dead letters for people's eyes: in tables, without what a foreign program may have written."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import datetime
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmaas.broker_config.decoding import decode_request
from lmaas.broker_config.errors import LmaasError, SealError
from lmaas.broker_config.messages import Item, ItemError, Request
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from lmaas.producer import dead_letters
from lmaas.producer.dead_letter import Summary
from lmaas.producer.dead_letters import DeadLetter

#: Characters of a text or a reason that are shown.
SHOWN_CHARACTERS: Final = 100
#: Columns of a table that is not on a terminal.
PIPE_WIDTH: Final = 180

#: Columns of the list, and how narrow they may be; narrow terminals cut the table on the right.
_COLUMNS: Final = {
    "id": 32, "error": 13, "model": 9, "lane": 7, "items": 5, "parked": 19, "job": 3
}  # fmt: skip
#: Columns for the reason.
REASON_WIDTH: Final = 60

#: Error and model -> messages and items.
Counts = tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]


def counted(counts: Counts) -> list[dict[str, Any]]:
    """Those of each error and model, the most frequent ones first."""
    messages, items = counts
    return [
        {"error": error, "model": model, "messages": count, "items": items[error, model]}
        for (error, model), count in messages.most_common()
    ]


def print_all(newest: list[Summary], counts: Counts) -> None:
    """A row each, and how many there are in all."""
    total = counts[0].total()
    if not total:
        click.echo("no dead letter matches")
        return
    console = _console()
    if newest:
        console.print(_table(newest))
    shown = f", the newest {len(newest):,} above" if len(newest) < total else ""
    console.print(f"{total:,} dead letters{shown}", highlight=False)
    summary = Table("error", "model", "messages", "items")
    for count in counted(counts):
        row = (count["error"], count["model"], f"{count['messages']:,}", f"{count['items']:,}")
        summary.add_row(*map(_cell, row))
    console.print(summary)


def _table(newest: list[Summary]) -> Table:
    table = Table()
    for name, width in _COLUMNS.items():
        table.add_column(name, no_wrap=True, overflow="ellipsis", min_width=width)
    table.add_column("reason", no_wrap=True, overflow="ellipsis", max_width=REASON_WIDTH)
    for summary in newest:
        row = (
            summary.id,
            summary.error,
            summary.model,
            summary.lane,
            summary.items,
            _moment(summary.parked_ms),
            summary.job,
            f"(redacted) {summary.reason or ''}" if summary.redacted else summary.reason,
        )
        table.add_row(*map(_cell, row))
    return table


def print_one(dead_letter: DeadLetter, settings: Settings) -> None:
    """All of it: its headers, and its items."""
    summary, message = dead_letter
    fields = msgspec.to_builtins(summary) | {
        "parked_ms": _moment(summary.parked_ms),
        "routing key": message.routing_key,
        "content type": message.content_type,
        "correlation id": message.correlation_id,
        "reply to": message.reply_to,
        "bytes": f"{len(message.body):,}",
    }
    table = Table.grid(padding=(0, 2))
    for field, value in fields.items():
        if value is not None:
            table.add_row(field.replace("_ms", "").replace("_", " "), _cell(value))
    for header, value in sorted(message.headers.items()):
        table.add_row(Text(f"header {_readable(header)}"), _cell(value))
    console = _console()
    console.print(table)
    console.print(_items_table(dead_letter, settings))


def _items_table(dead_letter: DeadLetter, settings: Settings) -> Table | Text:
    """Within the limits that workers have: what they did not decode is too much for us as well."""
    body = dead_letter.message.body
    try:
        body = dead_letters.opened(dead_letter, Seals(settings))
        request, faults = decode_request(
            body,
            dead_letter.message.content_type,
            max_item_bytes=sys.maxsize,
            max_items=settings.max_pack_items,
            max_bytes=settings.largest_pack,
        )
    except SealError as error:
        return Text(f"sealed: {shortened(str(error))}")
    except LmaasError as error:
        start = repr(body[:SHOWN_CHARACTERS])
        return Text(f"{shortened(str(error))}\nbody: {shortened(start)}")
    return _rows_of_items(request, faults)


def _rows_of_items(request: Request, faults: dict[int, ItemError]) -> Table:
    table = Table("item", "content")
    for place, item in enumerate(request.items):
        lines = [str(faults[place])] if place in faults else _content(item)
        table.add_row(_cell(item.id), Text("\n").join(map(_cell, lines)))
    return table


def _content(item: Item) -> list[str]:
    """A line for each text and each tensor; of bytes, how many there are of what."""
    if item.data is not None:
        return [f"{item.media_type or 'data'}, {len(item.data):,} bytes"]
    if item.tensors is not None:
        return [
            f"{name}: {tensor.datatype}{tensor.shape}, {len(tensor.data):,} bytes"
            for name, tensor in item.tensors.items()
        ]
    return [text for text in (item.text, item.text_pair) if text is not None]


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)


def _moment(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "?"
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000).astimezone()
    except (ValueError, OverflowError, OSError):  # a foreign program's idea of time
        return "?"
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _cell(value: object) -> Text:
    """Without markup and control characters, which a foreign program may have written."""
    return Text("" if value is None else shortened(str(value)))


def shortened(text: str) -> str:
    """At most so many characters of a text, on one line."""
    if len(text) > SHOWN_CHARACTERS:
        text = text[: SHOWN_CHARACTERS - 1] + "…"
    return _readable(text)


def _readable(text: str) -> str:
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
