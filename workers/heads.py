"""How the outputs of a graph become scores: one class a kind, chosen by the version's manifest.

A new kind is a new class here, or the entry point of an installed package in the group
`lmaas.heads`: a function of the version and of what its manifest says under `head`, which returns a
Head or raises ModelDamaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from lmaas.broker_config.errors import ModelDamaged
from lmaas.workers.kinds import made
from lmaas.workers.model_version import MANIFEST, ModelVersion

Scores = npt.NDArray[np.float32]

#: Scores are rounded to this many decimals: more would be noise.
DECIMALS: Final = 6
#: What a score may lie outside of 0..1, and the sum of an item's scores beside 1.
_SLACK: Final = 0.5 * 10.0**-DECIMALS
_SUM_SLACK: Final = 0.01


class Head(Protocol):
    """Reads scores, [rows, labels]."""

    @property
    def outputs(self) -> Sequence[str] | None:
        """The graph's outputs that it reads, in this order; None: all of them."""
        ...

    def scores(self, outputs: Sequence[Any], rows: int) -> Scores:
        """Of a run of so many rows. Raises ValueError when the outputs are of another shape."""
        ...

    def problem(self, scores: Scores) -> str | None:
        """Why the scores of one item, [labels], are none, or None."""
        ...

    def good(self, scores: Scores) -> npt.NDArray[np.bool_]:
        """Which items of [items, labels] have no problem."""
        ...


def head(version: ModelVersion) -> Head:
    """Raises ModelDamaged when there is no such kind, or its part of the manifest is wrong."""
    kinds = {"scores": f"{__name__}:ScoresHead", "label_map": f"{__name__}:LabelMapHead"}
    found: Head = made("head", kinds, "lmaas.heads", version, version.manifest.head)
    return found


# ------------------------------------------------------------------- what scores mean

#: Of the labels exactly one is right; each may be right or not; or they are numbers of any size.
Meaning = Literal["exclusive", "independent", "values"]


class _Output(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"
):
    """What the manifest says of an output, whatever its kind."""

    meaning: Meaning = "exclusive"
    #: How much surer the model is than it is right, as validation data have shown: see `tempered`.
    temperature: Annotated[float, msgspec.Meta(gt=0)] = 1.0

    def __post_init__(self) -> None:
        if self.meaning == "values" and self.temperature != 1:
            raise ValueError("a temperature is for probabilities, and not for values")


def tempered(scores: Scores, temperature: float, meaning: Meaning = "exclusive") -> Scores:
    """Probabilities [rows, labels] as their logits divided by the temperature give them.

    That is p^(1/temperature), which needs no logits: together as much as before (1) where labels
    exclude each other, else against (1 - p)^(1/temperature). The best label stays the best. What is
    no probability stays none. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    if temperature == 1:
        return scores
    exponent = 1 / temperature
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        powers = np.power(scores, exponent, dtype=np.float64)
        if meaning == "exclusive":
            whole = powers.sum(axis=1, keepdims=True) / scores.sum(axis=1, keepdims=True)
        else:
            whole = powers + np.power(1 - scores, exponent, dtype=np.float64)
        found: Scores = (powers / whole).astype(np.float32)
    return found


class _Checked:
    """Scores that are checked by what they mean."""

    meaning: Meaning

    def good(self, scores: Scores) -> npt.NDArray[np.bool_]:
        """Probabilities from 0 to 1, together 1 if they exclude each other; finite at least."""
        with np.errstate(invalid="ignore", over="ignore"):
            if self.meaning == "values":
                return np.asarray(np.isfinite(scores).all(axis=1))
            inside = (scores.min(axis=1) >= -_SLACK) & (scores.max(axis=1) <= 1 + _SLACK)
            one = np.abs(scores.sum(axis=1) - 1) <= _SUM_SLACK
        return np.asarray(inside & one if self.meaning == "exclusive" else inside)

    def problem(self, scores: Scores) -> str | None:
        if self.good(scores[None]).all():
            return None
        worst = scores[np.argmax(np.abs(scores - 0.5))]  # NaN, if there is one
        if self.meaning == "values":
            return f"the model gives {worst:.6g}, which is no number"
        with np.errstate(invalid="ignore", over="ignore"):
            together = scores.sum()
        told = f"the model gives {worst:.6g} where a probability is declared"
        if self.meaning == "independent":
            return f"{told}; its scores must be from 0 to 1 (end it with a sigmoid)"
        return (
            f"{told}, {together:.6g} in all; its scores must be from 0 to 1 and together 1 "
            "(end it with a softmax, and export again)"
        )


# ------------------------------------------------------------------- kinds


class ScoresOutput(_Output, frozen=True, kw_only=True, tag="scores"):
    """One output, [rows, labels]."""

    #: Its name; None when the graph has no other.
    output: str | None = None
    #: What makes probabilities of it: "none" when it has them already.
    activation: Literal["softmax", "sigmoid", "none"]
    #: Whether it is [rows] or [rows, 1], and says of two labels how much the second one is right:
    #: the first has what is left to 1 of a probability, and the negative of another value.
    second_only: bool = False


class ScoresHead(_Checked):
    """The kind "scores"."""

    def __init__(self, version: ModelVersion, how: dict[str, Any]) -> None:
        settings = msgspec.convert(how, ScoresOutput)
        self.outputs = None if settings.output is None else [settings.output]
        self.meaning = settings.meaning
        self._temperature = settings.temperature
        self._activate = _ACTIVATIONS[settings.activation]
        self._labels = len(version.manifest.labels)
        self._second_only = settings.second_only
        if self._second_only and self._labels != 2:
            raise ModelDamaged(
                f"{version.file(MANIFEST)}: head: second_only goes with two labels, not with "
                f"{self._labels}; export or import it again"
            )

    def scores(self, outputs: Sequence[Any], rows: int) -> Scores:
        (output,) = outputs
        found = self._both(output, rows) if self._second_only else self._each(output, rows)
        return tempered(found, self._temperature, self.meaning)

    def _each(self, output: npt.NDArray[Any], rows: int) -> Scores:
        if output.shape != (rows, self._labels):
            raise ValueError(f"its output is {output.shape} for {self._labels} labels")
        found: Scores = self._activate(output).astype(np.float32, copy=False)
        return found

    def _both(self, output: npt.NDArray[Any], rows: int) -> Scores:
        if output.shape not in {(rows, 1), (rows,)}:
            raise ValueError(f"its output is {output.shape} for the second of two labels")
        second = self._activate(output.reshape(rows, 1))
        first = -second if self.meaning == "values" else 1 - second
        found: Scores = np.hstack([first, second]).astype(np.float32, copy=False)
        return found


def _softmax(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # The largest is taken off, so that no exponent overflows.
    with np.errstate(invalid="ignore"):  # of infinity: its item has an error
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: npt.NDArray[Any] = powers / powers.sum(axis=1, keepdims=True)
    return found


def _sigmoid(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # As tanh has it, which overflows nowhere.
    found: npt.NDArray[Any] = 0.5 * (1 + np.tanh(0.5 * logits))
    return found


def _as_it_is(scores: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return scores


_ACTIVATIONS: Final = {"softmax": _softmax, "sigmoid": _sigmoid, "none": _as_it_is}


class LabelMapOutput(_Output, frozen=True, kw_only=True, tag="label_map"):
    """An output with a map from label to score for each row, as skl2onnx writes with ZipMap."""

    output: str


class LabelMapHead(_Checked):
    """The kind "label_map"."""

    def __init__(self, version: ModelVersion, how: dict[str, Any]) -> None:
        settings = msgspec.convert(how, LabelMapOutput)
        self.outputs = [settings.output]
        self.meaning = settings.meaning
        self._temperature = settings.temperature
        self._labels = version.manifest.labels

    def scores(self, outputs: Sequence[Any], rows: int) -> Scores:
        (maps,) = outputs
        if len(maps) != rows:
            raise ValueError(f"it gives {len(maps)} maps for {rows} rows")
        named = [{str(label): score for label, score in row.items()} for row in maps]
        try:
            values = [[row[label] for label in self._labels] for row in named]
        except KeyError as error:
            raise ValueError(f"its map has no label {error}") from error
        return tempered(np.array(values, np.float32), self._temperature, self.meaning)
