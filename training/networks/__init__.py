"""What can be trained: one module a family of networks, each named by its architectures.

A family is a function that fits a network to a data set, and a `Network`, which knows how it is
served: what its graph takes, how an item becomes that, and how its answer is read.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from lmaas.broker_config.messages import Item
from lmaas.training.evaluate import Scores
from lmaas.training.media import UNITS, Kind
from lmaas.workers.manifest import Batching, Input

if TYPE_CHECKING:
    import onnx

    from lmaas.training.datasets.dataset import Dataset
    from lmaas.training.recipe import Recipe

Architecture = Literal["gap", "ngram", "linear", "cnn", "lstm", "transformer", "encoder"]

#: What can be trained on items of each kind, and where.
_FAMILIES: Final[Mapping[Kind, Mapping[Architecture, str]]] = {
    "text": {
        "ngram": "lmaas.training.networks.words",
        "gap": "lmaas.training.networks.words",
        "linear": "lmaas.training.networks.linear",
        "cnn": "lmaas.training.networks.sequences",
        "lstm": "lmaas.training.networks.sequences",
        "transformer": "lmaas.training.networks.sequences",
        "encoder": "lmaas.training.networks.encoder",
    },
    "image": {
        "cnn": "lmaas.training.networks.pictures",
        "encoder": "lmaas.training.transfer",
    },
    "audio": {"cnn": "lmaas.training.networks.audio"},
}

_FROM_NOTHING: Final[tuple[Architecture, ...]] = ("gap", "ngram", "cnn", "lstm", "transformer")
#: Options of the recipe that not every architecture has, and those that have them, of texts; of
#: other kinds there are those of _ELSEWHERE.
_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "encoder": ("encoder", "auto"),
    "pooling": ("encoder",),
    "unfreeze": ("encoder",),
    "runs": ("ngram", "gap", "auto"),
    "activation": _FROM_NOTHING,
    "optimizer": _FROM_NOTHING,
    "loss": _FROM_NOTHING,
}
#: Options that architectures of the same name have for other kinds as well.
_ELSEWHERE: Final[Mapping[Kind, tuple[str, ...]]] = {"image": ("encoder", "pooling")}


class Network(Protocol):
    """A trained network."""

    @property
    def inputs(self) -> list[Input]:
        """What its graph takes."""
        ...

    @property
    def preprocessing(self) -> dict[str, Any]:
        """The manifest's part of that name."""
        ...

    @property
    def head(self) -> dict[str, Any]:
        """The manifest's part of that name."""
        ...

    @property
    def batching(self) -> Batching:
        """Before the best size of batches is measured."""
        ...

    def predict(self, items: Sequence[Item]) -> Scores:
        """Probabilities [items, labels]."""
        ...

    def graph(self) -> onnx.ModelProto:
        """The same function for serving. Raises TrainingError."""
        ...

    def save(self, folder: Path) -> None:
        """Write the files, beside the graph, that the preprocessing names."""
        ...


#: Loss and accuracy by epoch, of training and of validation (`val_loss`, `val_accuracy`).
Curves = Mapping[str, Sequence[float]]


class Progress(Protocol):
    """Called after every batch; `batch` counts from 1 and `epoch` too.

    `metrics` has the epoch's running loss and accuracy, and after its last batch also val_loss
    and val_accuracy.
    """

    def __call__(
        self, epoch: int, batch: int, batches: int, metrics: Mapping[str, float]
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A network, the recipe with nothing left open, and how it was learnt."""

    network: Network
    recipe: Recipe
    #: The one whose weights were kept.
    best_epoch: int
    #: Probabilities of the validation examples by a network that has not learnt from them, where
    #: this one has: [examples, labels].
    validation: Scores | None = None
    #: None where there are no epochs.
    curves: Curves | None = None


def mismatch(architecture: str, recipe: Recipe, kind: Kind = "text") -> str | None:
    """The option of the recipe that the architecture does not have, and which ones have it."""
    for option, having in _OPTIONS.items():
        known = kind == "text" or option in _ELSEWHERE.get(kind, ())
        if getattr(recipe, option) and (architecture not in having or not known):
            names = ", ".join(having)
            of = "" if kind == "text" else f" of {UNITS[kind]}"
            return f"--{option} goes with --arch {names} of texts, not {architecture}{of}"
    return None


def fit(
    architecture: Architecture, dataset: Dataset, recipe: Recipe, progress: Progress | None
) -> Fitted:
    """Raises TrainingError."""
    family = _FAMILIES[dataset.kind][architecture]
    fitted: Fitted = importlib.import_module(family).fit(architecture, dataset, recipe, progress)
    return fitted


def problem(item: Item, kind: Kind, recipe: Recipe) -> str | None:
    """Why nothing can be learnt from a picture or a sound, whatever its neighbours are."""
    if item.error is not None:
        return item.error.message
    found: str | None = importlib.import_module(_FAMILIES[kind]["cnn"]).problem(item, recipe)
    return found


def architectures(kind: Kind) -> tuple[Architecture, ...]:
    """What can be trained on items of a kind."""
    return tuple(_FAMILIES[kind])


def default(kind: Kind, recipe: Recipe) -> Architecture:
    """What nobody has to name: the first of its kind, or what needs the recipe's encoder; of texts
    `auto` is better."""
    if recipe.encoder and "encoder" in _FAMILIES[kind]:
        return "encoder"
    return next(iter(_FAMILIES[kind]))
