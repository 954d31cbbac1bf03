"""Log-mel spectrograms against the formulas, written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lmaas.workers.preprocess.spectrogram import LogMel, Spectrogram, mel_filters
from tests.unit.workers.sounds import tone

RATE = 8_000
HOW = LogMel(n_fft=64, hop=20, mels=8, fmin=100, log_offset=1e-3)


def mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def hertz(mels: float) -> float:
    return 700 * (10 ** (mels / 2595) - 1)


def slow(samples: list[float], how: LogMel, rate: int) -> list[list[float]]:
    """Frame by frame, frequency by frequency, filter by filter."""
    size, highest = how.n_fft, how.fmax or rate / 2
    step = (mel(highest) - mel(how.fmin)) / (how.mels + 1)
    edges = [hertz(mel(how.fmin) + step * place) for place in range(how.mels + 2)]
    rows, start = [], 0
    while not rows or start + size - how.hop < len(samples):
        frame = [samples[start + n] if start + n < len(samples) else 0.0 for n in range(size)]
        for n in range(size):
            frame[n] *= math.sin(math.pi * n / size) ** 2
        powers = []
        for k in range(size // 2 + 1):
            angle = 2 * math.pi * k / size
            real = sum(value * math.cos(angle * n) for n, value in enumerate(frame))
            imaginary = sum(value * math.sin(angle * n) for n, value in enumerate(frame))
            powers.append(real * real + imaginary * imaginary)
        row = []
        for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
            total = 0.0
            for k, power in enumerate(powers):
                at = k * rate / size
                if low < at <= centre:
                    total += power * (at - low) / (centre - low)
                elif centre < at < high:
                    total += power * (high - at) / (high - centre)
            row.append(math.log(total + how.log_offset))
        rows.append(row)
        start += how.hop
    return rows


@pytest.mark.parametrize("count", [1, 19, 63, 64, 65, 84, 85, 200])
def test_it_is_what_the_formulas_say(count: int) -> None:
    samples = np.random.default_rng(count).standard_normal(count).astype(np.float32)
    found = Spectrogram(HOW, RATE)(samples)
    expected = np.array(slow(samples.tolist(), HOW, RATE))
    assert found.dtype == np.float32
    assert found.shape == expected.shape == (1 + max(0, math.ceil((count - 64) / 20)), 8)
    assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("fmax", [None, 3000.0])
def test_a_tone_is_loudest_in_the_filter_around_it(fmax: float | None) -> None:
    how = LogMel(n_fft=512, hop=128, mels=20, fmin=50, fmax=fmax)
    edges = [hertz(value) for value in np.linspace(mel(50), mel(fmax or 4000), 22)]
    for place, centre in enumerate(edges[1:-1]):
        found = Spectrogram(how, RATE)(tone(centre).astype(np.float32))[:-4]
        assert set(found.argmax(axis=1).tolist()) == {place}


def test_twice_the_amplitude_is_four_times_the_power() -> None:
    make = Spectrogram(LogMel(n_fft=256, hop=100, mels=10, log_offset=1e-12), RATE)
    soft = make(tone(700, loudness=0.2).astype(np.float32))
    loud = make(tone(700, loudness=0.4).astype(np.float32))
    assert (loud - soft).max(axis=1) == pytest.approx(math.log(4), abs=1e-3)


def test_silence_is_the_logarithm_of_the_offset() -> None:
    found = Spectrogram(HOW, RATE)(np.zeros(100, np.float32))
    assert found == pytest.approx(math.log(1e-3), abs=1e-5)


def test_filters_meet_at_their_centres() -> None:
    filters = mel_filters(LogMel(n_fft=4096, hop=1, mels=12), RATE)
    assert filters.shape == (2049, 12)
    # Between the first centre and the last every frequency counts once.
    inner = filters[filters[:, 0].argmax() : filters[:, -1].argmax() + 1]
    assert inner.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fmax": 5000.0}, "at most half the rate, 4000"),
        ({"fmin": 4000.0}, "fmax must be above fmin"),
        ({"mels": 64}, "64 mels are too many for n_fft 64"),
    ],
)
def test_filters_that_cannot_be(changes: dict[str, float], words: str) -> None:
    how = LogMel(**{"n_fft": 64, "hop": 20, "mels": 8} | changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=words):
        Spectrogram(how, RATE)
