"""A classifier on top of a pretrained encoder, which is left as it is.

Its graph takes `input_ids` and `attention_mask`, int32 [texts, tokens], and gives `scores`, float32
[texts, labels].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnx
from tokenizers import Tokenizer

from lmaas.broker_config.errors import TrainingError
from lmaas.broker_config.messages import Item
from lmaas.training import hub, quietly
from lmaas.training.datasets.dataset import Dataset, Split, texts_of
from lmaas.training.evaluate import Scores
from lmaas.training.networks import Architecture, Fitted, Progress
from lmaas.training.networks.bert import Encoder, encoder, pooled
from lmaas.training.networks.classifier import classifier, filled, learnt
from lmaas.training.networks.fitting import Course
from lmaas.training.networks.graph import converted
from lmaas.training.networks.pretrained import TOKENIZER, Floats, Pretrained
from lmaas.training.networks.tuning import Tuned, tune
from lmaas.training.recipe import Recipe
from lmaas.workers.batcher import batches
from lmaas.workers.manifest import PROBABILITIES, Batching, Input
from lmaas.workers.preprocess.tokens import EncodedTokens, Tokens

with quietly():
    import keras
    import tensorflow as tf

MAX_TOKENS: Final = 512
IDS: Final = "input_ids"
MASK: Final = "attention_mask"


class EncoderNetwork:
    """The encoder, its tokenizer, and a dense layer over the texts' rows."""

    inputs = [Input(name=name, dtype="int32", shape=[None, None]) for name in (IDS, MASK)]  # noqa: RUF012
    head = PROBABILITIES
    batching = Batching(unit="tokens", most=1024, overhead=32)

    def __init__(self, pretrained: Pretrained, max_tokens: int) -> None:
        """Raises TrainingError."""
        self._pretrained = pretrained
        self._encoder: Encoder = encoder(pretrained)
        self._max_tokens = min(max_tokens, pretrained.max_tokens)
        self._tokenizer = _tokenizer(pretrained, self._max_tokens)
        self._tokens = Tokens(
            file=TOKENIZER,
            max_tokens=self._max_tokens,
            ids=IDS,
            mask=MASK,
            padding=pretrained.shape.pad_token_id,
            left=pretrained.left,
        )
        self._rows = tf.function(self._pooled, reduce_retracing=True)
        #: None until it is trained.
        self.classifier: keras.Sequential | None = None

    @property
    def preprocessing(self) -> dict[str, Any]:
        tokens: dict[str, Any] = msgspec.to_builtins(self._tokens)
        return tokens

    def encoded(self, texts: Sequence[str]) -> EncodedTokens:
        dtypes = {one.name: np.dtype(one.dtype) for one in self.inputs}
        return EncodedTokens(self._tokenizer.encode_batch_fast(list(texts)), self._tokens, dtypes)

    def rows(self, texts: Sequence[str], progress: Progress | None = None) -> Floats:
        """[texts, hidden], each of length 1."""
        encoded = self.encoded(texts)
        found = np.empty((len(texts), self._pretrained.shape.hidden_size), np.float32)
        cut = batches(encoded.lengths, self.batching)
        for number, batch in enumerate(cut, 1):
            arrays = encoded.arrays(batch)
            found[batch.positions] = self._rows(arrays[IDS], arrays[MASK]).numpy()
            if progress:
                progress(0, number, len(cut), {})
        return found

    def whole(self) -> Tuned:
        """From tokens to probabilities, to be trained."""
        return Tuned(self._encoder, self.classifier, self._pretrained.pooling)

    def predict(self, items: Sequence[Item]) -> Scores:
        assert self.classifier is not None
        scores: Scores = np.asarray(self.classifier(self.rows(texts_of(items))))
        return scores

    def graph(self) -> onnx.ModelProto:
        def scores(ids: Any, mask: Any) -> dict[str, Any]:
            assert self.classifier is not None
            return {"scores": self.classifier(self._pooled(ids, mask))}

        signature = [tf.TensorSpec((None, None), tf.int32, name=name) for name in (IDS, MASK)]
        return converted(scores, signature)

    def save(self, folder: Path) -> None:
        (folder / TOKENIZER).write_bytes((self._pretrained.folder / TOKENIZER).read_bytes())

    def _pooled(self, ids: Any, mask: Any) -> Any:
        return pooled(self._encoder(ids, mask), mask, self._pretrained.pooling)


def fit(
    architecture: Architecture, dataset: Dataset, recipe: Recipe, progress: Progress | None
) -> Fitted:
    """Raises TrainingError."""
    if not recipe.encoder:
        raise TrainingError("the architecture 'encoder' needs one: --encoder FOLDER")
    recipe = recipe.filled(max_tokens=MAX_TOKENS)
    pretrained = Pretrained(Path(recipe.encoder), recipe.pooling)
    recipe = msgspec.structs.replace(recipe, pooling=pretrained.pooling)
    train = _train_all if recipe.unfreeze else _train_classifier
    fitted = train(pretrained, dataset, recipe, progress)
    name = hub.called(pretrained.folder)
    return dataclasses.replace(fitted, recipe=msgspec.structs.replace(fitted.recipe, encoder=name))


def _train_classifier(
    pretrained: Pretrained, dataset: Dataset, recipe: Recipe, progress: Progress | None
) -> Fitted:
    """Once with the validation texts left out, which shows how good it is, and once with them."""
    network = EncoderNetwork(pretrained, recipe.max_tokens)
    rows = network.rows([*dataset.train.texts, *dataset.validation.texts], progress)
    found = learnt(rows, dataset, recipe, progress)
    network.classifier = found.classifier
    return found.fitted(network)


def _train_all(
    pretrained: Pretrained, dataset: Dataset, recipe: Recipe, progress: Progress | None
) -> Fitted:
    """The classifier, and then the encoder's last blocks with it; twice, as above."""
    recipe = recipe.filled(batch=32, epochs=8, learning_rate=1e-4)
    recipe = recipe.filled(patience=recipe.epochs)
    honest, course = _tuned(pretrained, dataset, recipe, progress)
    validation = honest.predict(dataset.validation.items)
    del honest  # the next one is as large
    # As many epochs as were taken before it stopped, within which the rate falls to 0.
    again = msgspec.structs.replace(recipe, epochs=len(course.curves["loss"]))
    network, last = _tuned(pretrained, _with_all(dataset), again, progress)
    return Fitted(
        network=network,
        recipe=recipe,
        best_epoch=last.best_epoch,
        validation=validation,
        curves=course.curves,
    )


def _tuned(
    pretrained: Pretrained, dataset: Dataset, recipe: Recipe, progress: Progress | None
) -> tuple[EncoderNetwork, Course]:
    network, train = EncoderNetwork(pretrained, recipe.max_tokens), dataset.train
    rows = network.rows(train.texts, progress)
    how = filled(Recipe(), len(train))
    network.classifier = classifier(rows, train.labels, len(dataset.labels), how)
    return network, tune(network.whole(), network.encoded, dataset, recipe, progress)


def _with_all(dataset: Dataset) -> Dataset:
    """With no text left out to validate with."""
    held = dataset.validation
    return dataclasses.replace(
        dataset,
        train=Split.of(dataset.train, held),
        validation=Split(items=[], labels=held.labels[:0]),
    )


def _tokenizer(pretrained: Pretrained, max_tokens: int) -> Tokenizer:
    path = pretrained.folder / TOKENIZER
    try:
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_tokens)
    except Exception as error:  # it raises this class, and none of its own
        raise TrainingError(f"{path}: no tokenizer: {error}") from error
    return tokenizer
