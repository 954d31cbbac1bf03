"""Networks over the ids of words: `gap` and `ngram`.

The graph takes `ids`, int32 [texts, words], and gives `scores`, float32 [texts, labels]:
probabilities in the order of the labels. Both dimensions of the input are free.
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
from lmaas.training import quietly
from lmaas.training.datasets.cutting import ENOUGH
from lmaas.training.datasets.dataset import Dataset, Split, texts_of
from lmaas.training.evaluate import Scores
from lmaas.training.networks import Architecture, Fitted, Progress, fitting, word_layers
from lmaas.training.networks.batches import (
    Beside,
    by_length,
    padded,
    training,
    validation,
)
from lmaas.training.networks.graph import converted
from lmaas.training.networks.runs import Runs
from lmaas.training.networks.word_layers import NeutralAverage, NGrams, embedding_of, probabilities
from lmaas.training.recipe import Recipe
from lmaas.workers.manifest import PROBABILITIES, WORD_BATCHING, WORD_INPUTS
from lmaas.workers.preprocess.text import FIRST_WORD, PADDING, WordTokenizer
from lmaas.workers.preprocess.words import Words

with quietly():
    import keras
    import tensorflow as tf

VOCABULARY: Final = "vocabulary.txt"
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
    """Where the recipe does not say whether runs of sentences are learnt from, texts of several
    sentences, with one label each, are tried both ways: with runs, if as many validation texts are
    right then.

    Raises TrainingError when the loss is no number.
    """
    # 1 IMDB review in 60 has more tokens.
    recipe = fitting.filled(recipe, max_tokens=1024, epochs=10, patience=2, batch=32)
    tokenizer, recipe = vocabulary(dataset, recipe)
    ids = tokenizer(dataset.train.texts)
    runs = Runs(dataset.train.texts, ids, recipe.seed)
    alone = dataset.sentences
    beside = Beside(runs, tokenizer(alone.texts), alone.labels) if alone else Beside(runs)
    labels = (Split.of(dataset.train, alone) if alone else dataset.train).labels

    def trained(with_runs: bool) -> tuple[keras.Sequential, fitting.Course]:
        keras.utils.set_random_seed(recipe.seed)
        model = word_layers.build(
            architecture,
            recipe.sizes,
            [*ids, *beside.ids],
            labels,
            len(dataset.labels),
            recipe.activation,
        )
        used = beside if with_runs else None
        return model, learn(model, dataset, tokenizer, recipe, progress, used)

    with_runs = bool(recipe.runs)
    model, course = trained(with_runs)
    if recipe.runs is None and runs.several and not dataset.multi_label:
        other, its_course = trained(True)
        if its_course.accuracy >= course.accuracy:
            with_runs, model, course = True, other, its_course
    word_layers.settle(model)
    return Fitted(
        network=WordNetwork(model, tokenizer),
        recipe=msgspec.structs.replace(recipe, runs=with_runs),
        best_epoch=course.best_epoch,
        curves=course.curves,
    )


def vocabulary(dataset: Dataset, recipe: Recipe) -> tuple[WordTokenizer, Recipe]:
    """The tokenizer of the training texts, and the recipe with the sizes that these leave."""
    sentences = dataset.sentences.texts if dataset.sentences else []
    tokenizer = WordTokenizer.fit(
        [*dataset.train.texts, *sentences], recipe.sizes.vocabulary - FIRST_WORD, recipe.max_tokens
    )
    sizes = recipe.sizes.fitted(len(tokenizer.words) + FIRST_WORD, len(dataset.labels))
    return tokenizer, msgspec.structs.replace(recipe, sizes=sizes)


def learn(
    model: keras.Model,
    dataset: Dataset,
    tokenizer: WordTokenizer,
    recipe: Recipe,
    progress: Progress | None,
    beside: Beside | None = None,
) -> fitting.Course:
    """Train a network of word ids, with `beside` also on that.

    Raises TrainingError when the loss is no number.
    """
    train, held = dataset.train, dataset.validation
    fitting.compile_for(recipe, model, multi_label=dataset.multi_label)
    return fitting.learn(
        model,
        training(tokenizer(train.texts), train.labels, recipe.batch, recipe.seed, beside),
        validation(tokenizer(held.texts), held.labels, recipe.batch),
        steps=fitting.steps_of(len(train), recipe),
        recipe=recipe,
        progress=progress,
        # With runs, the loss is least before the accuracy is highest: scores get too sure, which
        # their calibration puts right afterwards.
        by="val_accuracy" if beside and len(held) >= ENOUGH else "val_loss",
    )


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
