"""What a user says of a model from elsewhere, and what is proposed to be made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args

import msgspec

from lmaas.workers.manifest import Batching, Input
from lmaas.workers.runtime import Runtime

Task = Literal["text", "pairs", "image", "audio", "tensors"]
TASKS: Final[tuple[Task, ...]] = get_args(Task)
#: What the graph's output is: logits of labels that exclude each other (softmax) or do not
#: (sigmoid), probabilities of both kinds, or numbers of any size.
Output = Literal["softmax", "sigmoid", "probabilities", "independent", "values"]
OUTPUTS: Final[tuple[Output, ...]] = get_args(Output)

#: What the manifest says under `head` of each.
HEADS: Final[Mapping[Output, dict[str, Any]]] = {
    "softmax": {"activation": "softmax", "meaning": "exclusive"},
    "sigmoid": {"activation": "sigmoid", "meaning": "independent"},
    "probabilities": {"activation": "none", "meaning": "exclusive"},
    "independent": {"activation": "none", "meaning": "independent"},
    "values": {"activation": "none", "meaning": "values"},
}


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the user says; None and what is empty: to be guessed."""

    labels: tuple[str, ...] = ()
    task: Task | None = None
    scores: Output | None = None
    #: The graph's output with the scores.
    output: str | None = None
    #: The graph's input for each of `ids`, `mask` and `types`.
    inputs: Mapping[str, str] = {}
    #: A `tokenizer.json`.
    tokenizer: Path | None = None
    max_tokens: int | None = None
    #: Longer sounds are refused.
    max_seconds: float | None = None
    #: Of a bare graph that takes pictures: what its preprocessing is, by the names of the options.
    image: Mapping[str, Any] = {}


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A model version before it was tried."""

    #: Where the graph was read, for words.
    path: Path
    #: What it is called where it comes from: a model's name is made of it.
    name: str
    architecture: str
    #: Content by name: the graph is `model.onnx`.
    files: Mapping[str, bytes]
    labels: list[str]
    inputs: list[Input]
    preprocessing: dict[str, Any]
    head: dict[str, Any]
    #: Before it is probed, and the best size of batches measured.
    batching: Batching
    #: What was guessed and why, a line each, with the option that says otherwise.
    notes: list[str] = []
    #: What may not be as the user wants it.
    warnings: list[str] = []
    #: What this origin wants to know of the model besides, once it can be run: each raises
    #: DataError, and returns what is to be told as a warning.
    checks: tuple[Callable[[Runtime], list[str]], ...] = ()
    #: For the manifest's record.
    record: dict[str, Any] = {}

    def warned(self, *words: str) -> Proposal:
        return msgspec.structs.replace(self, warnings=[*self.warnings, *words])
