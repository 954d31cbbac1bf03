"""A convolutional network over pixels: `cnn` of pictures.

The graph takes `pixels`, uint8 [pictures, height, width, channels], and gives `scores`, float32
[pictures, labels]: probabilities in the order of the labels. What pixels become first is in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnx

from lmaas.broker_config.errors import TrainingError
from lmaas.broker_config.messages import Item
from lmaas.training import quietly
from lmaas.training.datasets.dataset import Dataset, Split
from lmaas.training.evaluate import Scores
from lmaas.training.networks import Architecture, Fitted, Progress
from lmaas.training.networks.batches import Indices, as_dataset
from lmaas.training.networks.fitting import learn, steps_of
from lmaas.training.networks.graph import converted
from lmaas.training.recipe import Recipe
from lmaas.workers.manifest import PROBABILITIES, Batching, Input
from lmaas.workers.preprocess.image import Images
from lmaas.workers.preprocess.pixels import PictureError, Pixels, is_grey, opened

with quietly():
    import keras
    import tensorflow as tf

PIXELS: Final = "pixels"
#: Pictures that are all of one size, of this many pixels a side at most, keep it; others become
#: squares of OTHERS.
SMALL: Final = 64
OTHERS: Final = 96
#: A picture is moved by this share of its sides at most, each time that it is learnt from.
SHIFT: Final = 0.08
#: Filters of the first layer, and of any; each layer halves the sides until they are LAST.
FILTERS: Final = 32
MOST_FILTERS: Final = 256
LAST: Final = 8
#: Pictures a step where nothing is learnt.
PREDICTION_BATCH: Final = 256
#: Files that a message names.
_NAMED: Final = 3


class PictureNetwork:
    """A Keras model of pixels, and how pictures become those."""

    head = PROBABILITIES
    batching = Batching(unit="pixels", most=2**15)

    def __init__(self, model: keras.Model, images: Images) -> None:
        self.model = model
        self._images = images

    @property
    def inputs(self) -> list[Input]:
        return [Input(name=PIXELS, dtype="uint8", shape=[None, *self._images.shape])]

    @property
    def preprocessing(self) -> dict[str, Any]:
        image: dict[str, Any] = msgspec.to_builtins(self._images)
        return image

    def predict(self, items: Sequence[Item]) -> Scores:
        """Raises TrainingError for what is no picture."""
        return self.scores(decoded(items, self._images))

    def scores(self, pixels: Pixels) -> Scores:
        cuts = range(0, len(pixels), PREDICTION_BATCH)
        found = [self.model.predict_on_batch(pixels[cut : cut + PREDICTION_BATCH]) for cut in cuts]
        scores: Scores = np.concatenate(found)
        return scores

    def graph(self) -> onnx.ModelProto:
        signature = [tf.TensorSpec((None, *self._images.shape), tf.uint8, name=PIXELS)]
        return converted(lambda pixels: {"scores": self.model(pixels, training=False)}, signature)

    def save(self, folder: Path) -> None:
        """All of it is in the graph."""


def fit(
    architecture: Architecture, dataset: Dataset, recipe: Recipe, progress: Progress | None
) -> Fitted:
    """Raises TrainingError when a picture cannot be read, or the loss is no number."""
    recipe = recipe.filled(epochs=10, patience=3, batch=64, learning_rate=3e-3)
    images = _images(dataset.train, recipe)
    recipe = msgspec.structs.replace(recipe, side=max(images.size))
    splits = (dataset.train, dataset.validation, dataset.test)
    # Those of the test too: what is wrong with them is told before the training.
    train, validation, _ = (decoded(split.items, images) for split in splits)
    model = build(train, len(dataset.labels))
    steps = steps_of(len(train), recipe)
    pace = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps * recipe.epochs)
    model.compile(
        optimizer=keras.optimizers.Adam(pace),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    course = learn(
        model,
        _batches(train, dataset.train.labels, recipe),
        tf.data.Dataset.from_tensor_slices((validation, dataset.validation.labels)).batch(
            PREDICTION_BATCH
        ),
        steps=steps,
        recipe=recipe,
        progress=progress,
    )
    return Fitted(
        network=PictureNetwork(model, images),
        recipe=recipe,
        best_epoch=course.best_epoch,
        curves=course.curves,
    )


def problem(item: Item, recipe: Recipe) -> str | None:
    """Why an item is no picture that can be learnt from; it is decoded as fast as can be."""
    side = recipe.side or OTHERS
    try:
        Images(size=(side, side), resize="cover", draft=True).pixels(item.data or b"")
    except PictureError as error:
        return str(error)
    return None


def build(pixels: Pixels, classes: int) -> keras.Sequential:
    """A network for pixels like these, from which it takes what is usual: mean and deviation."""
    layers = keras.layers
    shape = pixels.shape[1:]
    mean, deviation = float(pixels.mean()), max(float(pixels.std()), 1.0)
    usual = layers.Rescaling(1 / deviation, -mean / deviation)
    model = keras.Sequential([keras.Input(shape, dtype="uint8"), usual])
    filters, side = FILTERS, min(shape[:2])
    while side > LAST:
        if filters > FILTERS:  # at full size it would be half of all work
            _convolve(model, filters)
        _convolve(model, filters, halve=True)
        filters, side = 2 * filters, side // 2
    _convolve(model, filters)
    _convolve(model, filters)
    # Squares of 2 x 2, and not all of it: where something is says what it is.
    model.add(layers.AveragePooling2D(min(side, 2)))
    model.add(layers.Flatten())
    model.add(layers.Dropout(0.3))
    model.add(layers.Dense(classes, activation="softmax"))
    return model


def _convolve(model: keras.Sequential, filters: int, *, halve: bool = False) -> None:
    layers = keras.layers
    filters = min(filters, MOST_FILTERS)
    model.add(layers.Conv2D(filters, 3, padding="same", use_bias=False))
    if halve:
        # Before the two that follow, which then have a quarter of the work.
        model.add(layers.MaxPooling2D())
    model.add(layers.BatchNormalization(momentum=0.9))
    model.add(layers.ReLU())


def decoded(items: Sequence[Item], images: Images) -> Pixels:
    """[items, height, width, channels]. Raises TrainingError that names what is no picture."""
    pixels = np.empty((len(items), *images.size, images.depth), np.uint8)
    wrong: list[str] = []

    def decode(place: int) -> None:
        item = items[place]
        try:
            pixels[place] = images.pixels(item.data or b"")
        except PictureError as error:
            wrong.append(f"{item.id}: {error}")

    # Decoders let go of Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in threads.map(decode, range(len(items))):
            pass
    if wrong:
        more = f"; and {len(wrong) - _NAMED:,} more" if len(wrong) > _NAMED else ""
        raise TrainingError(
            f"{len(wrong):,} of {len(items):,} pictures cannot be used: "
            f"{'; '.join(sorted(wrong)[:_NAMED])}{more}; mend or delete them"
        )
    return pixels


def _images(split: Split, recipe: Recipe) -> Images:
    """Of the size that all of them have, or of a square; without colours if none has any."""
    sizes, grey = set(), True
    for item in split.items:
        try:
            with opened(item.data or b"") as image:
                sizes.add((image.height, image.width))
                grey = grey and is_grey(image)
        except PictureError:  # `decoded` tells it, with all the others
            continue
    side = recipe.side or OTHERS
    size = next(iter(sizes)) if len(sizes) == 1 else (side, side)
    if recipe.side or max(size) > SMALL:
        size = (side, side)
    return Images(
        size=size,
        resize="cover",
        channels="grey" if grey else "rgb",
        draft=True,
        layout="nhwc",
        scale=1.0,
    )


def _batches(pixels: Pixels, labels: Any, recipe: Recipe) -> tf.data.Dataset:
    """Without end; each picture moved a little, and every other one as in a mirror."""
    random = np.random.default_rng(recipe.seed)

    def order() -> Iterator[Indices]:
        while True:
            shuffled = random.permutation(len(pixels))
            for start in range(0, len(shuffled), recipe.batch):
                yield shuffled[start : start + recipe.batch]

    def make(chosen: Indices) -> Any:
        return moved(pixels[chosen], random, mirrored=recipe.mirrored), labels[chosen]

    shape = (None, *pixels.shape[1:])
    signature = tf.TensorSpec(shape, tf.uint8), tf.TensorSpec((None,), tf.int32)
    return as_dataset(make, order, signature)


def moved(pixels: Pixels, random: np.random.Generator, *, mirrored: bool) -> Pixels:
    """Each picture shifted by up to SHIFT of its sides, its edges repeated; every other one, by
    chance, in a mirror."""
    _, height, width, _ = pixels.shape
    down, across = round(SHIFT * height), round(SHIFT * width)
    wide = np.pad(pixels, ((0, 0), (down, down), (across, across), (0, 0)), "edge")
    tops = random.integers(0, 2 * down + 1, len(pixels))
    lefts = random.integers(0, 2 * across + 1, len(pixels))
    turned = random.integers(0, 2, len(pixels)) if mirrored else np.zeros(len(pixels), int)
    found = np.empty_like(pixels)
    for row, (top, left, turn) in enumerate(zip(tops, lefts, turned, strict=True)):
        cut = wide[row, top : top + height, left : left + width]
        found[row] = cut[:, ::-1] if turn else cut
    return found
