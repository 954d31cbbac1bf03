"""From a data set to a model version in the repository: fit, settle, measure once, export."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from lmaas.broker_config.errors import TrainingError
from lmaas.broker_config.topology import is_model_name
from lmaas.training import architectures, export, quietly
from lmaas.training.architectures import Architecture, Sizes
from lmaas.training.datasets import Dataset, Split
from lmaas.training.evaluate import Scores, evaluate
from lmaas.workers.preprocess.text import FIRST_WORD, PADDING, WordTokenizer

with quietly():
    import keras

_Ints = npt.NDArray[np.int32]

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
    return export.export(
        export.Trained(
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
        ),
        out_root,
        others,
    )


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
    batches = _Batches(ids, dataset.train.labels, recipe)
    history = model.fit(
        batches,
        validation_data=_validation(tokenizer, dataset.validation, recipe),
        epochs=recipe.epochs,
        callbacks=[stop, *([_Reporter(progress, len(batches))] if progress else [])],
        shuffle=False,
        verbose=0,
    )
    losses = history.history["val_loss"]
    if not np.isfinite(losses).all():
        raise TrainingError("the loss is not a number; use a smaller learning rate")
    return model, int(np.argmin(losses)) + 1


def _validation(tokenizer: WordTokenizer, split: Split, recipe: Recipe) -> _Batches:
    return _Batches(tokenizer(split.texts), split.labels, recipe)


class _Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    """Padded batches of texts of similar length, in an order that changes with the epoch."""

    def __init__(self, ids: Sequence[_Ints], labels: _Ints, recipe: Recipe) -> None:
        super().__init__()
        self._ids = ids
        self._labels = labels
        self._size = recipe.batch
        self._random = np.random.default_rng(recipe.seed)
        self.on_epoch_end()

    def on_epoch_end(self) -> None:
        shuffled = self._random.permutation(len(self._ids))
        reach = self._size * NEIGHBOURHOOD
        self._batches = [
            batch
            for start in range(0, len(shuffled), reach)
            for batch in _by_length(self._ids, shuffled[start : start + reach], self._size)
        ]
        self._random.shuffle(self._batches)

    def __len__(self) -> int:
        return math.ceil(len(self._ids) / self._size)

    def __getitem__(self, index: int) -> tuple[_Ints, _Ints]:
        chosen = self._batches[index]
        return padded([self._ids[i] for i in chosen]), self._labels[chosen]


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
