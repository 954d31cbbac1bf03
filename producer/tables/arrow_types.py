"""Arrow types: what the formats can hold of them, and their values in Python."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from lmaas.producer.tables.arrow import arrow

_Leaf = Callable[[Any], Any]


def plain(kind: Any) -> Any:
    """The type without dictionaries, however deep: an Arrow stream has them only at its top."""
    return _mapped(kind, lambda leaf: leaf)


def path(schema: Any, name: str) -> list[str]:
    """The names of the fields down to the one of this name, as `review.body`; [] without one.

    A name that is there as it is comes before one that means a field inside another.
    """
    pa = arrow("Parquet")
    names = [one.name for one in schema]
    if name in names:
        return [name]
    outer, _, inner = name.partition(".")
    if not inner or names.count(outer) != 1:
        return []
    kind = schema.field(outer).type
    way = path(kind, inner) if pa.types.is_struct(kind) else []
    return [outer, *way] if way else []


def nested_names(kind: Any) -> list[str]:
    """Names of the fields of a struct, as `review.body`; of a schema only those inside others."""
    pa = arrow("Parquet")
    if not isinstance(kind, pa.Schema) and not pa.types.is_struct(kind):
        return []
    names = []
    for one in kind:
        inner = nested_names(one.type)
        names += [f"{one.name}.{name}" for name in inner]
        if not inner and not isinstance(kind, pa.Schema):
            names.append(one.name)
    return names


def kind_at(schema: Any, way: list[str]) -> Any:
    kind = schema
    for name in way:
        kind = next(one.type for one in kind if one.name == name)
    return kind


def array_at(batch: Any, way: list[str], kind: Any) -> Any:
    """The array of a field, which has this type, without dictionaries."""
    array, wanted = inside(batch.column(way[0]), way[1:]), plain(kind)
    return array if array.type == wanted else array.cast(wanted)


def decoded_bytes(array: Any) -> int:
    """Of its values, those of dictionaries, however deep, as often as they are named."""
    pa = arrow("Parquet")
    import pyarrow.compute as pc

    types, kind = pa.types, array.type
    if types.is_dictionary(kind) and _is_binary(kind.value_type):
        lengths = pc.binary_length(array.dictionary)
        return pc.sum(pc.take(lengths, array.indices).cast(pa.int64())).as_py() or 0
    if types.is_struct(kind):
        return sum(map(decoded_bytes, array.flatten()))
    if types.is_map(kind):  # which Arrow cannot flatten
        begin, end = array.offsets[0].as_py(), array.offsets[-1].as_py()
        return sum(decoded_bytes(one[begin:end]) for one in (array.keys, array.items))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return decoded_bytes(array.flatten())
    return int(array.nbytes)


def longest_of_dictionary(array: Any) -> int:
    """Bytes of the longest value of each dictionary that each row has one value of, together."""
    pa = arrow("Parquet")
    import pyarrow.compute as pc

    if pa.types.is_dictionary(array.type) and _is_binary(array.type.value_type):
        return pc.max(pc.binary_length(array.dictionary)).as_py() or 0
    if pa.types.is_struct(array.type):
        return sum(map(longest_of_dictionary, array.flatten()))
    return 0


def _is_binary(kind: Any) -> bool:
    types = arrow("Parquet").types
    return bool(
        types.is_string(kind)
        or types.is_binary(kind)
        or types.is_large_string(kind)
        or types.is_large_binary(kind)
    )


def inside(array: Any, way: list[str]) -> Any:
    """The array of a field inside the values of this one, without dictionaries."""
    arrow("Parquet")
    import pyarrow.compute as pc

    for name in way:
        array = pc.struct_field(array, [array.type.get_field_index(name)])
    return _cast(array, plain)


def python(array: Any) -> list[Any]:
    """Values that JSON has; bytes of a string that are no UTF-8 as "surrogateescape" has them."""
    array = _cast(array, lambda kind: _mapped(kind, _readable))
    try:
        values: list[Any] = array.to_pylist()
    except UnicodeDecodeError:
        values = _cast(array, lambda kind: _mapped(kind, _binary)).to_pylist()
        return [_decoded(value, array.type) for value in values]
    return values


def unreadable(kind: Any) -> str | None:
    """Why values of this type cannot be had, or None."""
    pa = arrow("Parquet")
    try:
        python(_cast(pa.nulls(1, kind), plain))
    except (pa.ArrowException, OSError, TypeError, ValueError) as error:
        return _first_line(error)
    return None


def unwritable(kind: Any) -> str | None:
    """Why Parquet cannot have a column of this type, or None."""
    pa = arrow("Parquet")
    import pyarrow.parquet as pq

    try:
        batch = pa.record_batch({"column": pa.nulls(1, kind)})
        stream = batch.schema.serialize().to_pybytes() + batch.serialize().to_pybytes()
        pq.write_table(pa.ipc.open_stream(stream).read_all(), io.BytesIO())
    except (pa.ArrowException, OSError, TypeError, ValueError) as error:
        return _first_line(error)
    return None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _cast(array: Any, how: _Leaf) -> Any:
    pa = arrow("Parquet")
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = how(array.type)
    return array if kind == array.type else array.cast(kind)


def _mapped(kind: Any, leaf: _Leaf) -> Any:
    """The type with others in the place of those that have no types inside."""
    pa = arrow("Parquet")
    types = pa.types
    if types.is_dictionary(kind):
        return _mapped(kind.value_type, leaf)
    if types.is_map(kind):
        if any(map(types.is_null, _leaves(kind.item_type))):
            raise TypeError(
                "maps to nulls cannot be converted"
            )  # Arrow 26 makes broken maps of them
        return pa.map_(_mapped(kind.key_type, leaf), _mapped(kind.item_type, leaf))
    if types.is_struct(kind):
        return pa.struct([one.with_type(_mapped(one.type, leaf)) for one in kind])
    if types.is_fixed_size_list(kind):
        return pa.list_(_inner(kind, leaf), kind.list_size)
    if types.is_large_list(kind):
        return pa.large_list(_inner(kind, leaf))
    if types.is_list(kind):
        return pa.list_(_inner(kind, leaf))
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        raise TypeError("views of lists cannot be converted")  # Arrow 26 makes broken lists of them
    return leaf(kind)


def _leaves(kind: Any) -> list[Any]:
    """The types without others inside."""
    found: list[Any] = []

    def note(leaf: Any) -> Any:
        found.append(leaf)
        return leaf

    _mapped(kind, note)
    return found


def _inner(kind: Any, leaf: _Leaf) -> Any:
    return kind.value_field.with_type(_mapped(kind.value_type, leaf))


def _readable(kind: Any) -> Any:
    """Python has no nanoseconds, no years above 9999, and no decimals or durations in JSON."""
    pa = arrow("Parquet")
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _mapped(kind.storage_type, _readable)
    if types.is_timestamp(kind) or types.is_time(kind) or types.is_date(kind):
        return pa.string()
    if types.is_decimal(kind):
        return pa.string()
    if types.is_duration(kind):
        return pa.int64()
    return pa.float32() if types.is_float16(kind) else kind


def _binary(kind: Any) -> Any:
    pa = arrow("Parquet")
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return pa.binary()
    return pa.large_binary() if pa.types.is_large_string(kind) else kind


def _decoded(value: Any, kind: Any) -> Any:
    """A value with bytes in the place of strings, and the type that it should have."""
    types = arrow("Parquet").types
    if value is None:
        return None
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return value.decode("utf-8", "surrogateescape")
    if types.is_map(kind):
        return [(_decoded(k, kind.key_type), _decoded(v, kind.item_type)) for k, v in value]
    if types.is_struct(kind):
        return {one.name: _decoded(value[one.name], one.type) for one in kind}
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return [_decoded(inner, kind.value_type) for inner in value]
    return value
