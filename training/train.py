"""From a data set to a model version in the repository: fit, settle, measure once, export."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lmaas.broker_config.errors import TrainingError
from lmaas.broker_config.topology import is_model_name
from lmaas.training import export, networks, quietly
from lmaas.training.datasets import Dataset
from lmaas.training.evaluate import evaluate
from lmaas.training.media import UNITS
from lmaas.training.networks import Architecture, Progress
from lmaas.training.one_line import in_one_line
from lmaas.training.recipe import Recipe

with quietly():
    import keras


def train(
    dataset: Dataset,
    architecture: Architecture = "ngram",
    *,
    out_root: Path,
    others: Sequence[Path] = (),
    name: str,
    recipe: Recipe = Recipe(),  # noqa: B008  # frozen
    progress: Progress | None = None,
) -> Path:
    """Train, measure on the test split, and leave `out_root/name/N`.

    N is the next number there and in the `others`, which are folders of models too.

    Raises TrainingError, and leaves nothing behind then.
    """
    _check(architecture, dataset, name)
    with in_one_line():
        trained = _trained(dataset, architecture, name, recipe, progress)
        return export.export(trained, out_root, others)


def _trained(
    dataset: Dataset,
    architecture: Architecture,
    name: str,
    recipe: Recipe,
    progress: Progress | None,
) -> export.Trained:
    started = time.monotonic()
    keras.utils.set_random_seed(recipe.seed)
    fitted = networks.fit(architecture, dataset, recipe, progress)
    scores = fitted.network.predict(dataset.test.items)
    return export.Trained(
        name=name,
        architecture=architecture,
        network=fitted.network,
        labels=dataset.labels,
        samples=dataset.test.items,
        dataset={
            "name": dataset.name,
            "sha256": dataset.sha256,
            "train": len(dataset.train),
            "validation": len(dataset.validation),
            "test": len(dataset.test),
        },
        evaluation=evaluate(scores, dataset.test.labels, dataset.labels),
        record={
            "recipe": msgspec.to_builtins(fitted.recipe),
            "best_epoch": fitted.best_epoch,
            "seconds": round(time.monotonic() - started, 1),
        },
    )


def _check(architecture: str, dataset: Dataset, name: str) -> None:
    known = networks.architectures(dataset.kind)
    if architecture not in known:
        raise TrainingError(
            f"no architecture {architecture!r} for {UNITS[dataset.kind]}; there are: "
            f"{', '.join(known)}"
        )
    if not is_model_name(name):
        raise TrainingError(f"{name!r} cannot be a model's name; give a plain word")
