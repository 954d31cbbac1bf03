"""One model version, ready to run: items in, results out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import DataError, ModelDamaged
from lmaas.broker_config.messages import Item, ItemError, Result
from lmaas.workers.batcher import batches
from lmaas.workers.ort import onnxruntime
from lmaas.workers.preprocess.text import FIRST_WORD, WordTokenizer
from lmaas.workers.repository import MODEL, ModelVersion

Scores = npt.NDArray[np.float32]

#: What stands for padding and for unknown words in the vocabularies of others.
_SPECIAL: Final = re.compile(r"|\[.*\]|<.*>")
#: Scores are rounded to this many decimals: more would be noise.
DECIMALS: Final = 6
#: What a score may lie outside of 0..1, and the sum of a text's scores beside 1.
_SLACK: Final = 0.5 * 10.0**-DECIMALS
_SUM_SLACK: Final = 0.01
_WARM_UP: Final = ("a first text", "another one that is a little longer than the first")


class Runtime:
    """Preprocessing and an ONNX session. One thread at a time; the session lets go of the GIL."""

    def __init__(
        self,
        version: ModelVersion,
        *,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        threads: int = 1,
        batch_tokens: int = 16_384,
    ) -> None:
        """Raises ModelDamaged when the files are no model this code can run, or one whose scores
        are no probabilities.
        """
        manifest = version.manifest
        self.manifest = manifest
        self.labels = manifest.labels
        self._batch_tokens = batch_tokens
        self._tokenize = _tokenizer(version)
        self._session = _session(version, providers, threads)
        try:
            scores = self.scores(_WARM_UP)
        except Exception as error:
            raise ModelDamaged(f"{version.file(MODEL)}: it fails its first run: {error}") from error
        if not probable(scores).any():
            raise ModelDamaged(f"{version.file(MODEL)}: {_improbable(scores[0])}")

    def answer(
        self, items: Sequence[Item], faults: Mapping[int, ItemError], *, top_k: int = 0
    ) -> list[Result]:
        """A result for each item, in order; a position in `faults` gets that error.

        An item whose scores are no probabilities gets the error `internal`.
        """
        faults = dict(faults) | {
            position: _NOT_TEXT for position, item in enumerate(items)
            if item.text is None and position not in faults
        }  # fmt: skip
        good = [position for position in range(len(items)) if position not in faults]
        results: dict[int, Result] = {
            position: Result(id=items[position].id, error=error)
            for position, error in faults.items()
        }
        texts = [text for position in good if (text := items[position].text) is not None]
        scores = self.scores(texts)
        for position, (label, score, best) in zip(good, self._named(scores, top_k), strict=True):
            results[position] = Result(id=items[position].id, label=label, score=score, scores=best)
        for row in np.flatnonzero(~probable(scores)).tolist():
            error = ItemError(code=Code.INTERNAL, message=_improbable(scores[row]))
            results[good[row]] = Result(id=items[good[row]].id, error=error)
        return [results[position] for position in range(len(items))]

    def labelled(
        self, texts: Sequence[str], top_k: int = 0
    ) -> list[tuple[str, float, dict[str, float] | None]]:
        """Label, score and the `top_k` scores of each text, unchecked."""
        return self._named(self.scores(texts), top_k)

    def _named(
        self, scores: Scores, top_k: int
    ) -> list[tuple[str, float, dict[str, float] | None]]:
        winners = scores.argmax(axis=1)
        best = np.round(scores.max(axis=1).astype(np.float64), DECIMALS).tolist()
        names = [self.labels[winner] for winner in winners.tolist()]
        if not top_k:
            return [(name, score, None) for name, score in zip(names, best, strict=True)]
        return list(zip(names, best, self._best(scores, top_k), strict=True))

    def _best(self, scores: Scores, top_k: int) -> list[dict[str, float]]:
        # A stable sort, so that equal scores keep the order of the labels everywhere.
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
        values = np.round(np.take_along_axis(scores, order, axis=1).astype(np.float64), DECIMALS)
        return [
            {self.labels[label]: value for label, value in zip(row, row_values, strict=True)}
            for row, row_values in zip(order.tolist(), values.tolist(), strict=True)
        ]

    def scores(self, texts: Sequence[str]) -> Scores:
        """What the model gives, [text, label]; the same for a text whatever its neighbours are."""
        if not texts:
            return np.empty((0, len(self.labels)), np.float32)
        ids = self._tokenize(texts)
        lengths = [len(row) for row in ids]
        scores = np.empty((len(ids), len(self.labels)), np.float32)
        for batch in batches(lengths, self._batch_tokens):
            matrix = np.zeros((batch.rows, batch.length), np.int32)
            for row, position in enumerate(batch.positions):
                matrix[row, : lengths[position]] = ids[position]
            # Rows that only fill up repeat the first: a row of padding alone has no mean.
            matrix[len(batch.positions) :] = matrix[0]
            (output,) = self._session.run(None, {"ids": matrix})
            if output.shape != (batch.rows, len(self.labels)):
                raise ValueError(f"its output is {output.shape} for {len(self.labels)} labels")
            scores[batch.positions] = output[: len(batch.positions)]
        return scores


def probable(scores: Scores) -> npt.NDArray[np.bool_]:
    """Which texts have probabilities [text]: from 0 to 1, together 1. NaN and infinity are none."""
    with np.errstate(invalid="ignore", over="ignore"):
        inside = (scores.min(axis=1) >= -_SLACK) & (scores.max(axis=1) <= 1 + _SLACK)
        good: npt.NDArray[np.bool_] = inside & (np.abs(scores.sum(axis=1) - 1) <= _SUM_SLACK)
    return good


def _improbable(scores: Scores) -> str:
    worst = scores[np.argmax(np.abs(scores - 0.5))]  # NaN, if there is one
    with np.errstate(invalid="ignore", over="ignore"):
        together = scores.sum()
    return (
        f"the model gives {worst:.6g} where a probability is declared, {together:.6g} in all; "
        "its scores must be from 0 to 1 and together 1 (end it with a softmax, and export again)"
    )


_NOT_TEXT: Final = ItemError(code=Code.NOT_TEXT, message="this model takes texts only")


def _tokenizer(version: ModelVersion) -> WordTokenizer:
    how = version.manifest.preprocessing
    if how.kind != "words":
        raise ModelDamaged(f"{version.path}: no preprocessing {how.kind!r} here; upgrade LMaaS")
    try:
        tokenizer = WordTokenizer.load(version.file(how.file), how.max_tokens)
    except DataError as error:
        raise ModelDamaged(str(error)) from error
    if special := [word for word in tokenizer.words[:FIRST_WORD] if _SPECIAL.fullmatch(word)]:
        raise ModelDamaged(
            f"{version.file(how.file)}: begins with {', '.join(map(repr, special))}, which is no "
            f"word; its first line must be the word with the id {FIRST_WORD} (of Keras' "
            f"TextVectorization: get_vocabulary()[{FIRST_WORD}:]), or every word has another's id"
        )
    return tokenizer


def _session(
    version: ModelVersion, providers: Sequence[str], threads: int
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A worker shares its core with its event loop: spinning threads would take it away.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Shapes differ from batch to batch; a pattern a shape would only grow.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    path = version.file(MODEL)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:
        raise ModelDamaged(f"{path}: ONNX Runtime cannot load it: {error}") from error
