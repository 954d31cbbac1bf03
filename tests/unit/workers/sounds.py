"""Sound files, made to order."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

Samples = npt.NDArray[np.float64]


def tone(hertz: float, seconds: float = 0.5, rate: int = 8_000, loudness: float = 0.5) -> Samples:
    made: Samples = loudness * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return made


def encoded(
    samples: Any, rate: int = 8_000, kind: str = "WAV", subtype: str | None = None
) -> bytes:
    """[samples] or [samples, channels]."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def saying(wav: bytes, size: int) -> bytes:
    """A WAV whose header says that it has so many bytes of samples."""
    place = wav.index(b"data") + 4
    return wav[:place] + struct.pack("<I", size) + wav[place + 4 :]
