"""Smaller numbers: what they change is measured, and what is worse is refused."""

from __future__ import annotations

import itertools
import resource
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

from lmaas.broker_config.errors import TrainingError
from lmaas.broker_config.messages import Item
from lmaas.cli.models import command as models_command
from lmaas.training import evaluate as evaluating
from lmaas.training import export, quantizing
from lmaas.training.evaluate import evaluate
from lmaas.training.importing import adding, imported
from lmaas.training.importing.probing import drafted
from lmaas.training.importing.proposal import Options
from lmaas.training.measuring import Measured
from lmaas.training.quantizing import Quantized, quantized
from lmaas.training.recipe import Quantize
from lmaas.workers.manifest import MODEL, Cost, Manifest, Parallelism
from lmaas.workers.model_version import ModelVersion, read_version
from lmaas.workers.runtime import Runtime
from tests.unit.training import graphs

TEXTS = [" ".join(words) for words in itertools.product(graphs.WORDS[4:9], repeat=3)]
ITEMS = [Item(id=text, text=text) for text in TEXTS]
RIGHT = np.array([graphs.logits(text).argmax() for text in TEXTS], np.int32)
#: The graph is so small that a label or two change.
INT8 = Quantize(kind="int8", limit=0.05)
MEASURED = Cost(fixed_seconds=0.25)
PARALLEL = Parallelism(cores=2, threads=2)


@pytest.fixture(autouse=True)
def times(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds before and after; how fast models really are has tests of its own."""
    seconds = [1.0, 0.5]
    turns = itertools.cycle(range(2))

    def measured(version: ModelVersion, _items: Any) -> Measured:
        batching = msgspec.structs.replace(version.manifest.batching, most=77)
        return Measured(batching=batching, cost=MEASURED, parallelism=PARALLEL)

    monkeypatch.setattr(quantizing, "timed", lambda *_: seconds[next(turns)])
    for module in (quantizing, adding, export):
        monkeypatch.setattr(module, "measured", measured)
    return seconds


def version(folder: Path, external: str | None = None) -> ModelVersion:
    return drafted(imported(graphs.folder(folder / "hub", external=external), Options()))


def types(content: bytes) -> set[int]:
    return {one.data_type for one in onnx.load_model_from_string(content).graph.initializer}


def test_int8_is_compared_with_what_it_was(tmp_path: Path) -> None:
    whole = version(tmp_path)
    smaller, found = quantized(whole, ITEMS, INT8, RIGHT)
    assert onnx.TensorProto.INT8 in types(smaller.contents[MODEL])
    assert smaller.manifest.files[MODEL] != whole.manifest.files[MODEL]
    assert (smaller.manifest.batching.most, smaller.manifest.cost) == (77, MEASURED)
    before, after = Runtime(whole).scores(ITEMS), Runtime(smaller).scores(ITEMS)
    assert found.items == len(ITEMS)
    assert found.agreement == np.mean(before.argmax(axis=1) == after.argmax(axis=1))
    assert 0 < found.difference == pytest.approx(np.abs(before - after).max(), abs=1e-6)
    assert found.accuracy == (1.0, np.mean(after.argmax(axis=1) == RIGHT))
    assert found.speed == (len(ITEMS), 2 * len(ITEMS))
    assert "int8: 2.00 times as fast on this machine; of 125 items" in str(found)


def test_fp16_takes_and_gives_what_it_did(tmp_path: Path) -> None:
    smaller, found = quantized(version(tmp_path), ITEMS, Quantize(kind="fp16"))
    assert onnx.TensorProto.FLOAT16 in types(smaller.contents[MODEL])
    assert found.accuracy is None
    assert found.agreement == 1
    assert found.difference < 0.01


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_a_graph_that_says_its_operators_twice(tmp_path: Path, domain: str) -> None:
    """As one does that was merged of several: the network `lstm`."""
    graph = graphs.classifier()
    (opset,) = (one.version for one in graph.opset_import if not one.domain)
    graph.opset_import.append(onnx.helper.make_opsetid(domain, opset))
    whole = drafted(imported(graphs.folder(tmp_path / "hub", graph), Options()))
    smaller, _ = quantized(whole, ITEMS, INT8)
    assert onnx.TensorProto.INT8 in types(smaller.contents[MODEL])


def test_a_full_folder_of_temporary_files_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = version(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(TrainingError, match=r"int8: .*none: No such file .*; the variable TMPDIR"):
        quantized(whole, ITEMS, INT8)
    monkeypatch.undo()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
    try:
        with pytest.raises(TrainingError, match=r"File too large; the variable TMPDIR"):
            quantized(whole, ITEMS, INT8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_rows_of_16_bits_stay_as_they_are(tmp_path: Path) -> None:
    graph = graphs.classifier()
    for one in graph.graph.initializer:
        if one.name == "table":
            halves = numpy_helper.to_array(one).astype(np.float16)
            one.CopyFrom(numpy_helper.from_array(halves, one.name))
    for node in graph.graph.node:
        if node.output[0] == "words":
            node.output[0] = "halves"
    words = onnx.helper.make_node("Cast", ["halves"], ["words"], to=onnx.TensorProto.FLOAT)
    graph.graph.node.insert(1, words)
    whole = drafted(imported(graphs.folder(tmp_path / "hub", graph), Options()))
    smaller, _ = quantized(whole, ITEMS, INT8)
    assert {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT16} <= types(smaller.contents[MODEL])


def test_external_weights_come_into_the_one_file(tmp_path: Path) -> None:
    whole = version(tmp_path, external="model.onnx_data")
    assert set(whole.contents) == {MODEL, "model.onnx_data", "tokenizer.json"}
    smaller, _ = quantized(whole, ITEMS, INT8)
    assert set(smaller.contents) == set(smaller.manifest.files) == {MODEL, "tokenizer.json"}


def test_what_is_not_faster_is_refused_unless_it_is_forced(
    tmp_path: Path, times: list[float]
) -> None:
    times[1] = 1.0
    with pytest.raises(TrainingError, match=r"1\.00 times .* It is not faster here: nothing"):
        quantized(version(tmp_path), ITEMS, INT8)
    _, found = quantized(version(tmp_path / "again"), ITEMS, Quantize(kind="int8", force=True))
    assert found.faster == 1


@pytest.mark.parametrize(
    ("truth", "told"), [(None, "labels change"), (RIGHT, "right answers are lost")]
)
def test_what_loses_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, truth: Any, told: str
) -> None:
    def spoilt(source: Path, target: Path) -> None:
        graph = onnx.load(source)
        for one in graph.graph.initializer:
            if one.name == "weights":
                one.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(one), one.name))
        onnx.save(graph, target)

    monkeypatch.setitem(quantizing._CONVERTERS, "int8", spoilt)
    with pytest.raises(TrainingError, match=rf"{told}, more than 5\.00%: nothing was written"):
        quantized(version(tmp_path), ITEMS, INT8, truth)
    generous = Quantize(kind="int8", limit=1.0)
    assert quantized(version(tmp_path / "again"), ITEMS, generous, truth)[1].lost > 0.5


def test_a_graph_that_cannot_be_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_source: Path, _target: Path) -> None:
        raise KeyError("some\ninner name")

    monkeypatch.setitem(quantizing._CONVERTERS, "int8", fails)
    with pytest.raises(TrainingError, match=r"--quantize int8: this graph cannot be: .*inner name"):
        quantized(version(tmp_path), ITEMS, INT8)


class Network:
    """What `train` exports, without TensorFlow."""

    def __init__(self, manifest: Manifest) -> None:
        self.inputs = manifest.inputs
        self.preprocessing = manifest.preprocessing
        self.head = manifest.head
        self.batching = manifest.batching

    def predict(self, items: Sequence[Item]) -> npt.NDArray[np.float32]:
        found = [graphs.softmax(graphs.logits(item.text or "")) for item in items]
        return np.array(found, np.float32)

    def graph(self) -> onnx.ModelProto:
        return graphs.classifier()

    def save(self, folder: Path) -> None:
        graphs.tokenizer().save(str(folder / "tokenizer.json"))


def test_an_exported_version_has_the_evaluation_of_the_smaller_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluating, "draw", lambda _of, path, _title: path.write_bytes(b"picture"))
    network = Network(version(tmp_path).manifest)
    trained = export.Trained(
        name="moods",
        architecture="made up",
        network=network,
        labels=graphs.LABELS,
        samples=ITEMS,
        truth=RIGHT,
        dataset={"name": "made up"},
        evaluation=evaluate(network.predict(ITEMS), RIGHT, graphs.LABELS),
        record={"seconds": 1},
        quantize=Quantize(kind="int8", limit=1.0),
    )
    exported = read_version(export.export(trained, tmp_path / "models"))
    manifest = exported.manifest
    found = msgspec.convert(manifest.training["quantized"], Quantized)
    assert onnx.TensorProto.INT8 in types(exported.contents[MODEL])
    assert manifest.metrics["accuracy"] == found.accuracy[1]  # type: ignore[index]
    assert manifest.training["seconds"] == 1
    assert {"evaluation.png", "evaluation.html"} < manifest.files.keys()
    assert manifest.cost == MEASURED


def imports(folder: Path, *more: str) -> Any:
    hub = graphs.folder(folder / "hub")
    (folder / "texts.txt").write_text("\n".join(TEXTS))
    arguments = ["--models", str(folder / "models"), "import", str(hub), "--quantize", "int8"]
    return CliRunner().invoke(models_command, [*arguments, *more])


def test_an_imported_model_is_compared_on_the_examples(tmp_path: Path) -> None:
    examples = ("--examples", str(tmp_path / "texts.txt"), "--quantize-limit", "1")
    ended = imports(tmp_path, *examples)
    assert ended.exit_code == 0, ended.output
    assert "note: int8: 2.00 times as fast on this machine; of 125 items" in ended.stderr
    made = read_version(tmp_path / "models" / "hub" / "1")
    assert onnx.TensorProto.INT8 in types(made.contents[MODEL])
    assert made.manifest.training["quantized"]["items"] == 125
    golden = made.manifest.golden
    scores = Runtime(made).scores([one.item for one in golden])
    np.testing.assert_allclose(scores, [one.scores for one in golden], atol=1e-6)


def test_an_imported_model_needs_examples_to_be_compared_on(tmp_path: Path) -> None:
    ended = imports(tmp_path)
    assert ended.exit_code == 2
    assert "--quantize goes with --examples" in ended.stderr
