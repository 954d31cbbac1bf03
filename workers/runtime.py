"""One model version, ready to run: items in, scores out.

It knows no kind of item and no kind of model: the version's preprocessor makes the inputs, and its
head reads the scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Final

import msgspec
import numpy as np

from lmaas.broker_config.errors import ModelDamaged
from lmaas.broker_config.messages import UNSURE, Item
from lmaas.workers import ort
from lmaas.workers.batcher import Batch, batches, bisected
from lmaas.workers.heads import DECIMALS, Scores, head
from lmaas.workers.manifest import MODEL, THRESHOLD
from lmaas.workers.model_version import MANIFEST, ModelVersion
from lmaas.workers.ort import onnxruntime
from lmaas.workers.preprocess import Encoded, preprocessor
from lmaas.workers.providers import CPU, check_error, check_started, prepare

#: By how much a score may differ from the one that was kept: other processors round otherwise.
GOLDEN_TOLERANCE: Final = 1e-3
#: Characters of a text in words about it.
_SHOWN: Final = 40

#: Label, score, the scores that were asked for, and all labels of an item that may have several.
Named = tuple[str | None, float, dict[str, float] | None, list[str] | None]


class Runtime:
    """Preprocessor, ONNX session, head. One thread at a time; the session lets go of the GIL."""

    def __init__(
        self,
        version: ModelVersion,
        *,
        providers: Sequence[str] = (CPU,),
        threads: int = 1,
        batch_units: int = 0,
        trial: bool = True,
    ) -> None:
        """`batch_units` is the padded size of a batch at most; 0: what the manifest says. Without
        `trial` it is not run yet: whoever wants to know why it fails does that.

        Raises ModelDamaged when the files are no model this code can run, or one whose scores are
        not what its head declares; SettingsError when a provider cannot start.
        """
        manifest = version.manifest
        self.manifest = manifest
        self.labels = manifest.labels
        #: Bytes of its files, about what it takes of memory.
        self.size = sum(map(len, version.contents.values()))
        self._batching = manifest.batching
        if batch_units:
            self._batching = msgspec.structs.replace(self._batching, most=batch_units)
        self.preprocessor = preprocessor(version)
        self.head = head(version)
        self._session = _session(version, providers, threads)
        if trial:
            self._try(version)

    def _try(self, version: ModelVersion) -> None:
        path = version.file(MODEL)
        try:
            scores = self.scores(self.preprocessor.examples)
        except Exception as error:
            raise ModelDamaged(f"{path}: it fails its first run: {error}") from error
        if not self.head.good(scores).any():
            raise ModelDamaged(f"{path}: {self.head.problem(scores[0])}")

    def labelled(
        self, items: Sequence[Item], top_k: int = 0
    ) -> list[tuple[str | None, float, dict[str, float] | None]]:
        """Label, score and the `top_k` scores of each item, unchecked."""
        return [found[:3] for found in self.named(self.scores(items), top_k)]

    def named(self, scores: Scores, top_k: int, min_score: float | None = None) -> list[Named]:
        """What each row says, with the `top_k` scores.

        The label is UNSURE where the score is less than `min_score`, or, when that is None, than
        what the manifest says. Where an item may have several labels, they are those that have this
        score.
        """
        best = np.round(scores.max(axis=1).astype(np.float64), DECIMALS).tolist()
        names: list[str] | list[str | None]
        several: Iterable[list[str] | None] = repeat(None)
        if self.manifest.multi_label:
            several = reached = self._reached(scores, min_score)
            names = [labels[0] if labels else None for labels in reached]
        else:
            names = self._winners(scores, best, min_score)
        ranked = self._best(scores, top_k) if top_k else repeat(None)
        return list(zip(names, best, ranked, several, strict=False))

    def _winners(self, scores: Scores, best: Sequence[float], min_score: float | None) -> list[str]:
        names = [self.labels[winner] for winner in scores.argmax(axis=1).tolist()]
        least = self.manifest.min_score if min_score is None else min_score
        if not least:
            return names
        return [name if score >= least else UNSURE for name, score in zip(names, best, strict=True)]

    def _reached(self, scores: Scores, min_score: float | None) -> list[list[str]]:
        """The labels of each row that have so much, best first."""
        least = (self.manifest.min_score or THRESHOLD) if min_score is None else min_score
        counts = (np.round(scores.astype(np.float64), DECIMALS) >= least).sum(axis=1).tolist()
        order = np.argsort(-scores, axis=1, kind="stable")
        return [
            [self.labels[label] for label in row[:count].tolist()]
            for row, count in zip(order, counts, strict=True)
        ]

    def _best(self, scores: Scores, top_k: int) -> list[dict[str, float]]:
        # A stable sort, so that equal scores keep the order of the labels everywhere.
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
        values = np.round(np.take_along_axis(scores, order, axis=1).astype(np.float64), DECIMALS)
        return [
            {self.labels[label]: value for label, value in zip(row, row_values, strict=True)}
            for row, row_values in zip(order.tolist(), values.tolist(), strict=True)
        ]

    def scores(self, items: Sequence[Item]) -> Scores:
        """What the model gives, [items, labels], of items that the preprocessor can encode."""
        scores = np.empty((len(items), len(self.labels)), np.float32)
        if not items:
            return scores
        encoded = self.encode(items)
        for batch in self.batches(encoded.lengths):
            scores[batch.positions] = self.run(encoded, batch)
        return scores

    def differences(self) -> list[str]:
        """Where the answers are not those that the manifest keeps, in words."""
        golden = self.manifest.golden
        found = self.scores([one.item for one in golden])
        told = []
        for one, scores in zip(golden, found, strict=True):
            apart = np.abs(np.array(one.scores, np.float32) - scores)
            if not (apart <= GOLDEN_TOLERANCE).all():  # so that NaN is told, too
                at = int(apart.argmax())
                what = repr(one.item.text[:_SHOWN]) if one.item.text else f"item {one.item.id!r}"
                told.append(f"{what}: {self.labels[at]} {scores[at]:.6f}, was {one.scores[at]:.6f}")
        return told

    def encode(self, items: Sequence[Item]) -> Encoded:
        """Of items that the preprocessor has found to be good."""
        return self.preprocessor.encode(items)

    def batches(self, lengths: Sequence[int]) -> list[Batch]:
        """How items of these lengths run together."""
        return batches(lengths, self._batching)

    def bisected(self, batch: Batch) -> list[Batch]:
        """Two batches of the items of one that has several."""
        return bisected(batch, self._batching)

    def run(self, encoded: Encoded, batch: Batch) -> Scores:
        """The scores of a batch, [positions, labels]."""
        outputs = self._session.run(self.head.outputs, encoded.arrays(batch))
        return self.head.scores(outputs, batch.rows)[: len(batch.positions)]


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
    others = {name: content for name, content in version.contents.items() if name != MODEL}
    try:
        prepare(providers)
        session = ort.session(version.content(MODEL), others, options, providers)
    except Exception as error:
        check_error(providers, error)
        raise ModelDamaged(f"{path}: ONNX Runtime cannot load it: {error}") from error
    check_started(providers, session.get_providers())
    taken = {one.name for one in session.get_inputs()}
    told = {one.name for one in version.manifest.inputs}
    if taken != told:
        raise ModelDamaged(
            f"{path}: the graph takes {_listed(taken)}, and {version.file(MANIFEST)} says "
            f"{_listed(told)}; export it again"
        )
    return session


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(map(repr, names))) or "no input"
