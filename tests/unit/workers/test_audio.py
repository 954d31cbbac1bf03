"""Sounds as the inputs of a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import ModelDamaged
from lmaas.broker_config.messages import Item, Tensor
from lmaas.workers.batcher import Batch
from lmaas.workers.manifest import Batching, Input
from lmaas.workers.model_version import ModelVersion
from lmaas.workers.preprocess import preprocessor
from lmaas.workers.preprocess.audio import VARIANCE_OFFSET, Audio, Features
from lmaas.workers.preprocess.spectrogram import LogMel, Spectrogram
from tests import versions
from tests.unit.workers.sounds import encoded, tone

RATE = 8_000
LOG_MEL = {"kind": "log_mel", "n_fft": 256, "hop": 80, "mels": 20}
WAVEFORM = {"kind": "waveform"}
#: Nothing is taken off, nor divided.
RAW = {"mean": 0.0, "deviation": 1.0}


def version(features: dict[str, Any], *, mask: str | None = "mask", **how: Any) -> ModelVersion:
    inputs = [Input(name="x", dtype="float32", shape=[None, None])]
    if mask:
        inputs.append(Input(name=mask, dtype="int64", shape=[None, None]))
    preprocessing = {
        "kind": "audio", "rate": RATE, "features": features, "max_seconds": 2, "input": "x",
        "mask": mask,
    }  # fmt: skip
    batching = Batching(unit="frames", most=1024)
    return versions.in_memory(versions.manifest(preprocessing | how, inputs, batching))


def sound(seconds: float = 0.5, name: str = "s", **how: Any) -> Item:
    return Item(id=name, data=encoded(tone(440, seconds, **how)), media_type="audio/wav")


def whole(given: ModelVersion, *items: Item) -> dict[str, Any]:
    made = preprocessor(given).encode(items)
    return made.arrays(Batch(list(range(len(items))), len(items), max(made.lengths)))


def test_a_spectrogram_has_a_mean_of_0_and_a_deviation_of_1() -> None:
    arrays = whole(version(LOG_MEL), sound())
    assert {name: (array.dtype, array.shape) for name, array in arrays.items()} == {
        "x": (np.dtype("float32"), (1, 48, 20)),
        "mask": (np.dtype("int64"), (1, 48)),
    }
    assert arrays["x"].mean() == pytest.approx(0, abs=1e-5)
    assert arrays["x"].std() == pytest.approx(1, abs=1e-5)


def test_the_mean_and_the_deviation_may_be_given() -> None:
    expected = Spectrogram(LogMel(n_fft=256, hop=80, mels=20), RATE)(tone(440).astype(np.float32))
    raw = whole(version(LOG_MEL, **RAW), sound())["x"][0]
    assert raw[:-1] == pytest.approx(expected[:-1], abs=0.2)
    scaled = whole(version(LOG_MEL, mean=-3.0, deviation=4.0), sound())["x"][0]
    assert scaled == pytest.approx((raw + 3) / 4, abs=1e-6)


def test_a_waveform_as_wav2vec2_takes_it() -> None:
    found = whole(version(WAVEFORM, mask=None, rate=16_000), sound(0.1, rate=16_000))
    assert list(found) == ["x"]
    samples = found["x"][0]
    assert len(samples) == 1600 * 2  # the file says 8,000 samples a second
    assert samples.mean() == pytest.approx(0, abs=1e-6)
    assert samples.std() == pytest.approx(1, abs=1e-5)


def test_a_waveform_is_normalized_by_the_formula() -> None:
    samples = np.array([0.5, -0.25, 0.125, 0.0])
    item = Item(id="1", data=encoded(samples, subtype="FLOAT"))
    found = whole(version(WAVEFORM), item)["x"][0]
    expected = (samples - samples.mean()) / np.sqrt(samples.var() + VARIANCE_OFFSET)
    assert found == pytest.approx(expected, abs=1e-5)
    assert whole(version(WAVEFORM, **RAW), item)["x"][0] == pytest.approx(samples)


def test_silence_has_features() -> None:
    silence = Item(id="1", data=encoded(np.zeros(4000)))
    for features in (LOG_MEL, WAVEFORM):
        assert np.isfinite(whole(version(features), silence)["x"]).all()


@pytest.mark.parametrize("features", [LOG_MEL, WAVEFORM])
def test_neighbours_change_nothing(features: dict[str, Any]) -> None:
    items = [sound(0.3), sound(0.5), sound(0.01)]
    made = preprocessor(version(features)).encode(items)
    assert made.lengths == ([28, 48, 1] if features is LOG_MEL else [2400, 4000, 80])
    arrays = made.arrays(Batch([2, 0, 1], 4, max(made.lengths) + 8))
    for row, place in enumerate([2, 0, 1, 2]):
        alone = whole(version(features), items[place])["x"][0]
        length = made.lengths[place]
        assert np.array_equal(arrays["x"][row, :length], alone)
        assert not arrays["x"][row, length:].any()
        assert arrays["mask"][row].tolist() == [1] * length + [0] * (arrays["x"].shape[1] - length)


def test_all_may_be_of_one_length() -> None:
    given = version(LOG_MEL, seconds=0.4)
    made = preprocessor(given).encode([sound(0.3), sound(1.5), sound(0.0002)])
    assert made.lengths == [38] * 3
    arrays = made.arrays(Batch([0, 1, 2], 3, 38))
    assert arrays["mask"].sum(axis=1).tolist() == [28, 38, 1]
    assert np.array_equal(arrays["x"][1], whole(given, sound(0.4))["x"][0])


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (
            Item(id="1", text="a text"),
            "takes a WAV, FLAC or OGG file (data); the item has a text",
        ),
        (Item(id="1", tensors={"x": Tensor(shape=[0], datatype="FP32", data=b"")}), "tensors"),
    ],
)
def test_what_has_no_bytes(item: Item, words: str) -> None:
    error = preprocessor(version(LOG_MEL)).check(item)
    assert error is not None
    assert error.code == Code.INVALID_ITEM
    assert words in error.message
    assert preprocessor(version(LOG_MEL)).check(sound()) is None


def test_an_error_is_of_its_item_only() -> None:
    items = [
        sound(0.3),
        Item(id="empty", data=b""),
        sound(2.1),
        Item(id="picture", data=b"\x89PNG\r\n\x1a\n", media_type="image/png"),
        Item(id="cut", data=encoded(tone(440))[:-100]),
        sound(0.5),
    ]
    made = preprocessor(version(LOG_MEL)).encode(items)
    assert {place: error.code for place, error in made.faults.items()} == {
        1: Code.INVALID_ITEM,
        2: Code.TOO_LARGE,
        3: Code.INVALID_ITEM,
        4: Code.INVALID_ITEM,
    }
    assert len(made.lengths) == len(items)
    arrays = made.arrays(Batch([0, 5], 2, 48))
    assert arrays["mask"].sum(axis=1).tolist() == [28, 48]


def test_the_examples_are_sounds() -> None:
    for features in (LOG_MEL, WAVEFORM):
        found = preprocessor(version(features))
        assert [found.check(item) for item in found.examples] == [None, None]
        made = found.encode(found.examples)
        assert not made.faults
        assert min(made.lengths) > 1


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"rate": 100}, "Expected `int` >= 1000 - at `$.rate`"),
        ({"features": {"kind": "mfcc"}}, "Invalid value 'mfcc'"),
        ({"features": LOG_MEL | {"fmax": 5000.0}}, "at most half the rate, 4000"),
        ({"input": "y"}, "its preprocessing makes ['mask', 'y'], and its inputs are ['mask', 'x']"),
        ({"mask": None}, "its preprocessing makes ['x'], and its inputs are ['mask', 'x']"),
        ({"hop": 3}, "unknown field `hop`"),
    ],
)
def test_a_manifest_that_makes_no_sense(how: dict[str, Any], words: str) -> None:
    given = version(LOG_MEL)
    given.manifest.preprocessing.update(how)
    with pytest.raises(ModelDamaged) as failure:
        preprocessor(given)
    assert words in str(failure.value)


def test_training_makes_the_same() -> None:
    how = Audio(rate=RATE, features=LogMel(n_fft=256, hop=80, mels=20), max_seconds=2, input="x",
                mask="mask")  # fmt: skip
    item = sound()
    assert np.array_equal(
        Features(how).of_file(item.data or b""), whole(version(LOG_MEL), item)["x"][0]
    )
