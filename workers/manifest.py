"""What a model version is: `manifest.json`, schema 2, and schema 1 as it is read. Pure.

All by which models differ is in here: what the graph takes, how an item becomes that, how scores
are read from what it gives, how many items run together, and what they cost.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from lmaas.broker_config import scheduling
from lmaas.broker_config.messages import UNSURE, Item
from lmaas.workers.plain_files import is_plain_name

SCHEMA: Final = 2
#: The graph; every version has it.
MODEL: Final = "model.onnx"
#: The score that a label has to reach where an item may have several, unless the manifest says so.
THRESHOLD: Final = 0.5

_Count = Annotated[int, msgspec.Meta(ge=1)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
_Kind = dict[str, Any]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A field that nobody knows is a mistake."""


class Input(_Strict, frozen=True, kw_only=True):
    """An input of the graph."""

    name: str
    #: As NumPy calls it.
    dtype: str
    #: Size of each dimension, the rows first; None for one that is free.
    shape: list[_Count | None]


class Batching(_Strict, frozen=True, kw_only=True):
    """How items are put together into one run of the graph."""

    #: What the preprocessor measures the length of an item in; "items" when all are alike.
    unit: Literal["tokens", "bytes", "pixels", "samples", "frames", "items"]
    #: Padded units of a batch at most. One row may have more.
    most: _Count
    #: What running a batch costs, whatever is in it, in padded units.
    overhead: Annotated[int, msgspec.Meta(ge=0)] = 1
    #: Rows and lengths are rounded up to multiples of these. With 8 and 16 the shipped networks
    #: give a text the same answer to the last bit, whatever its neighbours are.
    row_step: _Count = 1
    length_step: _Count = 1
    #: Rows of every batch, for a graph whose number of rows is fixed.
    rows: _Count | None = None


class Cost(_Strict, frozen=True, kw_only=True):
    """Service time of a pack on the machine that measured it: fixed + per item + per unit.

    All of them are 0 where nobody has measured it.
    """

    #: Seconds a pack, whatever is in it.
    fixed_seconds: _Seconds = 0.0
    #: Seconds an item, whatever its size is.
    seconds_per_item: _Seconds = 0.0
    seconds_per_unit: _Seconds = 0.0
    #: What clients and workers can count before they prepare an item: bytes of its content.
    unit: Literal["bytes"] = "bytes"

    @property
    def calibration(self) -> scheduling.Cost:
        """What both ends begin to estimate with."""
        return scheduling.Cost(
            fixed=self.fixed_seconds,
            per_item=self.seconds_per_item,
            per_byte=self.seconds_per_unit,
        )


class Speed(_Strict, frozen=True, kw_only=True):
    """Items a second of all cores, with batches of so many padded units at most."""

    #: Of each process, and processes side by side.
    threads: _Count
    processes: _Count
    units: _Count
    items_per_second: Annotated[float, msgspec.Meta(ge=0)]


class Parallelism(_Strict, frozen=True, kw_only=True):
    """How a machine's cores are best shared out, on the one that measured it."""

    #: That it could use; and how many of them each process should have.
    cores: _Count
    threads: _Count
    #: What was tried.
    speeds: list[Speed] = []


class Golden(_Strict, frozen=True, kw_only=True):
    """An item, and the scores that the model gave it when it was imported, in the order of the
    labels: `lmaas models verify` asks for them again."""

    item: Item
    scores: list[float]


class Manifest(_Strict, frozen=True, kw_only=True):
    """What a model version is, and what was measured of it."""

    schema: Literal[2] = 2
    name: str
    version: str
    #: Labels in the order of the scores.
    labels: Annotated[list[str], msgspec.Meta(min_length=1)]
    inputs: Annotated[list[Input], msgspec.Meta(min_length=1)]
    #: How an item becomes the inputs: `kind`, and what that kind wants to know besides; see
    #: `lmaas.workers.preprocess`.
    preprocessing: _Kind
    #: How the outputs become scores: `kind`, and what that kind wants; see `lmaas.workers.heads`.
    head: _Kind
    batching: Batching
    #: An item whose best score is below gets the label UNSURE; 0: each gets one of the labels.
    #: Where an item may have several labels it gets those that have this score; 0: THRESHOLD.
    min_score: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    cost: Cost = Cost()
    #: None where nobody has measured it: a process a core, of one thread each.
    parallelism: Parallelism | None = None
    #: One of `lmaas.training.networks`, or what its maker calls it.
    architecture: str
    #: The data set's name, its source's sha256, and how many examples each split has.
    dataset: dict[str, Any]
    #: Test accuracy, per-class precision and recall, confusion matrix, calibration error.
    metrics: dict[str, Any]
    #: Version of this code that exported the model, and when (RFC 3339).
    code_version: str
    created: str
    #: sha256 of every other file in the folder, by name.
    files: dict[str, str]
    #: Free: training's parameters, for the record.
    training: dict[str, Any] = {}
    golden: list[Golden] = []

    @property
    def multi_label(self) -> bool:
        """Whether an item may have several labels, or none: each is right or not by itself."""
        return self.head.get("meaning") == "independent"


def decoded(content: bytes) -> Manifest:
    """Raises ValueError with what is wrong with the content."""
    try:
        found = msgspec.json.decode(content, type=dict[str, Any])
        schema = found.get("schema", 1)
        if schema == 1:
            found = _upgraded(found)
        elif schema != SCHEMA:
            raise ValueError(
                f"schema {schema!r}, of which this version of LMaaS knows 1 and {SCHEMA}: "
                "upgrade LMaaS, or export the version again"
            )
        manifest = msgspec.convert(found, Manifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{error}; export or copy the version again") from error
    if problem := _contradiction(manifest):
        raise ValueError(f"{problem}; export the version again")
    return manifest


# ------------------------------------------------------------------- schema 1

#: What every graph of schema 1 takes and gives, and how it was run.
WORD_INPUTS: Final = [Input(name="ids", dtype="int32", shape=[None, None])]
PROBABILITIES: Final[_Kind] = {"kind": "scores", "activation": "none"}
WORD_BATCHING: Final = Batching(
    unit="tokens", most=16_384, overhead=512, row_step=8, length_step=16
)


def _upgraded(found: dict[str, Any]) -> dict[str, Any]:
    """As schema 2 says it. Raises msgspec.ValidationError when it is no good schema 1 either."""
    class_of_1 = msgspec.convert(found.pop("calibration", None), _Calibration)
    cost = Cost(
        fixed_seconds=class_of_1.fixed_seconds, seconds_per_unit=class_of_1.seconds_per_byte
    )
    found.pop("schema", None)
    return found | {
        "inputs": msgspec.to_builtins(WORD_INPUTS),
        "head": PROBABILITIES,
        "batching": msgspec.to_builtins(WORD_BATCHING),
        "cost": msgspec.to_builtins(cost),
    }


class _Calibration(_Strict, frozen=True, kw_only=True):
    fixed_seconds: _Seconds
    seconds_per_byte: _Seconds


def _contradiction(manifest: Manifest) -> str | None:
    """What is wrong with a manifest whose values are each of the right type."""
    if len(set(manifest.labels)) < len(manifest.labels):
        return "two labels are the same"
    if manifest.min_score and UNSURE in manifest.labels and not manifest.multi_label:
        return f"it has a min_score, and a label {UNSURE!r}, which is what items below it get"
    if MODEL not in manifest.files:
        return f"does not list {MODEL}"
    for name in manifest.files:
        if not is_plain_name(name):
            return f"{name!r} is no plain name of a file in the folder"
    return None
