"""Log-mel spectrograms as Kaldi makes them, and with it the Audio Spectrogram Transformer."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
import numpy as np
import numpy.typing as npt

from lmaas.workers.preprocess.sounds import Waveform
from lmaas.workers.preprocess.spectrogram import Floats

#: Seconds of a frame, and from the beginning of a frame to that of the next.
FRAME: Final = 0.025
_HOP: Final = 0.010
#: The part of each sample that is taken off the next one.
_PREEMPHASIS: Final = 0.97
#: The least power of a filter whose logarithm is taken: the distance of 1 from the next float32.
_LEAST: Final = float(np.finfo(np.float32).eps)


class Fbank(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind",
    tag="fbank",
):  # fmt: skip
    """What decides how a spectrogram looks; the rest of Kaldi's options have their defaults."""

    #: Filters, from the lowest pitch, in Hz, to half the rate.
    mels: Annotated[int, msgspec.Meta(ge=1)]
    fmin: Annotated[float, msgspec.Meta(ge=0)] = 20.0
    #: Spectrograms are cut, or filled up with zeros, to so many frames; None: they are free.
    frames: Annotated[int, msgspec.Meta(ge=1)] | None = None


class KaldiSpectrogram:
    """Makes a spectrogram, float32 [frames, mels], of a waveform.

    A frame of 25 ms begins every 10 ms, and what remains at the end is left out. Its mean is taken
    off, and from each sample 0.97 times the one before; then it goes under a symmetric Hann window.
    The power of its spectrum goes through the filters, and the natural logarithm is taken.
    """

    def __init__(self, how: Fbank, rate: int) -> None:
        """Raises ValueError when there are no such filters."""
        self._frames = how.frames
        self._size, self._hop = round(FRAME * rate), round(_HOP * rate)
        self._fft = 1 << (self._size - 1).bit_length()
        self._window = np.hanning(self._size)
        self._filters = kaldi_filters(how, rate, self._fft)

    def __call__(self, waveform: Waveform) -> Floats:
        # In 64 bits: between the partials of a tone there is very little power.
        sound = np.zeros(max(len(waveform), self._size))
        sound[: len(waveform)] = waveform
        frames = np.lib.stride_tricks.sliding_window_view(sound, self._size)[:: self._hop]
        frames = frames[: self._frames]
        frames = frames - frames.mean(axis=1, keepdims=True)
        before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
        spectrum = np.fft.rfft((frames - _PREEMPHASIS * before) * self._window, self._fft)
        power = (spectrum.real**2 + spectrum.imag**2) @ self._filters
        made: Floats = np.log(np.maximum(power, _LEAST)).astype(np.float32)
        missing = (self._frames or len(made)) - len(made)
        return np.pad(made, ((0, missing), (0, 0)))


def kaldi_filters(how: Fbank, rate: int, fft: int) -> npt.NDArray[np.float64]:
    """Triangles on Kaldi's mel scale, 1127 ln(1 + f / 700): [fft // 2 + 1, mels].

    Raises ValueError when there is no frequency above `fmin`.
    """
    if not how.fmin < rate / 2:
        raise ValueError(f"fmin {how.fmin:g} Hz; it must be below half the rate, {rate / 2:g}")
    edges = np.linspace(_mel(how.fmin), _mel(rate / 2), how.mels + 2)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    bins = _mel(np.arange(fft // 2 + 1) * rate / fft)[:, None]
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    filters: npt.NDArray[np.float64] = np.clip(np.minimum(rising, falling), 0, None)
    return filters


def _mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = 1127 * np.log(1 + np.asarray(hertz, np.float64) / 700)
    return found
