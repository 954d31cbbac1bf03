"""Texts as they are, for graphs that tokenize by themselves: the kind "strings"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from lmaas.broker_config.errors import ModelDamaged
from lmaas.broker_config.messages import Item, ItemError
from lmaas.workers.batcher import Batch
from lmaas.workers.model_version import MANIFEST, ModelVersion
from lmaas.workers.preprocess.one_text import EXAMPLES, fault

#: As NumPy calls the type of the input's values.
STRING: Final = "object"


class Strings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind",
    tag="strings",
):  # fmt: skip
    """What the manifest says of it: nothing else."""


class StringPreprocessor:
    """Fills the graph's one input, [rows] or [rows, 1]."""

    examples: Final = EXAMPLES

    def __init__(self, version: ModelVersion, how: dict[str, Any]) -> None:
        """Raises ModelDamaged."""
        msgspec.convert(how, Strings)
        inputs = version.manifest.inputs
        if len(inputs) != 1 or inputs[0].dtype != STRING or inputs[0].shape[1:] not in ([], [1]):
            raise ModelDamaged(
                f"{version.file(MANIFEST)}: preprocessing 'strings' fills one input of {STRING!r}, "
                "[rows] or [rows, 1]; this one takes "
                f"{', '.join(f'{one.name} of {one.dtype!r}, {one.shape}' for one in inputs)}"
            )
        (self._input,) = inputs

    def check(self, item: Item) -> ItemError | None:
        return fault(item)

    def encode(self, items: Sequence[Item]) -> EncodedStrings:
        shape = self._input.shape[1:]
        return EncodedStrings([item.text or "" for item in items], self._input.name, shape)


class EncodedStrings:
    """Some texts; their length is in bytes."""

    def __init__(self, texts: list[str], name: str, shape: Sequence[int | None]) -> None:
        self.lengths = [len(text.encode(errors="replace")) or 1 for text in texts]
        self._texts = texts
        self._name = name
        self._shape = tuple(shape)

    def arrays(self, batch: Batch) -> dict[str, npt.NDArray[Any]]:
        # Rows that only fill up repeat the first.
        positions = batch.positions + [batch.positions[0]] * (batch.rows - len(batch.positions))
        # Of objects: NumPy's own strings end before zero bytes.
        texts = np.array([self._texts[position] for position in positions], object)
        return {self._name: texts.reshape(batch.rows, *self._shape)}
