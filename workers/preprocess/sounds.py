"""Sound files as waveforms: WAV, FLAC and OGG, of any rate and up to MAX_CHANNELS channels.

What a file says of itself is checked before anything is decoded, because a small file can stand
for hours; and what is decoded is checked against it, because a label for the half of a file that
arrived would look like one for all of it.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import ItemError

#: Samples from -1 to 1; of a file of floating point numbers they may be larger.
Waveform = npt.NDArray[np.float32]

#: How files begin. libsndfile knows many more formats, whose decoders are less well tried.
_BEGINNINGS: Final = (b"RIFF", b"fLaC", b"OggS")
MAX_CHANNELS: Final = 8
#: Samples a second.
MIN_RATE: Final = 1_000
MAX_RATE: Final = 384_000
#: Of a sample. The square of a larger one, summed up, may be too large for 32 bits.
LOUDEST: Final = 1e9
#: What a WAV says of the size of its samples when its writer did not know it, as of a pipe.
_UNKNOWN_SIZES: Final = frozenset({0, 0x7FFFFFFF, 0xFFFFFFFF})
#: Frames of a FLAC whose header does not say how many there are.
_UNKNOWN_FRAMES: Final = 1 << 62


class UnusableSound(Exception):
    """Why a file is no sound that a model can take."""

    def __init__(self, message: str, code: Code = Code.INVALID_ITEM) -> None:
        super().__init__(message)
        self.error = ItemError(code=code, message=message)


def waveform(data: bytes, rate: int, max_seconds: float) -> Waveform:
    """The mean of a file's channels, [samples], at least one, at `rate` samples a second.

    Raises UnusableSound.
    """
    with _opened(data) as file:
        _check(file, max_seconds)
        frames = file.read(dtype="float32", always_2d=True)
        declared, own = file.frames, file.samplerate
    if len(frames) < declared:
        raise UnusableSound(
            f"the sound file is damaged: its header says {declared:,} samples, and there are "
            f"{len(frames):,}; send all of it"
        )
    mono = frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1)
    # Of a sample that is NaN no comparison is true.
    if not np.abs(mono).max() <= LOUDEST:
        raise UnusableSound("some of its samples are no numbers (NaN, infinity, or beyond 1e9)")
    return _resampled(np.ascontiguousarray(mono), own, rate)


def own_rate(data: bytes) -> int:
    """Samples a second of a file itself. Raises UnusableSound."""
    with _opened(data) as file:
        rate: int = file.samplerate
    return rate


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[soundfile.SoundFile]:
    """Raises UnusableSound, also for what the caller's use of it raises."""
    if not data.startswith(_BEGINNINGS):
        raise UnusableSound("this is no WAV, FLAC or OGG file; convert it to one of them")
    if is_cut(data):
        raise UnusableSound("the file is cut: it ends before its samples do; send all of it")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            yield file
    except soundfile.SoundFileError as error:
        raise UnusableSound(
            f"the sound file is damaged ({_words(error)}); send it again"
        ) from error


def is_cut(data: bytes) -> bool:
    """Whether a WAV or an OGG ends too early, over which libsndfile passes silently."""
    return _wav_is_cut(data) if data.startswith(b"RIFF") else _ogg_is_cut(data)


def _wav_is_cut(data: bytes) -> bool:
    """By its chunks: each has a name of 4 bytes, the size of its content, and that, padded to an
    even size (Microsoft and IBM, Multimedia Programming Interface and Data Specifications 1.0)."""
    place = 12
    while place + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        place += 8
        if name == b"data":
            return size not in _UNKNOWN_SIZES and place + size > len(data)
        place += size + size % 2
    return True


def _ogg_is_cut(data: bytes) -> bool:
    """By its last page: 27 bytes, of which the last is the number of segments, a byte with the size
    of each of these, and they (RFC 3533, section 6)."""
    page = data.rfind(b"OggS")
    if page < 0:
        return False
    sizes = page + 27
    if sizes > len(data):
        return True
    content = sizes + data[sizes - 1]
    return content + sum(data[sizes:content]) > len(data)


def _check(file: soundfile.SoundFile, max_seconds: float) -> None:
    """What the header says. Raises UnusableSound."""
    if not MIN_RATE <= file.samplerate <= MAX_RATE:
        raise UnusableSound(
            f"its header says {file.samplerate:,} samples a second; they can be from {MIN_RATE:,} "
            f"to {MAX_RATE:,}"
        )
    if file.channels > MAX_CHANNELS:
        raise UnusableSound(
            f"its header says {file.channels:,} channels; there can be {MAX_CHANNELS}"
        )
    if not file.frames:
        raise UnusableSound("it has no samples")
    if file.frames >= _UNKNOWN_FRAMES:
        raise UnusableSound(
            "its header does not say how long it is, as when it was written into a pipe; "
            "write it to a file"
        )
    seconds = file.frames / file.samplerate
    if seconds > max_seconds:
        raise UnusableSound(
            f"it is {seconds:,.1f} s long; the model takes {max_seconds:g} s at most: cut it into "
            "parts",
            Code.TOO_LARGE,
        )


def _resampled(mono: Waveform, own: int, rate: int) -> Waveform:
    made: Waveform = mono if own == rate else soxr.resample(mono, own, rate)
    if not len(made):
        raise UnusableSound(f"its {len(mono):,} samples are too few for one at {rate:,} a second")
    return made


def _words(error: soundfile.SoundFileError) -> str:
    """libsndfile's own, without the name that Python gives to bytes in memory."""
    return str(error).rpartition(": ")[2].strip(" .")
