"""Networks over the ids of words: `gap` and `ngram`.

The graph takes `ids`, int32 [texts, words], and gives `scores`, float32 [texts, labels]:
probabilities in the order of the labels. Both dimensions of the input are free.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnx

from lmaas.broker_config.errors import TrainingError
from lmaas.broker_config.messages import Item
from lmaas.training import quietly
from lmaas.training.datasets import Dataset, Split, texts_of
from lmaas.training.evaluate import Scores
from lmaas.training.networks import Architecture, Fitted, Progress, word_layers
from lmaas.training.networks.batches import (
    Indices,
    Ints,
    Reporter,
    as_dataset,
    by_length,
    padded,
    shuffled,
)
from lmaas.training.networks.graph import converted
from lmaas.training.networks.word_layers import NeutralAverage, NGrams, embedding_of, probabilities
from lmaas.training.recipe import Recipe
from lmaas.workers.manifest import PROBABILITIES, WORD_BATCHING, WORD_INPUTS
from lmaas.workers.preprocess.text import FIRST_WORD, PADDING, WordTokenizer
from lmaas.workers.preprocess.words import Words

with quietly():
    import keras
    import tensorflow as tf

VOCABULARY: Final = "vocabulary.txt"
#: Steps of an epoch, at least: of fewer texts an epoch is several passes over them. With one step
#: an epoch, ten epochs would leave the network nearly as it was made.
EPOCH_STEPS: Final = 50
#: Texts a step where nothing is learnt.
PREDICTION_BATCH: Final = 64


class WordNetwork:
    """A network of `word_layers` and its vocabulary."""

    inputs = WORD_INPUTS
    head = PROBABILITIES
    batching = WORD_BATCHING

    def __init__(self, model: keras.Sequential, tokenizer: WordTokenizer) -> None:
        self.model = model
        self._tokenizer = tokenizer

    @property
    def preprocessing(self) -> dict[str, Any]:
        words: dict[str, Any] = msgspec.to_builtins(
            Words(file=VOCABULARY, max_tokens=self._tokenizer.max_tokens)
        )
        return words

    def predict(self, items: Sequence[Item]) -> Scores:
        ids = self._tokenizer(texts_of(items))
        outputs = np.empty((len(ids), self.model.output_shape[1]), np.float32)
        for chosen in by_length(ids, np.arange(len(ids)), PREDICTION_BATCH):
            outputs[chosen] = self.model.predict_on_batch(padded([ids[i] for i in chosen]))
        scores: Scores = np.asarray(probabilities(outputs))
        return scores

    def graph(self) -> onnx.ModelProto:
        signature = [tf.TensorSpec((None, None), tf.int32, name="ids")]
        return converted(_serving(self.model), signature)

    def save(self, folder: Path) -> None:
        self._tokenizer.save(folder / VOCABULARY)


def fit(
    architecture: Architecture, dataset: Dataset, recipe: Recipe, progress: Progress | None
) -> Fitted:
    """Raises TrainingError when the loss is no number."""
    # 1 IMDB review in 60 has more tokens.
    recipe = recipe.filled(max_tokens=1024, epochs=10, patience=2, batch=32, learning_rate=1e-3)
    tokenizer = WordTokenizer.fit(
        dataset.train.texts, recipe.sizes.vocabulary - FIRST_WORD, recipe.max_tokens
    )
    sizes = recipe.sizes.fitted(len(tokenizer.words) + FIRST_WORD, len(dataset.labels))
    recipe = msgspec.structs.replace(recipe, sizes=sizes)
    model, epoch = _fit(dataset, architecture, tokenizer, recipe, progress)
    word_layers.settle(model)
    return Fitted(network=WordNetwork(model, tokenizer), recipe=recipe, best_epoch=epoch)


def _fit(
    dataset: Dataset,
    architecture: Architecture,
    tokenizer: WordTokenizer,
    recipe: Recipe,
    progress: Progress | None,
) -> tuple[keras.Sequential, int]:
    """The network with the weights of its best epoch, and that epoch's number."""
    ids = tokenizer(dataset.train.texts)
    classes = len(dataset.labels)
    model = word_layers.build(architecture, recipe.sizes, ids, dataset.train.labels, classes)
    kind = "binary" if classes == 2 else "sparse_categorical"
    model.compile(
        optimizer=keras.optimizers.Adam(recipe.learning_rate),
        loss=f"{kind}_crossentropy",
        metrics=["accuracy"],
    )
    stop = keras.callbacks.EarlyStopping(patience=recipe.patience, restore_best_weights=True)
    steps = max(math.ceil(len(ids) / recipe.batch), EPOCH_STEPS)
    history = model.fit(
        _data(ids, dataset.train.labels, lambda: shuffled(ids, recipe.batch, recipe.seed)),
        steps_per_epoch=steps,
        validation_data=_validation(tokenizer, dataset.validation, recipe.batch),
        epochs=recipe.epochs,
        callbacks=[stop, *([Reporter(progress, steps)] if progress else [])],
        shuffle=False,
        verbose=0,
    )
    losses = history.history["val_loss"]
    if not np.isfinite(losses).all():
        raise TrainingError("the loss is not a number; use a smaller learning rate")
    return model, int(np.argmin(losses)) + 1


def _data(
    ids: Sequence[Ints], labels: Ints, order: Callable[[], Iterator[Indices]]
) -> tf.data.Dataset:
    signature = tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((None,), tf.int32)
    return as_dataset(
        lambda chosen: (padded([ids[i] for i in chosen]), labels[chosen]), order, signature
    )


def _validation(tokenizer: WordTokenizer, split: Split, size: int) -> tf.data.Dataset:
    ids = tokenizer(split.texts)
    batches = by_length(ids, np.arange(len(ids)), size)
    data = _data(ids, split.labels, lambda: iter(batches))
    return data.apply(tf.data.experimental.assert_cardinality(len(batches)))


def _serving(model: keras.Sequential) -> Any:
    """The same function of ids as the model, with fewer passes over less memory.

    Rows are half as long in float16, where settled ones fit without loss, and padding's is zero,
    so that a plain sum needs no mask.
    """
    first, (pooling, hidden, output) = model.layers[0], model.layers[-3:]
    neutral = pooling.neutral if isinstance(pooling, NeutralAverage) else 0
    rows = embedding_of(model).embeddings.numpy()
    table = tf.Variable(rows.astype(np.float16))
    if not np.array_equal(table.numpy(), rows) or rows[PADDING].any():
        raise TrainingError("the embedding is not on its grid; call word_layers.settle first")

    def scores(ids: Any) -> dict[str, Any]:
        numbers = first(ids) if isinstance(first, NGrams) else ids
        total = tf.reduce_sum(tf.cast(tf.gather(table, numbers), tf.float32), axis=1)
        count = tf.reduce_sum(tf.cast(numbers != PADDING, tf.float32), axis=1, keepdims=True)
        # A text of padding alone has the mean zero instead of none.
        mean = total / tf.maximum(count + neutral, 1)
        return {"scores": probabilities(output(hidden(mean)))}

    return scores
