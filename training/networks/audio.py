"""A convolutional network over the log-mel spectrograms of sounds: `cnn` of a data set of sounds.

Its graph takes `features`, float32 [sounds, frames, mels], and `mask`, float32 [sounds, frames],
which is 1 where a sound has frames; it gives `scores`, float32 [sounds, labels]. What fills a sound
up to the length of its neighbours changes nothing: every layer's output is set to zero there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnx

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import Item
from lmaas.training import quietly
from lmaas.training.datasets.dataset import Dataset, Split
from lmaas.training.evaluate import Scores
from lmaas.training.networks import Architecture, Fitted, Progress
from lmaas.training.networks.batches import (
    Indices,
    Ints,
    as_dataset,
    by_length,
    shuffled,
)
from lmaas.training.networks.fitting import learn, steps_of
from lmaas.training.networks.graph import converted
from lmaas.training.networks.sound_changes import changed, hidden
from lmaas.training.recipe import Recipe
from lmaas.workers.batcher import Batch, batches
from lmaas.workers.manifest import PROBABILITIES, Batching, Input
from lmaas.workers.preprocess.audio import Audio, EncodedSounds, Features
from lmaas.workers.preprocess.sounds import UnusableSound, Waveform, own_rate, waveform
from lmaas.workers.preprocess.spectrogram import Floats, LogMel

with quietly():
    import keras
    import tensorflow as tf

#: Samples a second: that of most of the training sounds, within these. Speech has little above
#: half of the second.
RATES: Final = (8_000, 16_000)
#: Seconds of a frame, and from one to the next; and filters.
FRAME: Final = 0.032
HOP: Final = 0.0125
MELS: Final = 40
#: Channels and strides of the convolutions, over time and pitch.
CONVOLUTIONS: Final = ((24, 2), (48, 2), (64, 2), (96, 1))
DROPOUT: Final = 0.3
#: Of a sound; longer ones are refused.
MAX_SECONDS: Final = 30

FEATURES: Final = "features"
MASK: Final = "mask"
_DTYPES: Final = {FEATURES: np.dtype(np.float32), MASK: np.dtype(np.float32)}


class MaskedConvolutions(keras.Model):  # type: ignore[misc]
    """From features and their mask to the logits of the labels."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self._blocks = [
            (
                keras.layers.Conv2D(channels, 3, strides=stride, use_bias=False),
                keras.layers.BatchNormalization(),
                stride,
            )
            for channels, stride in CONVOLUTIONS
        ]
        self._dropout = keras.layers.Dropout(DROPOUT)
        self._classes = keras.layers.Dense(classes)

    def call(self, inputs: Sequence[Any], training: bool = False) -> Any:
        x, mask = inputs[0][..., None], inputs[1]
        for convolution, normalization, stride in self._blocks:
            # The padding that Keras calls "same" begins elsewhere when the length is odd.
            x = convolution(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]))
            mask = mask[:, ::stride]
            # Of the frames alone: what fills up would make another mean of each batch.
            inside = tf.broadcast_to(mask[:, :, None], tf.shape(x)[:-1])
            x = normalization(x, training=training, mask=inside)
            x = tf.nn.relu(x) * mask[:, :, None, None]
        frames = tf.reduce_sum(mask, axis=1)[:, None]
        mean = tf.reduce_sum(x, axis=(1, 2)) / (frames * tf.cast(tf.shape(x)[2], tf.float32))
        most = tf.reduce_max(x, axis=(1, 2))
        return self._classes(self._dropout(tf.concat([mean, most], axis=1), training=training))


class AudioNetwork:
    """The convolutions, and how sounds become what they take."""

    inputs = [  # noqa: RUF012
        Input(name=FEATURES, dtype="float32", shape=[None, None, MELS]),
        Input(name=MASK, dtype="float32", shape=[None, None]),
    ]
    head = PROBABILITIES
    batching = Batching(unit="frames", most=4096, overhead=64, length_step=16)

    def __init__(self, model: MaskedConvolutions, how: Audio) -> None:
        self.model = model
        self._how = how
        self._features = Features(how)

    @property
    def preprocessing(self) -> dict[str, Any]:
        audio: dict[str, Any] = msgspec.to_builtins(self._how)
        return audio

    def predict(self, items: Sequence[Item]) -> Scores:
        features = [_usable(item, self._features.of_file) for item in items]
        encoded = EncodedSounds(features, self._how, _DTYPES)
        found: list[Any] = [None] * len(items)
        for batch in batches(encoded.lengths, self.batching):
            scores = self._scores(*_pair(encoded, batch)).numpy()
            for position, row in zip(batch.positions, scores, strict=False):
                found[position] = row
        return np.array(found, np.float32)

    def graph(self) -> onnx.ModelProto:
        signature = [
            tf.TensorSpec((None, None, MELS), tf.float32, name=FEATURES),
            tf.TensorSpec((None, None), tf.float32, name=MASK),
        ]
        return converted(lambda *inputs: {"scores": self._scores(*inputs)}, signature)

    def save(self, folder: Path) -> None:
        """It needs no files."""

    def _scores(self, features: Any, mask: Any) -> Any:
        return tf.nn.softmax(self.model((features, mask)))


def fit(
    architecture: Architecture, dataset: Dataset, recipe: Recipe, progress: Progress | None
) -> Fitted:
    """Raises DataError for a sound that is none, TrainingError when the loss is no number."""
    recipe = recipe.filled(
        epochs=25, patience=25, batch=32, learning_rate=2e-3, max_seconds=MAX_SECONDS
    )
    how = _how(dataset.train.items, recipe.max_seconds)
    learnt, watched, _ = (
        _waveforms(split, how) for split in (dataset.train, dataset.validation, dataset.test)
    )
    model = MaskedConvolutions(len(dataset.labels))
    network = AudioNetwork(model, how)
    steps = steps_of(len(learnt), recipe)
    pace = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps * recipe.epochs)
    model.compile(
        optimizer=keras.optimizers.Adam(pace),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    course = learn(
        model,
        _training(learnt, dataset.train.labels, how, recipe),
        _validation(watched, dataset.validation.labels, how, recipe.batch),
        steps=steps,
        recipe=recipe,
        progress=progress,
    )
    return Fitted(
        network=network, recipe=recipe, best_epoch=course.best_epoch, curves=course.curves
    )


def problem(item: Item, recipe: Recipe) -> str | None:
    """Why an item is no sound that can be learnt from."""
    try:
        waveform(item.data or b"", RATES[0], recipe.max_seconds or MAX_SECONDS)
    except UnusableSound as error:
        return str(error)
    return None


# --- sounds --------------------------------------------------------------------------------------


def _how(items: Sequence[Item], max_seconds: float) -> Audio:
    counts = Counter(_usable(item, own_rate) for item in items)
    rate = min(max(counts.most_common(1)[0][0], RATES[0]), RATES[1])
    return Audio(
        rate=rate,
        features=LogMel(n_fft=round(FRAME * rate), hop=round(HOP * rate), mels=MELS, fmin=20),
        max_seconds=max_seconds,
        input=FEATURES,
        mask=MASK,
    )


def _waveforms(split: Split, how: Audio) -> list[Waveform]:
    return [
        _usable(item, lambda data: waveform(data, how.rate, how.max_seconds))
        for item in split.items
    ]


def _usable(item: Item, read: Any) -> Any:
    try:
        return read(item.data or b"")
    except UnusableSound as error:
        raise DataError(f"{item.id}: {error}; or take it out of the data set") from error


# --- batches -------------------------------------------------------------------------------------


def _training(
    sounds: Sequence[Waveform], labels: Ints, how: Audio, recipe: Recipe
) -> tf.data.Dataset:
    """Without end; each time that a sound comes it is changed in another way."""
    random = np.random.default_rng(recipe.seed)
    features = Features(how)

    def make(chosen: Indices) -> Any:
        made = [
            hidden(features.of_waveform(changed(sounds[i], how.rate, random)), random)
            for i in chosen
        ]
        return _together(made, how), labels[chosen]

    return as_dataset(make, lambda: shuffled(sounds, recipe.batch, recipe.seed), _SIGNATURE)


def _validation(sounds: Sequence[Waveform], labels: Ints, how: Audio, size: int) -> tf.data.Dataset:
    features = [Features(how).of_waveform(sound) for sound in sounds]
    cut = by_length(sounds, np.arange(len(sounds)), size)
    data = as_dataset(
        lambda chosen: (_together([features[i] for i in chosen], how), labels[chosen]),
        lambda: iter(cut),
        _SIGNATURE,
    )
    return data.apply(tf.data.experimental.assert_cardinality(len(cut)))


_SIGNATURE: Final = (
    (tf.TensorSpec((None, None, MELS), tf.float32), tf.TensorSpec((None, None), tf.float32)),
    tf.TensorSpec((None,), tf.int32),
)


def _together(features: Sequence[Floats], how: Audio) -> tuple[Floats, Floats]:
    encoded = EncodedSounds(features, how, _DTYPES)
    places = list(range(len(features)))
    return _pair(encoded, Batch(places, len(places), max(encoded.lengths)))


def _pair(encoded: EncodedSounds, batch: Batch) -> tuple[Floats, Floats]:
    arrays = encoded.arrays(batch)
    return arrays[FEATURES], arrays[MASK]
