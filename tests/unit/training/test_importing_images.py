"""Models of pictures from elsewhere: how a picture is prepared, as their files or options say."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import Item
from lmaas.training.importing import imported
from lmaas.training.importing.probing import probed
from lmaas.training.importing.proposal import Options
from tests.unit.training import graphs

COLOUR = (200, 100, 20)


def means(name: str = "pixel_values", last: bool = False) -> onnx.ModelProto:
    """A graph that gives the mean of each channel; they are `last` or before the pixels."""
    shape = ["batch", 8, 8, 3] if last else ["batch", 3, 8, 8]
    axes = [1, 2] if last else [2, 3]
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", [name], ["logits"], axes=axes, keepdims=0)],
        "means",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def picture(width: int = 8, height: int = 8) -> Item:
    """All of COLOUR, but for the edges of one that is wide."""
    image = Image.new("RGB", (width, height), COLOUR)
    if width > height:
        image.paste((0, 0, 0), (0, 0, (width - height) // 2 - 1, height))
    content = io.BytesIO()
    image.save(content, "PNG")
    return Item(id="1", data=content.getvalue(), media_type="image/png")


def scores(path: Path, item: Item, **options: Any) -> Any:
    _, runtime = probed(imported(path, Options(scores="values", **options)), [])
    (row,) = runtime.scores([item])
    return row


def test_a_bare_graph_gets_what_the_options_say(tmp_path: Path) -> None:
    path = tmp_path / "means.onnx"
    onnx.save(means("x"), path)
    expected = np.array(COLOUR) / 255
    np.testing.assert_allclose(scores(path, picture(), task="image"), expected, atol=1e-5)
    told = {"mean": [0.5], "std": [0.5], "channels": "bgr"}
    swapped = (expected[::-1] - 0.5) / 0.5
    np.testing.assert_allclose(scores(path, picture(), image=told), swapped, atol=1e-5)
    onnx.save(means("x", last=True), path)
    plain = scores(path, picture(20, 8), image={"scale": 1.0, "resize": "cover"})
    np.testing.assert_allclose(plain, COLOUR, atol=1e-3)
    told = r"means\.onnx: .* makes rows of \[9, 9, 3\] .* takes \[8, 8, 3\]; --image, --layout and"
    with pytest.raises(DataError, match=told):
        scores(path, picture(), image={"size": (9, 9)})


def test_an_example_that_is_no_picture_is_told(tmp_path: Path) -> None:
    """Else the answers that are kept would be those to nothing."""
    path = tmp_path / "means.onnx"
    onnx.save(means("x"), path)
    proposal = imported(path, Options(scores="values", task="image"))
    cut = Item(id="cut.png", data=(picture().data or b"")[:40], media_type="image/png")
    table = Item(id="list.csv", data=b"photo,label\n1.png,cat\n", media_type="text/csv")
    for wrong in (cut, table):
        with pytest.raises(DataError, match=f"--examples: {wrong.id}: "):
            probed(proposal, [picture(), wrong])
    assert probed(proposal, [picture()])


@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
@pytest.mark.parametrize(
    ("config", "width", "expected"),
    [
        ({"size": {"height": 8, "width": 8}}, 8, np.array(COLOUR) / 255),
        ({"size": 8, "do_rescale": False, "do_normalize": False}, 8, np.array(COLOUR)),
        (
            {"size": {"shortest_edge": 8}, "do_center_crop": True, "crop_size": 8,
             "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 1], "resample": 3},
            24,
            (np.array(COLOUR) / 255 - 0.5) / [0.25, 0.5, 1],
        ),
        (
            {"size": {"shortest_edge": 8}, "crop_pct": 0.8, "rescale_factor": 1 / 127.5,
             "rescale_offset": True, "image_processor_type": "ConvNextImageProcessor"},
            24,
            np.array(COLOUR) / 127.5 - 1,
        ),
    ],
)  # fmt: skip
def test_a_folder_of_the_hub_gets_what_its_processor_says(
    tmp_path: Path, file: str, config: dict[str, Any], width: int, expected: Any
) -> None:
    folder = graphs.folder(tmp_path / "vit", means(), config={"model_type": "vit"}, words=None)
    with pytest.raises(DataError, match=r"without preprocessor_config.json: how are they"):
        imported(folder, Options())
    told = {"image_processor": config} if file.startswith("processor") else config
    (folder / file).write_text(json.dumps(told))
    assert imported(folder, Options()).labels == list(graphs.LABELS)
    np.testing.assert_allclose(scores(folder, picture(width, 8)), expected, rtol=1e-4, atol=1e-4)


def test_what_is_not_known_of_a_processor_is_told(tmp_path: Path) -> None:
    folder = graphs.folder(tmp_path / "vit", means(), words=None)
    for config, told in (
        ({"do_pad": True}, "do_pad is not known here"),
        ({"size": 8, "resample": 9}, "resample 9 is no filter"),
        ({"size": 8, "image_mean": [1, 2]}, "mean has 2 numbers for 3 channels"),
    ):
        (folder / "preprocessor_config.json").write_text(json.dumps(config))
        with pytest.raises(DataError, match=told):
            imported(folder, Options())
