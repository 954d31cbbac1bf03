"""Items that a user has to try a model with: a table of texts, files of bytes, or JSON Lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from lmaas.broker_config import media_types
from lmaas.broker_config.errors import DataError
from lmaas.broker_config.item_errors import text_error
from lmaas.broker_config.messages import Item
from lmaas.producer.tables import Place, Taking, Wanted, open_table
from lmaas.training.importing.graph import read
from lmaas.workers.manifest import Input
from lmaas.workers.preprocess.tensors import DATATYPE, item_of_json

#: Enough to measure with, and to compare answers with; and bytes of all of them.
MEASURED: Final = 256
COMPARED: Final = 2048
MOST_BYTES: Final = 256 * 1024 * 1024
#: What a model of bytes takes, by its preprocessing.
_MEDIA: Final = {"image": ("image/*",), "audio": ("audio/*",)}
_TENSORS: Final = "tensors"


def read_examples(
    path: Path,
    preprocessing: dict[str, Any],
    inputs: Sequence[Input],
    max_item_bytes: int,
    most: int = MEASURED,
) -> list[Item]:
    """The first `most` items of a file, or of a folder, for a model with such a preprocessing and
    such inputs. Raises DataError."""
    kind = preprocessing["kind"]
    if kind not in {*_MEDIA, _TENSORS}:
        found = _texts(path, bool(preprocessing.get("pairs")), max_item_bytes)
    elif kind == _TENSORS:
        found = _tensors(path, {one.name: DATATYPE.get(one.dtype, "") for one in inputs})
    elif path.suffix == ".jsonl":
        found = _items(path)
    else:
        found = _files(path, _MEDIA[kind])
    items = _first(found, most)
    if not items:
        raise DataError(f"{path}: there is no item in it")
    return items


def bytes_item(path: Path) -> Item:
    """A file as an item. Raises DataError."""
    return Item(id=path.name, data=read(path), media_type=media_types.by_name(path.name))


def _first(items: Iterable[Item], most: int) -> list[Item]:
    """So many, unless fewer are large."""
    found: list[Item] = []
    size = 0
    for item in items:
        found.append(item)
        size += item.size
        if len(found) == most or size >= MOST_BYTES:
            break
    return found


def _files(path: Path, taken: tuple[str, ...]) -> Iterator[Item]:
    """Those of a folder that the model takes, wherever in it; or the file itself."""
    if not path.is_dir():
        yield bytes_item(path)
        return
    table = open_table(Place.of(str(path)), Wanted(taking=Taking(taken)))
    try:
        for chunk in table.chunks:
            media = chunk.media or ()
            for name, content, media_type in zip(chunk.lines, chunk.texts, media, strict=True):
                if isinstance(content, bytes):
                    yield Item(id=name, data=content, media_type=media_type)
    finally:
        table.close()


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


def _tensors(path: Path, datatypes: Mapping[str, str]) -> Iterator[Item]:
    if path.suffix != ".jsonl":
        form = ", ".join(f'"{name}": ...' for name in datatypes)
        raise DataError(
            f"{path}: the model takes tensors: give JSON Lines (.jsonl), each as {{{form}}}"
        )
    for number, line in enumerate(read(path).splitlines(), 1):
        try:
            yield item_of_json(line, f"line {number}", datatypes)
        except ValueError as error:
            raise DataError(f"{path}: line {number}: no item: {error}") from error


def _items(path: Path) -> Iterator[Item]:
    for number, line in enumerate(read(path).splitlines(), 1):
        try:
            found = msgspec.json.decode(line, type=dict[str, Any])
            yield msgspec.convert({"id": f"line {number}", **found}, Item)
        except msgspec.DecodeError as error:
            raise DataError(f"{path}: line {number}: no item: {error}") from error
