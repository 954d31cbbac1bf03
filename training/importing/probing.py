"""Runs a proposed model before anybody uses it, and mends what its graph cannot bear.

A graph may be fixed to a number of rows or to a length, though it says otherwise; its answers may
depend on padding or on neighbours; its scores may be none. What can be served all the same is, with
a warning; the rest is an error that says what was found, what was expected, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from lmaas.broker_config.errors import DataError, ModelDamaged
from lmaas.broker_config.messages import Item, ItemError
from lmaas.training.importing.proposal import Proposal
from lmaas.workers.batcher import Batch
from lmaas.workers.heads import Scores
from lmaas.workers.manifest import MODEL, Batching, Manifest
from lmaas.workers.model_version import MANIFEST, ModelVersion
from lmaas.workers.ort import onnxruntime
from lmaas.workers.preprocess import Encoded, faults
from lmaas.workers.runtime import Runtime

#: Scores that differ by less are the same; by less than the second, nearly: more than that no user
#: would bear of his text's neighbours.
SAME: Final = 1e-3
NEARLY: Final = 0.02
#: Rows and lengths that graphs were fixed to without saying so.
_ROWS: Final = (1, 2, 4, 8, 16, 32)
_LENGTHS: Final = (128, 512, 256, 384, 64, 32, 16, 8)
#: Rows that run together.
_SEVERAL: Final = 3
#: What ONNX Runtime says, and what that means.
_CUSTOM: Final = "export it with ONNX's own operators alone, which ONNX Runtime has"
_HINTS: Final = {
    "preprocessing makes rows of": "--image, --layout and --channels say what pictures become",
    "opset": "export it with an older opset, or upgrade onnxruntime",
    "IR version": "export it with an older onnx, or upgrade onnxruntime",
    "not a registered function/op": _CUSTOM,
    "No Op registered": _CUSTOM,
    "Could not find an implementation": "export it as float32, which a CPU has all operators for",
    "indices element out of data bounds": "it has no row for such an id or place: is the tokenizer "
    "another model's (--tokenizer)? Or does it take fewer tokens (--max-tokens)?",
}


def probed(proposal: Proposal, items: Sequence[Item]) -> tuple[Proposal, Runtime]:
    """What can be served, and it ready to run. `items` are tried besides the kind's own examples.

    Raises DataError.
    """
    proposal = _declared(proposal)
    runtime = made(proposal)
    for item in items:
        if error := runtime.preprocessor.check(item) or _fault(runtime, item):
            raise DataError(f"--examples: {item.id}: {error.message}")
    probe = _Probe(proposal, runtime, items)
    proposal = probe.first()
    proposal = _Probe(proposal, runtime, items).together()
    if "max_tokens" in proposal.preprocessing:
        proposal = _Probe(proposal, runtime, items).longest()
    for check in proposal.checks:
        proposal = proposal.warned(*check(runtime))
    return proposal, made(proposal)


def _fault(runtime: Runtime, item: Item) -> ItemError | None:
    """What is found to be wrong with it only when it is decoded."""
    encoded = runtime.encode([item])
    (batch,) = runtime.batches(encoded.lengths)
    encoded.arrays(batch)
    return faults(encoded).get(0)


def made(proposal: Proposal) -> Runtime:
    """Not tried yet. Raises DataError when ONNX Runtime, or the preprocessing, cannot load it."""
    version = drafted(proposal)
    try:
        return Runtime(version, trial=False)
    except ModelDamaged as error:
        told = str(error)
        for file in (MODEL, MANIFEST):  # of a version that is not written yet
            told = told.replace(str(version.file(file)), str(proposal.path))
        raise DataError(_hinted(told)) from error


def drafted(proposal: Proposal) -> ModelVersion:
    """As a version, without a name and checksums."""
    manifest = Manifest(
        name="imported",
        version="1",
        labels=proposal.labels,
        inputs=proposal.inputs,
        preprocessing=proposal.preprocessing,
        head=proposal.head,
        batching=proposal.batching,
        architecture=proposal.architecture,
        dataset={},
        metrics={},
        code_version="",
        created="",
        files=dict.fromkeys(proposal.files, ""),
    )
    return ModelVersion(proposal.path.parent, manifest, proposal.files)


def _declared(proposal: Proposal) -> Proposal:
    """With the sizes that the graph itself says are fixed."""
    shapes = [one.shape for one in proposal.inputs if one.shape]
    rows = next((shape[0] for shape in shapes if shape[0] is not None), None)
    if rows is not None:
        proposal = _of_rows(proposal, rows)
    if "max_tokens" in proposal.preprocessing:
        length = next((s[1] for s in shapes if len(s) == 2 and s[1] is not None), None)
        if length is not None:
            proposal = _of_length(proposal, length)
    return proposal


def _of_rows(proposal: Proposal, rows: int, why: str = "its graph is fixed to that") -> Proposal:
    batching = msgspec.structs.replace(proposal.batching, rows=rows, row_step=1)
    proposal = msgspec.structs.replace(proposal, batching=batching)
    return proposal.warned(
        f"items run {_count(rows)} at a time ({why}), which is slow; "
        "export it with a free first dimension"
    )


def _of_length(proposal: Proposal, length: int) -> Proposal:
    batching = msgspec.structs.replace(proposal.batching, length_step=length)
    preprocessing = {**proposal.preprocessing, "max_tokens": length}
    proposal = msgspec.structs.replace(proposal, batching=batching, preprocessing=preprocessing)
    return proposal.warned(
        f"every text is padded or cut to {length} tokens (its graph is fixed to that), which is "
        "slow for short ones; export it with a free second dimension"
    )


class _Probe:
    """One look at a model, with what is known of it."""

    def __init__(self, proposal: Proposal, runtime: Runtime, given: Sequence[Item]) -> None:
        self._proposal = proposal
        self._how: Batching = proposal.batching
        self._runtime = runtime
        own = list(runtime.preprocessor.examples)
        self._items = (list(given) + own * _SEVERAL)[: max(_SEVERAL, len(own))]

    def first(self) -> Proposal:
        """One item alone, at other sizes if it must be."""
        encoded = self._runtime.encode(self._items[:1])
        proposal = self._proposal
        try:
            scores = self._alone(encoded, 0)
        except ValueError as error:
            raise self._wrong(
                f"{error}; give as many with --labels, or another --output"
            ) from error
        except Exception as error:
            found = self._search(encoded)
            if found is None:
                raise self._wrong(_hinted(f"it fails its first run: {error}")) from error
            proposal, scores = found
        self._check(scores)
        return proposal

    def _search(self, encoded: Encoded) -> tuple[Proposal, Scores] | None:
        """The rows and the length that a graph is fixed to, though it says otherwise."""
        own = _stepped(encoded.lengths[0], self._how)
        lengths: list[int] = [own]
        if "max_tokens" in self._proposal.preprocessing and self._how.length_step == 1:
            most = self._proposal.preprocessing["max_tokens"]
            lengths += [length for length in dict.fromkeys((most, *_LENGTHS)) if length > own]
        for length in lengths:
            for rows in (self._how.rows,) if self._how.rows else _ROWS:
                try:
                    scores = self._runtime.run(encoded, Batch([0], rows, length))
                except Exception:  # noqa: S112 - the first failure is the one that is told
                    continue
                proposal = self._proposal
                if length != own:
                    proposal = _of_length(proposal, length)
                return (proposal if rows == 1 else _of_rows(proposal, rows)), scores
        return None

    def together(self) -> Proposal:
        """Several in a batch, the short ones padded: each as it is alone."""
        if self._how.rows is not None and self._how.length_step > 1:
            return self._proposal
        encoded = self._runtime.encode(self._items)
        lengths = encoded.lengths
        alone = np.concatenate([self._alone(encoded, at) for at in range(len(lengths))])
        self._check(alone)
        if self._how.rows == 1:  # nothing is ever padded
            return self._proposal
        longest = _stepped(max(lengths), self._how)
        places = range(len(lengths))
        rows = self._how.rows
        groups = [list(places)] if rows is None else [[at] for at in places]
        try:
            runs = [self._run(encoded, own, rows or len(own), longest) for own in groups]
            scores = np.concatenate(runs)
        except Exception as error:
            return _of_rows(self._proposal, 1, f"{len(lengths)} together fail: {_line(error)}")
        difference = _difference(scores, alone)
        if difference <= SAME:
            return self._proposal
        why = f"beside others, padded to one length, its scores differ by up to {difference:.2g}"
        if difference > NEARLY and self._how.rows is None:
            return _of_rows(self._proposal, 1, why)
        return self._proposal.warned(
            f"{why}, as those of graphs with dynamic int8 or 16-bit numbers do"
        )

    def longest(self) -> Proposal:
        """A text of as many tokens as it takes; fewer, if it does not take so many."""
        most = self._proposal.preprocessing["max_tokens"]
        if self._how.length_step > 1:
            return self._proposal
        item = self._long(most)
        encoded = self._runtime.encode([item])
        full = encoded.lengths[0]
        if problem := self._fails(encoded, full, full):
            low, high = min(one for one in self._runtime.encode(self._items).lengths), full
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if self._fails(encoded, full, middle) else (middle, high)
            preprocessing = {**self._proposal.preprocessing, "max_tokens": low}
            changed = msgspec.structs.replace(self._proposal, preprocessing=preprocessing)
            return changed.warned(
                f"texts are cut to {low} tokens: with {high} it fails ({problem}); "
                "--max-tokens says fewer"
            )
        return self._proposal

    def _fails(self, encoded: Encoded, full: int, length: int) -> str | None:
        rows = self._how.rows or 1
        try:
            scores = self._runtime.run(_Cut(encoded, full), Batch([0], rows, length))
        except Exception as error:
            return _line(error)
        return None if self._runtime.head.good(scores).all() else "its scores are none"

    def _long(self, most: int) -> Item:
        """An item that has at least `most` tokens before it is cut."""
        item = self._items[0]
        while self._runtime.encode([item]).lengths[0] < most and item.size < 64 * most:
            item = msgspec.structs.replace(
                item,
                text=f"{item.text} {item.text}",
                text_pair=item.text_pair and f"{item.text_pair} {item.text_pair}",
            )
        return item

    def _alone(self, encoded: Encoded, at: int) -> Scores:
        length = _stepped(encoded.lengths[at], self._how)
        return self._run(encoded, [at], self._how.rows or 1, length)

    def _run(self, encoded: Encoded, at: Sequence[int], rows: int, length: int) -> Scores:
        return self._runtime.run(encoded, Batch(list(at), rows, length))

    def _check(self, scores: Scores) -> None:
        """Raises DataError when the scores are not what they are declared as."""
        good = self._runtime.head.good(scores)
        if good.all():
            return
        worst = scores[int(np.argmin(good))]
        if not np.isfinite(worst).all():
            raise self._wrong(
                f"the model gives {worst[~np.isfinite(worst)][0]}, which is no number; 16-bit "
                "weights can do that: export it as float32"
            )
        raise self._wrong(
            f"{self._runtime.head.problem(worst)}; --scores softmax or sigmoid, if it gives logits"
        )

    def _wrong(self, words: str) -> DataError:
        return DataError(f"{self._proposal.path}: {words}")


class _Cut:
    """Rows without what comes after a length; for models that nobody asks for an answer."""

    def __init__(self, encoded: Encoded, full: int) -> None:
        self._encoded = encoded
        self._full = full
        self.lengths = encoded.lengths

    def arrays(self, batch: Batch) -> dict[str, npt.NDArray[Any]]:
        whole = self._encoded.arrays(Batch(batch.positions, batch.rows, self._full))
        return {name: values[:, : batch.length] for name, values in whole.items()}


def _stepped(length: int, how: Batching) -> int:
    return -(-length // how.length_step) * how.length_step


def _difference(scores: Scores, others: Scores) -> float:
    return float(np.abs(scores - others).max())


def _count(rows: int) -> str:
    return "one" if rows == 1 else str(rows)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _hinted(told: str) -> str:
    """In one line, with what to do when that is known."""
    told = " ".join(told.split())
    hint = next((hint for sign, hint in _HINTS.items() if sign in told), None)
    if hint is None:
        return told
    here = f" (here: {onnxruntime.__version__})" if "runtime" in hint.lower() else ""
    return f"{told}; {hint}{here}"
