"""Banking77 by scikit-learn, exported by skl2onnx and imported: the same probabilities."""

from __future__ import annotations

import csv
import sys
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import skl2onnx
from skl2onnx.common.data_types import StringTensorType
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from lmaas.broker_config.messages import Item
from lmaas.training.importing import adding, imported
from lmaas.training.importing.proposal import Options
from lmaas.workers.model_version import read_version
from lmaas.workers.ort import onnxruntime
from lmaas.workers.runtime import Runtime

pytestmark = pytest.mark.models


def read(path: Path) -> tuple[list[str], list[str]]:
    if not path.is_file():
        pytest.skip(f"banking77/{path.name} is not in LMAAS_DATASETS")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["category"] for row in rows]


def unmended(graph: onnx.ModelProto, texts: list[str]) -> npt.NDArray[np.float32]:
    """What the graph itself gives, where there is a locale for it."""
    for node in graph.graph.node:
        if node.op_type == "StringNormalizer":
            node.attribute.append(onnx.helper.make_attribute("locale", "C.UTF-8"))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    column = np.array(texts, object).reshape(-1, 1)
    maps = session.run(["output_probability"], {"text": column})[0]
    return np.array([list(row.values()) for row in maps], np.float32)


def test_banking77(datasets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts, labels = read(datasets / "banking77" / "train.csv")
    asked, right = read(datasets / "banking77" / "test.csv")
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=20, max_iter=300),
    ).fit(texts, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = skl2onnx.to_onnx(model, initial_types=[("text", StringTensorType([None, 1]))])
    onnx.save(graph, tmp_path / "banking.onnx")
    proposal = imported(tmp_path / "banking.onnx", Options())
    place, _ = adding.add(proposal, "banking", [], out_root=tmp_path / "models")
    runtime = Runtime(read_version(place))
    expected = model.predict_proba(asked)
    off = np.abs(unmended(graph, asked) - expected).max(axis=1)
    scores = runtime.scores([Item(id="", text=text) for text in asked])
    difference = float(np.abs(scores - expected).max())
    chosen = [runtime.labels[at] for at in scores.argmax(axis=1)]
    accuracy = np.mean([one == label for one, label in zip(chosen, right, strict=True)])
    with capsys.disabled():
        sys.stdout.write(
            f"\nBanking77: accuracy {accuracy:.4f}; probabilities differ by {difference:.1e}, "
            f"those of the graph itself by {off.max():.2f}, in {np.mean(off > 1e-4):.0%} of them\n"
        )
    assert difference < 1e-4
