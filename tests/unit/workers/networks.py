"""Tiny models whose scores are made to order, as versions on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from lmaas.workers.manifest import (
    PROBABILITIES as OUTPUT,
)
from lmaas.workers.manifest import (
    WORD_BATCHING,
    WORD_INPUTS,
)
from tests import versions

VOCABULARY = "vocabulary.txt"
WORDS = ("good", "bad", "strange")
#: Scores of a text by its first word: padding, unknown words, then WORDS.
PROBABILITIES = ((0.5, 0.5), (0.5, 0.5), (0.1, 0.9), (0.9, 0.1), (0.25, 0.75))


def save(
    folder: Path,
    rows: Sequence[Sequence[float]] = PROBABILITIES,
    *,
    words: Sequence[str] = WORDS,
    external: str | None = None,
) -> Path:
    """A version in `folder` that gives a text the row of its first word.

    `external` is a file for the rows: ONNX's external data, which the manifest does not list.
    """
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["ids", "first"], ["words_"], axis=1),
            helper.make_node("Gather", ["rows", "words_"], ["scores"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("ids", TensorProto.INT32, ["texts", "words"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["texts", len(rows[0])])],
        [
            numpy_helper.from_array(np.array(rows, np.float32), "rows"),
            numpy_helper.from_array(np.array(0, np.int64), "first"),
        ],
    )
    versions.save_graph(
        folder,
        graph,
        save_as_external_data=external is not None,
        location=external,
        size_threshold=0,
    )
    (folder / VOCABULARY).write_text("".join(f"{word}\n" for word in words))
    describe(folder, [f"label {place}" for place in range(len(rows[0]))])
    return folder


def save_multi_label(folder: Path) -> Path:
    """A version whose labels are right or not each by itself: a good text has "calm" and "kind", a
    bad one "loud", a strange one nothing for sure, and others no label at all.
    """
    nothing = (0.01, 0.02, 0.03)
    save(folder, [nothing, nothing, (0.7, 0.9, 0.1), (0.2, 0.1, 0.8), (0.4, 0.3, 0.2)])
    describe(folder, ["calm", "kind", "loud"], meaning="independent")
    return folder


def describe(folder: Path, labels: Sequence[str], *more: str, meaning: str = "exclusive") -> None:
    """Write a manifest with the checksums of the model, its vocabulary and `more` files."""
    made = versions.manifest(
        {"kind": "words", "file": VOCABULARY, "max_tokens": 8},
        WORD_INPUTS,
        WORD_BATCHING,
        VOCABULARY,
        *more,
        labels=labels,
        head={**OUTPUT, "meaning": meaning},
        architecture="gap",
    )
    versions.describe(folder, made)
