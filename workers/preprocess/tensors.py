"""Ready-made inputs, as the items bring them along: the kind "tensors"."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import ModelDamaged
from lmaas.broker_config.messages import DATATYPES, Item, ItemError, Tensor
from lmaas.workers.batcher import Batch
from lmaas.workers.manifest import Input
from lmaas.workers.model_version import ModelVersion
from lmaas.workers.preprocess.strings import STRING

_STRINGS: Final = "BYTES"
_LENGTH: Final = struct.Struct("<I")


def _dtype(datatype: str) -> str:
    """What NumPy calls a type of the Open Inference Protocol."""
    if datatype == _STRINGS:
        return STRING
    return datatype.replace("FP", "float").lower()


#: By NumPy's names.
DATATYPE: Final = {_dtype(datatype): datatype for datatype in DATATYPES}


class Tensors(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind",
    tag="tensors",
):  # fmt: skip
    """What the manifest says of it; its `inputs` say the rest."""

    #: Of inputs that take strings: one that the model knows, to try it with.
    words: dict[str, str] = {}


class TensorPreprocessor:
    """Puts the tensors of items, each without a dimension for rows, together as rows."""

    def __init__(self, version: ModelVersion, how: dict[str, Any]) -> None:
        """Raises ModelDamaged."""
        words = msgspec.convert(how, Tensors).words
        self._inputs = version.manifest.inputs
        for one in self._inputs:
            if one.dtype not in DATATYPE:
                raise ModelDamaged(
                    f"{version.path}: its input {one.name!r} is of {one.dtype}, which no item can "
                    f"have (they can have {', '.join(DATATYPE)})"
                )
            if not one.shape:
                raise ModelDamaged(f"{version.path}: its input {one.name!r} has no rows")
        self.examples = [
            Item(
                id=name,
                tensors={
                    one.name: _filled(one, words.get(one.name, value)) for one in self._inputs
                },
            )
            for name, value in (("1", 1), ("0", 0))
        ]

    def check(self, item: Item) -> ItemError | None:
        given = item.tensors
        if given is None:
            what = "a text" if item.text is not None else "data"
            return _invalid(f"this model takes tensors ({self._listed()}); the item has {what}")
        if given.keys() != {one.name for one in self._inputs}:
            named = ", ".join(map(repr, given))
            return _invalid(f"this model takes {self._listed()}; the item has {named}")
        for one in self._inputs:
            tensor = given[one.name]
            sides = zip(one.shape[1:], tensor.shape, strict=False)
            fits = len(tensor.shape) == len(one.shape) - 1 and all(a in (None, b) for a, b in sides)
            if tensor.datatype != DATATYPE[one.dtype] or not fits:
                return _invalid(
                    f"tensor {one.name!r} is {tensor.datatype} {tensor.shape}; this model takes "
                    f"{_words(one)}"
                )
        return None

    def _listed(self) -> str:
        return ", ".join(f"{one.name!r} {_words(one)}" for one in self._inputs)

    def encode(self, items: Sequence[Item]) -> EncodedTensors:
        return EncodedTensors(items, self._inputs)


class EncodedTensors:
    """The tensors of some items."""

    def __init__(self, items: Sequence[Item], inputs: Sequence[Input]) -> None:
        self.lengths = [item.size or 1 for item in items]
        self._items = items
        self._inputs = inputs

    def arrays(self, batch: Batch) -> dict[str, npt.NDArray[Any]]:
        return {one.name: self._rows(batch, one) for one in self._inputs}

    def _rows(self, batch: Batch, one: Input) -> npt.NDArray[Any]:
        given = [(self._items[position].tensors or {})[one.name] for position in batch.positions]
        rows = [_values(tensor, one.dtype) for tensor in given]
        # Rows that only fill up repeat the first.
        return np.stack(rows + rows[:1] * (batch.rows - len(rows)))


def _values(tensor: Tensor, dtype: str) -> npt.NDArray[Any]:
    if tensor.datatype == _STRINGS:
        flat = np.array(_strings(tensor.data), object)
    else:
        flat = np.frombuffer(tensor.data, np.dtype(dtype).newbyteorder("<")).astype(dtype)
    return flat.reshape(tensor.shape)


def _strings(data: bytes) -> list[str]:
    """Raises UnicodeDecodeError for what is not UTF-8: ONNX has no other strings."""
    found = []
    place = 0
    while place < len(data):
        (length,) = _LENGTH.unpack_from(data, place)
        place += _LENGTH.size
        found.append(data[place : place + length].decode())
        place += length
    return found


def _filled(one: Input, value: int | str) -> Tensor:
    """An example; a dimension that is free has 1."""
    shape = [side or 1 for side in one.shape[1:]]
    datatype = DATATYPE[one.dtype]
    filled = np.full(shape, str(value) if datatype == _STRINGS else int(value), object)
    return tensor(filled.tolist(), datatype)


def tensor(values: Any, datatype: str) -> Tensor:
    """Of numbers, or of texts for BYTES, in nested lists. Raises ValueError or TypeError for what
    is no such."""
    if datatype == _STRINGS:
        array = np.array(values, object)
        if not all(isinstance(text, str) for text in array.flat):
            raise TypeError("it takes texts")
        texts = [text.encode() for text in array.flat]
        data = b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    else:
        named = next(name for name, known in DATATYPE.items() if known == datatype)
        array = np.array(values, np.dtype(named).newbyteorder("<"))
        data = array.tobytes()
    return Tensor(shape=list(array.shape), datatype=datatype, data=data)


def item_of_json(content: bytes, item_id: str, datatypes: Mapping[str, str]) -> Item:
    """Of `{"x": [[1.5, 2]]}`, values by the names of the inputs, whose types are `datatypes`; or of
    an item as JSON has it in requests. Raises ValueError."""
    try:
        found = msgspec.json.decode(content, type=dict[str, Any])
        if found.keys() <= {"id", "tensors"} and not found.keys() <= datatypes.keys():
            return msgspec.convert({"id": item_id, **found}, Item)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error
    return Item(
        id=item_id,
        tensors={name: _named(name, values, datatypes) for name, values in found.items()},
    )


def _named(name: str, values: Any, datatypes: Mapping[str, str]) -> Tensor:
    """Raises ValueError."""
    if name not in datatypes:
        raise ValueError(f"it has no input {name!r}; there are: {', '.join(map(repr, datatypes))}")
    try:
        return tensor(values, datatypes[name])
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name!r}: {error}") from error


def _words(one: Input) -> str:
    return f"{DATATYPE[one.dtype]} {one.shape[1:]}".replace("None", "?")


def _invalid(message: str) -> ItemError:
    return ItemError(code=Code.INVALID_ITEM, message=message)
