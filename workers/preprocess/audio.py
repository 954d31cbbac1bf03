"""Sounds as spectrograms or as waveforms: the kind "audio"."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from lmaas.broker_config.errors import ModelDamaged
from lmaas.broker_config.messages import Item, ItemError
from lmaas.workers.batcher import Batch
from lmaas.workers.model_version import ModelVersion
from lmaas.workers.preprocess.fbank import Fbank, KaldiSpectrogram
from lmaas.workers.preprocess.one_file import fault
from lmaas.workers.preprocess.sounds import MAX_RATE, MIN_RATE, UnusableSound, Waveform, waveform
from lmaas.workers.preprocess.spectrogram import Floats, LogMel, Spectrogram

#: Added to a variance, so that silence can be divided by its root.
VARIANCE_OFFSET: Final = 1e-7
#: Seconds of the examples, which are tones of so many Hz.
_EXAMPLES: Final = (0.1, 0.2)
_TONE: Final = 300


class Samples(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="waveform"
):
    """The waveform as it is."""


class Audio(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind",
    tag="audio",
):  # fmt: skip
    """What the manifest says of it."""

    #: Samples a second that the model works on; sounds of other rates are resampled.
    rate: Annotated[int, msgspec.Meta(ge=MIN_RATE, le=MAX_RATE)]
    features: LogMel | Fbank | Samples
    #: Longer sounds are refused before they are decoded.
    max_seconds: Annotated[float, msgspec.Meta(gt=0)]
    #: Shorter ones are refused as well.
    min_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    #: All sounds are cut, or filled up with zeros, to this length; None: lengths are free.
    seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None
    #: What is taken off the features, and what they are divided by then; None: the mean and the
    #: standard deviation of each sound's own, without what fills it up.
    mean: float | None = None
    deviation: Annotated[float, msgspec.Meta(gt=0)] | None = None
    #: The graph's input with the features, and the one that has 1 where they are, and 0 where they
    #: only fill up.
    input: str
    mask: str | None = None


class Features:
    """Makes the features of sounds: in training and in serving the same."""

    def __init__(self, how: Audio) -> None:
        """Raises ValueError when there are no such features."""
        self._how = how
        self._make = _maker(how)
        #: Samples of every sound; None: free.
        self._samples = None if how.seconds is None else max(1, round(how.seconds * how.rate))
        #: Of a sound's features, where that is the same for all.
        self.length = how.features.frames if isinstance(how.features, Fbank) else None
        if self._samples is not None:
            self.length = len(self._make(np.zeros(self._samples, np.float32)))

    def of_file(self, data: bytes) -> Floats:
        """float32, [frames, mels] or [samples], at least one of them. Raises UnusableSound."""
        how = self._how
        sound = waveform(data, how.rate, how.max_seconds)
        if len(sound) < round(how.min_seconds * how.rate):
            raise UnusableSound(
                f"it is {len(sound) / how.rate:.3g} s long; the model takes {how.min_seconds:g} s "
                "at least"
            )
        return self.of_waveform(sound)

    def of_waveform(self, sound: Waveform) -> Floats:
        """The same of a waveform at the model's rate, of any length from one sample up."""
        how, made = self._how, self._make(sound[: self._samples])
        made = made - (made.mean() if how.mean is None else np.float32(how.mean))
        if how.deviation is None:
            made /= np.sqrt(np.square(made).mean() + np.float32(VARIANCE_OFFSET))
        else:
            made /= np.float32(how.deviation)
        return made


def _maker(how: Audio) -> Callable[[Waveform], Floats]:
    """Raises ValueError."""
    if isinstance(how.features, LogMel):
        return Spectrogram(how.features, how.rate)
    if isinstance(how.features, Fbank):
        return KaldiSpectrogram(how.features, how.rate)
    return _as_it_is


def _as_it_is(sound: Waveform) -> Waveform:
    return sound


class AudioPreprocessor:
    """Fills the graph's input, float [rows, frames, mels] or [rows, samples], and its mask."""

    def __init__(self, version: ModelVersion, how: dict[str, Any]) -> None:
        """Raises ModelDamaged."""
        self._how = msgspec.convert(how, Audio)
        self._dtypes = {one.name: np.dtype(one.dtype) for one in version.manifest.inputs}
        named = {self._how.input, self._how.mask} - {None}
        if named != self._dtypes.keys():
            raise ModelDamaged(
                f"{version.path}: its preprocessing makes {sorted(map(str, named))}, and its "
                f"inputs are {sorted(self._dtypes)}; import or export it again"
            )
        try:
            self.features = Features(self._how)
        except ValueError as error:
            raise ModelDamaged(f"{version.path}: preprocessing 'audio': {error}") from error
        self.examples = [
            Item(id=f"a tone of {seconds:g} s", data=_tone(seconds, self._how.rate),
                 media_type="audio/wav")
            for seconds in (self._how.min_seconds + more for more in _EXAMPLES)
        ]  # fmt: skip
        self._stand_in = self.features.of_waveform(
            np.zeros(round(_EXAMPLES[0] * self._how.rate), np.float32)
        )

    def check(self, item: Item) -> ItemError | None:
        return fault(item, "a WAV, FLAC or OGG file (data)")

    def encode(self, items: Sequence[Item]) -> EncodedSounds:
        made, faults = [], {}
        for place, item in enumerate(items):
            try:
                made.append(self.features.of_file(item.data or b""))
            except UnusableSound as error:
                # Its row is run as well, and nobody looks at what comes out.
                made.append(self._stand_in)
                faults[place] = error.error
        return EncodedSounds(made, self._how, self._dtypes, self.features.length, faults)


class EncodedSounds:
    """The features of some sounds."""

    def __init__(
        self,
        features: Sequence[Floats],
        how: Audio,
        dtypes: Mapping[str, np.dtype[Any]],
        length: int | None = None,
        faults: Mapping[int, ItemError] = MappingProxyType({}),
    ) -> None:
        """`length` is that of every row, if they are all alike; of what is in `faults` the features
        are those of something else."""
        self.lengths = [length or len(one) for one in features]
        self.faults = faults
        self._features = features
        self._how = how
        self._dtypes = dtypes

    def arrays(self, batch: Batch) -> dict[str, npt.NDArray[Any]]:
        how, rows = self._how, [self._features[position] for position in batch.positions]
        filled = np.zeros((batch.rows, batch.length, *rows[0].shape[1:]), self._dtypes[how.input])
        mask = np.zeros(filled.shape[:2], self._dtypes[how.mask] if how.mask else bool)
        for place, row in enumerate(rows):
            filled[place, : len(row)] = row
            mask[place, : len(row)] = 1
        # Rows that only fill up repeat the first: one of padding alone has nothing to hear.
        filled[len(rows) :], mask[len(rows) :] = filled[0], mask[0]
        return {how.input: filled} | ({how.mask: mask} if how.mask else {})


def _tone(seconds: float, rate: int) -> bytes:
    """A WAV of 8 bits."""
    turns = 2 * np.pi * _TONE * np.arange(round(seconds * rate)) / rate
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(rate)
        file.writeframes((128 + 64 * np.sin(turns)).astype(np.uint8).tobytes())
    return made.getvalue()
