"""`lmaas models import`, `try` and `verify`, of a model from elsewhere."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper

from lmaas.cli.exits import Exit
from lmaas.cli.models import command
from lmaas.training.versions import write_manifest
from lmaas.workers.model_version import read_manifest
from tests.unit.training import graphs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return graphs.folder(tmp_path / "my model")


def models(tmp_path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["--models", str(tmp_path / "models"), *arguments])


def test_a_model_is_imported_tried_and_verified(folder: Path, tmp_path: Path) -> None:
    examples = tmp_path / "examples.csv"
    examples.write_text("text\na good film\nbad\n")
    ended = models(tmp_path, "import", str(folder), "--examples", str(examples))
    assert ended.exit_code == Exit.OK, ended.output
    version = tmp_path / "models" / "my-model" / "1"
    assert ended.stdout == f"{version}\n"
    assert "note: it takes one text; --task pairs: two" in ended.stderr
    assert "warning" not in ended.stderr
    manifest = read_manifest(version)
    assert [one.item.text for one in manifest.golden][:2] == ["a good film", "bad"]
    assert manifest.cost.seconds_per_item or manifest.cost.seconds_per_unit

    shown = models(tmp_path, "try", "my-model", "a good film").stdout.splitlines()
    scores = graphs.softmax(graphs.logits("a good film"))
    best = int(scores.argmax())
    assert shown[:6] == [
        "my-model 1 (bert)",
        "tokens: [CLS] a good film [SEP]",
        "length: 5 tokens",
        "input input_ids: int64 [1, 5]",
        "input attention_mask: int64 [1, 5]",
        "input token_type_ids: int64 [1, 5]",
    ]
    score, label = shown[6].split()
    assert (round(float(score), 4), label) == (round(scores[best], 4), graphs.LABELS[best])
    two = models(tmp_path, "try", "my-model", "a", "b")
    assert "takes one text; the item has text_pair" in str(two.exception)

    assert "my-model 1: ok, 4 kept answers (" in models(tmp_path, "verify", "my-model").stdout
    golden = [{"item": {"id": "1", "text": "bad"}, "scores": [0.5, 0.25, 0.25]}]
    told = json.loads((version / "manifest.json").read_text()) | {"golden": golden}
    (version / "manifest.json").write_text(json.dumps(told))
    ended = models(tmp_path, "verify", "my-model")
    assert ended.exit_code == Exit.FAILED
    assert "1 of 1 answers are not those that it gave when it was imported: 'bad': " in ended.stderr
    told["golden"][0]["scores"].pop()
    (version / "manifest.json").write_text(json.dumps(told))
    ended = models(tmp_path, "verify", "my-model")
    assert "answers that it keeps cannot be asked for again" in ended.stderr


def test_a_version_of_ours_keeps_its_manifest(folder: Path, tmp_path: Path) -> None:
    models(tmp_path, "import", str(folder), "--min-score", "0.9")
    own = tmp_path / "models" / "my-model" / "1"
    manifest = read_manifest(own)
    assert manifest.min_score == 0.9
    write_manifest(own, manifest)
    ended = models(tmp_path, "import", str(own), "--name", "copied")
    assert ended.exit_code == Exit.OK, ended.output
    copied = read_manifest(tmp_path / "models" / "copied" / "1")
    assert (copied.golden, copied.files) == (manifest.golden, manifest.files)
    assert copied.min_score == 0.9
    ended = models(tmp_path, "import", str(own), "--task", "pairs")
    assert ended.exit_code == Exit.USAGE
    assert "whose manifest.json says all: --task is for models from elsewhere" in ended.output

    ended = models(tmp_path, "import", str(own), "--max-tokens", "9")
    assert "whose manifest.json says all: --max-tokens is" in ended.output


def test_a_label_that_means_not_sure_and_a_least_score_do_not_go_together(
    folder: Path, tmp_path: Path
) -> None:
    arguments = ("import", str(folder), "--labels", "yes,no,unsure")
    ended = models(tmp_path, *arguments, "--min-score", "0.5")
    assert "a label is called 'unsure'" in str(ended.exception)
    assert not list((tmp_path / "models").glob("*/*"))
    assert models(tmp_path, *arguments).exit_code == Exit.OK


def test_an_item_of_tensors_is_tried_from_a_file(tmp_path: Path) -> None:
    names = ("x", "scores")
    ports = [helper.make_tensor_value_info(one, TensorProto.FLOAT, ["n", 2]) for one in names]
    nodes = [helper.make_node("Neg", ["x"], ["scores"])]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:])
    domains = [helper.make_opsetid("", 17)]
    path = tmp_path / "plain.onnx"
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=9), path)
    ended = models(tmp_path, "import", str(path), "--labels", "yes,no", "--scores", "values")
    assert ended.exit_code == Exit.OK, ended.output
    data = base64.b64encode(np.array([1, 2], "<f4").tobytes()).decode()
    item = {"tensors": {"x": {"shape": [2], "datatype": "FP32", "data": data}}}
    (tmp_path / "item.json").write_text(json.dumps(item))
    ended = models(tmp_path, "try", "plain", str(tmp_path / "item.json"))
    assert ended.stdout.splitlines()[1:] == [
        "length: 8 bytes", "input x: float32 [1, 2]", "-1.000000  yes", "-2.000000  no",
    ]  # fmt: skip
    (tmp_path / "plain.json").write_text('{"x": [1, 2]}')
    for given in (str(tmp_path / "plain.json"), '{"x": [1, 2]}'):
        assert models(tmp_path, "try", "plain", given).stdout == ended.stdout
    for wrong, told in {
        '{"y": [1, 2]}': """as {"x": [FP32, ...]}: it has no input 'y'""",
        '{"x": [1, "a"]}': "'x': could not convert",
        '{"x": [1, 2, 3]}': "takes FP32 [2]",
        '{"x": [1': "as {",
    }.items():
        assert told in str(models(tmp_path, "try", "plain", wrong).exception)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--labels", "nowhere"), "no file 'nowhere', and no labels separated by commas"),
        (("--labels", "a,,b"), "a label is empty"),
        (("--input", "ids"), "'ids'; give ids, mask, types=NAME"),
        (("--std", "0.5,0,1"), "pixels are divided by it: give numbers above 0"),
        (("--task", "poems"), "is not one of 'text', 'pairs'"),
    ],
)
def test_options_that_are_wrong_by_themselves(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    ended = models(tmp_path, "import", str(folder), *arguments)
    assert ended.exit_code == Exit.USAGE
    assert told in ended.output


def test_examples_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("text\n")
    ended = models(tmp_path, "import", str(folder), "--examples", str(tmp_path / "empty.csv"))
    assert "empty.csv: there is no item in it" in str(ended.exception)
