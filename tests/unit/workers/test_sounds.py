"""Sound files as waveforms, and what is no sound file."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from lmaas.broker_config.codes import Code
from lmaas.workers.preprocess.sounds import UnusableSound, own_rate, waveform
from tests.unit.workers.sounds import encoded, saying, tone

RATE = 8_000
TONE = tone(440)
WAV, FLAC, OGG = (encoded(TONE, kind=kind) for kind in ("WAV", "FLAC", "OGG"))
OPUS = encoded(TONE, kind="OGG", subtype="OPUS")


def read(data: bytes, rate: int = RATE, max_seconds: float = 30) -> np.ndarray:
    return waveform(data, rate, max_seconds)


@pytest.mark.parametrize(
    ("kind", "subtype", "tolerance"),
    [
        ("WAV", "PCM_U8", 0.01),
        ("WAV", "PCM_16", 1e-4),
        ("WAV", "PCM_24", 1e-6),
        ("WAV", "PCM_32", 1e-7),
        ("WAV", "FLOAT", 1e-7),
        ("WAV", "DOUBLE", 1e-7),
        ("WAV", "ULAW", 0.02),
        ("WAVEX", "PCM_16", 1e-4),
        ("FLAC", "PCM_S8", 0.01),
        ("FLAC", "PCM_16", 1e-4),
        ("FLAC", "PCM_24", 1e-6),
        ("OGG", "VORBIS", 0.05),
        ("OGG", "OPUS", 0.1),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_every_format_is_read(kind: str, subtype: str, tolerance: float, channels: int) -> None:
    data = encoded(np.stack([TONE] * channels, axis=1), kind=kind, subtype=subtype)
    found = read(data)
    assert (found.dtype, found.shape) == (np.float32, TONE.shape)
    inner = slice(400, -400)  # OGG's frames begin and end softly
    assert np.abs(found - TONE)[inner].max() < tolerance


def test_channels_are_mixed() -> None:
    left, right = tone(440), tone(1000)
    found = read(encoded(np.stack([left, right], axis=1), subtype="FLOAT"))
    assert found == pytest.approx((left + right) / 2, abs=1e-6)


@pytest.mark.parametrize("rate", [1_000, 8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 192_000])
@pytest.mark.parametrize("target", [8_000, 16_000])
def test_every_rate_becomes_the_models(rate: int, target: int) -> None:
    data = encoded(tone(200, rate=rate), rate)
    found = read(data, target)
    expected = tone(200, rate=target)
    assert own_rate(data) == rate
    assert abs(len(found) - len(expected)) <= 1
    inner = slice(target // 10, -target // 10)
    assert np.abs(found[: len(expected)] - expected[: len(found)])[inner].max() < 0.01


def test_what_a_lower_rate_cannot_have_is_filtered_out() -> None:
    found = read(encoded(tone(6_000, rate=44_100), 44_100))
    assert np.abs(found[800:-800]).max() < 1e-3


def refused(data: bytes, words: str, code: str = Code.INVALID_ITEM, **how: float) -> None:
    with pytest.raises(UnusableSound, match=words) as failure:
        read(data, **how)
    assert failure.value.error.code == code
    assert failure.value.error.message == str(failure.value)


@pytest.mark.parametrize("data", [b"", b"R", b"RIFF", b"fLaC", b"OggS", b"RIFF" * 100, bytes(500)])
def test_what_is_no_sound_is_refused(data: bytes) -> None:
    refused(data, "no WAV, FLAC or OGG|cut|damaged")


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n" + bytes(100), b"a text", encoded(TONE, kind="MP3"),
             encoded(TONE, kind="AIFF")],
)  # fmt: skip
def test_other_formats_are_named(data: bytes) -> None:
    refused(data, "this is no WAV, FLAC or OGG file; convert it")


@pytest.mark.parametrize("whole", [WAV, FLAC, OGG, OPUS])
def test_a_cut_file_is_refused_wherever_it_is_cut(whole: bytes) -> None:
    for size in {1, 4, 12, 30, 44, 60, 100, len(whole) // 2, len(whole) - 100, len(whole) - 1}:
        refused(whole[:size], "no WAV, FLAC or OGG|cut|damaged")


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_flac_with_other_bytes_inside_is_refused(place: float) -> None:
    start = int(place * len(FLAC))
    refused(FLAC[:start] + b"\x55" * 100 + FLAC[start + 100 :], "the sound file is damaged")


def test_an_hour_is_refused_by_its_header() -> None:
    hour = encoded(np.zeros(3600 * 1_000, np.int16), 1_000, "FLAC")
    assert len(hour) < 30_000
    # What comes after the header is not looked at.
    spoilt = hour[:8_000] + bytes(len(hour) - 8_000)
    for data in (hour, spoilt):
        refused(data, "3,600.0 s long; the model takes 30 s at most", Code.TOO_LARGE)
    assert len(read(hour, 1_000, max_seconds=3600)) == 3600 * 1_000


def test_a_header_that_says_more_than_there_is() -> None:
    refused(saying(WAV, 3600 * 2 * RATE), "the file is cut")
    refused(saying(WAV, len(WAV)), "the file is cut")
    # The samples of a FLAC are counted in 36 bits of its first block.
    for count in (2 * len(TONE), 3600 * RATE):
        longer = FLAC[:22] + struct.pack(">I", count) + FLAC[26:]
        with pytest.raises(UnusableSound, match=r"damaged|3,600\.0 s long"):
            read(longer)


def test_a_wav_from_a_pipe_does_not_say_its_size() -> None:
    assert read(saying(WAV, 2**32 - 1)) == pytest.approx(TONE, abs=1e-4)


def test_a_flac_from_a_pipe_cannot_be_read() -> None:
    piped = FLAC[:21] + bytes([FLAC[21] & 0xF0]) + bytes(4) + FLAC[26:]
    refused(piped, "does not say how long it is")


@pytest.mark.parametrize("kind", ["WAV", "OGG"])
def test_no_samples(kind: str) -> None:
    refused(encoded(np.zeros(0), kind=kind), "it has no samples")


def test_one_sample_is_a_sound_if_there_is_one_at_the_models_rate() -> None:
    assert len(read(encoded([0.5]))) == 1
    refused(encoded([0.5], 48_000), "1 samples are too few")


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("worst", [np.nan, np.inf, -np.inf, 1e300])
def test_samples_that_are_no_numbers(subtype: str, worst: float) -> None:
    samples = TONE.astype(np.float32 if subtype == "FLOAT" else np.float64)
    with np.errstate(over="ignore"):
        samples[100] = worst
    refused(encoded(samples, subtype=subtype), "no numbers")


def test_headers_out_of_reason() -> None:
    def header(place: int, layout: str, value: int) -> bytes:
        return WAV[:place] + struct.pack(layout, value) + WAV[place + struct.calcsize(layout) :]

    refused(header(24, "<I", 2_000_000), "2,000,000 samples a second; they can be from 1,000 to")
    refused(header(24, "<I", 7), "its header says 7 samples a second")
    refused(header(24, "<I", 0), "damaged")
    refused(header(22, "<H", 100), "its header says 100 channels; there can be 8")
    refused(header(22, "<H", 0), "damaged")
    refused(header(34, "<H", 33), "damaged")


def test_other_chunks_of_a_wav_are_passed_over() -> None:
    before = WAV[:12] + b"LIST\x03\0\0\0abc\0" + WAV[12:]
    after = WAV + b"LIST\x04\0\0\0abcd"
    for data in (before, after):
        assert read(data) == pytest.approx(TONE, abs=1e-4)
