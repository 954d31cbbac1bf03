"""A table as a stream of items, for a batch job; a row that cannot be read has an error."""

from __future__ import annotations

from collections.abc import AsyncIterator

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import Item, ItemError
from lmaas.producer.rows import ids_of, maker_of
from lmaas.producer.tables import Chunk, Table
from lmaas.producer.tables.cells import well_formed
from lmaas.producer.threads import beside


async def table_items(table: Table, max_bytes: int) -> AsyncIterator[Item]:
    """The only column that is kept, if any, has the ids."""
    id_column = next(iter(table.columns), None)
    while (chunk := await beside(lambda: next(table.chunks, None))) is not None:
        for item in _chunk_items(chunk, id_column, max_bytes):
            yield item


def _chunk_items(chunk: Chunk, id_column: str | None, max_bytes: int) -> list[Item]:
    ids = ids_of(chunk, id_column)
    make = maker_of(chunk)
    return [
        Item(id=item_id, error=_unreadable(fault, max_bytes))
        if (fault := chunk.faults.get(position))
        else make(chunk, position, item_id, max_bytes)
        for position, item_id in enumerate(ids)
    ]


def _unreadable(fault: str, max_bytes: int) -> ItemError:
    """The fault may have all of a row; a message takes no more of it than of a text."""
    message = well_formed(fault)
    if len(message) * 4 > max_bytes and len(message.encode()) > max_bytes:
        message = message.encode()[:max_bytes].decode("utf-8", "ignore") + "…"
    return ItemError(code=Code.UNREADABLE_ROW, message=message)
