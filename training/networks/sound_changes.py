"""Sounds as they might have been too: what a network of sounds learns from besides.

Where a sound begins, how fast and high a voice is, how loud it is recorded and over what noise say
nothing of what is said; without these changes a network learns the voices of its training.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import soxr

from lmaas.workers.preprocess.sounds import Waveform
from lmaas.workers.preprocess.spectrogram import Floats

#: By which it is slower and lower, or faster and higher, at most.
PACE: Final = 0.15
#: Into so many a pace of 1 is divided.
PACES: Final = 80
#: Seconds of silence before it, and after it, at most.
SILENCE: Final = 0.1
#: Decibels by which it is louder or softer, and the noise below it, from and to.
GAIN: Final = 6.0
NOISE: Final = (10.0, 50.0)
#: Share of the frames, and of the filters, that are hidden at most.
HIDDEN: Final = (0.15, 0.2)


def changed(sound: Waveform, rate: int, random: np.random.Generator) -> Waveform:
    """At another pace, among silence, at another volume, and over noise."""
    # As if it had been recorded at another rate: fewer samples are faster and higher. Of rates that
    # have a large common divisor the resampling is four times as fast.
    pace = round(random.uniform(1 - PACE, 1 + PACE) * PACES)
    made = soxr.resample(sound, pace, PACES)
    before, after = random.integers(0, int(SILENCE * rate) + 1, 2)
    made = np.pad(made if len(made) else sound, (before, after))
    loudness = float(np.sqrt(np.square(made).mean()))
    noise = random.standard_normal(len(made), np.float32)
    made += noise * np.float32(loudness * 10 ** (-random.uniform(*NOISE) / 20))
    changed: Waveform = made * np.float32(10 ** (random.uniform(-GAIN, GAIN) / 20))
    return changed


def hidden(features: Floats, random: np.random.Generator) -> Floats:
    """With a run of frames and a run of filters at their mean, which is 0 (Park et al.,
    SpecAugment, 2019)."""
    for axis, share in enumerate(HIDDEN):
        size = features.shape[axis]
        length = int(random.integers(0, int(share * size) + 1))
        start = int(random.integers(0, size - length + 1))
        np.moveaxis(features, axis, 0)[start : start + length] = 0
    return features
