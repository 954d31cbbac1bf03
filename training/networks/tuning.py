"""Fine-tuning: the last blocks of a pretrained encoder learn along with the classifier on top.

The classifier is fitted first, on the encoder as it is: what it would do to the encoder before it
knows anything would only do harm (Kumar et al., "Fine-Tuning can Distort Pretrained Features and
Underperform Out-of-Distribution", ICLR 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from lmaas.training import quietly
from lmaas.training.datasets.dataset import Dataset, Split
from lmaas.training.networks import Progress
from lmaas.training.networks.batches import Indices, as_dataset, by_length, of_labels, shuffled
from lmaas.training.networks.bert import Encoder, pooled
from lmaas.training.networks.fitting import Course, judging, learn
from lmaas.training.recipe import Recipe
from lmaas.workers.batcher import Batch
from lmaas.workers.preprocess.tokens import EncodedTokens

with quietly():
    import keras
    import tensorflow as tf

#: Of the matrices, as for BERT; biases and norms are left alone.
DECAY: Final = 0.01
#: Longest gradient of a step.
CLIP: Final = 1.0
#: The share of the steps in which the learning rate rises; it falls to 0 in the others.
WARM_UP: Final = 0.1

#: Token ids and masks of some texts.
Encode = Callable[[list[str]], EncodedTokens]


class Tuned(keras.Model):  # type: ignore[misc]  # Keras has no types
    """Token ids and their mask to probabilities."""

    def __init__(self, encoder: Encoder, classifier: keras.Sequential, pooling: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = classifier
        self._pooling = pooling

    def call(self, inputs: Any, training: bool = False) -> Any:
        ids, mask = inputs
        rows = self.encoder(ids, mask, training=training)
        return self.classifier(pooled(rows, mask, self._pooling))


def tune(
    model: Tuned, encode: Encode, dataset: Dataset, recipe: Recipe, progress: Progress | None
) -> Course:
    """Leave the weights of the epoch with the best validation accuracy in the model; where no text
    is left out to validate with, those of the last.

    The last `recipe.unfreeze` blocks learn; with more of them than there are, the embeddings too.
    Raises TrainingError.
    """
    model.encoder.unfreeze(recipe.unfreeze)
    steps, held = math.ceil(len(dataset.train) / recipe.batch), dataset.validation
    model.compile(
        optimizer=_optimizer(recipe.learning_rate, steps * recipe.epochs),
        **judging("", len(dataset.labels), multi_label=dataset.multi_label),
    )
    return learn(
        model,
        _learning(encode(dataset.train.texts), dataset.train, recipe),
        _measuring(encode(held.texts), held, recipe) if len(held) else None,
        steps=steps,
        recipe=recipe,
        progress=progress,
        by="val_accuracy",
    )


def _learning(encoded: EncodedTokens, split: Split, recipe: Recipe) -> tf.data.Dataset:
    rows = _rows(encoded)
    return _batches(encoded, split, lambda: shuffled(rows, recipe.batch, recipe.seed))


def _measuring(encoded: EncodedTokens, split: Split, recipe: Recipe) -> tf.data.Dataset:
    batches = by_length(_rows(encoded), np.arange(len(split)), recipe.batch)
    data = _batches(encoded, split, lambda: iter(batches))
    return data.apply(tf.data.experimental.assert_cardinality(len(batches)))


def _rows(encoded: EncodedTokens) -> list[range]:
    """As long as the texts."""
    return [range(length) for length in encoded.lengths]


def _batches(
    encoded: EncodedTokens, split: Split, order: Callable[[], Iterator[Indices]]
) -> tf.data.Dataset:
    def make(chosen: Indices) -> Any:
        places = chosen.tolist()
        length = max(encoded.lengths[place] for place in places)
        arrays = encoded.arrays(Batch(places, len(places), length))
        return tuple(arrays.values()), split.labels[chosen]

    matrix = tf.TensorSpec((None, None), tf.int32)
    signature = (matrix, matrix), of_labels(split.labels)
    return as_dataset(make, order, signature)


def _optimizer(rate: float, steps: int) -> keras.optimizers.Optimizer:
    rising = math.ceil(WARM_UP * steps)
    pace = keras.optimizers.schedules.CosineDecay(
        0.0, max(steps - rising, 1), warmup_target=rate, warmup_steps=rising
    )
    optimizer = keras.optimizers.AdamW(pace, weight_decay=DECAY, global_clipnorm=CLIP)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
