"""The linear network from a data set to the worker's runtime. TensorFlow has no part in it."""

from __future__ import annotations

import random
import resource
from pathlib import Path

import numpy as np
import pytest

from lmaas.broker_config.errors import ModelDamaged, TrainingError
from lmaas.training import export as export_module
from lmaas.training.datasets.dataset import Dataset, Split, text_items
from lmaas.training.export import TOLERANCE, Trained, export
from lmaas.training.networks import Network, linear
from lmaas.training.recipe import Recipe
from lmaas.workers.manifest import MODEL
from lmaas.workers.model_version import ModelVersion, read_version
from lmaas.workers.runtime import Runtime

WORDS = ["card", "payment", "transfer", "refund", "password", "address"]
#: Whatever people send.
ODD = [
    "",
    " ",
    "?!",
    "card",
    "cards and pasword",
    "東京 é \U0001f600",
    "card " * 40_000,
    " ".join(f"word{i}" for i in range(60_000)),
    "x" * 1_000_000,
]


def split(size: int, classes: int, seed: int) -> Split:
    """Texts with a word, or one of its forms, that gives the class away."""
    generator = random.Random(seed)
    labels = [i % classes for i in range(size)]
    texts = []
    for label in labels:
        word = WORDS[label] if label < len(WORDS) else f"topic{label}"
        said = [f"w{generator.randrange(30)}" for _ in range(generator.randrange(6))]
        texts.append(" ".join([*said, word + generator.choice(["", "s", "ed"])]))
    return Split(items=text_items(texts), labels=np.array(labels, np.int32))


def dataset(train: int, validation: int, classes: int) -> Dataset:
    return Dataset(
        name="asked",
        labels=tuple(f"l{i:04}" for i in range(classes)),
        train=split(train, classes, 1),
        validation=split(validation, classes, 2),
        test=split(60, classes, 3),
        sha256="0" * 64,
    )


def exported(data: Dataset, folder: Path) -> tuple[Network, ModelVersion]:
    network = linear.fit("linear", data, Recipe(), None).network
    trained = Trained(
        name="asked",
        architecture="linear",
        network=network,
        labels=data.labels,
        samples=data.test.items,
        dataset={},
        evaluation=None,
        record={},
    )
    return network, read_version(export(trained, folder))


@pytest.mark.parametrize("classes", [2, 5])
def test_what_is_served_is_what_was_trained(classes: int, tmp_path: Path) -> None:
    data = dataset(200, 20, classes)
    network, version = exported(data, tmp_path)
    runtime = Runtime(version)
    odd = text_items(ODD)
    served = runtime.scores([*odd, *data.test.items])
    trained = np.concatenate([network.predict([item]) for item in odd])
    alone = np.concatenate([runtime.scores([item]) for item in odd])
    assert np.abs(served[: len(ODD)] - trained).max() <= TOLERANCE
    assert np.abs(served[: len(ODD)] - alone).max() <= TOLERANCE
    assert served.sum(axis=1) == pytest.approx(np.ones(len(served)), abs=1e-5)
    assert (served[len(ODD) :].argmax(axis=1) == data.test.labels).mean() > 0.95


@pytest.mark.parametrize(
    ("train", "validation", "classes"),
    [(2, 1, 2), (3, 1, 3), (1, 1, 2), (450, 5, 150), (40, 1, 17)],
)
def test_any_split_can_be_learnt_from(train: int, validation: int, classes: int) -> None:
    data = dataset(train, validation, classes)
    fitted = linear.fit("linear", data, Recipe(), None)
    scores = fitted.network.predict(text_items(["", "card", "topic7 topic9"]))
    assert scores.shape == (3, classes)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    "texts", [["", "", ""], ["!", "?", "."], ["a", "a", "a"], [text[:4000] for text in ODD]]
)
def test_any_text_can_be_learnt_from(texts: list[str]) -> None:
    items = text_items(texts)
    labels = (np.arange(len(items)) % 2).astype(np.int32)
    one = Split(items=items, labels=labels)
    data = Dataset(name="x", labels=("a", "b"), train=one, validation=one, test=one, sha256="")
    scores = linear.fit("linear", data, Recipe(), None).network.predict(items)
    assert np.isfinite(scores).all()


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Bytes of a file: the graph is larger. Python ignores the signal, so that a write fails.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, limits[1]))
    try:
        with pytest.raises(TrainingError, match=r"File too large; nothing was exported"):
            exported(dataset(40, 4, 2), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "asked").iterdir()) == []


def test_an_interruption_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        assert list(tmp_path.rglob(MODEL))  # it is half written
        raise KeyboardInterrupt

    monkeypatch.setattr(export_module, "measured", interrupted)
    with pytest.raises(KeyboardInterrupt):
        exported(dataset(40, 4, 2), tmp_path)
    assert list((tmp_path / "asked").iterdir()) == []


def test_a_damaged_vocabulary_is_refused(tmp_path: Path) -> None:
    _, version = exported(dataset(30, 6, 2), tmp_path)
    version.contents[linear.VOCABULARY] = b"no"
    with pytest.raises(ModelDamaged, match="not a vocabulary of n-grams"):
        Runtime(version)
