"""Texts or sounds as batches for Keras: of similar length, padded, each epoch in another order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence, Sized
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from lmaas.training import quietly
from lmaas.training.networks.runs import WEIGHT, Runs
from lmaas.workers.preprocess.text import PADDING

with quietly():
    import tensorflow as tf

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
#: Of the texts of a batch.
Indices = npt.NDArray[np.int64]

_WEIGHTS: Final = tf.TensorSpec((None,), tf.float32)

#: How much the sentences of a step count together, against its texts, and at most: each counts no
#: more than a run.
SENTENCES_WEIGHT: Final = 0.25
#: Batches are made of texts of similar length out of so many batches' worth of shuffled texts.
NEIGHBOURHOOD: Final = 50


def padded(ids: Sequence[Ints]) -> Ints:
    """[texts, words of the longest]."""
    matrix = np.full((len(ids), max(map(len, ids))), PADDING, np.int32)
    for row, text in zip(matrix, ids, strict=True):
        row[: len(text)] = text
    return matrix


def as_dataset(
    make: Callable[[Indices], Any], order: Callable[[], Iterator[Indices]], signature: Any
) -> tf.data.Dataset:
    """What `make` makes of each batch's indices, for Keras, which takes the shape of the first two
    batches for that of all when it has to find it: texts of one length would make it a fixed one.
    """
    data = tf.data.Dataset.from_generator(lambda: map(make, order()), output_signature=signature)
    return data.prefetch(tf.data.AUTOTUNE)


def shuffled(ids: Sequence[Sized], size: int, seed: int) -> Iterator[Indices]:
    """Batches, epoch after epoch without end, each in an order of its own."""
    random = np.random.default_rng(seed)
    # An order is left out, so that a seed gives the same model as it did in 0.1.0.
    _order(ids, size, random)
    while True:
        yield from _order(ids, size, random)


def _order(ids: Sequence[Sized], size: int, random: np.random.Generator) -> list[Indices]:
    """Texts of similar length are a batch; each text is in one."""
    shuffled = random.permutation(len(ids))
    reach = size * NEIGHBOURHOOD
    batches = [
        batch
        for start in range(0, len(shuffled), reach)
        for batch in by_length(ids, shuffled[start : start + reach], size)
    ]
    random.shuffle(batches)
    return batches


def by_length(ids: Sequence[Sized], chosen: Indices, size: int) -> list[Indices]:
    """These texts in batches of so many, of similar length, the shortest first."""
    rising = chosen[np.argsort([len(ids[i]) for i in chosen], kind="stable")]
    return [rising[start : start + size] for start in range(0, len(rising), size)]


class Beside(NamedTuple):
    """What a network of words learns from beside whole texts."""

    runs: Runs
    #: Of single sentences, and their labels.
    ids: Sequence[Ints] = ()
    labels: Ints = np.zeros(0, np.int32)


def training(
    ids: Sequence[Ints], labels: Ints, size: int, seed: int, beside: Beside | None = None
) -> tf.data.Dataset:
    """Batches of texts and labels without end. With `beside`, each also has a run of each of its
    texts, and its share of the sentences, and says how much each counts: a batch of sentences
    alone would move a network as far as one of texts, and there may be more of them.
    """
    if beside is None:
        return _labelled(ids, labels, lambda: shuffled(ids, size, seed))
    runs = beside.runs
    everything = [*ids, *beside.ids]
    truth = np.concatenate([labels, beside.labels]) if beside.ids else labels
    steps = math.ceil(len(ids) / size)
    a_sentence = min(SENTENCES_WEIGHT * len(ids) / max(len(beside.ids), 1), WEIGHT)

    def order() -> Iterator[Indices]:
        shares = _dealt(len(beside.ids), steps, seed)
        for texts, share in zip(shuffled(ids, size, seed), shares, strict=False):
            yield np.concatenate([texts, len(ids) + share])

    def weighted(chosen: Indices) -> tuple[Ints, Ints, Floats]:
        texts = chosen[chosen < len(ids)]
        cut, whose = runs.of(texts)
        matrix = padded([*(everything[i] for i in chosen), *cut])
        parts = len(texts), len(chosen) - len(texts), len(cut)
        weights = np.repeat(np.array([1, a_sentence, WEIGHT], np.float32), parts)
        return matrix, truth[np.concatenate([chosen, whose])], weights

    return as_dataset(weighted, order, (*_signature(labels), _WEIGHTS))


def _dealt(count: int, hands: int, seed: int) -> Iterator[Indices]:
    """Numbers up to `count` dealt out to so many, in another order each time, without end."""
    random = np.random.default_rng(seed)
    while True:
        yield from np.array_split(random.permutation(count), hands)


def validation(ids: Sequence[Ints], labels: Ints, size: int) -> tf.data.Dataset:
    """Batches of all texts and labels, once through."""
    batches = by_length(ids, np.arange(len(ids)), size)
    data = _labelled(ids, labels, lambda: iter(batches))
    return data.apply(tf.data.experimental.assert_cardinality(len(batches)))


def of_labels(labels: Ints) -> tf.TensorSpec:
    """Of a batch of them: see `label_sets.Truth`."""
    return tf.TensorSpec((None, *labels.shape[1:]), tf.int32)


def _signature(labels: Ints) -> tuple[tf.TensorSpec, tf.TensorSpec]:
    return tf.TensorSpec((None, None), tf.int32), of_labels(labels)


def _labelled(
    ids: Sequence[Ints], labels: Ints, order: Callable[[], Iterator[Indices]]
) -> tf.data.Dataset:
    return as_dataset(
        lambda chosen: (padded([ids[i] for i in chosen]), labels[chosen]), order, _signature(labels)
    )
