"""Graphs that take sounds: how a sound is prepared, as a config from the hub says it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from lmaas.broker_config import extras
from lmaas.broker_config.errors import DataError
from lmaas.training.importing.graph import Graph, Port
from lmaas.workers.manifest import Batching, Input

MASK: Final = "attention_mask"
#: Longer sounds are refused, where nobody says otherwise.
MAX_SECONDS: Final = 30.0
#: Feature extractors whose waveforms and spectrograms are known, and how many dimensions they have.
_WAVEFORM: Final = "Wav2Vec2FeatureExtractor"
_FBANK: Final = "ASTFeatureExtractor"
_DIMENSIONS: Final[Mapping[str, int]] = {_WAVEFORM: 2, _FBANK: 3}
#: What transformers takes where a config leaves it out.
_RATE: Final = 16_000
_MELS: Final = 128
_FRAMES: Final = 1024
_MEAN: Final = -4.2677393
_DEVIATION: Final = 4.5689974
#: The shortest sound that has a spectrogram: one frame of Kaldi's.
_FRAME: Final = 0.025


def ports(graph: Graph) -> tuple[Port, Port | None]:
    """The input with the features, and that with their mask. Raises DataError."""
    if problem := extras.lacking("soundfile", "soxr"):
        raise DataError(problem)
    given = {one.name: one for one in graph.inputs}
    mask = given.pop(MASK, None)
    (features, *others) = given.values()
    if others or features.shape is None or len(features.shape) not in _DIMENSIONS.values():
        listed = ", ".join(map(str, graph.inputs))
        raise DataError(
            f"{graph.path}: a model of sound takes one input, [rows, samples] or [rows, frames, "
            f"mels], and {MASK} beside it if anything; this one takes {listed}"
        )
    return features, mask


def inputs(features: Port, mask: Port | None) -> list[Input]:
    return [
        Input(name=one.name, dtype=one.dtype, shape=list(one.shape or ()))
        for one in (features, mask)
        if one is not None
    ]


def of_extractor(
    told: Mapping[str, Any],
    config: Mapping[str, Any],
    features: Port,
    mask: Port | None,
    max_seconds: float | None,
    where: object,
) -> tuple[dict[str, Any], Batching, list[str]]:
    """The manifest's preprocessing and batching of a feature extractor of the Hugging Face hub, and
    what is to be known of them. Raises DataError.
    """
    kind = str(told.get("feature_extractor_type"))
    if kind not in _DIMENSIONS:
        raise DataError(
            f"{where}: feature_extractor_type {kind!r} is not known here, only "
            f"{' and '.join(_DIMENSIONS)}; as --task tensors the model takes what its graph takes"
        )
    shape = features.shape or []
    if len(shape) != _DIMENSIONS[kind]:
        raise DataError(f"{where}: {kind} does not make what the graph takes, {features}")
    rate = int(told.get("sampling_rate", _RATE))
    made, notes = (_waveform if kind == _WAVEFORM else _fbank)(told, config, shape, rate)
    longest = max_seconds or MAX_SECONDS
    if max_seconds is None:
        notes.append(f"sounds of more than {longest:g} s are refused; --max-seconds says otherwise")
    found = {
        "kind": "audio",
        "rate": rate,
        "max_seconds": longest,
        "input": features.name,
        "mask": mask.name if mask else None,
        **made,
    }
    free = kind == _WAVEFORM and shape[1] is None
    batching = Batching(unit="samples" if kind == _WAVEFORM else "frames", most=2**15)
    if free and mask is None:
        batching = msgspec.structs.replace(batching, rows=1)
        notes.append(
            f"sounds run one at a time: the graph has no {MASK}, by which it could tell a sound "
            "from what fills it up"
        )
    return found, batching, [f"sounds are prepared as {where} says ({kind})", *notes]


def _waveform(
    told: Mapping[str, Any], config: Mapping[str, Any], shape: Sequence[int | None], rate: int
) -> tuple[dict[str, Any], list[str]]:
    found: dict[str, Any] = {"features": {"kind": "waveform"}, "min_seconds": _least(config) / rate}
    if not told.get("do_normalize", True):
        found |= {"mean": 0.0, "deviation": 1.0}
    if (samples := shape[1]) is None:
        return found, []
    seconds = samples / rate
    return {**found, "seconds": seconds}, [
        f"all sounds are cut, or filled up with silence, to {seconds:g} s: the graph is fixed to it"
    ]


def _least(config: Mapping[str, Any]) -> int:
    """Samples of which the convolutions at the beginning of wav2vec2 and its like make one row."""
    samples = 1
    kernels, strides = config.get("conv_kernel") or [], config.get("conv_stride") or []
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


def _fbank(
    told: Mapping[str, Any], _config: Mapping[str, Any], shape: Sequence[int | None], rate: int
) -> tuple[dict[str, Any], list[str]]:
    mels, frames = int(told.get("num_mel_bins", _MELS)), int(told.get("max_length", _FRAMES))
    for name, number, fixed in (("max_length", frames, shape[1]), ("num_mel_bins", mels, shape[2])):
        if fixed not in (None, number):
            raise DataError(f"its {name} is {number}, and the graph takes {fixed}")
    normalized = told.get("do_normalize", True)
    found = {
        "features": {"kind": "fbank", "mels": mels, "frames": frames},
        "min_seconds": _FRAME,
        "mean": float(told.get("mean", _MEAN)) if normalized else 0.0,
        "deviation": 2 * float(told.get("std", _DEVIATION)) if normalized else 1.0,
    }
    heard = math.floor(frames / 10) / 10
    return found, [f"of each sound the first {heard:g} s are heard ({frames} frames)"]


def checked(found: dict[str, Any], where: object) -> dict[str, Any]:
    """What the worker's side of it takes. Raises DataError."""
    from lmaas.workers.preprocess.audio import Audio

    try:
        told: dict[str, Any] = msgspec.to_builtins(msgspec.convert(found, Audio))
    except msgspec.ValidationError as error:
        raise DataError(f"{where}: {error}") from error
    return told
