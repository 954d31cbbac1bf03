"""Models of sound from elsewhere: how a sound is prepared, as their files say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import Item
from lmaas.cli.exits import Exit
from lmaas.cli.models import command
from lmaas.training.importing import imported
from lmaas.training.importing.probing import probed
from lmaas.training.importing.proposal import Options
from lmaas.workers.preprocess import faults
from lmaas.workers.preprocess.audio import VARIANCE_OFFSET
from tests.unit.training import graphs
from tests.unit.workers.sounds import encoded, tone

RATE = 16_000
WAVEFORM = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": RATE}
FBANK = {
    "feature_extractor_type": "ASTFeatureExtractor", "num_mel_bins": 4, "max_length": 12,
    "sampling_rate": RATE,
}  # fmt: skip
#: Of the first of wav2vec2's convolutions: three samples make two, which make one.
CONVOLUTIONS = {"conv_kernel": [2, 2], "conv_stride": [1, 1]}


def listener(*, masked: bool = False, shape: tuple[Any, ...] = ("batch", "samples")) -> Any:
    """A graph that gives the mean of the absolute values, of those that the mask leaves, three
    times: as they are, doubled, and as the negative."""
    axes = list(range(1, len(shape)))
    nodes = [helper.make_node("Abs", ["input_values"], ["loud"])]
    names = {"input_values": (TensorProto.FLOAT, shape)}
    if masked:
        names["attention_mask"] = (TensorProto.INT64, shape)
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["loud", "mask"], ["heard"]),
            helper.make_node("ReduceSum", ["heard", "axes"], ["sum"]),
            helper.make_node("ReduceSum", ["mask", "axes"], ["count"]),
            helper.make_node("Div", ["sum", "count"], ["mean"]),
        ]
    else:
        nodes += [
            helper.make_node("ReduceSum", ["loud", "axes"], ["sum"]),
            helper.make_node("Shape", ["loud"], ["sizes"]),
            helper.make_node("Gather", ["sizes", "axes"], ["counts"]),
            helper.make_node("ReduceProd", ["counts"], ["size"], keepdims=0),
            helper.make_node("Cast", ["size"], ["count"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["sum", "count"], ["mean"]),
        ]
    nodes += [
        helper.make_node("Reshape", ["mean", "column"], ["column_"]),
        helper.make_node("MatMul", ["column_", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "listener",
        [helper.make_tensor_value_info(name, *told) for name, told in names.items()],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [shape[0], 3])],
        [
            numpy_helper.from_array(np.array(axes, np.int64), "axes"),
            numpy_helper.from_array(np.array([-1, 1], np.int64), "column"),
            numpy_helper.from_array(np.array([[1, 2, -1]], np.float32), "weights"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def folder(
    path: Path, told: dict[str, Any], *, nested: bool = False, config: Any = None, **graph: Any
) -> Path:
    made = graphs.folder(
        path, listener(**graph), config={"model_type": "wav2vec2"} | (config or {}), words=None
    )
    name = "processor_config.json" if nested else "preprocessor_config.json"
    (made / name).write_text(json.dumps({"feature_extractor": told} if nested else told))
    return made


def sound(samples: Any, name: str = "1") -> Item:
    return Item(id=name, data=encoded(samples, RATE, subtype="FLOAT"), media_type="audio/wav")


def loudness(samples: Any) -> Any:
    """What the graph should say of a sound, normalized as wav2vec2 has it."""
    normal = (samples - samples.mean()) / np.sqrt(samples.var() + VARIANCE_OFFSET)
    return np.abs(normal).mean() * np.array([1, 2, -1])


SOUNDS = [tone(300, seconds, RATE) ** 3 for seconds in (0.2, 0.05, 0.1)]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_a_waveform_is_served_as_its_extractor_makes_it(
    tmp_path: Path, nested: bool, masked: bool
) -> None:
    made = folder(tmp_path / "emotions", WAVEFORM, nested=nested, masked=masked)
    proposal, runtime = probed(imported(made, Options(scores="values")), [])
    found = runtime.scores([sound(samples) for samples in SOUNDS])
    np.testing.assert_allclose(found, [loudness(one) for one in SOUNDS], atol=1e-5)
    # Without a mask nothing may fill up a sound.
    assert proposal.batching.rows == (None if masked else 1)
    assert any("one at a time" in note for note in proposal.notes) is not masked
    assert proposal.warnings == []
    assert proposal.labels == list(graphs.LABELS)


def test_what_the_config_says_otherwise(tmp_path: Path) -> None:
    told = WAVEFORM | {"do_normalize": False, "sampling_rate": 8000}
    made = folder(tmp_path / "emotions", told, config=CONVOLUTIONS)
    options = Options(scores="values", max_seconds=0.5)
    _, runtime = probed(imported(made, options), [])
    samples = tone(300, 0.1, RATE)
    (found,) = runtime.scores([sound(samples)])
    assert found[0] == pytest.approx(np.abs(samples).mean(), abs=1e-3)
    assert runtime.encode([sound(samples)]).lengths == [800]
    wrong = faults(runtime.encode([sound(tone(300, 0.6, RATE)), sound(samples[:4])]))
    assert wrong[0].code == Code.TOO_LARGE
    assert wrong[1].message == "it is 0.00025 s long; the model takes 0.000375 s at least"


def test_a_graph_that_is_fixed_to_a_length_gets_it(tmp_path: Path) -> None:
    made = folder(tmp_path / "emotions", WAVEFORM, shape=("batch", 1600))
    proposal, runtime = probed(imported(made, Options(scores="values")), [])
    assert "filled up with silence, to 0.1 s: the graph is fixed to it" in " ".join(proposal.notes)
    full, half = tone(300, 0.2, RATE)[:1600], tone(300, 0.05, RATE)
    found = runtime.scores([sound(full), sound(half)])
    np.testing.assert_allclose(found, [loudness(full), loudness(half) / 2], atol=1e-5)


def test_spectrograms_as_the_audio_spectrogram_transformer_takes_them(tmp_path: Path) -> None:
    made = folder(tmp_path / "ast", FBANK, shape=("batch", "frames", "mels"))
    proposal, runtime = probed(imported(made, Options(scores="values")), [])
    assert runtime.encode([sound(SOUNDS[0])]).lengths == [12]
    assert proposal.preprocessing["features"] == {
        "kind": "fbank", "mels": 4, "frames": 12, "fmin": 20.0,
    }  # fmt: skip
    assert proposal.batching.rows is None
    alone = [runtime.scores([sound(one)])[0] for one in SOUNDS]
    np.testing.assert_allclose(runtime.scores([sound(one) for one in SOUNDS]), alone, atol=1e-6)


@pytest.mark.parametrize(
    ("told", "shape", "words"),
    [
        (WAVEFORM | {"feature_extractor_type": "WhisperFeatureExtractor"}, ("b", 80, 3000),
         "'WhisperFeatureExtractor' is not known here, only Wav2Vec2FeatureExtractor and AST"),
        (WAVEFORM, ("b", 80, 3000), "Wav2Vec2FeatureExtractor does not make what the graph takes"),
        (FBANK, ("b", 1024, 4), "its max_length is 12, and the graph takes 1024"),
        (FBANK, ("b", 12, 128), "its num_mel_bins is 4, and the graph takes 128"),
        (WAVEFORM | {"sampling_rate": 10}, ("b", "n"), "Expected `int` >= 1000 - at `$.rate`"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_told(
    tmp_path: Path, told: dict[str, Any], shape: Any, words: str
) -> None:
    made = folder(tmp_path / "m", told, shape=shape)
    with pytest.raises(DataError) as error:
        imported(made, Options())
    assert words in str(error.value)


def test_a_folder_without_a_processor_is_told(tmp_path: Path) -> None:
    made = graphs.folder(tmp_path / "m", listener(), words=None)
    with pytest.raises(DataError, match=r"a model of sound without preprocessor_config\.json"):
        imported(made, Options())


def test_it_is_tried_and_verified_by_commands(tmp_path: Path) -> None:
    made = folder(tmp_path / "emotions", WAVEFORM)
    (tmp_path / "s.wav").write_bytes(encoded(SOUNDS[1], RATE))
    (tmp_path / "cut.wav").write_bytes(encoded(SOUNDS[1], RATE)[:-100])
    models = ["--models", str(tmp_path / "models")]
    ended = CliRunner().invoke(command, [*models, "import", str(made)])
    assert ended.exit_code == Exit.OK, ended.output
    shown = CliRunner().invoke(command, [*models, "try", "emotions", str(tmp_path / "s.wav")])
    assert shown.stdout.splitlines()[:3] == [
        "emotions 1 (wav2vec2)", "length: 800 samples", "input input_values: float32 [1, 800]",
    ]  # fmt: skip
    cut = CliRunner().invoke(command, [*models, "try", "emotions", str(tmp_path / "cut.wav")])
    assert "cut.wav: the file is cut: it ends before" in str(cut.exception)
    verified = CliRunner().invoke(command, [*models, "verify", "emotions"])
    assert "emotions 1: ok, 4 kept answers" in verified.stdout
