"""The rows of a chunk as packs of items, and the results of packs as columns of answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain

from lmaas.broker_config.codes import Code
from lmaas.broker_config.item_errors import pair_item, text_item
from lmaas.broker_config.messages import Item, ItemError, Result
from lmaas.broker_config.settings import Settings
from lmaas.producer.packer import Estimate, Packer
from lmaas.producer.tables import Answers, Chunk
from lmaas.producer.tables.cells import ABSENT, cell, ranking
from lmaas.producer.tables.chunks import column_of
from lmaas.producer.tables.quoting import shown
from lmaas.producer.tables.unicode import ENCODING_HINT


def ids_of(chunk: Chunk, column: str | None) -> list[str]:
    """What its rows are called in a job: as this column says, or by their numbers from 0."""
    numbers = range(chunk.start, chunk.start + len(chunk))
    found = numbers if column is None else column_of(chunk, column)
    ids = [None] * len(chunk) if found is None else found
    # A row that could not be read has no id: its number stands for it.
    return [
        str(number) if one is None or one is ABSENT else shown(cell(one))
        for number, one in zip(numbers, ids, strict=True)
    ]


def maker_of(chunk: Chunk) -> Callable[[Chunk, int, str, int], Item]:
    """What makes an item of a row of the chunk, of its position, an id and the bytes at most."""
    return item_of if chunk.media is None else data_of


def data_of(chunk: Chunk, position: int, item_id: str, max_bytes: int) -> Item:
    """The item of a row of bytes, which its reader has checked."""
    assert chunk.media is not None
    content = chunk.texts[position]
    if isinstance(content, ItemError):
        return Item(id=item_id, error=content)
    return Item(id=item_id, data=content, media_type=chunk.media[position])


def item_of(chunk: Chunk, position: int, item_id: str, max_bytes: int) -> Item:
    """The item of a row of the chunk; what is no text has an error, which says what to do."""
    text = chunk.texts[position]
    if chunk.pairs is None:
        item = text_item(item_id, text, max_bytes)
    else:
        item = pair_item(item_id, text, chunk.pairs[position], max_bytes)
    error = item.error
    if error is not None and error.code == Code.INVALID_UTF8 and chunk.encoded:
        error = ItemError(code=error.code, message=f"{error.message}; {ENCODING_HINT}")
        return Item(id=item_id, error=error)
    return item


def packs_of(
    chunk: Chunk, settings: Settings, estimate: Estimate | None = None
) -> tuple[list[list[Item]], dict[int, str]]:
    """The rows that can be sent, in packs (see Packer), and why others cannot."""
    packs: list[list[Item]] = []
    errors: dict[int, str] = {}
    packer = Packer(settings, estimate)
    make = maker_of(chunk)
    for position in range(len(chunk)):
        if fault := chunk.faults.get(position):
            errors[position] = f"{Code.UNREADABLE_ROW}: {fault}"
            continue
        item = make(chunk, position, str(chunk.start + position), settings.max_item_bytes)
        if item.error is not None:
            errors[position] = _told(item.error)
            continue
        if pack := packer.add(item):
            packs.append(pack)
    if pack := packer.rest():
        packs.append(pack)
    return packs, errors


def answers_of(
    chunk: Chunk, errors: dict[int, str], results: Iterable[list[Result]], *, ranked: bool
) -> Answers:
    """The columns of a chunk's answers, from the errors of `packs_of` and the packs' results."""
    size = len(chunk)
    labels: list[str | list[str] | None] = [None] * size
    scores: list[float | None] = [None] * size
    told = [errors.get(position) for position in range(size)]
    rankings: list[str | None] = [None] * size
    for result in chain.from_iterable(results):
        position = int(result.id) - chunk.start
        if result.error is not None:
            told[position] = _told(result.error)
            continue
        labels[position] = label_of(result)
        scores[position] = result.score
        if ranked:
            rankings[position] = ranking(result.scores or {})
    return Answers(labels, scores, told, rankings if ranked else None)


def label_of(result: Result) -> str | list[str] | None:
    """The label of an item, or the list of all that it has where it may have several."""
    return result.label if result.labels is None else result.labels


def _told(error: ItemError) -> str:
    return f"{error.code}: {error.message}"
