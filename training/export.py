"""A trained network as a model version: ONNX, checked against the network, with its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnx

from lmaas.broker_config.errors import LmaasError, TrainingError
from lmaas.broker_config.messages import Item
from lmaas.training import evaluate, learning, page
from lmaas.training.judging import Figures, evaluated
from lmaas.training.label_sets import Truth
from lmaas.training.measuring import measured
from lmaas.training.mistakes import Mistake, mistakes
from lmaas.training.networks import Network
from lmaas.training.quantizing import quantized
from lmaas.training.recipe import Quantize
from lmaas.training.versions import checksums, new_version, write_manifest
from lmaas.workers.heads import Meaning
from lmaas.workers.manifest import MODEL, THRESHOLD, Manifest
from lmaas.workers.model_version import ModelVersion, read_files
from lmaas.workers.runtime import Runtime

#: The exported graph may differ from what was trained by so much.
TOLERANCE: Final = 1e-5
PICTURE: Final = "evaluation.png"
PAGE: Final = "evaluation.html"
LEARNING: Final = "learning.png"
#: Items that the graph is compared on, each alone, and timed with.
COMPARED: Final = 256
TIMED: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """Everything that goes into a version."""

    name: str
    architecture: str
    network: Network
    labels: Sequence[str]
    #: Items as the model will get them, at least one: its graph is compared and timed on them.
    samples: Sequence[Item]
    #: What it has learnt from, for the manifest.
    dataset: dict[str, Any]
    #: None where there was nothing to measure with.
    evaluation: Figures | None
    #: Parameters and course of the training, for the record; `curves` are drawn.
    record: dict[str, Any]
    #: See `lmaas.workers.heads.tempered`: `evaluation` is of scores that are.
    temperature: float = 1.0
    #: What its scores are.
    meaning: Meaning = "exclusive"
    #: Below this score it answers `unsure`; of independent labels it gives those that have it.
    min_score: float = 0.0
    #: For the page: examples that it gets wrong, and what made it.
    mistakes: Sequence[Mistake] = ()
    command: str = ""
    #: What each sample's label is, or labels are, where they are known.
    truth: Truth | None = None
    quantize: Quantize | None = None

    @property
    def head(self) -> dict[str, Any]:
        """The manifest's part of that name."""
        own = {} if self.temperature == 1 else {"temperature": self.temperature}
        return self.bare_head | own

    @property
    def bare_head(self) -> dict[str, Any]:
        """The same before the scores are calibrated."""
        own = {} if self.meaning == "exclusive" else {"meaning": self.meaning}
        return self.network.head | own


def export(trained: Trained, out_root: Path, others: Sequence[Path] = ()) -> Path:
    """Write `out_root/NAME/N`, all of it or nothing; raises TrainingError.

    N is the next number there and in the `others`, which are folders of models too.
    A worker that looks into the folder sees the version only when it is whole.
    """
    try:
        with new_version(trained.name, out_root, others) as (built, place):
            _write(trained, built, place.name)
    except OSError as error:
        where = out_root / trained.name
        # Of a file that is to be part of the version nobody knows the name.
        if error.filename and not Path(error.filename).is_relative_to(where):
            where = Path(error.filename)
        words = error.strerror or str(error)
        raise TrainingError(f"{where}: {words}; nothing was exported") from error
    return place


def _write(trained: Trained, folder: Path, number: str) -> None:
    onnx.save(trained.network.graph(), folder / MODEL)
    trained.network.save(folder)
    manifest = _manifest(trained, folder, number)
    # The graph alone is compared: a low temperature would enlarge what differs.
    bare = msgspec.structs.replace(manifest, head=trained.bare_head)
    _compare(_runtime(folder, bare), trained, _sample(trained.samples, COMPARED))
    _runtime(folder, manifest)  # it runs with the temperature, too
    version = ModelVersion(folder, manifest, read_files(folder, manifest))
    manifest = measured(version, _sample(trained.samples, TIMED)).in_(manifest)
    if trained.quantize:
        manifest, trained = _quantized(trained, trained.quantize, manifest, folder)
    evaluation = trained.evaluation
    if evaluation:
        title = f"{trained.name} {number} ({trained.architecture} on {trained.dataset['name']})"
        evaluate.draw(evaluation, folder / PICTURE, title)
        if curves := trained.record.get("curves"):
            learning.draw(curves, folder / LEARNING, f"{trained.name} {number}")
        manifest = _with_page(trained, evaluation, manifest, folder)
    write_manifest(folder, manifest)


def _quantized(
    trained: Trained, how: Quantize, manifest: Manifest, folder: Path
) -> tuple[Manifest, Trained]:
    """With the smaller graph in the folder, and the evaluation and the mistakes of that."""
    version = ModelVersion(folder, manifest, read_files(folder, manifest))
    smaller, found = quantized(version, trained.samples, how, trained.truth)
    for name, content in smaller.contents.items():
        (folder / name).write_bytes(content)
    for name in manifest.files.keys() - smaller.contents.keys():
        (folder / name).unlink()
    record = {**trained.record, "quantized": msgspec.to_builtins(found)}
    manifest = msgspec.structs.replace(smaller.manifest, training=record)
    evaluation = trained.evaluation
    if evaluation and trained.truth is not None:
        scores = Runtime(smaller).scores(trained.samples)
        evaluation = msgspec.structs.replace(
            evaluated(scores, trained.truth, trained.labels, trained.min_score),
            uncalibrated=evaluation.uncalibrated,
        )
        manifest = msgspec.structs.replace(manifest, metrics=evaluation.as_dict())
        wrong: Sequence[Mistake] = ()
        if trained.mistakes:
            threshold = trained.min_score or THRESHOLD
            wrong = mistakes(scores, trained.truth, trained.labels, trained.samples, threshold)
        trained = replace(trained, evaluation=evaluation, mistakes=wrong)
    return manifest, trained


def _with_page(trained: Trained, evaluation: Figures, manifest: Manifest, folder: Path) -> Manifest:
    curves = folder / LEARNING
    written = page.written(
        manifest,
        evaluation,
        trained.mistakes,
        trained.command,
        curves.read_bytes() if curves.exists() else None,
    )
    (folder / PAGE).write_text(written, encoding="utf-8")
    return msgspec.structs.replace(manifest, files=checksums(folder))


# --- checks and figures --------------------------------------------------------------------------


def _runtime(folder: Path, manifest: Manifest) -> Runtime:
    try:
        return Runtime(ModelVersion(folder, manifest, read_files(folder, manifest)))
    except LmaasError as error:
        raise TrainingError(f"the exported model does not run: {error}") from error


def _compare(runtime: Runtime, trained: Trained, items: Sequence[Item]) -> None:
    """The graph's scores against the network's, which gets each item in a batch of its own."""
    for item, scores in zip(items, runtime.scores(items), strict=True):
        (expected,) = trained.network.predict([item])
        difference = float(np.abs(scores - expected).max())
        if not difference <= TOLERANCE:
            what = repr(item.text[:60]) if item.text is not None else f"the item {item.id!r}"
            raise TrainingError(
                f"the exported graph differs from the network that was trained by "
                f"{difference:.2g} for {what}; nothing was exported"
            )


def _sample(items: Sequence[Item], most: int) -> Sequence[Item]:
    return items[:: max(1, len(items) // most)][:most]


def _manifest(trained: Trained, folder: Path, number: str) -> Manifest:
    """Without what is measured, which needs the manifest: the cost and the size of batches."""
    return Manifest(
        name=trained.name,
        version=number,
        labels=list(trained.labels),
        inputs=trained.network.inputs,
        preprocessing=trained.network.preprocessing,
        head=trained.head,
        min_score=trained.min_score,
        batching=trained.network.batching,
        architecture=trained.architecture,
        dataset=trained.dataset,
        metrics=trained.evaluation.as_dict() if trained.evaluation else {},
        code_version=version("lmaas"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        files=checksums(folder),
        training=trained.record,
    )
