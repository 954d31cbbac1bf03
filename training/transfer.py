"""A classifier on top of a network of pictures from elsewhere, which is left as it is: `encoder` of
pictures.

Its graph is that of the backbone with the classifier at its end: it takes what the backbone takes,
and gives float32 [pictures, labels].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnx

from lmaas.broker_config.errors import TrainingError
from lmaas.broker_config.messages import Item
from lmaas.training.backbone import Backbone, Floats
from lmaas.training.datasets.dataset import Dataset
from lmaas.training.evaluate import Scores
from lmaas.training.networks import Architecture, Fitted, Progress
from lmaas.training.networks.classifier import learnt
from lmaas.training.recipe import Recipe
from lmaas.workers.manifest import PROBABILITIES, Input

#: The least deviation that features are divided by: those that never differ say nothing.
_LEAST: Final = 1e-6


class TransferNetwork:
    """The backbone, and a dense layer over its features."""

    head = PROBABILITIES

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.batching = backbone.batching
        #: Of the classifier, [features, labels] and [labels]; None until it is trained.
        self.weights: tuple[Floats, Floats] | None = None

    @property
    def inputs(self) -> list[Input]:
        return [self.backbone.input]

    @property
    def preprocessing(self) -> dict[str, Any]:
        images: dict[str, Any] = msgspec.to_builtins(self.backbone.images)
        return images

    def predict(self, items: Sequence[Item]) -> Scores:
        assert self.weights is not None
        weights, bias = self.weights
        logits = self.backbone.rows(items) @ weights + bias
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores: Scores = powers / powers.sum(axis=1, keepdims=True)
        return scores

    def graph(self) -> onnx.ModelProto:
        assert self.weights is not None
        return self.backbone.with_classifier(*self.weights)

    def save(self, folder: Path) -> None:
        """All of it is in the graph."""


def fit(
    architecture: Architecture, dataset: Dataset, recipe: Recipe, progress: Progress | None
) -> Fitted:
    """Raises TrainingError."""
    if not recipe.encoder:
        raise TrainingError("the architecture 'encoder' needs one: --encoder FOLDER")
    backbone = Backbone(Path(recipe.encoder), recipe.pooling)
    if recipe.side not in (0, max(backbone.images.size)):
        height, width = backbone.images.size
        raise TrainingError(
            f"{backbone.name}: its pictures are {width} x {height}; leave --image-size out"
        )
    recipe = msgspec.structs.replace(
        recipe, encoder=backbone.name, pooling=backbone.pooling, side=max(backbone.images.size)
    )
    network = TransferNetwork(backbone)
    rows = backbone.rows([*dataset.train.items, *dataset.validation.items])
    # Scaled, so that the classifier is learnt as fast whatever the backbone's numbers are.
    mean, scale = rows.mean(axis=0), _scale(rows)
    found = learnt((rows - mean) / scale, dataset, recipe, progress)
    weights, bias = found.classifier.get_weights()
    weights = weights / scale[:, None]
    network.weights = (weights, bias - mean @ weights)
    return found.fitted(network)


def _scale(rows: Floats) -> Floats:
    """What makes the mean square of a row's length 1, each of its numbers a part as large."""
    found: Floats = np.maximum(rows.std(axis=0), _LEAST) * np.float32(np.sqrt(rows.shape[1]))
    return found
