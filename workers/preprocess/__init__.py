"""How items become the inputs of a graph: one file a kind, chosen by the version's manifest.

A new kind is a new file here, or the entry point of an installed package in the group
`lmaas.preprocessors`: a function of the version and of what its manifest says under
`preprocessing`, which returns a Preprocessor or raises ModelDamaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy.typing as npt

from lmaas.broker_config.media_types import is_media
from lmaas.broker_config.messages import Item, ItemError
from lmaas.workers.batcher import Batch
from lmaas.workers.kinds import made
from lmaas.workers.model_version import ModelVersion


class Encoded(Protocol):
    """Items that are ready to be put into batches.

    One that finds out only as it encodes, or as it makes arrays, that an item is not what it should
    be has an attribute `faults` as well: see `faults`.
    """

    @property
    def lengths(self) -> Sequence[int]:
        """Of each item, at least 1, in the unit of the manifest's batching."""
        ...

    def arrays(self, batch: Batch) -> dict[str, npt.NDArray[Any]]:
        """The graph's inputs by name, each of `batch.rows` rows: first those of its positions, and
        then whatever the graph can bear."""
        ...


def faults(encoded: Encoded) -> Mapping[int, ItemError]:
    """What was found to be wrong with items so far, by their positions.

    Whatever their rows have, the scores are not looked at.
    """
    found: Mapping[int, ItemError] = getattr(encoded, "faults", {})
    return found


class Preprocessor(Protocol):
    """Knows one kind of item. For one thread.

    One that takes bytes of several media types names them in `media_types`, as `image/png` or
    `image/*`; else it takes those of its examples.
    """

    @property
    def examples(self) -> Sequence[Item]:
        """A few items that it can encode, the simplest first; to try a model with."""
        ...

    def check(self, item: Item) -> ItemError | None:
        """Why the model cannot take the item, or None."""
        ...

    def encode(self, items: Sequence[Item]) -> Encoded:
        """Of items that `check` has found to be good."""
        ...


def preprocessor(version: ModelVersion) -> Preprocessor:
    """Raises ModelDamaged when there is no such kind, or its part of the manifest is wrong."""
    kinds = {
        "image": "lmaas.workers.preprocess.image:ImagePreprocessor",
        "words": "lmaas.workers.preprocess.words:WordPreprocessor",
        "ngrams": "lmaas.workers.preprocess.ngrams:NGramPreprocessor",
        "tokens": "lmaas.workers.preprocess.tokens:TokenPreprocessor",
        "text_vectorization": (
            "lmaas.workers.preprocess.text_vectorization:TextVectorizationPreprocessor"
        ),
        "strings": "lmaas.workers.preprocess.strings:StringPreprocessor",
        "tensors": "lmaas.workers.preprocess.tensors:TensorPreprocessor",
        "audio": "lmaas.workers.preprocess.audio:AudioPreprocessor",
    }
    found: Preprocessor = made(
        "preprocessing", kinds, "lmaas.preprocessors", version, version.manifest.preprocessing
    )
    return found


def media_types(preprocessor: Preprocessor) -> list[str]:
    """Of the bytes that it takes; none when it takes texts or tensors only.

    One that does not name them, and of which an example is a sound, takes all sounds.
    """
    named = getattr(preprocessor, "media_types", None)
    if named is None:
        examples = (item for item in preprocessor.examples if item.data is not None)
        named = dict.fromkeys(_range(item.media_type or "*/*") for item in examples)
    return list(named)


def _range(media_type: str) -> str:
    return f"{media_type.partition('/')[0]}/*" if is_media(media_type) else media_type
