"""Trains something tiny end to end, through the functions that the command line calls."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from lmaas.broker_config.extras import NEWEST_PYTHON

if sys.version_info[:2] > NEWEST_PYTHON:
    pytest.skip("there is no TensorFlow for this Python", allow_module_level=True)

from lmaas.broker_config.errors import TrainingError
from lmaas.broker_config.messages import Item
from lmaas.service import cores
from lmaas.training import export, networks, quietly
from lmaas.training.datasets.dataset import Dataset, Split, text_items
from lmaas.training.datasets.loading import load_dataset
from lmaas.training.evaluate import Evaluation, log_loss, thresholds
from lmaas.training.networks import Architecture, Fitted
from lmaas.training.networks.fitting import EPOCH_STEPS
from lmaas.training.networks.graph import OPSET
from lmaas.training.recipe import Recipe, Sizes
from lmaas.training.train import train
from lmaas.workers.manifest import WORD_BATCHING
from lmaas.workers.model_version import ModelVersion, read_version
from lmaas.workers.ort import onnxruntime
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime

with quietly():
    import keras
    import tensorflow as tf

RECIPE = Recipe(
    sizes=Sizes(vocabulary=200, pairs=101, triples=101),
    max_tokens=40,
    epochs=4,
    batch=32,
    learning_rate=0.02,
)
WORDS = {
    "good": ["fine", "great", "lovely", "not bad at all"],
    "bad": ["awful", "poor", "not good at all", "boring"],
    "other": ["green", "square", "so what", "maybe"],
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two columns, three labels that a few words give away among words that say nothing."""
    path = tmp_path_factory.mktemp("data") / "opinions.jsonl"
    generator = random.Random(3)
    with path.open("w") as file:
        for _ in range(150):
            for label, words in WORDS.items():
                said = [f"w{generator.randrange(30)}" for _ in range(generator.randrange(1, 30))]
                said.insert(generator.randrange(len(said)), generator.choice(words))
                file.write(json.dumps({"text": " ".join(said), "label": label}) + "\n")
    return path


@pytest.fixture(scope="module")
def dataset(table: Path) -> Dataset:
    return load_dataset(table)


def items(texts: Sequence[str]) -> list[Item]:
    return [Item(id="", text=text) for text in texts]


def two_classes(dataset: Dataset, table: Path, folder: Path) -> Dataset:
    lines = [line for line in table.read_text().splitlines() if '"other"' not in line]
    path = folder / "two.jsonl"
    path.write_text("\n".join(lines))
    return load_dataset(path)


@pytest.fixture(scope="module")
def version(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> ModelVersion:
    root = tmp_path_factory.mktemp("models")
    path = train(dataset, "ngram", out_root=root, name="opinions", recipe=RECIPE)
    assert path == root / "opinions" / "1"
    return Repository(root).find("opinions")


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("gap", {"loss": "mse"}),
        ("ngram", {}),
        ("cnn", {"activation": "tanh"}),
        ("lstm", {"optimizer": "sgd", "learning_rate": 0.5}),
        ("transformer", {"loss": "mse", "learning_rate": 0.005}),
    ],
)
def test_two_classes_are_learnt_and_served(
    dataset: Dataset,
    table: Path,
    tmp_path: Path,
    architecture: Architecture,
    options: dict[str, Any],
) -> None:
    two = two_classes(dataset, table, tmp_path)
    recipe = msgspec.structs.replace(RECIPE, **options)
    train(two, architecture, out_root=tmp_path, name="two", recipe=recipe)
    found = Repository(tmp_path).find("two")
    scores = Runtime(found).scores(items(two.test.texts))
    assert found.manifest.labels == ["bad", "good"]
    assert scores.sum(axis=1) == pytest.approx(np.ones(len(two.test)), abs=1e-6)
    accuracy = (scores.argmax(axis=1) == two.test.labels).mean()
    assert accuracy == found.manifest.metrics["accuracy"] > 0.85


def test_the_manifest_says_what_was_measured(version: ModelVersion, dataset: Dataset) -> None:
    manifest = version.manifest
    scores = Runtime(version).scores(items(dataset.test.texts))
    accuracy = (scores.argmax(axis=1) == dataset.test.labels).mean()
    assert manifest.metrics["accuracy"] == accuracy > 0.85
    assert manifest.labels == ["bad", "good", "other"]
    assert manifest.dataset == {
        "name": "opinions",
        "sha256": dataset.sha256,
        "train": len(dataset.train),
        "validation": len(dataset.validation),
        "test": len(dataset.test),
    }
    assert sorted(manifest.files) == [
        *("evaluation.html", "evaluation.png", "learning.png", "model.onnx", "vocabulary.txt"),
    ]
    cost = manifest.cost
    assert 0 < cost.fixed_seconds < 0.1
    assert 0 < cost.seconds_per_item < 1e-2
    assert 0 < cost.seconds_per_unit < 1e-4
    parallelism = manifest.parallelism
    assert parallelism is not None
    assert parallelism.cores == cores.usable()
    assert {one.threads for one in parallelism.speeds} == {1, cores.usable()}
    assert manifest.batching.most in {one.units for one in parallelism.speeds}
    assert msgspec.structs.replace(manifest.batching, most=WORD_BATCHING.most) == WORD_BATCHING
    assert manifest.training["recipe"]["seed"] == RECIPE.seed
    curves = manifest.training["curves"]
    assert curves["val_loss"].index(min(curves["val_loss"])) + 1 == manifest.training["best_epoch"]


def test_what_is_served_and_measured_is_calibrated(version: ModelVersion, dataset: Dataset) -> None:
    manifest = version.manifest
    metrics = msgspec.convert(manifest.metrics, Evaluation)
    served = Runtime(version).scores(items(dataset.test.texts))
    plain = {name: value for name, value in manifest.head.items() if name != "temperature"}
    bare = replace(version, manifest=msgspec.structs.replace(manifest, head=plain))
    raw = Runtime(bare).scores(items(dataset.test.texts))
    assert manifest.head["temperature"] != 1
    assert served != pytest.approx(raw, abs=1e-3)
    assert (served.argmax(axis=1) == raw.argmax(axis=1)).all()
    for scores, measured in (served, metrics), (raw, metrics.uncalibrated):
        assert measured is not None
        assert measured.log_loss == pytest.approx(log_loss(scores, dataset.test.labels), abs=1e-5)
    assert metrics.thresholds == thresholds(served, dataset.test.labels)


def test_the_page_has_what_the_model_gets_wrong(version: ModelVersion, dataset: Dataset) -> None:
    scores = Runtime(version).scores(items(dataset.test.texts))
    wrong = np.flatnonzero(scores.argmax(axis=1) != dataset.test.labels)
    page = version.content("evaluation.html").decode()
    assert len(wrong) == page.count(" was called <b>")
    assert all(dataset.test.texts[place] in page for place in wrong)


def test_nothing_but_the_version_is_left(version: ModelVersion) -> None:
    assert [path.name for path in version.path.parent.iterdir()] == ["1"]
    assert {path.name for path in version.path.iterdir()} == {
        *version.manifest.files,
        "manifest.json",
    }


def test_answers_do_not_depend_on_the_batch(version: ModelVersion, dataset: Dataset) -> None:
    runtime = Runtime(version)
    together = runtime.scores(items(dataset.test.texts))
    alone = np.concatenate([runtime.scores(items([text])) for text in dataset.test.texts])
    assert np.array_equal(together, alone)


def test_the_graph_is_what_the_runtime_expects(version: ModelVersion) -> None:
    graph = onnx.load(version.file("model.onnx"))
    assert graph.opset_import[0].version == OPSET
    assert onnx.TensorProto.FLOAT16 in {each.data_type for each in graph.graph.initializer}
    session = onnxruntime.InferenceSession(version.file("model.onnx"))
    ((given,), (gives,)) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, gives.name, gives.type) == (
        "ids", "tensor(int32)", "scores", "tensor(float)",
    )  # fmt: skip
    for shape in ((1, 1), (3, 2), (5, 70)):
        (scores,) = session.run(None, {"ids": np.ones(shape, np.int32)})
        assert scores.shape == (shape[0], 3)
    (scores,) = session.run(None, {"ids": np.zeros((2, 16), np.int32)})
    assert np.isfinite(scores).all()


def test_training_again_gives_the_same_under_the_next_number(
    version: ModelVersion, dataset: Dataset
) -> None:
    seen: list[tuple[int, int, int, Mapping[str, float]]] = []
    path = train(
        dataset,
        "ngram",
        out_root=version.path.parents[1],
        name="opinions",
        recipe=RECIPE,
        progress=lambda *arguments: seen.append(arguments),
    )
    assert path.name == "2"
    again = Repository(path.parents[1]).find("opinions")
    assert again.manifest.version == "2"
    texts = dataset.test.texts
    assert np.array_equal(
        Runtime(again).scores(items(texts)), Runtime(version).scores(items(texts))
    )
    batches = max(-(-len(dataset.train) // RECIPE.batch), EPOCH_STEPS)
    assert [call[:3] for call in seen[: batches + 1]] == [
        *((1, batch, batches) for batch in range(1, batches + 1)),
        (2, 1, batches),
    ]
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= seen[batches - 1][3].keys()


def test_runs_of_sentences_are_learnt_from_where_they_cost_nothing(dataset: Dataset) -> None:
    def fitted(texts: Dataset, runs: bool | None) -> tuple[Fitted, float]:
        recipe = msgspec.structs.replace(RECIPE, epochs=1, runs=runs)
        found = networks.fit("gap", texts, recipe, None)
        scores = found.network.predict(texts.validation.items)
        return found, float((scores.argmax(axis=1) == texts.validation.labels).mean())

    def cut(split: Split) -> Split:
        return replace(split, items=items([text.replace(" ", ". ") for text in split.texts]))

    long = replace(dataset, train=cut(dataset.train), validation=cut(dataset.validation))
    (_, without), (_, with_runs) = (fitted(long, runs) for runs in (False, True))
    assert without != with_runs, "the runs are learnt from"
    chosen, accuracy = fitted(long, None)
    assert accuracy == max(without, with_runs)
    assert chosen.recipe.runs is (with_runs >= without)
    assert fitted(dataset, None)[0].recipe.runs is False, "these have one sentence each"


def test_few_texts_are_learnt_with_the_usual_recipe(tmp_path: Path) -> None:
    texts = [f"{word} number {k}" for k in range(16) for word in ("invoice", "outage")]
    split = Split(items=text_items(texts), labels=np.arange(32, dtype=np.int32) % 2)
    few = Dataset(
        name="few",
        labels=("bill", "fault"),
        train=split,
        validation=split,
        test=split,
        sha256="0" * 64,
    )
    train(few, "ngram", out_root=tmp_path, name="few")
    scores = Runtime(Repository(tmp_path).find("few")).scores(items(["invoice", "outage"]))
    assert scores[0][0] > 0.7 < scores[1][1]


def texts_of(lengths: Sequence[int], classes: int) -> Split:
    """Texts of so many words, of which the first one gives the label away."""
    labels = np.arange(len(lengths), dtype=np.int32) % classes
    texts = [f"word{n}{' more' * (k - 1)}" for n, k in zip(labels, lengths, strict=True)]
    return Split(items=text_items(texts), labels=labels)


@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize(
    ("architecture", "lengths"),
    [
        # Most batches have texts of 4 words, and the first two of them are the same.
        ("gap", [4] * 240 + [9] * 8),
        ("ngram", [1] * 120),
        ("ngram", [1] * 120 + [2] * 8 + [3] * 8),
    ],
)
def test_short_texts_of_one_length_are_learnt_with_any_seed(
    tmp_path: Path, architecture: Architecture, lengths: list[int], seed: int
) -> None:
    split = texts_of(lengths, classes=4)
    dataset = Dataset(
        name="short",
        labels=("a", "b", "c", "d"),
        train=split,
        validation=texts_of(lengths[-8:], classes=4),
        test=split,
        sha256="",
    )
    recipe = msgspec.structs.replace(RECIPE, seed=seed, batch=8, epochs=2)
    path = train(dataset, architecture, out_root=tmp_path, name="short", recipe=recipe)
    scores = Runtime(read_version(path)).scores(items(split.texts))
    assert (scores.argmax(axis=1) == split.labels).mean() > 0.9


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (ValueError("first line\nTraceback: second"), "ValueError: first line (--debug"),
        (tf.errors.InvalidArgumentError(None, None, "shape\nat"), "Error: shape (--debug"),
        (tf.errors.ResourceExhaustedError(None, None, "OOM"), "not enough memory; use smaller"),
        (MemoryError(), "not enough memory; use smaller"),
    ],
)
def test_what_keras_raises_is_told_in_one_line(
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception,
    told: str,
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(keras.Sequential, "fit", fails)
    with pytest.raises(TrainingError) as caught:
        train(dataset, "gap", out_root=tmp_path, name="bad", recipe=RECIPE)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is raised
    assert Repository(tmp_path).models() == []


def test_a_graph_that_differs_from_keras_is_not_exported(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(TrainingError, match="differs from the network"):
        train(dataset, "gap", out_root=tmp_path, name="bad", recipe=RECIPE)
    assert list((tmp_path / "bad").iterdir()) == []
    assert Repository(tmp_path).models() == []


@pytest.mark.parametrize(("architecture", "name"), [("rnn", "x"), ("gap", "../x"), ("gap", "")])
def test_mistakes_are_found_before_the_training(
    dataset: Dataset, tmp_path: Path, architecture: Architecture, name: str
) -> None:
    with pytest.raises(TrainingError, match=r"give a plain word|there are: auto, ngram, gap"):
        train(dataset, architecture, out_root=tmp_path, name=name)


@pytest.mark.parametrize(
    ("architecture", "recipe", "told"),
    [
        ("encoder", Recipe(activation="tanh"), "--activation goes with --arch gap, ngram, cnn"),
        ("encoder", Recipe(encoder="there", loss="mse"), "--loss goes with --arch gap, ngram"),
        (
            "lstm",
            Recipe(encoder="there"),
            "--encoder goes with --arch encoder, auto of texts, not lstm",
        ),
    ],
)
def test_an_option_of_another_architecture_is_an_error(
    dataset: Dataset, tmp_path: Path, architecture: Architecture, recipe: Recipe, told: str
) -> None:
    with pytest.raises(TrainingError, match=told):
        train(dataset, architecture, out_root=tmp_path, name="x", recipe=recipe)


def test_an_unwritable_folder_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="nothing was exported"):
        train(dataset, "gap", out_root=tmp_path / "file", name="x", recipe=RECIPE)
