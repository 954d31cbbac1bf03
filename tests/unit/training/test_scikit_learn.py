"""Pipelines of scikit-learn, by way of skl2onnx: answers as scikit-learn gives them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import skl2onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import Item, Tensor
from lmaas.training.importing import adding, imported
from lmaas.training.importing.proposal import Options, Proposal
from lmaas.training.measuring import Measured
from lmaas.workers.manifest import Cost
from lmaas.workers.model_version import ModelVersion, read_version
from lmaas.workers.runtime import Runtime

TEXTS = (
    "a good film", "I am a fan of it", "bad film, it is", "truly good, really good café",
    "the worst thing ever", "good good fun", "bad, worst", "a nice 3rd one", "Größe ist alles",
)  # fmt: skip
MOODS = np.array(["up", "up", "down", "up", "down", "up", "down", "mixed", "mixed"])
UP = (MOODS == "up").astype(int)
#: Also without a word, and without one that is known.
ASKED = (*TEXTS, "", "...", "zzz", "the", "I good film a", "good good good bad", "ALLES CAFÉ")
FEATURES = np.abs(np.random.default_rng(3).normal(size=(60, 4))).astype(np.float32)
KINDS = np.where(FEATURES[:, 0] > 1, "large", np.where(FEATURES[:, 1] > 0.7, "wide", "small"))
OPSETS = {"": 18, "ai.onnx.ml": 3}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """How fast a model is has tests of its own; what scikit-learn warns of is not ours."""

    def measured(version: ModelVersion, _items: Any) -> Measured:
        return Measured(batching=version.manifest.batching, cost=Cost())

    monkeypatch.setattr(adding, "measured", measured)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def exported(model: Any, *types: tuple[str, Any], **options: Any) -> onnx.ModelProto:
    """`options` are of its last step."""
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    graph: onnx.ModelProto = skl2onnx.to_onnx(
        model,
        initial_types=list(types),
        options={type(last): options} if options else None,
        target_opset=OPSETS,
    )
    return graph


def added(
    folder: Path, graph: onnx.ModelProto, options: Options | None = None
) -> tuple[Runtime, Proposal]:
    """The version that is made of it, as a worker has it."""
    onnx.save(graph, folder / "pipeline.onnx")
    proposal = imported(folder / "pipeline.onnx", options or Options())
    place, proposal = adding.add(proposal, "imported", [], out_root=folder / "models")
    return Runtime(read_version(place)), proposal


def texts(classifier: Any, labels: Sequence[Any] = MOODS, **how: Any) -> Any:
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), **how)
    return make_pipeline(vectorizer, classifier).fit(list(TEXTS), labels)


def both(decisions: Any) -> Any:
    """Of two labels scikit-learn's decision_function has the second one's value alone."""
    decisions = np.asarray(decisions)
    return np.stack([-decisions, decisions], axis=1) if decisions.ndim == 1 else decisions


def items(*values: str) -> list[Item]:
    return [Item(id=value, text=value) for value in values]


def rows(values: Any) -> list[Item]:
    return [
        Item(id="", tensors={"X": Tensor(shape=[4], datatype="FP32", data=row.tobytes())})
        for row in values
    ]


TEXT = ("text", StringTensorType([None, 1]))
X = ("X", FloatTensorType([None, 4]))


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (texts(LogisticRegression()), {}),
        (texts(LogisticRegression(), sublinear_tf=True), {"zipmap": False}),
        (texts(LogisticRegression(), UP, sublinear_tf=True, lowercase=False), {}),
        (texts(LogisticRegression(), UP, token_pattern=r"\S+"), {}),
        (texts(MultinomialNB()), {"zipmap": False}),
    ],
)
def test_texts_have_the_probabilities_of_scikit_learn(
    tmp_path: Path, model: Any, options: dict[str, Any]
) -> None:
    runtime, proposal = added(tmp_path, exported(model, TEXT, **options))
    assert runtime.labels == [str(label) for label in model.classes_]
    assert runtime.manifest.preprocessing == {"kind": "strings"}
    assert runtime.manifest.head["meaning"] == "exclusive"
    assert proposal.warnings == []
    expected = model.predict_proba(list(ASKED))
    np.testing.assert_allclose(runtime.scores(items(*ASKED)), expected, atol=1e-5)


@pytest.mark.parametrize("labels", [MOODS, UP])
def test_texts_have_the_decisions_of_a_linear_svc(tmp_path: Path, labels: Any) -> None:
    model = texts(LinearSVC(), labels)
    runtime, _ = added(tmp_path, exported(model, TEXT, raw_scores=True))
    assert runtime.manifest.head["meaning"] == "values"
    expected = both(model.decision_function(list(ASKED)))
    np.testing.assert_allclose(runtime.scores(items(*ASKED)), expected, atol=1e-5)


def test_what_skl2onnx_writes_otherwise_is_mended_and_said(tmp_path: Path) -> None:
    graph = exported(texts(LogisticRegression(), sublinear_tf=True), TEXT)
    # As older ones wrote it: a text that is a stop word is gone, and the row with it.
    (normalizer,) = (node for node in graph.graph.node if node.op_type == "StringNormalizer")
    normalizer.attribute.append(onnx.helper.make_attribute("stopwords", ["the"]))
    runtime, proposal = added(tmp_path, graph)
    assert len(runtime.scores(items("the", "good"))) == 2
    told = " ".join(proposal.notes)
    for words in ("list of stop words", "two characters", r"1 \+ log\(count\)"):
        assert words.replace("\\", "") in told
    assert runtime.manifest.batching.rows is None


def test_words_of_one_letter_stay_where_the_vocabulary_has_them(tmp_path: Path) -> None:
    model = texts(LogisticRegression(), token_pattern=r"[a-zA-Z0-9_]+")
    runtime, proposal = added(tmp_path, exported(model, TEXT))
    assert "two characters" not in " ".join(proposal.notes)
    np.testing.assert_allclose(
        runtime.scores(items(*TEXTS)), model.predict_proba(list(TEXTS)), atol=1e-5
    )


@pytest.mark.parametrize(
    ("model", "labels"),
    [
        (RandomForestClassifier(5, random_state=1), KINDS),
        (make_pipeline(StandardScaler(), LogisticRegression()), (KINDS == "large").astype(int)),
        (LinearSVC(), (KINDS == "large").astype(int)),
        (SVC(), (KINDS == "large").astype(int)),
    ],
)
def test_features_are_tensors(tmp_path: Path, model: Any, labels: Any) -> None:
    fitted = model.fit(FEATURES, labels)
    runtime, proposal = added(tmp_path, exported(fitted, X))
    scores = runtime.scores(rows(FEATURES))
    expected = (
        fitted.predict_proba(FEATURES)
        if hasattr(fitted, "predict_proba")
        else both(fitted.decision_function(FEATURES))
    )
    own = [str(label) for label in fitted.classes_]
    order = [runtime.labels.index(label) for label in own]  # of SVC it is the other one
    np.testing.assert_allclose(scores[:, order], expected, atol=1e-5)
    assert [label for label, _, _ in runtime.labelled(rows(FEATURES))] == [
        str(label) for label in fitted.predict(FEATURES)
    ]
    assert proposal.warnings == []


def test_columns_have_names_and_a_category_that_is_not_known_is_its_items_error(
    tmp_path: Path,
) -> None:
    data = np.array([[text, float(at), "ab"[at % 2]] for at, text in enumerate(TEXTS)], object)
    columns = ColumnTransformer(
        [("t", TfidfVectorizer(), 0), ("n", StandardScaler(), [1]), ("c", OneHotEncoder(), [2])]
    )
    model = make_pipeline(columns, LogisticRegression()).fit(data, MOODS)
    age, kind = ("age", FloatTensorType([None, 1])), ("kind", StringTensorType([None, 1]))
    runtime, proposal = added(tmp_path, exported(model, TEXT, age, kind))

    def string(value: str) -> Tensor:
        content = value.encode()
        data = len(content).to_bytes(4, "little") + content
        return Tensor(shape=[1], datatype="BYTES", data=data)

    def item(text: str, number: float, category: str) -> Item:
        value = Tensor(shape=[1], datatype="FP32", data=np.float32(number).tobytes())
        tensors = {"text": string(text), "age": value, "kind": string(category)}
        return Item(id=text, tensors=tensors)

    found = runtime.scores([item(*row) for row in data])
    np.testing.assert_allclose(found, model.predict_proba(data), atol=1e-5)
    assert "'kind' (object [?, 1])" in " ".join(proposal.notes)
    with pytest.raises(Exception, match="Unknown Category"):
        runtime.scores([item("a good film", 1.0, "no such")])


@pytest.mark.parametrize(
    ("options", "given", "told"),
    [
        ({"zipmap": "columns"}, {}, r"export it with options=\{'zipmap': False\}"),
        ({}, {"labels": ("x", "y")}, "3 scores a row, and there are 2 labels"),
        ({}, {"output": "other"}, "no output 'other'"),
    ],
)
def test_what_does_not_fit_is_told(
    tmp_path: Path, options: dict[str, Any], given: dict[str, Any], told: str
) -> None:
    with pytest.raises(DataError, match=told):
        added(tmp_path, exported(texts(LogisticRegression()), TEXT, **options), Options(**given))


def test_labels_can_be_named_anew(tmp_path: Path) -> None:
    model = texts(LogisticRegression(), UP)
    runtime, _ = added(tmp_path, exported(model, TEXT), Options(labels=("no", "yes")))
    ((label, _, _),) = runtime.labelled(items("a good film"))
    assert label == "yes"
