"""Networks that know the order of words: `cnn`, `lstm` and `transformer`.

The graph takes and gives what those of `words` do. Rows of ids end in padding, and no answer
depends on how much of it there is: words are told from padding wherever a network looks at more
than one place, and only words are pooled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import onnx

from lmaas.training import quietly
from lmaas.training.datasets.dataset import Dataset
from lmaas.training.networks import Architecture, Fitted, Progress, fitting, words
from lmaas.training.networks.graph import converted
from lmaas.training.networks.recurrent import with_lstm
from lmaas.training.networks.word_layers import output, probabilities
from lmaas.training.recipe import Recipe
from lmaas.workers.manifest import Batching
from lmaas.workers.preprocess.text import PADDING

with quietly():
    import keras
    import tensorflow as tf

#: Words, with padding and unknown. What a network makes of rarer ones it has learnt by heart: of
#: IMDB's validation reviews `cnn` with 30,000 gets three in a hundred less right.
VOCABULARY: Final = 8_000
#: Texts are long when half of them have so many words.
LONG: Final = 100
#: Units between what was pooled and the answer.
HIDDEN: Final = 64
#: Share of the numbers before a dense layer that a training step leaves out.
DROPOUT: Final = 0.5
#: Of the convolutions: neighbouring words that each one looks at, and what it gives for them.
WIDTHS: Final = (2, 3, 4)
FILTERS: Final = 96
#: Of the LSTM, in each direction.
UNITS: Final = 64
#: Of the encoder.
BLOCKS: Final = 1
HEADS: Final = 2
FEED_FORWARD: Final = 64
#: Share of what a part of a block adds that a training step leaves out.
BLOCK_DROPOUT: Final = 0.1
#: Added to what is no word before a maximum.
_FAR: Final = -1e9


class SequenceNetwork(words.WordNetwork):
    """One of the networks below, and its vocabulary."""

    # No steps: sums over words are made in another order for another shape, so that the last bits
    # of an answer depend on its batch, whatever is done about padding.
    batching = Batching(unit="tokens", most=4096, overhead=64)

    def graph(self) -> onnx.ModelProto:
        layers = self.model.layers
        lstm = next((each for each in layers if isinstance(each, keras.layers.Bidirectional)), None)
        if lstm is not None:
            (rows,) = (each for each in layers if isinstance(each, WordRows))
            pooled, answer = layers[-2:]
            return with_lstm(
                lambda ids: (rows(ids), ids != PADDING),
                lstm,
                lambda states, present: probabilities(answer(pooled(states, present))),
            )
        signature = [tf.TensorSpec((None, None), tf.int32, name="ids")]
        return converted(lambda ids: {"scores": probabilities(self.model(ids))}, signature)


def fit(
    architecture: Architecture, dataset: Dataset, recipe: Recipe, progress: Progress | None
) -> Fitted:
    """Raises TrainingError when the loss is no number."""
    recipe = fitting.filled(recipe, max_tokens=512, epochs=12, patience=2, batch=64)
    sizes = recipe.sizes
    sizes = msgspec.structs.replace(
        sizes,
        vocabulary=min(sizes.vocabulary, VOCABULARY),
        dimension=sizes.dimension or _KINDS[architecture].dimension,
        hidden=sizes.hidden or HIDDEN,
    )
    tokenizer, recipe = words.vocabulary(dataset, msgspec.structs.replace(recipe, sizes=sizes))
    words_a_text = np.median([len(text.split()) for text in dataset.train.texts])
    model = build(
        architecture,
        recipe,
        len(dataset.labels),
        multi_label=dataset.multi_label,
        long=bool(words_a_text >= LONG),
    )
    course = words.learn(model, dataset, tokenizer, recipe, progress)
    return Fitted(
        network=SequenceNetwork(model, tokenizer),
        recipe=recipe,
        best_epoch=course.best_epoch,
        curves=course.curves,
    )


def build(
    architecture: Architecture,
    recipe: Recipe,
    classes: int,
    *,
    multi_label: bool = False,
    long: bool = False,
) -> keras.Model:
    """A network to train, perhaps for `long` texts; it ends as those of `word_layers` do."""
    sizes, kind = recipe.sizes, _KINDS[architecture]
    ids = keras.Input((None,), dtype="int32", name="ids")
    present = keras.ops.not_equal(ids, PADDING)
    rows = WordRows(sizes.vocabulary, sizes.dimension, kind.word_dropout[long])(ids)
    rows = kind.layers(rows, present, recipe)
    answer = keras.Sequential(
        [
            keras.layers.Dropout(DROPOUT),
            keras.layers.Dense(sizes.hidden, activation=recipe.activation),
            keras.layers.Dropout(DROPOUT),
            output(classes, multi_label=multi_label),
        ]
    )
    return keras.Model(ids, answer(Pooled(highest=kind.highest)(rows, present)))


def _cnn(rows: Any, present: Any, recipe: Recipe) -> Any:
    """Kim, "Convolutional Neural Networks for Sentence Classification", EMNLP 2014."""
    # Beyond the ends of a text there are zeros, in a row of its own as where padding follows.
    convolved = [
        keras.layers.Conv1D(FILTERS, width, padding="same", activation=recipe.activation)(rows)
        for width in WIDTHS
    ]
    return keras.layers.Concatenate()(convolved)


def _lstm(rows: Any, present: Any, recipe: Recipe) -> Any:
    lstm = keras.layers.LSTM(UNITS, return_sequences=True)
    return keras.layers.Bidirectional(lstm)(rows, mask=present)


def _transformer(rows: Any, present: Any, recipe: Recipe) -> Any:
    """Vaswani et al., "Attention Is All You Need", NIPS 2017: the encoder. Each part has its norm
    before it (Xiong et al., "On Layer Normalization in the Transformer Architecture", ICML 2020),
    so that the words' own rows come through to what is pooled.
    """
    rows = Positions(recipe.max_tokens)(rows)
    width = rows.shape[-1]
    for _ in range(BLOCKS):
        normed = keras.layers.LayerNormalization()(rows)
        attention = keras.layers.MultiHeadAttention(HEADS, width // HEADS)
        attended = attention(normed, normed, attention_mask=present[:, None, :])
        rows = rows + keras.layers.Dropout(BLOCK_DROPOUT)(attended)
        normed = keras.layers.LayerNormalization()(rows)
        up = keras.layers.Dense(FEED_FORWARD, activation=recipe.activation)(normed)
        rows = rows + keras.layers.Dropout(BLOCK_DROPOUT)(keras.layers.Dense(width)(up))
    return rows


class _Kind(NamedTuple):
    """What makes one of the networks, chosen by IMDB's validation reviews."""

    #: Of the words' rows, and of which are no padding; gives as many rows.
    layers: Callable[[Any, Any, Recipe], Any]
    #: Numbers a word.
    dimension: int
    #: Shares of the words that a training step leaves out, of short texts and of long ones.
    word_dropout: tuple[float, float]
    #: Whether the maximum over the words is pooled, too.
    highest: bool


_KINDS: Final[Mapping[Architecture, _Kind]] = {
    "cnn": _Kind(_cnn, dimension=64, word_dropout=(0.2, 0.2), highest=True),
    "lstm": _Kind(_lstm, dimension=64, word_dropout=(0.2, 0.4), highest=True),
    "transformer": _Kind(_transformer, dimension=32, word_dropout=(0.2, 0.2), highest=False),
}


class WordRows(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Word ids [texts, words] to rows of numbers; those of padding are zeros.

    While it is trained some words are left out, each of them whole.
    """

    def __init__(self, vocabulary: int, dimension: int, dropout: float) -> None:
        super().__init__()
        self._embedding = keras.layers.Embedding(vocabulary, dimension)
        self._dropout = keras.layers.Dropout(dropout, noise_shape=(None, None, 1))

    def call(self, ids: Any, training: bool = False) -> Any:
        rows = self._embedding(ids)
        present = tf.cast(ids != PADDING, rows.dtype)[:, :, None]
        return self._dropout(rows * present, training=training)


class Positions(keras.layers.Layer):  # type: ignore[misc]
    """Adds a row of numbers for each place in a text.

    There may be more places than a text has words at most, all of them padding.
    """

    def __init__(self, places: int) -> None:
        super().__init__()
        self._places = places

    def build(self, shape: Any) -> None:
        self._table = self.add_weight(
            name="places", shape=(self._places, shape[-1]), initializer="uniform"
        )

    def call(self, rows: Any) -> Any:
        place = tf.minimum(tf.range(tf.shape(rows)[1]), self._places - 1)
        return rows + tf.gather(self._table, place)


class Pooled(keras.layers.Layer):  # type: ignore[misc]
    """The mean of each number over the words that are no padding; the maximum besides, if asked."""

    def __init__(self, *, highest: bool) -> None:
        super().__init__()
        self.supports_masking = True
        self._highest = highest

    def compute_mask(self, *_: Any, **__: Any) -> None:
        return None

    def call(self, rows: Any, present: Any) -> Any:
        words = tf.cast(present, rows.dtype)[:, :, None]
        count = tf.maximum(tf.reduce_sum(words, axis=1), 1)
        mean = tf.reduce_sum(rows * words, axis=1) / count
        if not self._highest:
            return mean
        highest = tf.reduce_max(rows + (1 - words) * _FAR, axis=1)
        return tf.concat([highest, mean], axis=1)

    def compute_output_spec(self, rows: Any, present: Any) -> keras.KerasTensor:
        width = rows.shape[2] * (2 if self._highest else 1)
        return keras.KerasTensor((rows.shape[0], width), rows.dtype)
