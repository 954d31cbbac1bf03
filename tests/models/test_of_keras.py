"""Banking77 by a Keras model with its own TextVectorization, imported: the same probabilities."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from lmaas.broker_config.messages import Item
from lmaas.training import quietly
from lmaas.training.importing import adding, imported
from lmaas.training.importing.proposal import Options
from lmaas.workers.model_version import read_version
from lmaas.workers.runtime import Runtime

with quietly():
    import keras
    import tensorflow as tf

pytestmark = [
    pytest.mark.models,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
WORDS = 4000


def read(path: Path) -> tuple[list[str], list[str]]:
    if not path.is_file():
        pytest.skip(f"banking77/{path.name} is not in LMAAS_DATASETS")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["category"] for row in rows]


def test_banking77(datasets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts, labels = read(datasets / "banking77" / "train.csv")
    asked, right = read(datasets / "banking77" / "test.csv")
    names = sorted(set(labels))
    keras.utils.set_random_seed(17)
    words = keras.layers.TextVectorization(max_tokens=WORDS, output_sequence_length=64)
    words.adapt(texts)
    model = keras.Sequential(
        [
            keras.Input((1,), dtype="string"),
            words,
            keras.layers.Embedding(WORDS, 64, mask_zero=True),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(len(names), "softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    numbers = np.array([names.index(label) for label in labels])
    model.fit(tf.constant(texts)[:, None], numbers, batch_size=64, epochs=8, verbose=0)
    model.save(tmp_path / "banking.keras")
    proposal = imported(tmp_path / "banking.keras", Options(labels=tuple(names)))
    place, _ = adding.add(proposal, "banking", [], out_root=tmp_path / "models")
    scores = Runtime(read_version(place)).scores([Item(id="", text=text) for text in asked])
    expected = model.predict(tf.constant(asked)[:, None], verbose=0)
    difference = float(np.abs(scores - expected).max())
    chosen = [names[at] for at in scores.argmax(axis=1)]
    accuracy = np.mean([one == label for one, label in zip(chosen, right, strict=True)])
    with capsys.disabled():
        sys.stdout.write(f"\nBanking77: accuracy {accuracy:.4f}, differs by {difference:.1e}\n")
    assert difference < 1e-4
