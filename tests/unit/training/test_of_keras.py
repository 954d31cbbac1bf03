"""Models of Keras, converted on the way: answers as Keras gives them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import Item, Tensor
from lmaas.training import quietly
from lmaas.training.importing import adding, imported, of_keras
from lmaas.training.importing.proposal import Options, Proposal
from lmaas.training.measuring import Measured
from lmaas.workers.manifest import Cost
from lmaas.workers.model_version import ModelVersion, read_version
from lmaas.workers.runtime import Runtime
from tests.unit.training import graphs

with quietly():
    import keras

# Keras copies its own variables that way, with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

layers = keras.layers
TEXTS = ["A good film, well-made!", "bad film: it is É é", "", "... !!!", "zzz  \t good", "a " * 30]
FEATURES = np.random.default_rng(2).normal(size=(5, 4)).astype(np.float32)


@pytest.fixture(autouse=True)
def _not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(version: ModelVersion, _items: Any) -> Measured:
        return Measured(batching=version.manifest.batching, cost=Cost())

    monkeypatch.setattr(adding, "measured", measured)
    keras.utils.set_random_seed(4)


def added(path: Path, options: Options | None = None) -> tuple[Runtime, Proposal]:
    """The version that is made of it, as a worker has it."""
    proposal = imported(path, options or Options())
    place, proposal = adding.add(proposal, "imported", [], out_root=path.parent / "models")
    return Runtime(read_version(place)), proposal


def saved(model: keras.Model, path: Path) -> Path:
    if path.suffix:
        model.save(path)
    else:
        with quietly():
            model.export(path, verbose=False)
    return path


def rows(name: str, values: npt.NDArray[Any]) -> list[Item]:
    datatype = {"float32": "FP32", "int32": "INT32"}[str(values.dtype)]
    return [
        Item(id="", tensors={name: Tensor(list(row.shape), datatype, row.tobytes())})
        for row in values
    ]


def features(*end: Any) -> keras.Sequential:
    normalization = layers.Normalization(mean=[0.5, 0, 0, 1], variance=[1, 2, 3, 4])
    return keras.Sequential(
        [keras.Input((4,), name="x"), normalization, layers.Dense(8, "relu"), *end]
    )


@pytest.mark.parametrize("place", ["model.keras", "saved"])
def test_features_have_the_probabilities_of_keras(tmp_path: Path, place: str) -> None:
    model = features(layers.BatchNormalization(), layers.Dense(3, "softmax"))
    runtime, proposal = added(
        saved(model, tmp_path / place), Options(labels=("red", "green", "blue"))
    )
    (name,) = (one.name for one in runtime.manifest.inputs)
    scores = runtime.scores(rows(name, FEATURES))
    np.testing.assert_allclose(scores, model(FEATURES), atol=1e-5)
    assert runtime.labels == ["red", "green", "blue"]
    assert proposal.name == Path(place).stem
    assert proposal.warnings == []


def test_one_sigmoid_is_the_second_of_two_labels(tmp_path: Path) -> None:
    model = features(layers.Dense(1, "sigmoid"))
    runtime, _ = added(saved(model, tmp_path / "model.keras"))
    assert runtime.labels == ["0", "1"]
    expected = np.asarray(model(FEATURES))
    scores = runtime.scores(rows("x", FEATURES))
    np.testing.assert_allclose(scores, np.hstack([1 - expected, expected]), atol=1e-5)


def test_pictures_are_tensors_as_the_model_takes_them(tmp_path: Path) -> None:
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="pixels"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    runtime, _ = added(saved(model, tmp_path / "model.keras"), Options(scores="softmax"))
    pixels = np.random.default_rng(1).uniform(0, 255, (4, 8, 8, 1)).astype(np.float32)
    expected = keras.ops.softmax(model(pixels))
    np.testing.assert_allclose(runtime.scores(rows("pixels", pixels)), expected, atol=1e-5)


def of_words(first: Sequence[Any], size: int) -> keras.Sequential:
    return keras.Sequential(
        [
            *first,
            layers.Embedding(size, 4, mask_zero=True),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3, "softmax"),
        ]
    )


def test_ids_are_made_by_a_tokenizer_or_are_tensors(tmp_path: Path) -> None:
    model = of_words([keras.Input((None,))], len(graphs.WORDS))
    path = saved(model, tmp_path / "model.keras")
    with pytest.raises(DataError, match=r"takes token ids .* --tokenizer tokenizer\.json"):
        added(path)
    graphs.tokenizer().save(str(tmp_path / "its.json"))
    runtime, _ = added(path, Options(tokenizer=tmp_path / "its.json", max_tokens=16))
    items = [Item(id="", text=text) for text in ("a good film", "bad")]
    expected = [np.asarray(model(np.array([graphs.ids_of(i.text or "")[0]])))[0] for i in items]
    np.testing.assert_allclose(runtime.scores(items), expected, atol=1e-5)


@pytest.mark.parametrize(
    "how",
    [{}, {"output_sequence_length": 6, "ngrams": 2}, {"split": "character", "standardize": None}],
)
def test_a_text_vectorization_inside_is_done_as_keras_does_it(
    tmp_path: Path, how: dict[str, Any]
) -> None:
    layer = layers.TextVectorization(max_tokens=40, **how)
    layer.adapt([*TEXTS[:2], "good film"])
    model = of_words([keras.Input((1,), dtype="string"), layer], 40)
    runtime, _ = added(saved(model, tmp_path / "model.keras"))
    items = [Item(id="", text=text) for text in TEXTS if text.strip(" .!") or how.get("ngrams")]
    tensors = [keras.ops.convert_to_tensor([[item.text]], dtype="string") for item in items]
    expected = [np.asarray(model(one))[0] for one in tensors]
    np.testing.assert_allclose(runtime.scores(items), expected, atol=1e-5)
    assert runtime.manifest.preprocessing["kind"] == "text_vectorization"


def test_what_cannot_be_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(DataError, match="Keras cannot load it"):
        added(path)
    layer = layers.TextVectorization(max_tokens=40, output_mode="multi_hot")
    layer.adapt(TEXTS)
    counts = keras.Sequential([keras.Input((1,), dtype="string"), layer, layers.Dense(3)])
    with pytest.raises(DataError, match="output_mode='multi_hot', which cannot be done"):
        added(saved(counts, path))
    two = keras.Input((4,))
    several = keras.Model(two, [layers.Dense(2)(two), layers.Dense(2)(two)])
    with pytest.raises(DataError, match="several outputs"):
        added(saved(several, path))
    monkeypatch.setattr(of_keras, "TOLERANCE", -1.0)
    with pytest.raises(DataError, match="differs from Keras by"):
        added(saved(features(layers.Dense(2)), path))
