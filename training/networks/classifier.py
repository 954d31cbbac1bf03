"""A linear classifier of rows that a network makes of items, which itself is left as it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from lmaas.training import quietly
from lmaas.training.datasets.dataset import Dataset
from lmaas.training.evaluate import Scores
from lmaas.training.networks import Curves, Fitted, Network, Progress
from lmaas.training.networks.batches import Ints
from lmaas.training.networks.fitting import EPOCH_STEPS, Reporter, curves_of, judging
from lmaas.training.networks.pretrained import Floats
from lmaas.training.recipe import Recipe

with quietly():
    import keras

#: Weight decay of the classifier: the mean loss and this times the sum of its squared weights.
DECAY: Final = 1e-6
#: So many steps at least: with the learning rate that falls to 0 meanwhile the accuracy of
#: Banking77 no longer changes, with 10 texts a class as with all.
STEPS: Final = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """A classifier that knows all examples, and what one did that did not know the validation."""

    classifier: keras.Sequential
    recipe: Recipe
    #: Of the validation examples, [examples, labels].
    validation: Scores
    curves: Curves

    def fitted(self, network: Network) -> Fitted:
        """For the network that it has become a part of."""
        return Fitted(
            network=network,
            recipe=self.recipe,
            best_epoch=self.recipe.epochs,
            validation=self.validation,
            curves=self.curves,
        )


def learnt(rows: Floats, dataset: Dataset, recipe: Recipe, progress: Progress | None) -> Learnt:
    """From the rows of the training examples and, after them, of the validation: once with the
    validation left out, which shows how good it is, and once with it. Raises TrainingError.
    """
    recipe = filled(recipe, len(rows))
    labels = np.concatenate([dataset.train.labels, dataset.validation.labels])
    known, classes = len(dataset.train), len(dataset.labels)
    left_out = rows[known:], labels[known:]
    honest = classifier(rows[:known], labels[:known], classes, recipe, left_out, progress)
    return Learnt(
        classifier=classifier(rows, labels, classes, recipe),
        recipe=recipe,
        validation=np.asarray(honest(rows[known:])),
        curves=curves_of(honest),
    )


def filled(recipe: Recipe, rows: int) -> Recipe:
    """The recipe of a classifier of so many rows, with nothing left open."""
    recipe = recipe.filled(batch=256, learning_rate=0.03)
    steps = math.ceil(_passes(rows, recipe) * rows / recipe.batch)
    return recipe.filled(epochs=math.ceil(STEPS / steps))


def _passes(rows: int, recipe: Recipe) -> int:
    """Over a few rows in one epoch: each epoch takes time of its own."""
    return max(EPOCH_STEPS * recipe.batch // rows, 1)


def classifier(
    rows: Floats,
    labels: Ints,
    classes: int,
    recipe: Recipe,
    left_out: tuple[Floats, Ints] | None = None,
    progress: Progress | None = None,
) -> keras.Sequential:
    """A classifier of rows; steps become smaller until there are none, so that it converges."""
    decay = keras.regularizers.L2(DECAY)
    multi_label = labels.ndim == 2
    activation = "sigmoid" if multi_label else "softmax"
    model = keras.Sequential(
        [
            keras.Input((rows.shape[1],)),
            keras.layers.Dense(classes, activation=activation, kernel_regularizer=decay),
        ]
    )
    passes = _passes(len(rows), recipe)
    rows, labels = (np.concatenate([each] * passes) for each in (rows, labels))
    steps = math.ceil(len(rows) / recipe.batch)
    pace = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps * recipe.epochs)
    model.compile(
        optimizer=keras.optimizers.Adam(pace),
        **judging("", classes, multi_label=multi_label),
    )
    model.fit(
        rows,
        labels,
        batch_size=recipe.batch,
        validation_data=left_out,
        epochs=recipe.epochs,
        callbacks=[Reporter(progress, steps)] if progress else [],
        verbose=0,
    )
    curves_of(model)
    return model
