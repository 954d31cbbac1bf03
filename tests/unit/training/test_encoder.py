"""A pretrained encoder: its folder, its numbers, and a classifier on top of it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from lmaas.broker_config.extras import NEWEST_PYTHON

if sys.version_info[:2] > NEWEST_PYTHON:
    pytest.skip("there is no TensorFlow for this Python", allow_module_level=True)

from lmaas.broker_config.errors import TrainingError
from lmaas.broker_config.messages import Item
from lmaas.training import quietly
from lmaas.training.datasets.dataset import Dataset, Split, text_items
from lmaas.training.networks import fit
from lmaas.training.networks.bert import Encoder, encoder
from lmaas.training.networks.encoder import EncoderNetwork
from lmaas.training.networks.pretrained import Pretrained
from lmaas.training.one_line import in_one_line
from lmaas.training.recipe import Recipe
from lmaas.training.train import train
from lmaas.workers.model_version import read_version
from lmaas.workers.ort import onnxruntime
from lmaas.workers.runtime import Runtime
from tests.unit.training import bert

with quietly():
    import keras

TEXTS = ["fine", "a fine film", "dull", " ".join(["a great film"] * 20), "unheard of"]


@pytest.mark.parametrize(
    ("kind", "offset", "changes"),
    [
        ("bert", 0, {}),
        ("distilbert", 0, {}),
        ("roberta", 2, {"pad_token_id": 1}),
        ("xlm-roberta", 2, {"pad_token_id": 1}),
    ],
)
@pytest.mark.parametrize("prefix", [True, False])
def test_texts_have_the_rows_that_plain_arithmetic_gives_them(
    tmp_path: Path, kind: str, offset: int, changes: dict[str, Any], prefix: bool
) -> None:
    folder = bert.save(tmp_path / "encoder", kind, prefix=prefix, **changes)
    network = EncoderNetwork(Pretrained(folder), 12)
    cut = [" ".join(text.split()[:10]) for text in TEXTS]
    for text, row in zip(cut, network.rows(TEXTS), strict=True):
        assert row == pytest.approx(bert.expected(text, kind, offset=offset), abs=1e-5)


def test_the_first_token_stands_for_the_text_where_the_folder_says_so(tmp_path: Path) -> None:
    folder = bert.save(tmp_path / "encoder")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (row,) = EncoderNetwork(Pretrained(folder), 12).rows(["a fine film"])
    assert row == pytest.approx(bert.expected("a fine film", "bert", pooling="cls"), abs=1e-5)


def test_padding_on_the_left_changes_no_row(tmp_path: Path) -> None:
    folder = bert.save(tmp_path / "encoder")
    (folder / "tokenizer_config.json").write_text('{"padding_side": "left"}')
    network = EncoderNetwork(Pretrained(folder), 12)
    for text, row in zip(TEXTS[:3], network.rows(TEXTS[:3]), strict=True):
        assert row == pytest.approx(bert.expected(text, "bert"), abs=1e-5)


@pytest.mark.parametrize(
    ("told", "most"), [({"model_max_length": 7}, 7), ({"model_max_length": 1e30}, 24), ({}, 24)]
)
def test_texts_are_cut_where_the_encoder_ends(
    tmp_path: Path, told: dict[str, Any], most: int
) -> None:
    folder = bert.save(tmp_path / "encoder")
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    assert Pretrained(folder).max_tokens == most


def opinions() -> Dataset:
    words = {"good": ["fine", "great", "lovely"], "bad": ["dull", "poor", "awful"]}
    texts, labels = [], []
    for number in range(120):
        label = number % 2
        word = words["bad" if label == 0 else "good"][number % 3]
        texts.append(" ".join(["a film"] * (number % 5) + [word]))
        labels.append(label)
    split = Split(items=text_items(texts), labels=np.array(labels, np.int32))
    return Dataset(
        name="opinions",
        labels=("bad", "good"),
        train=split.take(np.arange(0, 100)),
        validation=split.take(np.arange(100, 110)),
        test=split.take(np.arange(110, 120)),
        sha256="",
    )


def test_a_classifier_on_top_is_learnt_exported_and_served(tmp_path: Path) -> None:
    folder = bert.save(tmp_path / "encoder")
    seen: list[tuple[int, int, int, Mapping[str, float]]] = []
    recipe = Recipe(encoder=str(folder), batch=16, epochs=8)
    path = train(
        opinions(), "encoder", out_root=tmp_path / "models", name="opinions", recipe=recipe,
        progress=lambda *arguments: seen.append(arguments),
    )  # fmt: skip
    version = read_version(path)
    manifest = version.manifest
    assert {
        "evaluation.png",
        "learning.png",
        "model.onnx",
        "tokenizer.json",
    } <= manifest.files.keys()
    curves = manifest.training["curves"]
    assert {name: len(values) for name, values in curves.items()} == dict.fromkeys(
        ["loss", "accuracy", "val_loss", "val_accuracy"], 8
    )
    assert [one.name for one in manifest.inputs] == ["input_ids", "attention_mask"]
    assert manifest.metrics["accuracy"] > 0.85
    assert manifest.training["recipe"]["encoder"] == "encoder"
    assert seen[0][0] == 0
    assert "val_loss" in seen[-1][3]
    runtime = Runtime(version)
    texts = [Item(id=text, text=text) for text in [*TEXTS, *opinions().test.texts]]
    together = runtime.scores(texts)
    alone = np.concatenate([runtime.scores([item]) for item in texts])
    assert together == pytest.approx(alone, abs=1e-5)


def test_the_runtime_computes_each_norm_and_each_gelu_as_one_operator(tmp_path: Path) -> None:
    network = EncoderNetwork(Pretrained(bert.save(tmp_path / "encoder")), 12)
    network.classifier = keras.Sequential([keras.layers.Dense(2, activation="softmax")])
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(network.graph().SerializeToString(), options)
    run = onnx.load(tmp_path / "optimized.onnx").graph.node
    count = Counter(node.op_type.removeprefix("Skip").removeprefix("Bias") for node in run)
    assert count["Gelu"] == bert.BLOCKS
    assert count["LayerNormalization"] == 1 + 2 * bert.BLOCKS


def test_the_last_blocks_learn_and_the_others_stay(tmp_path: Path) -> None:
    """Of an encoder of two blocks; the embeddings are before them."""
    folder = bert.save(tmp_path / "encoder")
    recipe = Recipe(encoder=str(folder), batch=50, epochs=1, unfreeze=1)
    with in_one_line():
        fitted = fit("encoder", opinions(), recipe, None)
    before = parts(encoder(Pretrained(folder)))
    after = parts(fitted.network._encoder)  # type: ignore[attr-defined]
    changed = [
        any(map(np.any, map(np.not_equal, *pair))) for pair in zip(before, after, strict=True)
    ]
    assert changed == [False, False, True]
    held = opinions().validation.items
    assert fitted.validation is not None  # by one that had not learnt from these texts
    assert fitted.validation.shape == (len(held), 2)
    assert not np.array_equal(fitted.validation, fitted.network.predict(held))


def test_what_stops_early_learns_from_all_texts_for_as_long(tmp_path: Path) -> None:
    folder = bert.save(tmp_path / "encoder")
    # Nothing becomes better by such steps.
    rate = 1e-9
    recipe = Recipe(
        encoder=str(folder), batch=50, epochs=9, patience=1, unfreeze=1, learning_rate=rate
    )
    with in_one_line():
        fitted = fit("encoder", opinions(), recipe, None)
    assert fitted.curves is not None
    assert fitted.best_epoch == len(fitted.curves["loss"]) == 2


def parts(made: Encoder) -> list[list[Any]]:
    """The weights of the embeddings, and of each block."""
    embeddings = [made.words, made.positions, made.norm]
    return [
        [weight for layer in embeddings for weight in layer.get_weights()],
        *(block.get_weights() for block in made.blocks),
    ]


def test_what_was_tuned_is_exported_as_it_was_measured(tmp_path: Path) -> None:
    folder = bert.save(tmp_path / "encoder")
    recipe = Recipe(encoder=str(folder), batch=16, epochs=6, unfreeze=3)
    path = train(opinions(), "encoder", out_root=tmp_path / "models", name="o", recipe=recipe)
    manifest = read_version(path).manifest
    assert manifest.metrics["accuracy"] > 0.85
    assert manifest.training["recipe"]["unfreeze"] == 3
    assert 1 <= manifest.training["best_epoch"] <= 6


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_pooling_can_be_chosen(tmp_path: Path, pooling: Literal["mean", "cls"]) -> None:
    folder = bert.save(tmp_path / "encoder")
    other = "mean" if pooling == "cls" else "cls"
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"pooling_mode_cls_token": other == "cls"})
    )
    assert Pretrained(folder).pooling == other
    assert Pretrained(folder, pooling).pooling == pooling


def test_the_architecture_needs_an_encoder(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="--encoder FOLDER"):
        train(opinions(), "encoder", out_root=tmp_path, name="m")


def without(name: str) -> Any:
    return lambda folder: (folder / name).unlink()


def with_text(name: str, text: str) -> Any:
    return lambda folder: (folder / name).write_text(text)


def with_config(**changes: Any) -> Any:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (without("config.json"), r"config\.json is missing; an encoder is a folder with"),
        (without("tokenizer.json"), r"no tokenizer\.json; make one with"),
        (without("model.safetensors"), r"model\.safetensors is missing; .*pytorch_model\.bin"),
        (with_text("config.json", "{"), r"config\.json: cannot be read"),
        (with_text("tokenizer.json", "{}"), r"tokenizer\.json: no tokenizer"),
        (with_text("model.safetensors", "x" * 99), r"model\.safetensors: cannot be read"),
        (with_config(model_type="t5"), "model_type 't5'; encoders can be bert"),
        (with_config(hidden_size="24"), r"config\.json: .*hidden_size"),
        (with_config(hidden_size=32), r"its weights are not those of its config\.json"),
        (with_config(num_hidden_layers=3), r"its weights are not those of its config\.json"),
        (with_config(num_attention_heads=5), "no multiple of its 5 heads"),
        (with_config(hidden_act="silu"), "hidden_act 'silu'; can be gelu"),
        (with_config(position_embedding_type="relative_key"), "only 'absolute'"),
    ],
)
def test_what_is_wrong_with_a_folder_is_told(tmp_path: Path, harm: Any, told: str) -> None:
    folder = bert.save(tmp_path / "encoder")
    harm(folder)
    with pytest.raises(TrainingError, match=told):
        EncoderNetwork(Pretrained(folder), 12)


def test_weights_may_be_in_several_files(tmp_path: Path) -> None:
    folder = bert.save(tmp_path / "encoder")
    whole = Pretrained(folder).weights()
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    parts = {
        name: f"model-{number % 2 + 1}-of-2.safetensors" for number, name in enumerate(weights)
    }
    for part in set(parts.values()):
        save_file({name: weights[name] for name in weights if parts[name] == part}, folder / part)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": parts}))
    found = Pretrained(folder).weights()
    assert found.keys() == whole.keys()
    assert all((found[name] == whole[name]).all() for name in whole)
    (folder / "model-2-of-2.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"model-2-of-2\.safetensors is missing; .*index\.json"):
        Pretrained(folder).files()
    index.write_text(json.dumps({"weight_map": {"a": "../a.safetensors"}}))
    with pytest.raises(TrainingError, match="is no name of a file beside it"):
        Pretrained(folder).files()


def test_a_real_encoder_gives_what_its_library_gives(minilm: Path) -> None:
    # transformers 5 on torch, mean of the last hidden states, of length 1; its first four numbers.
    network = EncoderNetwork(Pretrained(minilm), 512)
    rows = network.rows(["I love it", "film " * 400])
    assert rows[0, :4] == pytest.approx([-0.067458, 0.020065, 0.048778, 0.001151], abs=1e-5)
    assert rows[1, :4] == pytest.approx([-0.098405, -0.055292, 0.017465, 0.026227], abs=1e-5)
