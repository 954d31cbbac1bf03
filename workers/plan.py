"""Items on their way through one model version: batches that are still to be run, in order.

Between two batches the work can be left alone and taken up again. What the preprocessor or the
graph fails over is found by bisection: its own item gets an error, and its neighbours go on.
"""

from __future__ import annotations

import logging
import traceback
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import Item, ItemError, Options, Result
from lmaas.workers.batcher import Batch
from lmaas.workers.preprocess import Encoded, faults
from lmaas.workers.runtime import Runtime

log = logging.getLogger(__name__)

#: In the words of ONNX Runtime and of C++ for memory that was not there.
OUT_OF_MEMORY: Final = (
    *("bad_alloc", "bad allocation", "Failed to allocate memory"),
    *("CUDA failure 2:", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"),
)
#: For a GPU that does not do what it should, which is no item's fault.
_DEVICE: Final = ("CUDA failure", "CUBLAS failure", "CUDNN failure", "CUFFT failure")

#: Places of items that are encoded together, in the order in which they were.
_Places = npt.NDArray[np.intp]


class Plan:
    """For one thread at a time."""

    def __init__(
        self,
        runtime: Runtime,
        items: Sequence[Item],
        faults: Mapping[int, ItemError],
        *,
        private: bool = False,
    ) -> None:
        """Checks and encodes the items; the place of an item in `faults` gets that error.

        What an item of `private` ones fails over is logged without words that may quote it.
        """
        self._runtime = runtime
        self._private = private
        self._items = items
        self._errors = dict(faults)
        self._scores = np.zeros((len(items), len(runtime.labels)), np.float32)
        self._batches: deque[tuple[Encoded, _Places, Batch]] = deque()
        #: Padded units of the batches that are left.
        self.left = 0
        check = runtime.preprocessor.check
        for place, item in enumerate(items):
            if place not in self._errors and (error := check(item)):
                self._errors[place] = error
        self._encode([place for place in range(len(items)) if place not in self._errors])
        #: The same of all that there were at first.
        self.units = self.left

    def _encode(self, places: list[int]) -> None:
        # Halves are not encoded within the except block: each error would carry all before it.
        waiting = deque([places] if places else [])
        while waiting:
            places = waiting.popleft()
            try:
                encoded = self._runtime.encode([self._items[place] for place in places])
                batches = self._runtime.batches(encoded.lengths)
            except Exception as error:
                if len(places) == 1:
                    self._fail(places[0], error)
                else:
                    middle = len(places) // 2
                    waiting.extendleft((places[middle:], places[:middle]))
                continue
            own = np.array(places, np.intp)
            self._batches += [(encoded, own, batch) for batch in batches]
            self.left += sum(batch.size for batch in batches)

    def step(self) -> None:
        """Run the next batch: there is one while `left` is not 0."""
        encoded, places, batch = self._batches.popleft()
        self.left -= batch.size
        try:
            self._scores[places[batch.positions]] = self._runtime.run(encoded, batch)
            if found := faults(encoded):
                for position in found.keys() & batch.positions:
                    self._errors[int(places[position])] = found[position]
        except Exception as error:
            if len(batch.positions) == 1:
                self._fail(int(places[batch.positions[0]]), error)
                return
            bisected = self._runtime.bisected(batch)
            self._batches.extendleft((encoded, places, half) for half in reversed(bisected))
            self.left += sum(half.size for half in bisected)

    def drop(self, unwanted: Iterable[int]) -> None:
        """Nobody wants the results of the items at these places: they are not run any more."""
        gone = set(unwanted)
        left, self._batches, self.left = self._batches, deque(), 0
        for encoded, places, batch in left:
            kept = [at for at in batch.positions if int(places[at]) not in gone]
            if kept:
                self._batches.append((encoded, places, Batch(kept, batch.rows, batch.length)))
                self.left += batch.size

    def _fail(self, place: int, error: Exception) -> None:
        # With its traceback, which the answer does not have.
        if self._private:
            where = "".join(traceback.format_tb(error.__traceback__)).rstrip()
            words = f"inference failed: {type(error).__name__}\n{where}"
            log.error("%s", words, extra={"action": "inference_failed"})
        else:
            log.error("inference failed", exc_info=error, extra={"action": "inference_failed"})
        self._errors[place] = failure(error)

    def results(self, options: Options = Options()) -> list[Result]:  # noqa: B008  # frozen
        """A result for each item, in order, once all batches have run.

        An item whose scores are not what the head declares gets the error `internal`.
        """
        items, errors = self._items, self._errors
        good = [place for place in range(len(items)) if place not in errors]
        scores = self._scores if len(good) == len(items) else self._scores[good]
        head = self._runtime.head
        named = self._runtime.named(scores, options.top_k, options.min_score)
        results = {
            place: Result(id=items[place].id, label=label, score=score, scores=best, labels=labels)
            for place, (label, score, best, labels) in zip(good, named, strict=True)
        }
        for row in np.flatnonzero(~head.good(scores)).tolist():
            words = head.problem(scores[row]) or "its scores are none"
            errors[good[row]] = ItemError(code=Code.INTERNAL, message=words)
        for place, error in errors.items():
            results[place] = Result(id=items[place].id, error=error)
        return [results[place] for place in range(len(items))]


def failure(error: Exception) -> ItemError:
    """What an exception of a model means for the items that it was over."""
    words = f"{type(error).__name__}: {error}".encode("utf-8", "backslashreplace").decode()
    if isinstance(error, MemoryError) or any(sign in words for sign in OUT_OF_MEMORY):
        return ItemError(code=Code.OUT_OF_MEMORY, message=words)
    passes = isinstance(error, OSError) or any(sign in words for sign in _DEVICE)
    code = Code.UNAVAILABLE if passes else Code.INTERNAL
    return ItemError(code=code, message=words)
