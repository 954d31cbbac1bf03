"""Models from elsewhere: what is made of them, and what is said of those that do not fit."""

from __future__ import annotations

import json
import re
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import Item, Tensor
from lmaas.training.importing import adding, imported
from lmaas.training.importing.proposal import Options, Proposal
from lmaas.training.measuring import Measured
from lmaas.workers.manifest import Cost
from lmaas.workers.model_version import ModelVersion, read_version
from lmaas.workers.runtime import Runtime
from tests.unit.training import graphs

LONG = " ".join(["film"] * 20)
TEXTS = ("good", "a good film", "a strange first text", LONG, "bad")


@pytest.fixture(autouse=True)
def _not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast a model is has tests of its own."""

    def measured(version: ModelVersion, _items: Any) -> Measured:
        return Measured(batching=version.manifest.batching, cost=Cost())

    monkeypatch.setattr(adding, "measured", measured)


def added(path: Path, options: Options = Options()) -> tuple[Runtime, Proposal]:  # noqa: B008
    """The version that is made of it, as a worker has it."""
    place, proposal = adding.add(
        imported(path, options), "imported", [], out_root=path.parent / "models"
    )
    return Runtime(read_version(place)), proposal


def bare(path: Path, graph: onnx.ModelProto, words: Sequence[str] = graphs.WORDS) -> Options:
    """A file and its tokenizer; the options that it needs."""
    onnx.save(graph, path)
    graphs.tokenizer(words).save(str(path.parent / "its.json"))
    return Options(tokenizer=path.parent / "its.json", labels=graphs.LABELS, max_tokens=32)


def items(*texts: str) -> list[Item]:
    return [Item(id=text, text=text) for text in texts]


def expected(*texts: str) -> list[Any]:
    return [graphs.softmax(graphs.logits(text)) for text in texts]


def test_a_folder_of_the_hub_answers_as_its_graph_does(tmp_path: Path) -> None:
    runtime, proposal = added(graphs.folder(tmp_path / "some-model"))
    assert proposal.name == "some-model"
    assert runtime.labels == list(graphs.LABELS)
    np.testing.assert_allclose(runtime.scores(items(*TEXTS)), expected(*TEXTS), atol=1e-5)
    assert runtime.manifest.batching.rows is None
    assert runtime.manifest.preprocessing["max_tokens"] == 32
    assert proposal.warnings == []
    scores, task = proposal.notes
    assert scores.startswith("scores: logits, of which softmax makes probabilities (problem_type")
    assert task == "it takes one text; --task pairs: two"
    golden = runtime.manifest.golden
    assert len(golden) == 4
    np.testing.assert_allclose(
        [one.scores for one in golden], runtime.scores([one.item for one in golden]), atol=1e-6
    )


def test_a_pair_has_types_and_a_long_one_is_cut(tmp_path: Path) -> None:
    labels = {"0": "entailment", "1": "neutral", "2": "contradiction"}
    runtime, proposal = added(graphs.folder(tmp_path / "nli", config={"id2label": labels}))
    assert "it takes two texts (it has the label 'contradiction')" in proposal.notes[-1]
    (scores,) = runtime.scores([Item(id="1", text="a film", text_pair="bad text")])
    np.testing.assert_allclose(scores, graphs.softmax(graphs.logits("a film", "bad text")), 1e-4)
    assert proposal.warnings == []
    plain = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (tmp_path / "nli" / "tokenizer_config.json").write_text(json.dumps(plain))
    (warning,) = imported(tmp_path / "nli", Options()).warnings
    assert "transformers gives second texts the type 0" in warning
    encoded = runtime.encode([Item(id="1", text=LONG, text_pair=f"{LONG} {LONG}")])
    assert encoded.lengths == [32]


@pytest.mark.parametrize(
    ("config", "options", "activation", "meaning"),
    [
        ({"problem_type": "multi_label_classification"}, {}, "sigmoid", "independent"),
        ({"problem_type": "regression"}, {}, "none", "values"),
        ({"problem_type": "single_label_classification"}, {}, "softmax", "exclusive"),
        ({}, {"scores": "sigmoid"}, "sigmoid", "independent"),
    ],
)
def test_scores_are_read_as_the_config_or_the_user_says(
    tmp_path: Path, config: dict[str, str], options: dict[str, Any], activation: str, meaning: str
) -> None:
    folder = graphs.folder(tmp_path / "m", config=config)
    head = imported(folder, Options(**options)).head
    assert (head["activation"], head["meaning"]) == (activation, meaning)


@pytest.mark.parametrize(
    ("operator", "activation", "meaning"),
    [("Softmax", "none", "exclusive"), ("Sigmoid", "none", "independent")],
)
def test_probabilities_are_known_by_the_end_of_the_graph(
    tmp_path: Path, operator: str, activation: str, meaning: str
) -> None:
    graph = graphs.classifier(ends=[graphs.end(operator)])
    head = imported(graphs.folder(tmp_path / "m", graph), Options()).head
    assert (head["activation"], head["meaning"]) == (activation, meaning)


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({}, 32),
        ({"max_position_embeddings": 10}, 10),
        ({"model_type": "roberta", "pad_token_id": 1, "max_position_embeddings": 12}, 10),
        ({"model_type": "deberta-v2", "max_position_embeddings": 512}, 32),
    ],
)
def test_texts_are_cut_to_what_the_model_has_places_for(
    tmp_path: Path, config: dict[str, Any], most: int
) -> None:
    runtime, _ = added(graphs.folder(tmp_path / "m", config=config))
    assert runtime.encode(items(f"{LONG} {LONG}")).lengths == [most]


def test_a_bare_graph_needs_its_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "bare.onnx"
    names = ("ids", "mask")
    options = bare(path, graphs.classifier(names=names))
    runtime, _ = added(path, options)
    np.testing.assert_allclose(runtime.scores(items(*TEXTS)), expected(*TEXTS), atol=1e-5)
    with pytest.raises(DataError, match=r"takes token ids .* with --tokenizer tokenizer.json"):
        imported(path, Options())
    odd = tmp_path / "odd.onnx"
    options = bare(odd, graphs.classifier(names=("x", "y", "z")))
    with pytest.raises(DataError, match=r"what fills 'x' .* --input ids=NAME --input mask=NAME"):
        imported(odd, options)
    named = Options(
        tokenizer=options.tokenizer,
        labels=graphs.LABELS,
        max_tokens=32,
        inputs={"ids": "x", "mask": "y", "types": "z"},
    )
    np.testing.assert_allclose(added(odd, named)[0].scores(items("bad")), expected("bad"), 1e-4)


@pytest.mark.parametrize("said", [None, ("batch", "length")])
@pytest.mark.parametrize(
    ("rows", "length", "told"),
    [
        (1, "length", "items run one at a time"),
        (2, "length", "items run 2 at a time"),
        ("batch", 16, "padded or cut to 16 tokens"),
        (1, 16, "padded or cut to 16 tokens"),
    ],
)
def test_a_graph_of_a_fixed_size_is_served_with_a_warning(
    tmp_path: Path,
    rows: int | str,
    length: int | str,
    told: str,
    said: tuple[int | str, int | str] | None,
) -> None:
    graph = graphs.classifier(rows=rows, length=length, said=said)
    runtime, proposal = added(graphs.folder(tmp_path / "m", graph))
    short = [text for text in TEXTS if text != LONG]
    np.testing.assert_allclose(runtime.scores(items(*short)), expected(*short), atol=1e-5)
    assert told in " ".join(proposal.warnings)
    assert runtime.encode(items(LONG)).lengths == [16 if length == 16 else 22]


def test_padding_that_changes_answers_is_found(tmp_path: Path) -> None:
    graph = graphs.classifier(names=("input_ids",))
    runtime, proposal = added(graphs.folder(tmp_path / "m", graph))
    (warning,) = proposal.warnings
    assert "one at a time (beside others, padded to one length, its scores differ by" in warning
    np.testing.assert_allclose(runtime.scores(items(*TEXTS)), expected(*TEXTS), atol=1e-5)


def test_fewer_places_than_said_are_found(tmp_path: Path) -> None:
    config = {"max_position_embeddings": 512}
    runtime, proposal = added(graphs.folder(tmp_path / "m", config=config))
    assert runtime.manifest.preprocessing["max_tokens"] == 32
    (warning,) = proposal.warnings
    assert re.match(r"texts are cut to 32 tokens: with 33 it fails \(.*--max-tokens", warning)


def test_weights_of_16_bits_are_served_with_a_warning(tmp_path: Path) -> None:
    graph = graphs.classifier(dtype=TensorProto.FLOAT16)
    runtime, proposal = added(graphs.folder(tmp_path / "m", graph))
    np.testing.assert_allclose(runtime.scores(items(*TEXTS)), expected(*TEXTS), atol=5e-3)
    assert runtime.scores(items("a")).dtype == np.float32
    assert "its weights are of 16 bits, which is slow on a CPU" in proposal.warnings[0]


def test_external_weights_come_along(tmp_path: Path) -> None:
    folder = graphs.folder(tmp_path / "m", external="model.onnx_data")
    runtime, proposal = added(folder)
    assert set(proposal.files) == {"model.onnx", "model.onnx_data", "tokenizer.json"}
    np.testing.assert_allclose(runtime.scores(items("bad")), expected("bad"), atol=1e-5)
    (folder / "model.onnx_data").unlink()
    with pytest.raises(DataError, match=r"weights are in 'model.onnx_data', which is not there"):
        imported(folder, Options())
    (folder / "model.onnx_data").write_bytes(bytes(100))
    with pytest.raises(DataError, match=r"model.onnx_data: cut: 100 bytes, of which .* copy it"):
        imported(folder, Options())


def test_labels_may_be_a_list(tmp_path: Path) -> None:
    folder = graphs.folder(tmp_path / "m", config={"id2label": ["a", "b", "c"]})
    assert imported(folder, Options()).labels == ["a", "b", "c"]


def test_a_graph_without_inputs_is_refused(tmp_path: Path) -> None:
    port = onnx.helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])
    node = onnx.helper.make_node("Constant", [], ["scores"], value_floats=[1.0, 2.0, 3.0])
    graph = onnx.helper.make_graph([node], "g", [], [port])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "same.onnx")
    with pytest.raises(DataError, match="it has no inputs, so that its output is always the same"):
        imported(tmp_path / "same.onnx", Options())


def test_items_can_be_tensors(tmp_path: Path) -> None:
    path = tmp_path / "plain.onnx"
    names = ["x", "logits"]
    x, logits = (
        onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in names
    )
    node = onnx.helper.make_node("Neg", ["x"], ["logits"])
    graph = onnx.helper.make_graph([node], "g", [x], [logits])
    domains = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=domains, ir_version=9), path)
    runtime, proposal = added(path)
    assert runtime.labels == ["0", "1", "2"]
    assert "items are tensors: 'x' (float32 [?, 3])" in " ".join(proposal.notes)
    values = np.array([[1, 2, 3], [0, 0, 5]], "<f4")
    given = [
        Item(id=str(at), tensors={"x": Tensor(shape=[3], datatype="FP32", data=row.tobytes())})
        for at, row in enumerate(values)
    ]
    np.testing.assert_allclose(
        runtime.scores(given), [graphs.softmax(-row) for row in values], atol=1e-6
    )
    check = runtime.preprocessor.check
    assert [check(one) for one in given] == [None, None]
    told = [
        check(item).message  # type: ignore[union-attr]
        for item in (
            Item(id="t", text="a"),
            Item(id="u", tensors={"y": Tensor(shape=[1], datatype="INT8", data=b"1")}),
            Item(id="v", tensors={"x": Tensor(shape=[2], datatype="FP32", data=bytes(8))}),
        )
    ]
    assert told == [
        "this model takes tensors ('x' FP32 [3]); the item has a text",
        "this model takes 'x' FP32 [3]; the item has 'y'",
        "tensor 'x' is FP32 [2]; this model takes FP32 [3]",
    ]


# --------------------------------------------------------------- what cannot be served


NAN = np.full_like(graphs.WEIGHTS, np.nan)
MORE = (*graphs.WORDS, *(f"word{number}" for number in range(31)))


@pytest.mark.parametrize(
    ("graph", "config", "options", "told"),
    [
        ({}, {"id2label": {"0": "a", "1": "b"}}, {}, "id2label of config.json has 2 labels (a, b)"),
        ({}, {}, {"labels": ("a", "b", "c", "d")}, "has 3 scores, and --labels has 4 labels"),
        ({}, {}, {"labels": ("a", "b", "a")}, "--labels: the label 'a' is there twice"),
        ({}, {"id2label": {"1": "a", "2": "b", "3": "c"}}, {}, "does not number its labels from 0"),
        ({}, {"id2label": {"0": "a", "1": " ", "2": "c"}}, {}, "a label is empty; give others"),
        ({}, {"id2label": "abc"}, {}, "id2label is no object of numbers and labels; give the"),
        ({"weights": np.full_like(graphs.WEIGHTS, np.inf)}, {}, {}, "which is no number"),
        ({"opset": 99}, {}, {}, "export it with an older opset, or upgrade onnxruntime"),
        ({"ends": [graphs.end("Magic", "com.example")]}, {}, {}, "with ONNX's own operators alone"),
        ({"ends": [graphs.end("Nonsense")]}, {}, {}, "with ONNX's own operators alone"),
        ({"weights": NAN}, {}, {}, "the model gives nan, which is no number"),
        ({}, {}, {"scores": "probabilities"}, "--scores softmax or sigmoid, if it gives logits"),
        ({}, {}, {"output": "other"}, "no output 'other' (there are: 'logits'"),
        ({"names": ("input_ids", "mask", "position_ids")}, {}, {}, "what fills 'position_ids'"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_told(
    tmp_path: Path,
    graph: dict[str, Any],
    config: dict[str, Any],
    options: dict[str, Any],
    told: str,
) -> None:
    folder = graphs.folder(tmp_path / "m", graphs.classifier(**graph), config=config)
    with pytest.raises(DataError) as failure:
        added(folder, Options(**options))
    words = str(failure.value)
    assert told in words
    assert "\n" not in words
    assert not list((tmp_path / "models").rglob("model.onnx"))


def test_a_tokenizer_of_another_model_is_found(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ids up to 41, and the model knows those up to 10"):
        added(
            graphs.folder(tmp_path / "larger", words=[*MORE[:-1], "[CLS]", "[SEP]", "[UNK]"][-42:])
        )
    few = [*graphs.WORDS[:4], "good"]
    _, proposal = added(graphs.folder(tmp_path / "smaller", words=few))
    assert "knows 5 tokens and the model 11: is it this model's own?" in proposal.warnings[0]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = graphs.folder(tmp_path / "m")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    try:
        with pytest.raises(DataError, match="imported: cannot import there: File too large"):
            added(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "models" / "imported").iterdir()) == []


def test_a_tokenizer_without_a_token_for_unknown_words_is_refused(tmp_path: Path) -> None:
    folder = graphs.folder(tmp_path / "m")
    told = json.loads((folder / "tokenizer.json").read_text())
    del told["model"]["vocab"]["[UNK]"]
    (folder / "tokenizer.json").write_text(json.dumps(told))
    with pytest.raises(DataError, match=r"tokenizer.json: cannot make tokens .*Missing \[UNK\]"):
        imported(folder, Options())


def test_files_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    folder = graphs.folder(tmp_path / "m")
    (folder / "tokenizer.json").rename(tmp_path / "kept")
    with pytest.raises(DataError, match=r"tokenizer.json is missing; make it with transformers"):
        imported(folder, Options())
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"m/tokenizer.json: no tokenizer: .*copy it again"):
        imported(folder, Options())
    whole = (folder / "model.onnx").read_bytes()
    (tmp_path / "kept").rename(folder / "tokenizer.json")
    for content, told in (
        (whole[: len(whole) // 2], r"m/model.onnx: no ONNX file, or a part of one \("),
        (b"", "m/model.onnx: no ONNX file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "run `git lfs pull`"),
    ):
        (folder / "model.onnx").write_bytes(content)
        with pytest.raises(DataError, match=told):
            imported(folder, Options())
    (folder / "model.onnx").unlink()
    (folder / "model.safetensors").touch()
    with pytest.raises(DataError, match="weights without a graph; `optimum-cli export onnx"):
        imported(folder, Options())
    (folder / "onnx").mkdir()
    (folder / "onnx" / "a.onnx").write_bytes(whole)
    assert imported(folder, Options()).path == folder / "onnx" / "a.onnx"
    (folder / "onnx" / "b.onnx").write_bytes(whole)
    with pytest.raises(DataError, match=r"which graph.* onnx/a.onnx, onnx/b.onnx"):
        imported(folder, Options())
    assert imported(folder / "onnx" / "b.onnx", Options()).name == "m"
    with pytest.raises(DataError, match="no model that is known here"):
        imported(tmp_path, Options())
