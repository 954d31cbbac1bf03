"""From a data set to a model version in the repository: fit, settle, measure once, export."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from lmaas.broker_config.errors import TrainingError
from lmaas.broker_config.topology import is_model_name
from lmaas.training import broken, calibration, choosing, export, networks, quietly
from lmaas.training.datasets.dataset import Dataset
from lmaas.training.evaluate import Scores
from lmaas.training.judging import Figures, evaluated, meaning, uncalibrated
from lmaas.training.media import UNITS
from lmaas.training.mistakes import mistakes
from lmaas.training.networks import Architecture, Fitted, Progress
from lmaas.training.one_line import in_one_line
from lmaas.training.recipe import Quantize, Recipe
from lmaas.workers.heads import tempered
from lmaas.workers.manifest import THRESHOLD

with quietly():
    import keras

#: The architecture is chosen by what it does on the data.
Auto = Literal["auto"]
AUTO: Final = "auto"


def train(
    dataset: Dataset,
    architecture: Architecture | Auto = AUTO,
    *,
    out_root: Path,
    others: Sequence[Path] = (),
    name: str,
    recipe: Recipe = Recipe(),  # noqa: B008  # frozen
    progress: Progress | None = None,
    min_score: float = 0.0,
    command: str = "",
    shows_items: bool = True,
    quantize: Quantize | None = None,
    tell: choosing.Tell | None = None,
    note: Callable[[str], None] | None = None,
) -> Path:
    """Train, calibrate, measure on the test split, and leave `out_root/name/N`.

    `auto` tries what suits texts, telling how good each was, and keeps the best; of other things
    there is one. N is the next number there and in the `others`, which are folders of models too.
    Below `min_score` the model will answer `unsure`, or give the labels that have it. What
    `quantize` asks for is compared on the test split. The page of the evaluation names the
    `command`, and shows items of the test split that the model gets wrong, unless it should not. A
    few pictures or sounds that cannot be used are left out, and told as a `note`.

    Raises TrainingError, or DataError, and leaves nothing behind then.
    """
    if architecture == AUTO and dataset.kind != "text":
        architecture = networks.default(dataset.kind, recipe)
    _check(architecture, dataset, name, recipe)
    dataset, left_out = _usable(dataset, recipe, note)
    with in_one_line():
        trained = _trained(dataset, architecture, name, recipe, progress, tell, min_score)
        if not shows_items:
            trained = replace(trained, mistakes=())
        trained = replace(
            trained,
            command=command,
            quantize=quantize,
            dataset=trained.dataset | ({"left_out": left_out} if left_out else {}),
        )
        return export.export(trained, out_root, others)


def _usable(
    dataset: Dataset, recipe: Recipe, note: Callable[[str], None] | None
) -> tuple[Dataset, int]:
    """What can be learnt from, and how many pictures or sounds are left out. Raises DataError."""
    if dataset.kind == "text":
        return dataset, 0
    kind = dataset.kind
    good, wrong = broken.without_broken(dataset, lambda item: networks.problem(item, kind, recipe))
    if wrong and note:
        note(f"{dataset.name}: {broken.told(dataset, wrong)}; the others are learnt from")
    return good, len(wrong)


def _trained(
    dataset: Dataset,
    architecture: Architecture | Auto,
    name: str,
    recipe: Recipe,
    progress: Progress | None,
    tell: choosing.Tell | None,
    min_score: float,
) -> export.Trained:
    started = time.monotonic()

    def fit(architecture: Architecture, dataset: Dataset) -> Fitted:
        keras.utils.set_random_seed(recipe.seed)
        return networks.fit(architecture, dataset, recipe, progress)

    record: dict[str, Any] = {}
    if architecture == AUTO:
        choice = choosing.chosen(dataset, choosing.candidates(bool(recipe.encoder)), fit, tell)
        architecture, fitted, record = choice.architecture, choice.fitted, choice.record
    else:
        fitted = fit(architecture, dataset)
    raw = fitted.network.predict(dataset.test.items)
    temperature = _temperature(fitted, dataset)
    truth = dataset.test.labels
    scores = tempered(raw, temperature, meaning(truth))
    return export.Trained(
        name=name,
        architecture=architecture,
        network=fitted.network,
        labels=dataset.labels,
        samples=dataset.test.items,
        truth=truth,
        meaning=meaning(truth),
        min_score=min_score,
        dataset=_source(dataset),
        evaluation=_evaluated(raw, scores, dataset, min_score),
        temperature=temperature,
        mistakes=mistakes(
            scores, truth, dataset.labels, dataset.test.items, min_score or THRESHOLD
        ),
        record=record | _record(fitted, time.monotonic() - started),
    )


def _source(dataset: Dataset) -> dict[str, Any]:
    """For the manifest."""
    return {
        "name": dataset.name,
        "sha256": dataset.sha256,
        "train": len(dataset.train),
        "validation": len(dataset.validation),
        "test": len(dataset.test),
    }


def _record(fitted: Fitted, seconds: float) -> dict[str, Any]:
    """How it was trained, for the manifest."""
    return {
        "recipe": msgspec.to_builtins(fitted.recipe),
        "best_epoch": fitted.best_epoch,
        **({"curves": fitted.curves} if fitted.curves else {}),
        "seconds": round(seconds, 1),
        "versions": {name: version(name) for name in ("keras", "tensorflow", "tf2onnx")},
    }


def _temperature(fitted: Fitted, dataset: Dataset) -> float:
    """By the validation split: the test split must not decide anything."""
    scores = fitted.validation
    if scores is None:
        scores = fitted.network.predict(dataset.validation.items)
    return calibration.temperature(scores, dataset.validation.labels)


def _evaluated(raw: Scores, scores: Scores, dataset: Dataset, min_score: float) -> Figures:
    truth = dataset.test.labels
    found = evaluated(scores, truth, dataset.labels, min_score)
    return msgspec.structs.replace(found, uncalibrated=uncalibrated(raw, truth))


def _check(architecture: str, dataset: Dataset, name: str, recipe: Recipe) -> None:
    known = networks.architectures(dataset.kind)
    if architecture not in (AUTO, *known):
        raise TrainingError(
            f"no architecture {architecture!r} for {UNITS[dataset.kind]}; there are: "
            f"{', '.join([AUTO, *known] if dataset.kind == 'text' else known)}"
        )
    if problem := networks.mismatch(architecture, recipe, dataset.kind):
        raise TrainingError(problem)
    if not is_model_name(name):
        raise TrainingError(f"{name!r} cannot be a model's name; give a plain word")
