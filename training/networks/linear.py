"""A linear model over the words, the pairs of words and the pieces of words of a text.

Its graph takes `rows`, int32, and `weights`, float32, both [texts, n-grams], and gives `scores`,
float32 [texts, labels]: a softmax of the sum of the table's rows times their weights, or of each
number a sigmoid where a text may have several labels.

While it is trained every word is its own row and, in part, the n-grams of its characters, as if it
were known and unknown at once. What a known word's pieces say is added to its row at the end: only
words that training did not see are taken to pieces when the model is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lmaas.broker_config.messages import Item
from lmaas.training.datasets.dataset import Dataset, Split, texts_of
from lmaas.training.evaluate import Scores
from lmaas.training.judging import right_of_each
from lmaas.training.label_sets import Truth
from lmaas.training.networks import Architecture, Fitted, Progress, squared_hinge
from lmaas.training.networks.ngram_vocabulary import Limits, fitted
from lmaas.training.networks.products import Products, product
from lmaas.training.recipe import Recipe
from lmaas.workers.manifest import PROBABILITIES, Batching, Input
from lmaas.workers.preprocess.ngrams import Floats, NGrams, NGramWeights, Sparse, Vocabulary

VOCABULARY: Final = "ngrams.npz"
#: The length of what the pieces of a text's words say, beside the 1 of its words and pairs. Much of
#: it is best for texts of a sentence, little for long ones: the median text says which, unless
#: validation speaks for the other.
PIECES: Final = 1.5
FEW_PIECES: Final = 0.3
#: Characters of a long text.
LONG: Final = 600
#: Texts whose pieces are measured, for that length: their root mean square.
MEASURED: Final = 64
#: Numbers of the table: 256 MB.
TABLE: Final = 1 << 26
#: Texts that are done together where nothing is learnt.
TEXTS: Final = 256
#: What margins are multiplied by: their softmax is then about the probability of being right. The
#: temperature that is found on validation does the rest.
SHARPNESS: Final = 4.0
#: The newest operators, and the format, that ONNX Runtime 1.24 has.
OPSET: Final = 18
IR: Final = 10


class LinearNetwork:
    """The table, [rows, columns], and the vocabulary that has a row's number for an n-gram.

    Two classes have one column, which speaks of the second. With `multi_label` a text may have
    several labels, and each has a column.
    """

    inputs = [  # noqa: RUF012
        Input(name="rows", dtype="int32", shape=[None, None]),
        Input(name="weights", dtype="float32", shape=[None, None]),
    ]
    head = PROBABILITIES
    batching = Batching(unit="tokens", most=16_384, overhead=512)

    def __init__(
        self, weights: NGramWeights, table: Floats, bias: Floats, *, multi_label: bool
    ) -> None:
        self._weights = weights
        self._table = table
        self._bias = bias
        self._multi_label = multi_label

    @property
    def preprocessing(self) -> dict[str, Any]:
        ngrams: dict[str, Any] = msgspec.to_builtins(
            NGrams(file=VOCABULARY, max_tokens=self._weights.max_tokens)
        )
        return ngrams

    def predict(self, items: Sequence[Item]) -> Scores:
        logits = self.logits(texts_of(items))
        return _sigmoid(logits) if self._multi_label else _softmax(logits)

    def logits(self, texts: Sequence[str]) -> Floats:
        """[texts, labels], of which a softmax, or sigmoids, make the probabilities."""
        found = np.empty((len(texts), self._table.shape[1]), np.float32)
        for start in range(0, len(texts), TEXTS):
            part = slice(start, start + TEXTS)
            matrix = self._weights(texts[part])
            found[part] = product(matrix, self._table) + self._bias
        return np.concatenate([-found / 2, found / 2], axis=1) if found.shape[1] == 1 else found

    def graph(self) -> onnx.ModelProto:
        columns = self._table.shape[1]
        constants: dict[str, np.ndarray[Any, Any]] = {
            "table": self._table,
            "bias": self._bias,
            "one": np.array([1], np.int64),
        }
        nodes = [
            helper.make_node("Gather", ["table", "rows"], ["gathered"]),
            helper.make_node("Unsqueeze", ["weights", "one"], ["across"]),
            helper.make_node("MatMul", ["across", "gathered"], ["summed"]),
            helper.make_node("Squeeze", ["summed", "one"], ["total"]),
            helper.make_node("Add", ["total", "bias"], ["decided"]),
        ]
        last = "decided"
        if columns == 1:
            constants["sides"] = np.array([[-0.5, 0.5]], np.float32)
            nodes.append(helper.make_node("MatMul", ["decided", "sides"], ["sided"]))
            last = "sided"
        if self._multi_label:
            nodes.append(helper.make_node("Sigmoid", [last], ["scores"]))
        else:
            nodes.append(helper.make_node("Softmax", [last], ["scores"], axis=1))
        shape = ["texts", "ngrams"]
        graph = helper.make_graph(
            nodes,
            "linear",
            [
                helper.make_tensor_value_info("rows", TensorProto.INT32, shape),
                helper.make_tensor_value_info("weights", TensorProto.FLOAT, shape),
            ],
            [
                helper.make_tensor_value_info(
                    "scores", TensorProto.FLOAT, ["texts", max(columns, 2)]
                )
            ],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR
        onnx.checker.check_model(model)
        return model

    def save(self, folder: Path) -> None:
        self._weights.vocabulary.save(folder / VOCABULARY)


def fit(
    architecture: Architecture, dataset: Dataset, recipe: Recipe, progress: Progress | None
) -> Fitted:
    """With the validation texts left out, which shows how good it is and how much of pieces is
    best, and once with them.

    Raises TrainingError.
    """
    recipe = recipe.filled(max_tokens=16_384, epochs=1)
    classes = len(dataset.labels)
    pieces, other = PIECES, FEW_PIECES
    if np.median([len(text) for text in dataset.train.texts]) >= LONG:
        pieces, other = other, pieces
    validation = _judged(dataset, classes, recipe, pieces, progress)
    by_other = _judged(dataset, classes, recipe, other, progress)
    if _is_better(by_other, validation, dataset.validation.labels):
        pieces, validation = other, by_other
    whole = Split.of(dataset.train, dataset.validation)
    network = _fitted(whole, classes, recipe, pieces, progress)
    return Fitted(network=network, recipe=recipe, best_epoch=1, validation=validation)


def _judged(
    dataset: Dataset, classes: int, recipe: Recipe, pieces: float, progress: Progress | None
) -> Scores:
    """The scores of the validation texts by what was learnt without them."""
    network = _fitted(dataset.train, classes, recipe, pieces, progress)
    return network.predict(dataset.validation.items)


def _is_better(scores: Scores, others: Scores, truth: Truth) -> bool:
    """Whether more texts speak for it than chance would have it: McNemar's test, at 95 %."""
    right, other = right_of_each(scores, truth), right_of_each(others, truth)
    gained, lost = int((right & ~other).sum()), int((other & ~right).sum())
    return bool(gained - lost > 2 * np.sqrt(gained + lost))


def _fitted(
    split: Split, classes: int, recipe: Recipe, pieces: float, progress: Progress | None
) -> LinearNetwork:
    """`pieces` is how much they say; see `PIECES`."""

    def done(classes: int, of: int) -> None:
        if progress:
            progress(1, classes, of, {})

    multi_label = split.labels.ndim == 2
    columns = [1] if classes == 2 and not multi_label else list(range(classes))
    vocabulary, words = fitted(split.texts, Limits.of(TABLE // len(columns)), recipe.max_tokens)
    weights = NGramWeights(vocabulary, recipe.max_tokens)
    parts = [weights(split.texts[at : at + TEXTS]) for at in range(0, len(split), TEXTS)]
    scores = _Trained(_stacked(parts), vocabulary, weights.pieces(words), pieces)
    found = squared_hinge.minimised(scores, split.labels, columns, done)
    table, bias = scores.table(found * np.float32(SHARPNESS))
    return LinearNetwork(weights, table, bias, multi_label=multi_label)


class _Trained:
    """From what is trained to the texts' scores, by way of the table.

    Trained are the table's rows without what pieces add to words, and the bias after them.
    """

    def __init__(
        self, texts: Sparse, vocabulary: Vocabulary, pieces: Sparse, length: float
    ) -> None:
        """`texts` is [texts, rows of the table], `pieces` [words, pieces]; see `PIECES`."""
        self.weights = vocabulary.rows + 1
        self._texts = Products(texts, vocabulary.rows)
        self._pieces = Products(pieces, len(vocabulary.pieces))
        self._words = slice(1, 1 + len(vocabulary.words))
        self._last = slice(vocabulary.rows - len(vocabulary.pieces), vocabulary.rows)
        self._factor = np.float32(length / self._length_of_pieces(len(texts)))

    def _length_of_pieces(self, texts: int) -> float:
        """Of MEASURED texts the root mean square, if each word counts as it does in its text."""
        chosen = np.unique(np.linspace(0, texts - 1, MEASURED).astype(int))
        asked = np.zeros((texts, len(chosen)), np.float32)
        asked[chosen, np.arange(len(chosen))] = 1
        words = self._texts.transposed(asked)[self._words]
        squares = np.square(self._pieces.transposed(words)).sum(axis=0)
        return float(np.sqrt(squares.mean())) or 1.0

    def table(self, weights: Floats) -> tuple[Floats, Floats]:
        """The table, [rows, n], and the bias, [n]."""
        table, bias = weights[:-1].copy(), weights[-1]
        table[self._last] *= self._factor
        table[self._words] += self._pieces.times(table[self._last])
        table[0] = 0
        return table, bias

    def times(self, weights: Floats) -> Floats:
        table, bias = self.table(weights)
        return self._texts.times(table) + bias

    def transposed(self, scores: Floats) -> Floats:
        rows = self._texts.transposed(scores)
        rows[self._last] += self._pieces.transposed(rows[self._words])
        rows[self._last] *= self._factor
        return np.concatenate([rows, scores.sum(axis=0, keepdims=True)])


def _stacked(parts: Sequence[Sparse]) -> Sparse:
    """The rows of several matrices."""
    counts = np.concatenate([np.diff(part.bounds) for part in parts])
    return Sparse(
        np.append(0, np.cumsum(counts)),
        np.concatenate([part.columns for part in parts]),
        np.concatenate([part.values for part in parts]),
    )


def _sigmoid(logits: Floats) -> Scores:
    # As tanh has it, which overflows nowhere.
    scores: Scores = 0.5 * (1 + np.tanh(0.5 * logits))
    return scores


def _softmax(logits: Floats) -> Scores:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores: Scores = powers / powers.sum(axis=1, keepdims=True)
    return scores
