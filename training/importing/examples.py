"""Items that a user has to try a model with: a table of texts, files of bytes, or JSON Lines."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.item_errors import text_error
from lmaas.broker_config.messages import Item
from lmaas.producer.tables import Place, Wanted, open_table
from lmaas.training.importing.graph import read

#: Enough to measure with.
MOST: Final = 256
_KINDS_OF_TEXT: Final = frozenset({"tokens", "words", "strings"})


def read_examples(path: Path, preprocessing: dict[str, Any], max_item_bytes: int) -> list[Item]:
    """The first items of a file, or those of a folder. Raises DataError."""
    kind = preprocessing["kind"]
    if kind in _KINDS_OF_TEXT:
        found = _texts(path, bool(preprocessing.get("pairs")), max_item_bytes)
    elif path.suffix == ".jsonl":
        found = _items(path)
    else:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        found = (bytes_item(file) for file in files)
    items = list(islice(found, MOST))
    if not items:
        raise DataError(f"{path}: there is no item in it")
    return items


def bytes_item(path: Path) -> Item:
    """A file as an item. Raises DataError."""
    return Item(id=path.name, data=read(path), media_type=mimetypes.guess_type(path.name)[0])


def _texts(path: Path, pairs: bool, max_item_bytes: int) -> Iterator[Item]:
    wanted = Wanted(keep=(), pair="text_pair" if pairs else None)
    table = open_table(Place.of(str(path), None), wanted)
    try:
        for chunk in table.chunks:
            seconds = chunk.pairs or [None] * len(chunk)
            for at, (text, pair) in enumerate(zip(chunk.texts, seconds, strict=True)):
                good = at not in chunk.faults and not text_error(text, max_item_bytes)
                if good and (pair is None or not text_error(pair, max_item_bytes)):
                    yield Item(id=f"{table.unit} {chunk.lines[at]}", text=text, text_pair=pair)
    finally:
        table.close()


def _items(path: Path) -> Iterator[Item]:
    for number, line in enumerate(read(path).splitlines(), 1):
        try:
            found = msgspec.json.decode(line, type=dict[str, Any])
            yield msgspec.convert({"id": f"line {number}", **found}, Item)
        except msgspec.DecodeError as error:
            raise DataError(f"{path}: line {number}: no item: {error}") from error
