"""Networks of pictures from elsewhere, whose features are learnt from."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from lmaas.broker_config.extras import NEWEST_PYTHON

if sys.version_info[:2] > NEWEST_PYTHON:
    pytest.skip("there is no TensorFlow for this Python", allow_module_level=True)

from lmaas.broker_config.errors import LmaasError, TrainingError
from lmaas.broker_config.messages import Item
from lmaas.training.backbone import Backbone
from lmaas.training.datasets.dataset import Dataset
from lmaas.training.datasets.loading import load_dataset
from lmaas.training.recipe import Recipe
from lmaas.training.train import train
from lmaas.workers.model_version import read_version
from lmaas.workers.runtime import Runtime

#: A picture of 8 x 8 has two patches, its halves, whose rows are the means of their three channels.
COLOURS = ((200, 100, 20), (10, 60, 240))
MEAN, STD = 0.5, 0.25


def node(operator: str, taken: str, made: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, taken.split(), made.split(), **attributes)


def graph(*outputs: str, opset: int = 17, rows: Any = "batch") -> onnx.ModelProto:
    """Of `last_hidden_state` [rows, 2, 3], `maps` [rows, 3, 2, 1], `pooler_output` [rows, 3, 1, 1],
    the means of all pixels, and `logits` of the doubled means, those that are asked for."""
    nodes = [
        node("AveragePool", "pixel_values", "maps", kernel_shape=[4, 8], strides=[4, 8]),
        node("Reshape", "maps three", "flat"),
        node("Transpose", "flat", "last_hidden_state", perm=[0, 2, 1]),
        node("GlobalAveragePool", "pixel_values", "pooler_output"),
        node("Flatten", "pooler_output", "pooled"),
        node("Mul", "pooled two", "doubled"),
        node("MatMul", "doubled weights", "product"),
        node("Add", "product bias", "logits"),
        node("Softmax", "logits", "scores", axis=1),
        node("Relu", "pooled", "rectified"),
    ]
    constants = {
        "three": np.array([0, 3, 2], np.int64),
        "two": np.array(2, np.float32),
        "weights": np.eye(3, 5, dtype=np.float32),
        "bias": np.zeros(5, np.float32),
    }
    made = helper.make_graph(
        nodes,
        "backbone",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, [rows, 3, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(made, opset_imports=opsets, ir_version=9)


def folder(path: Path, *outputs: str, kind: str = "vit", **told: Any) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"model_type": kind}))
    how = {"size": {"height": 8, "width": 8}, "image_mean": [MEAN] * 3, "image_std": [STD] * 3}
    (path / "preprocessor_config.json").write_text(json.dumps(how))
    onnx.save(graph(*outputs, **told), path / "model.onnx")
    return path


def picture(colours: Sequence[tuple[int, ...]] = COLOURS) -> bytes:
    """Its upper half, and its lower one."""
    pixels = np.empty((8, 8, 3), np.uint8)
    pixels[:4], pixels[4:] = colours
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


HALVES = (np.array(COLOURS) / 255 - MEAN) / STD
ITEM = Item(id="1", data=picture(), media_type="image/png")


@pytest.mark.parametrize(
    ("outputs", "how", "expected"),
    [
        (["last_hidden_state"], {}, HALVES[0]),
        (["last_hidden_state"], {"pooling": "mean"}, HALVES.mean(axis=0)),
        (["last_hidden_state"], {"pooling": "mean", "opset": 18}, HALVES.mean(axis=0)),
        (["last_hidden_state"], {"kind": "swin"}, HALVES.mean(axis=0)),
        (["last_hidden_state", "pooler_output"], {}, HALVES.mean(axis=0)),
        (["last_hidden_state", "pooler_output"], {"pooling": "cls"}, HALVES[0]),
        (["pooler_output"], {"rows": 1}, HALVES.mean(axis=0)),
        (["logits"], {}, 2 * HALVES.mean(axis=0)),
        (["scores"], {}, 2 * HALVES.mean(axis=0)),
        (["maps"], {}, None),
        (["rectified"], {}, None),
    ],
)
def test_features(tmp_path: Path, outputs: list[str], how: dict[str, Any], expected: Any) -> None:
    pooling = how.pop("pooling", None)
    made = folder(tmp_path / "vit", *outputs, **how)
    if expected is None:
        with pytest.raises(TrainingError, match="there is no dense layer whose input could be"):
            Backbone(made, pooling)
        return
    backbone = Backbone(made, pooling)
    assert backbone.name == "vit"
    swapped = Item(id="2", data=picture(COLOURS[::-1]), media_type="image/png")
    rows = backbone.rows([ITEM, swapped, ITEM])
    assert rows.shape == (3, 3)
    np.testing.assert_allclose(rows[[0, 2]], [expected, expected], atol=1e-5)
    whole = backbone.with_classifier(np.zeros((3, 2), np.float32), np.zeros(2, np.float32))
    onnx.checker.check_model(whole)
    # Nothing is left of the classifier that it had.
    assert not {one.name for one in whole.graph.initializer} & {"weights", "bias"}


def test_what_is_no_backbone_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        LmaasError, match="no backbone for pictures: give a folder from the Hugging"
    ):
        Backbone(tmp_path / "none")
    assert Backbone(folder(tmp_path / "vit", "logits") / "model.onnx").name == "vit"
    broken = Item(id="broken.png", data=b"no picture", media_type="image/png")
    with pytest.raises(TrainingError, match=r"broken\.png: .*mend or delete it"):
        Backbone(tmp_path / "vit").rows([ITEM, broken])


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Pictures that are red above and blue below, or the other way."""
    root = tmp_path_factory.mktemp("data") / "colours"
    random = np.random.default_rng(5)
    for label in ("red above", "blue above"):
        (root / label).mkdir(parents=True)
        for number in range(30):
            shades = random.integers(0, 60, (2, 3)) + np.array([[120, 0, 0], [0, 0, 120]])
            shades = shades if label == "red above" else shades[::-1]
            (root / label / f"{number}.png").write_bytes(picture(shades.tolist()))
    return load_dataset(root)


def test_a_classifier_is_trained_and_exported_with_its_backbone(
    colours: Dataset, tmp_path: Path
) -> None:
    backbone = folder(tmp_path / "dino", "last_hidden_state")
    recipe = Recipe(encoder=str(backbone))
    place = train(colours, out_root=tmp_path / "models", name="colours", recipe=recipe)
    version = read_version(place)
    manifest = version.manifest
    assert manifest.architecture == "encoder"
    assert manifest.metrics["accuracy"] == 1
    assert manifest.training["recipe"]["encoder"] == "dino"
    assert manifest.training["recipe"]["pooling"] == "cls"
    assert manifest.preprocessing["mean"] == [MEAN] * 3
    assert sorted(manifest.files)[:1] == ["evaluation.html"]
    scores = Runtime(version).scores(colours.test.items)
    assert (scores.argmax(axis=1) == colours.test.labels).all()
    # A version is a backbone as well: what its last layer takes.
    again = Backbone(place)
    np.testing.assert_allclose(again.rows([ITEM]), Backbone(backbone).rows([ITEM]), atol=1e-6)
    assert again.name == "colours/1"


def test_options_that_do_not_go_with_it_are_told(colours: Dataset, tmp_path: Path) -> None:
    backbone = str(folder(tmp_path / "dino", "last_hidden_state"))
    for recipe, words in (
        (Recipe(encoder=backbone, unfreeze=1), "--unfreeze goes with --arch encoder of texts"),
        (Recipe(encoder=backbone, side=16), "its pictures are 8 x 8; leave --image-size out"),
    ):
        with pytest.raises(TrainingError, match=words):
            train(colours, out_root=tmp_path / "models", name="colours", recipe=recipe)
