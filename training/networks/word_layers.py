"""The networks of words: small enough that one core runs tens of thousands of texts a second.

`gap` averages the embeddings of a text's words. `ngram`, the default, also has rows for pairs and
triples of neighbouring words, counts a word once a text however often it occurs, trains every row
in proportion to what it says about the class, and is careful with short texts.

Both take word ids [texts, words] as `workers.preprocess.text` makes them; 0 is padding and changes
nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lmaas.training import quietly
from lmaas.training.networks import Architecture
from lmaas.training.recipe import THIRD_WORDS, Sizes
from lmaas.workers.preprocess.text import FIRST_WORD, PADDING

with quietly():
    import keras
    import tensorflow as tf

#: A pair or triple gets a row when the training texts have it at least so often.
OCCURRENCES: Final = 2
#: Repetitions are recognised by id modulo this; the commonest words all differ in it.
REPETITION_SLOTS: Final = 4096
#: Every text is averaged as if it had more rows, all of them zero: this share of the mean number
#: of rows a training text. Chosen on validation: a few words no longer are a certain answer, and
#: long texts are no worse (log loss of 10 words of a review 0.61 for 1.36, of a whole one 0.23).
NEUTRAL_SHARE: Final = 0.4
#: Rows are whole multiples of one power of two, at most this many: so few bits that every sum of
#: 4,000 rows is exact, in any order, and that 16-bit floats hold a row without loss.
GRID: Final = 2048

_Ints = npt.NDArray[np.int32]
_Floats = npt.NDArray[np.float32]


def build(
    architecture: Architecture,
    sizes: Sizes,
    ids: Sequence[_Ints],
    labels: _Ints,
    classes: int,
    activation: str = "relu",
) -> keras.Sequential:
    """A network to train, of `sizes.fitted`; `ids` and `labels` are the training texts.

    Two classes end in one sigmoid unit, more in a softmax, labels of which a text may have several
    in a sigmoid each: see `probabilities`.
    """
    front = _ngram if architecture == "ngram" else _gap
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32", name="ids"),
            *front(sizes, ids, labels, classes),
            keras.layers.Dense(sizes.hidden, activation=activation),
            output(classes, multi_label=labels.ndim == 2),
        ]
    )


def output(classes: int, *, multi_label: bool = False) -> keras.layers.Dense:
    """The last layer of a network: see `probabilities`."""
    if multi_label:
        return keras.layers.Dense(classes, activation="sigmoid")
    units, activation = (1, "sigmoid") if classes == 2 else (classes, "softmax")
    return keras.layers.Dense(units, activation=activation)


def probabilities(outputs: Any) -> Any:
    """[texts, classes] from a network's outputs: a sigmoid unit speaks of the second class."""
    return tf.concat([1 - outputs, outputs], axis=1) if outputs.shape[1] == 1 else outputs


def settle(model: keras.Sequential) -> None:
    """After training: put the embedding on the GRID, padding at zero."""
    embedding = embedding_of(model)
    rows = embedding.embeddings.numpy()
    if isinstance(embedding, WeightedEmbedding):
        rows = rows * embedding.weighting.numpy()
        embedding.weighting.assign(np.ones_like(embedding.weighting))
    rows[PADDING] = 0
    step = 2.0 ** np.ceil(np.log2(max(np.abs(rows).max(), 1e-6) / GRID))
    embedding.embeddings.assign(np.round(rows / step) * step)


def embedding_of(model: keras.Sequential) -> keras.layers.Embedding:
    return next(layer for layer in model.layers if isinstance(layer, keras.layers.Embedding))


def _gap(sizes: Sizes, *_: Any) -> list[keras.layers.Layer]:
    embedding = keras.layers.Embedding(sizes.vocabulary, sizes.dimension, mask_zero=True)
    return [embedding, keras.layers.GlobalAveragePooling1D()]


# --- ngram ---------------------------------------------------------------------------------------


class NGrams(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Word ids [texts, n] to row numbers [texts, 3 n - 3] of words, pairs and triples.

    A pair has the key `first * vocabulary + second`, a triple `pair * THIRD_WORDS + third`. The
    key modulo the table's length is its slot, and the table says which key owns the slot: two
    n-grams never share a row. Repeated words and n-grams without a row become padding.
    """

    def __init__(self, vocabulary: int, pairs: _Ints, triples: _Ints) -> None:
        super().__init__(trainable=False)
        self.vocabulary = vocabulary
        self.rows = vocabulary + len(pairs) + len(triples)
        self.pairs = self._table("pairs", pairs)
        self.triples = self._table("triples", triples)

    def _table(self, name: str, keys: _Ints) -> keras.Variable:
        table = self.add_weight(name=name, shape=keys.shape, dtype="int32", initializer="zeros")
        table.assign(keys)
        return table

    def call(self, ids: Any) -> Any:
        pairs = owned(self.pairs, ids[:, :-1], ids[:, 1:], self.vocabulary)
        triples = owned(self.triples, pairs[:, :-1], ids[:, 2:], THIRD_WORDS)
        pair_rows = _shifted(pairs, self.vocabulary - 1)
        triple_rows = _shifted(triples, self.vocabulary + self.pairs.shape[0] - 1)
        return tf.concat([first_occurrences(ids), pair_rows, triple_rows], axis=1)

    def compute_output_spec(self, ids: Any) -> keras.KerasTensor:
        return keras.KerasTensor((ids.shape[0], None), "int32")


class WeightedEmbedding(keras.layers.Embedding):  # type: ignore[misc]
    """An embedding whose rows are multiplied by fixed weights while it is trained.

    Adam moves every row at the same pace; a row with a small weight counts for little however far
    it went. The weights are naive Bayes log-count ratios, as in Wang and Manning, "Baselines and
    Bigrams: Simple, Good Sentiment and Topic Classification", ACL 2012.
    """

    def __init__(self, weights: _Floats, dimension: int) -> None:
        super().__init__(len(weights), dimension, mask_zero=True)
        self.weighting = self.add_weight(
            name="weighting", shape=(len(weights), 1), initializer="ones", trainable=False
        )
        self.weighting.assign(weights[:, None])

    def call(self, ids: Any) -> Any:
        return super().call(ids) * tf.gather(self.weighting, ids)


class NeutralAverage(keras.layers.Layer):  # type: ignore[misc]
    """The average of the rows that are no padding and of `neutral` rows of zeros."""

    def __init__(self, neutral: float) -> None:
        super().__init__()
        self.neutral = neutral
        self.supports_masking = True

    def call(self, rows: Any, mask: Any = None) -> Any:
        present = tf.cast(mask, rows.dtype)[:, :, None]
        total = tf.reduce_sum(rows * present, axis=1)
        return total / (tf.reduce_sum(present, axis=1) + self.neutral)

    def compute_mask(self, rows: Any, mask: Any = None) -> None:
        return None

    def compute_output_spec(self, rows: Any, mask: Any = None) -> keras.KerasTensor:
        return keras.KerasTensor((rows.shape[0], rows.shape[2]), rows.dtype)


def owned(keys: Any, before: Any, word: Any, words: int) -> Any:
    """Numbers from 1 of the n-grams `before` (0 is none) + `word`; 0 for those without a slot."""
    before = before * tf.cast(word < words, tf.int32)
    key = before * words + word
    slot = tf.math.floormod(key, keys.shape[0])
    return (slot + 1) * tf.cast(tf.equal(tf.gather(keys, slot), key), tf.int32)


def first_occurrences(ids: Any) -> Any:
    """Words that their text had before become padding.

    Two words with the same id modulo REPETITION_SLOTS count as one: in a review that is one rare
    word in thirty.
    """
    texts, length = tf.unstack(tf.shape(ids))
    slot = tf.math.floormod(ids, REPETITION_SLOTS) + REPETITION_SLOTS * tf.range(texts)[:, None]
    # Counted from the end, so that the first word's number is the slot's maximum.
    number = tf.broadcast_to(length - tf.range(length), tf.shape(ids))
    highest = tf.tensor_scatter_nd_max(
        tf.zeros([texts * REPETITION_SLOTS], tf.int32),
        tf.reshape(slot, [-1, 1]),
        tf.reshape(number, [-1]),
    )
    return ids * tf.cast(tf.equal(tf.gather(highest, slot), number), tf.int32)


def _shifted(numbers: Any, by: int) -> Any:
    return (numbers + by) * tf.cast(numbers > 0, tf.int32)


def _ngram(
    sizes: Sizes, ids: Sequence[_Ints], labels: _Ints, classes: int
) -> list[keras.layers.Layer]:
    # All texts in a row, padding between them: no n-gram reaches from one into the next.
    stream = np.concatenate([np.append(text, np.int32(PADDING)) for text in ids])
    text = np.repeat(np.arange(len(ids)), [len(each) + 1 for each in ids])
    vocabulary = sizes.vocabulary
    pair_keys = _owners(stream[:-1], stream[1:], vocabulary, FIRST_WORD, sizes.pairs)
    pairs = owned(pair_keys, stream[:-1], stream[1:], vocabulary).numpy()
    triple_keys = _owners(pairs[:-1], stream[2:], THIRD_WORDS, 1, sizes.triples)
    triples = owned(triple_keys, pairs[:-1], stream[2:], THIRD_WORDS).numpy()
    tables = (stream, vocabulary), (pairs, len(pair_keys) + 1), (triples, len(triple_keys) + 1)
    seen = [_seen(numbers, text, size) for numbers, size in tables]
    weights = [
        _weights(number, labels[texts], size, classes)
        for (texts, number), (_, size) in zip(seen, tables, strict=True)
    ]
    # Numbers of pairs and triples count from 1, as if they had a row of padding too.
    rows = np.concatenate([weights[0], weights[1][1:], weights[2][1:]])
    rows_a_text = sum(len(number) for _, number in seen) / len(ids)
    return [
        NGrams(vocabulary, pair_keys, triple_keys),
        WeightedEmbedding(rows, sizes.dimension),
        NeutralAverage(round(NEUTRAL_SHARE * rows_a_text)),
    ]


def _owners(before: _Ints, word: _Ints, words: int, least: int, limit: int) -> _Ints:
    """The table of keys: a slot belongs to the most frequent n-gram that falls into it.

    `before` counts from `least` on, `word` from FIRST_WORD up to `words`.
    """
    known = (before >= least) & (word >= FIRST_WORD) & (word < words)
    keys, counts = np.unique(before[known] * np.int32(words) + word[known], return_counts=True)
    frequent = counts >= OCCURRENCES
    keys, counts = keys[frequent], counts[frequent]
    table = np.full(_prime(min(limit, len(keys) * 4 // 3 + 2)), -1, np.int32)
    rising = np.argsort(counts, kind="stable")
    table[keys[rising] % len(table)] = keys[rising]  # the last one, the most frequent, stays
    return table


def _seen(
    numbers: _Ints, text: npt.NDArray[np.int64], size: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Text and number, without padding, of all that a text has at least once."""
    texts, number = np.divmod(np.unique(text[: len(numbers)] * size + numbers), size)
    present = number != PADDING
    return texts[present], number[present]


def _weights(number: npt.NDArray[np.int64], labels: _Ints, size: int, classes: int) -> _Floats:
    """[size] how unevenly the classes have each number: the log-count ratio.

    Texts with the number are counted, as if classes were of one size, plus one. With two classes
    this is |log(p / q)|, with more twice the distance of the highest class from the mean; of
    labels of which a text may have several, the largest of those of each against all without it.
    `number` and `labels` have an element (a row) for every number that a text has.
    """
    if labels.ndim == 2:
        each = (_weights(number, column, size, 2) for column in labels.T)
        return functools.reduce(np.maximum, each)
    counts = np.bincount(number * classes + labels, minlength=size * classes)
    of_class = np.maximum(np.bincount(labels, minlength=classes), 1)
    logs = np.log1p(counts.reshape(size, classes) * of_class.mean() / of_class)
    weights: _Floats = (2 * (logs.max(axis=1) - logs.mean(axis=1))).astype(np.float32)
    return weights


def _prime(limit: int) -> int:
    """The largest prime up to `limit`, or 2: keys then spread over a table of this length."""
    return next(
        (n for n in range(limit, 2, -1) if all(n % d for d in range(2, int(n**0.5) + 1))), 2
    )
