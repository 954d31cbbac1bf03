"""Kaldi's spectrograms: against transformers, and at their edges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lmaas.workers.preprocess.audio import Audio, Features
from lmaas.workers.preprocess.fbank import Fbank, KaldiSpectrogram, kaldi_filters
from tests.unit.workers.sounds import tone

RATE = 16_000
#: Of `ASTFeatureExtractor(max_length=12, num_mel_bins=4)` of transformers 5.24: its first three
#: frames of the sound below, its eighth (the last), and its ninth, which only fills up.
GOLDEN = {
    0: [0.74759, 0.93970, 1.17159, 1.33053],
    1: [0.74661, 0.93701, 1.16421, 1.32991],
    2: [0.75938, 0.93830, 1.14975, 1.32763],
    7: [0.74849, 0.93835, 1.16962, 1.33046],
    8: [0.46703] * 4,
}


def test_it_is_what_transformers_makes() -> None:
    place = np.arange(1600)
    sound = (((place * place * 7) % 1000 - 500) / 1000).astype(np.float32)
    how = Audio(
        rate=RATE, features=Fbank(mels=4, frames=12), max_seconds=1, mean=-4.2677393,
        deviation=2 * 4.5689974, input="x",
    )  # fmt: skip
    features = Features(how)
    found = features.of_waveform(sound)
    assert features.length == len(found) == 12
    for frame, expected in GOLDEN.items():
        assert found[frame] == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(
    ("samples", "frames"), [(1, 1), (400, 1), (559, 1), (560, 2), (16_000, 98)]
)
def test_what_remains_at_the_end_is_left_out(samples: int, frames: int) -> None:
    sound = np.ones(samples, np.float32)
    assert KaldiSpectrogram(Fbank(mels=8), RATE)(sound).shape == (frames, 8)
    assert len(KaldiSpectrogram(Fbank(mels=8, frames=5), RATE)(sound)) == 5


def test_silence_is_the_logarithm_of_the_least() -> None:
    found = KaldiSpectrogram(Fbank(mels=8), RATE)(np.full(800, 0.5, np.float32))
    assert found == pytest.approx(math.log(2**-23), abs=1e-5)


def test_a_tone_is_loudest_in_the_filter_around_it() -> None:
    make = KaldiSpectrogram(Fbank(mels=40), RATE)
    filters = kaldi_filters(Fbank(mels=40), RATE, 512)
    for hertz in (500, 1000, 3000):
        expected = filters[round(hertz / RATE * 512)].argmax()
        assert (
            abs(make(tone(hertz, rate=RATE).astype(np.float32)).mean(axis=0).argmax() - expected)
            <= 1
        )


def test_filters_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="below half the rate, 500"):
        KaldiSpectrogram(Fbank(mels=4, fmin=600), 1000)
