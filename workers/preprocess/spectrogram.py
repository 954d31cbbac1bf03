"""Log-mel spectrograms: how loud a sound is, by time and by pitch."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt

from lmaas.workers.preprocess.sounds import Waveform

Floats = npt.NDArray[np.float32]

_Positive = Annotated[int, msgspec.Meta(ge=1)]


class LogMel(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind",
    tag="log_mel",
):  # fmt: skip
    """What decides how a spectrogram looks."""

    #: Samples of a frame, and from the beginning of a frame to that of the next.
    n_fft: Annotated[int, msgspec.Meta(ge=2, le=1 << 16)]
    hop: _Positive
    #: Filters, from the lowest pitch to the highest, in Hz; None: half the rate.
    mels: _Positive
    fmin: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    fmax: Annotated[float, msgspec.Meta(gt=0)] | None = None
    #: Added to a filter's power before its logarithm is taken.
    log_offset: Annotated[float, msgspec.Meta(gt=0)] = 1e-6


class Spectrogram:
    """Makes a spectrogram, float32 [frames, mels], of a waveform.

    A frame is n_fft samples under a Hann window. The first one begins at the first sample, and the
    last one is filled up with zeros, so that there is one at least and no sample is left out. The
    power of its spectrum goes through the filters, and the natural logarithm is taken.
    """

    def __init__(self, how: LogMel, rate: int) -> None:
        """Raises ValueError when there are no such filters."""
        self._how = how
        self._filters = mel_filters(how, rate).astype(np.float32)
        # A periodic window: what would be its last sample is the next one's first.
        turns = np.arange(how.n_fft) / how.n_fft
        self._window = (0.5 - 0.5 * np.cos(2 * np.pi * turns)).astype(np.float32)

    def __call__(self, waveform: Waveform) -> Floats:
        size, hop = self._how.n_fft, self._how.hop
        count = 1 + max(0, -(-(len(waveform) - size) // hop))
        filled = np.zeros(size + (count - 1) * hop, np.float32)
        filled[: len(waveform)] = waveform[: len(filled)]
        frames = np.lib.stride_tricks.sliding_window_view(filled, size)[::hop]
        spectrum = np.fft.rfft(frames * self._window)
        power = spectrum.real**2 + spectrum.imag**2
        made: Floats = np.log(power @ self._filters + np.float32(self._how.log_offset))
        return made


def mel_filters(how: LogMel, rate: int) -> npt.NDArray[np.float64]:
    """Triangles, [n_fft // 2 + 1, mels], each 1 at its centre and 0 at its neighbours' centres.

    The centres are at equal distances on the mel scale, 2595 log10(1 + f / 700) (O'Shaughnessy,
    Speech Communication, 1987; as Young et al., The HTK Book, have it). Raises ValueError when the
    limits contradict the rate, or when a filter is so narrow that it has no frequency.
    """
    highest = rate / 2 if how.fmax is None else how.fmax
    if not how.fmin < highest <= rate / 2:
        raise ValueError(
            f"fmin {how.fmin:g} and fmax {highest:g} Hz; fmax must be above fmin, and at most half "
            f"the rate, {rate / 2:g}"
        )
    mels = np.linspace(_mel(how.fmin), _mel(highest), how.mels + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    bins = np.arange(how.n_fft // 2 + 1)[:, None] * rate / how.n_fft
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    filters: npt.NDArray[np.float64] = np.clip(np.minimum(rising, falling), 0, None)
    if not filters.any(axis=0).all():
        raise ValueError(
            f"{how.mels} mels are too many for n_fft {how.n_fft}: a filter has no frequency"
        )
    return filters


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))
