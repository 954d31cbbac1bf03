"""A column of bytes in Parquet (`--bytes-column`): binary, or the struct {bytes, path} that the
`datasets` library of Hugging Face writes for pictures and sounds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import DataError, OptionError
from lmaas.broker_config.media_types import START, of_content
from lmaas.broker_config.messages import ItemError
from lmaas.producer.tables import arrow_types
from lmaas.producer.tables.arrow import arrow
from lmaas.producer.tables.chunks import Chunk
from lmaas.producer.tables.contents import checked
from lmaas.producer.tables.quoting import quoted, shown
from lmaas.producer.tables.wanted import BYTES_OPTION, TEXT_OPTION, Wanted

_BYTES: Final = "bytes"
_PATH: Final = "path"
_TOLD: Final = ("bytes", BYTES_OPTION)
_MISSING: Final = ItemError(code=Code.INVALID_ITEM, message="the row has no bytes")
_ANYTHING: Final = ("*/*",)


@dataclass(frozen=True, slots=True)
class DataColumn:
    """Where the bytes are."""

    #: By which the file is read: its text column is the one of bytes.
    wanted: Wanted
    #: Whether they are in a struct.
    in_struct: bool

    def filled(self, chunk: Chunk) -> Chunk:
        """A chunk of what the file has as one of items."""
        taking = self.wanted.taking
        values = chunk.texts
        names = [None] * len(values)
        if self.in_struct:
            names = [value and value.get(_PATH) for value in values]
            values = [value and value.get(_BYTES) for value in values]
        contents = [
            _MISSING if value is None else checked(value, taking.max_bytes) for value in values
        ]
        taken = taking.media_types or _ANYTHING
        media = [
            None
            if isinstance(content, ItemError)
            else of_content(name or "", content[:START], taken)
            for name, content in zip(names, contents, strict=True)
        ]
        return dataclasses.replace(chunk, texts=contents, media=media, encoded=False)


def data_column(schema: Any, file: str, wanted: Wanted) -> DataColumn:
    """The column of bytes that is wanted. Without columns to keep, all others are kept, and the
    names of the files that stand beside the bytes.

    Raises DataError when there is none, or the column has something else.
    """
    name = wanted.data
    assert name is not None
    if wanted.text is not None or wanted.pair is not None:
        raise OptionError(f"{file}: {BYTES_OPTION} names what is classified; leave out the texts")
    if wanted.taking.media_types == ():
        raise DataError(
            f"{file}: the model takes texts, and no bytes; name the column of texts with "
            f"{TEXT_OPTION}"
        )
    way = arrow_types.path(schema, shown(name))
    if not way:
        asked = dataclasses.replace(wanted, text=name, told=_TOLD)
        asked.text_of(schema.names, file, arrow_types.nested_names(schema))
    kind = arrow_types.plain(arrow_types.kind_at(schema, way))
    in_struct = _is_struct(kind)
    if not (in_struct or _is_binary(kind)):
        raise DataError(
            f"{file}: column {quoted(name)} has the type {kind}, and no bytes; name one that has, "
            f"with {BYTES_OPTION}"
        )
    has_path = in_struct and _PATH in [one.name for one in kind]
    keep = wanted.keep
    if keep is None:
        others = [one for one in schema.names if one != way[0]]
        keep = (*([f"{name}.{_PATH}"] if has_path else []), *others)
    asked = dataclasses.replace(wanted, text=name, keep=keep, data=None, told=_TOLD)
    return DataColumn(asked, in_struct)


def has_bytes(kind: Any) -> bool:
    """Whether a column of this Arrow type has bytes, as they are or in a struct."""
    plain = arrow_types.plain(kind)
    return _is_binary(plain) or _is_struct(plain)


def _is_binary(kind: Any) -> bool:
    types = arrow("Parquet").types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def _is_struct(kind: Any) -> bool:
    types = arrow("Parquet").types
    if not types.is_struct(kind):
        return False
    return any(one.name == _BYTES and _is_binary(one.type) for one in kind)
