"""From a data set to a model version in the repository: fit, settle, measure once, export."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from lmaas.broker_config.errors import LmaasError, TrainingError
from lmaas.broker_config.topology import is_model_name
from lmaas.training import architectures, export, quietly
from lmaas.training.architectures import Architecture, Sizes
from lmaas.training.datasets import Dataset, Split
from lmaas.training.evaluate import Scores, evaluate
from lmaas.workers.preprocess.text import FIRST_WORD, PADDING, WordTokenizer

with quietly():
    import keras
    import tensorflow as tf

_Ints = npt.NDArray[np.int32]
#: Word ids [texts, words], and the texts' labels [texts].
_Batch = tuple[_Ints, _Ints]

#: Batches are made of texts of similar length out of so many batches' worth of shuffled texts.
NEIGHBOURHOOD: Final = 50
#: Texts a step where nothing is learnt.
PREDICTION_BATCH: Final = 64


class Progress(Protocol):
    """Called after every batch; `batch` counts from 1 and `epoch` too.

    `metrics` has the epoch's running loss and accuracy, and after its last batch also val_loss
    and val_accuracy.
    """

    def __call__(
        self, epoch: int, batch: int, batches: int, metrics: Mapping[str, float]
    ) -> None: ...


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides what comes out of a data set."""

    sizes: Sizes = Sizes()
    #: Longer texts are cut: 1 IMDB review in 60 has more.
    max_tokens: int = 1024
    epochs: int = 10
    #: Epochs without a better validation loss before training stops; the best one is kept.
    patience: int = 2
    batch: int = 32
    learning_rate: float = 1e-3
    seed: int = 17


def train(
    dataset: Dataset,
    architecture: Architecture = "ngram",
    *,
    out_root: Path,
    others: Sequence[Path] = (),
    name: str,
    recipe: Recipe = Recipe(),  # noqa: B008  # frozen
    progress: Progress | None = None,
) -> Path:
    """Train, measure on the test split, and leave `out_root/name/N`.

    N is the next number there and in the `others`, which are folders of models too.

    Raises TrainingError, and leaves nothing behind then.
    """
    _check(architecture, name)
    with _in_one_line():
        trained = _trained(dataset, architecture, name, recipe, progress)
        return export.export(trained, out_root, others)


def _trained(
    dataset: Dataset,
    architecture: Architecture,
    name: str,
    recipe: Recipe,
    progress: Progress | None,
) -> export.Trained:
    started = time.monotonic()
    keras.utils.set_random_seed(recipe.seed)
    tokenizer = WordTokenizer.fit(
        dataset.train.texts, recipe.sizes.vocabulary - FIRST_WORD, recipe.max_tokens
    )
    sizes = recipe.sizes.fitted(len(tokenizer.words) + FIRST_WORD, len(dataset.labels))
    recipe = msgspec.structs.replace(recipe, sizes=sizes)
    model, epoch = _fit(dataset, architecture, tokenizer, recipe, progress)
    architectures.settle(model)
    test = tokenizer(dataset.test.texts)
    evaluation = evaluate(predict(model, test), dataset.test.labels, dataset.labels)
    return export.Trained(
        name=name,
        architecture=architecture,
        model=model,
        tokenizer=tokenizer,
        dataset=dataset,
        evaluation=evaluation,
        record={
            "recipe": msgspec.to_builtins(recipe),
            "best_epoch": epoch,
            "seconds": round(time.monotonic() - started, 1),
        },
    )


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """What Keras and TensorFlow raise, as a TrainingError; theirs go over many lines."""
    try:
        yield
    except LmaasError:
        raise
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise TrainingError(
            "there is not enough memory; use smaller batches (--batch) or fewer labels or texts"
        ) from error
    except (tf.errors.OpError, ValueError, TypeError, RuntimeError) as error:
        words = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
        raise TrainingError(f"the training failed: {words} (--debug shows where)") from error


def predict(model: keras.Model, ids: Sequence[_Ints]) -> Scores:
    """Probabilities [texts, classes]."""
    outputs = np.empty((len(ids), model.output_shape[1]), np.float32)
    for chosen in _by_length(ids, np.arange(len(ids)), PREDICTION_BATCH):
        outputs[chosen] = model.predict_on_batch(padded([ids[i] for i in chosen]))
    scores: Scores = np.asarray(architectures.probabilities(outputs))
    return scores


def padded(ids: Sequence[_Ints]) -> _Ints:
    """[texts, words of the longest]."""
    matrix = np.full((len(ids), max(map(len, ids))), PADDING, np.int32)
    for row, text in zip(matrix, ids, strict=True):
        row[: len(text)] = text
    return matrix


def _check(architecture: str, name: str) -> None:
    if architecture not in architectures.ARCHITECTURES:
        known = ", ".join(architectures.ARCHITECTURES)
        raise TrainingError(f"no architecture {architecture!r}; there are: {known}")
    if not is_model_name(name):
        raise TrainingError(f"{name!r} cannot be a model's name; give a plain word")


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
    model = architectures.build(architecture, recipe.sizes, ids, dataset.train.labels, classes)
    kind = "binary" if classes == 2 else "sparse_categorical"
    model.compile(
        optimizer=keras.optimizers.Adam(recipe.learning_rate),
        loss=f"{kind}_crossentropy",
        metrics=["accuracy"],
    )
    stop = keras.callbacks.EarlyStopping(patience=recipe.patience, restore_best_weights=True)
    steps = math.ceil(len(ids) / recipe.batch)
    history = model.fit(
        _as_dataset(lambda: _shuffled(ids, dataset.train.labels, recipe)),
        steps_per_epoch=steps,
        validation_data=_validation(tokenizer, dataset.validation, recipe),
        epochs=recipe.epochs,
        callbacks=[stop, *([_Reporter(progress, steps)] if progress else [])],
        shuffle=False,
        verbose=0,
    )
    losses = history.history["val_loss"]
    if not np.isfinite(losses).all():
        raise TrainingError("the loss is not a number; use a smaller learning rate")
    return model, int(np.argmin(losses)) + 1


def _validation(tokenizer: WordTokenizer, split: Split, recipe: Recipe) -> tf.data.Dataset:
    ids = tokenizer(split.texts)
    batches = _by_length(ids, np.arange(len(ids)), recipe.batch)
    data = _as_dataset(lambda: (_batch(ids, split.labels, chosen) for chosen in batches))
    return data.apply(tf.data.experimental.assert_cardinality(len(batches)))


def _as_dataset(batches: Callable[[], Iterator[_Batch]]) -> tf.data.Dataset:
    """For Keras, which takes the shape of the first two batches for that of all when it has to
    find it: texts of one length would make it a fixed one."""
    signature = tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((None,), tf.int32)
    data = tf.data.Dataset.from_generator(batches, output_signature=signature)
    return data.prefetch(tf.data.AUTOTUNE)


def _shuffled(ids: Sequence[_Ints], labels: _Ints, recipe: Recipe) -> Iterator[_Batch]:
    """Padded batches, epoch after epoch without end, each in an order of its own."""
    random = np.random.default_rng(recipe.seed)
    # An order is left out, so that a seed gives the same model as it did in 0.1.0.
    _order(ids, recipe.batch, random)
    while True:
        for chosen in _order(ids, recipe.batch, random):
            yield _batch(ids, labels, chosen)


def _order(
    ids: Sequence[_Ints], size: int, random: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    """Texts of similar length are a batch; each text is in one."""
    shuffled = random.permutation(len(ids))
    reach = size * NEIGHBOURHOOD
    batches = [
        batch
        for start in range(0, len(shuffled), reach)
        for batch in _by_length(ids, shuffled[start : start + reach], size)
    ]
    random.shuffle(batches)
    return batches


def _batch(ids: Sequence[_Ints], labels: _Ints, chosen: npt.NDArray[np.int64]) -> _Batch:
    return padded([ids[i] for i in chosen]), labels[chosen]


def _by_length(
    ids: Sequence[_Ints], chosen: npt.NDArray[np.int64], size: int
) -> list[npt.NDArray[np.int64]]:
    rising = chosen[np.argsort([len(ids[i]) for i in chosen], kind="stable")]
    return [rising[start : start + size] for start in range(0, len(rising), size)]


class _Reporter(keras.callbacks.Callback):  # type: ignore[misc]
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
