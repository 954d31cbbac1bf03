"""Epochs of training, of which the best is kept: one loop for all networks that have them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from lmaas.broker_config.errors import TrainingError
from lmaas.training import quietly
from lmaas.training.networks import Curves, Progress
from lmaas.training.recipe import Loss, Optimizer, Recipe

with quietly():
    import keras
    import tensorflow as tf

#: Steps of an epoch, at least: of fewer examples an epoch is several passes over them. With one
#: step an epoch, ten epochs would leave the network nearly as it was made.
EPOCH_STEPS: Final = 50
#: The learning rate of a recipe that has none.
LEARNING_RATES: Final[Mapping[Optimizer, float]] = {"adam": 1e-3, "sgd": 0.1}
MOMENTUM: Final = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a training came to."""

    #: From 1: the one whose weights the network has now.
    best_epoch: int
    curves: Curves

    @property
    def accuracy(self) -> float:
        """Share of the validation examples that it is right about."""
        return self.curves["val_accuracy"][self.best_epoch - 1]


def filled(recipe: Recipe, **own: float | str) -> Recipe:
    """With an optimiser, an activation, a loss and these values where it has none."""
    return recipe.filled(
        activation="relu",
        optimizer="adam",
        loss="crossentropy",
        learning_rate=LEARNING_RATES[recipe.optimizer or "adam"],
        **own,
    )


def steps_of(examples: int, recipe: Recipe) -> int:
    """Steps an epoch."""
    return max(math.ceil(examples / recipe.batch), EPOCH_STEPS)


def compile_for(recipe: Recipe, model: keras.Model, *, multi_label: bool) -> None:
    """With what `filled` has filled in, for a model that ends in one sigmoid unit, for two classes,
    or in a softmax; where an example may have several labels, in a sigmoid for each.
    """
    judged = judging(recipe.loss, model.output_shape[-1], multi_label=multi_label)
    model.compile(optimizer=_optimizer(recipe), **judged)


def judging(loss: Loss | Literal[""], outputs: int, *, multi_label: bool) -> dict[str, Any]:
    """Keras' loss, and the metric "accuracy": the share of the examples that are right, or of their
    labels each by itself where they may have several.
    """
    if multi_label:
        each = _squares_of_labels if loss == "mse" else _logs_of_labels
        return {"loss": each, "metrics": [keras.metrics.BinaryAccuracy(name="accuracy")]}
    return {"loss": _loss(loss, outputs), "metrics": ["accuracy"]}


def learn(
    model: keras.Model,
    data: tf.data.Dataset,
    validation: Any,
    *,
    steps: int,
    recipe: Recipe,
    progress: Progress | None,
    by: Literal["val_loss", "val_accuracy"] = "val_loss",
) -> Course:
    """Train a compiled model; the weights of the epoch that is best `by` this are kept, and without
    `validation` those of the last.

    `data` gives batches of inputs and labels (see `label_sets.Truth`) without end, `validation`
    once through. Raises TrainingError when the loss is no number.
    """
    mode, best = ("min", np.argmin) if by == "val_loss" else ("max", np.argmax)
    stop = keras.callbacks.EarlyStopping(
        by, mode=mode, patience=recipe.patience, restore_best_weights=True
    )
    told = [Reporter(progress, steps)] if progress else []
    model.fit(
        data,
        steps_per_epoch=steps,
        validation_data=validation,
        epochs=recipe.epochs,
        callbacks=told if validation is None else [stop, *told],
        shuffle=False,
        verbose=0,
    )
    curves = curves_of(model)
    last = recipe.epochs if validation is None else int(best(curves[by])) + 1
    return Course(best_epoch=last, curves=curves)


def curves_of(model: keras.Model) -> Curves:
    """Of the model's last fit. Raises TrainingError when the loss is no number."""
    history: Mapping[str, Sequence[float]] = model.history.history
    if not all(np.isfinite(losses).all() for name, losses in history.items() if "loss" in name):
        raise TrainingError("the loss is not a number; use a smaller learning rate")
    return {name: [round(value, 6) for value in values] for name, values in history.items()}


def _optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    if recipe.optimizer == "sgd":
        return keras.optimizers.SGD(recipe.learning_rate, momentum=MOMENTUM, nesterov=True)
    return keras.optimizers.Adam(recipe.learning_rate)


def _loss(loss: str, outputs: int) -> Any:
    """Of labels [examples], numbers, and `outputs` numbers an example."""
    if loss == "mse":
        return "mean_squared_error" if outputs == 1 else _squared_error
    return "binary_crossentropy" if outputs == 1 else "sparse_categorical_crossentropy"


def _squared_error(labels: Any, outputs: Any) -> Any:
    """Of probabilities: each class's, together."""
    truth = tf.one_hot(tf.reshape(labels, [-1]), outputs.shape[-1])
    return tf.reduce_sum(tf.square(outputs - truth), axis=-1)


def _squares_of_labels(truth: Any, outputs: Any) -> Any:
    """Of probabilities [examples, labels], and 1 or 0 for each of them: all of an example."""
    return tf.reduce_sum(tf.square(outputs - tf.cast(truth, outputs.dtype)), axis=-1)


def _logs_of_labels(truth: Any, outputs: Any) -> Any:
    """The cross-entropy of the same."""
    logs = keras.ops.binary_crossentropy(tf.cast(truth, outputs.dtype), outputs)
    return tf.reduce_sum(logs, axis=-1)


class Reporter(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Hands Keras' reports on to a `Progress`."""

    def __init__(self, progress: Progress, batches: int) -> None:
        super().__init__()
        self._progress = progress
        self._batches = batches
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        if batch + 1 < self._batches:  # the last one is reported with the validation
            self._progress(self._epoch, batch + 1, self._batches, dict(logs or {}))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._progress(self._epoch, self._batches, self._batches, dict(logs or {}))
