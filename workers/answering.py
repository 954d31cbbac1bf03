"""From the body of a request to the body of its reply: what every way in runs.

No queue in here: a worker calls it with what came from RabbitMQ, the in-process pool with the
same bytes. It blocks, so it is called off the event loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lmaas.broker_config.codes import Code
from lmaas.broker_config.decoding import Decoded, check_size, decode_at_once, decode_request
from lmaas.broker_config.errors import MessageError, ModelDamaged, ModelNotFound
from lmaas.broker_config.messages import Item, ItemError, Reply, Request, Result, Timings, failed
from lmaas.broker_config.settings import Settings
from lmaas.workers.repository import ModelVersion, opened
from lmaas.workers.runtime import Runtime

log = logging.getLogger(__name__)

#: In the words of ONNX Runtime and of C++ for memory that was not there.
OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate memory")
#: Versions that stay loaded beside the newest ones.
KEPT_VERSIONS = 8


@dataclass(slots=True)
class Pack:
    """A request: not read yet, ready to run, or known to be wrong."""

    request: Request | None
    #: Errors of single items, by position.
    faults: dict[int, ItemError] = field(default_factory=dict)
    #: Why the whole pack was refused.
    error: ItemError | None = None
    #: Bytes of the body.
    size: int = 0
    #: time.monotonic() when the pack was read.
    arrived: float = field(default_factory=time.monotonic)

    def __len__(self) -> int:
        return len(self.request.items) if self.request else 0

    @property
    def is_read(self) -> bool:
        return self.request is not None or self.error is not None


def glanced(
    body: bytes,
    content_type: str | None,
    settings: Settings,
    *,
    model: str | None = None,
    suspect: bool,
) -> Pack:
    """What takes no time is read, unless it is suspect; else the pack is left unread. Never raises.

    For an event loop, which cannot wait until a body of thousands of bad items is decoded. `model`
    is the one whose lane the pack came by, and the only one that it may ask for.
    """

    def decode() -> Decoded | None:
        check_size(body, settings.largest_pack)
        if suspect:
            return None
        return decode_at_once(
            body,
            content_type,
            max_item_bytes=settings.max_item_bytes,
            max_items=settings.max_pack_items,
        )

    return _pack(body, decode, model)


def read(
    body: bytes, content_type: str | None, settings: Settings, model: str | None = None
) -> Pack:
    """As `glanced`, but all of it: what is wrong with the body becomes the pack's error."""

    def decode() -> Decoded:
        return decode_request(
            body,
            content_type,
            max_item_bytes=settings.max_item_bytes,
            max_items=settings.max_pack_items,
            max_bytes=settings.largest_pack,
        )

    return _pack(body, decode, model)


def _pack(body: bytes, decode: Callable[[], Decoded | None], model: str | None) -> Pack:
    try:
        decoded = decode()
    except MessageError as error:
        fault = ItemError(code=Code.MALFORMED, message=str(error))
        return Pack(None, error=fault, size=len(body))
    request, faults = decoded or (None, {})
    if request is not None and model is not None and request.model != model:
        # Who may write into one lane may not have another's model.
        words = f"it asks for model {request.model!r} in a lane of {model!r}"
        fault = ItemError(code=Code.MALFORMED, message=words)
        return Pack(request, faults, fault, size=len(body))
    return Pack(request, faults, size=len(body))


class Answerer:
    """Runs packs on the models of a repository, which it loads when they are asked for."""

    def __init__(self, settings: Settings, worker: str) -> None:
        self.settings = settings
        self.repository = opened(settings)
        self._worker = worker
        self._newest: dict[str, Runtime] = {}
        self._asked: dict[tuple[str, str], Runtime] = {}

    def load(self, model: str, version: str | None = None) -> Runtime:
        """The runtime of a version, loaded once. Raises ModelNotFound or ModelDamaged."""
        if version is None:
            if model not in self._newest:
                self._newest[model] = self._runtime(model, None)
            return self._newest[model]
        newest = self._newest.get(model)
        if newest is not None and newest.manifest.version == version:
            return newest
        key = (model, version)
        runtime = self._asked.pop(key, None) or self._runtime(model, version)
        self._asked[key] = runtime
        if len(self._asked) > KEPT_VERSIONS:  # the first one was not asked for the longest time
            del self._asked[next(iter(self._asked))]
        return runtime

    def _runtime(self, model: str, version: str | None) -> Runtime:
        return self.repository.load(model, version, self._run)

    def _run(self, found: ModelVersion) -> Runtime:
        return Runtime(
            found,
            providers=self.settings.providers,
            threads=self.settings.threads,
            batch_units=self.settings.batch_units,
        )

    def answer(self, packs: Sequence[Pack]) -> list[Reply]:
        """A reply for each pack; packs of one model run together."""
        replies: dict[int, Reply] = {}
        alike: dict[tuple[str, str | None, int], list[int]] = {}
        for place, pack in enumerate(packs):
            if pack.request is None:
                replies[place] = Reply(model="", results=[], worker=self._worker, error=pack.error)
            elif pack.error is not None:
                replies[place] = self._refusal(pack, pack.error)
            else:
                request = pack.request
                key = (request.model, request.version, request.options.top_k)
                alike.setdefault(key, []).append(place)
        for (model, version, top_k), places in alike.items():
            together = [packs[place] for place in places]
            answers = self._answer_alike(model, version, top_k, together)
            replies |= zip(places, answers, strict=True)
        return [replies[place] for place in range(len(packs))]

    def _answer_alike(
        self, model: str, version: str | None, top_k: int, packs: Sequence[Pack]
    ) -> list[Reply]:
        started = time.monotonic()
        try:
            runtime = self.load(model, version)
        except (ModelNotFound, ModelDamaged) as error:
            refused = ItemError(code=self._code(error, model), message=str(error))
            return [self._refusal(pack, refused) for pack in packs]
        except (OSError, MemoryError) as error:
            fault = failure(error)
            return [failed_reply(pack, fault, self._worker) for pack in packs]
        results = _results(runtime, *_joined(packs), top_k)
        ran = time.monotonic() - started
        of_a_byte = ran / max(1, sum(pack.size for pack in packs))
        return [
            Reply(
                model=model,
                version=runtime.manifest.version,
                worker=self._worker,
                timings=Timings(
                    waited=round(started - pack.arrived, 6),
                    ran=round(ran, 6),
                    cost=round(of_a_byte * pack.size, 6),
                ),
                results=own,
            )
            for pack, own in zip(packs, _split(results, packs), strict=True)
        ]

    def _code(self, error: ModelNotFound | ModelDamaged, model: str) -> Code:
        if isinstance(error, ModelDamaged):
            return Code.MODEL_DAMAGED
        return Code.UNKNOWN_VERSION if self.repository.versions(model) else Code.UNKNOWN_MODEL

    def _refusal(self, pack: Pack, error: ItemError) -> Reply:
        assert pack.request is not None
        return Reply(
            model=pack.request.model,
            version=pack.request.version,
            worker=self._worker,
            results=failed(pack.request.items, error),
            error=error,
        )


def failure(error: Exception) -> ItemError:
    """What an exception of a model means for the items that it was over."""
    words = f"{type(error).__name__}: {error}".encode("utf-8", "backslashreplace").decode()
    if isinstance(error, MemoryError) or any(sign in words for sign in OUT_OF_MEMORY):
        return ItemError(code=Code.OUT_OF_MEMORY, message=words)
    code = Code.UNAVAILABLE if isinstance(error, OSError) else Code.INTERNAL
    return ItemError(code=code, message=words)


def failed_reply(pack: Pack, fault: ItemError, worker: str) -> Reply:
    """The same error for every item of a pack."""
    if pack.request is None:
        return Reply(model="", results=[], worker=worker, error=pack.error or fault)
    request = pack.request
    return Reply(model=request.model, results=failed(request.items, fault), worker=worker)


def _results(
    runtime: Runtime, items: list[Item], faults: dict[int, ItemError], top_k: int
) -> list[Result]:
    """A model that fails over some items fails those, found by halving, and not the others."""
    try:
        return runtime.answer(items, faults, top_k=top_k)
    except Exception as error:
        if len(items) == 1:
            log.exception("inference failed", extra={"action": "inference_failed"})
            return failed(items, failure(error))
    middle = len(items) // 2
    left = {place: fault for place, fault in faults.items() if place < middle}
    right = {place - middle: fault for place, fault in faults.items() if place >= middle}
    return [
        *_results(runtime, items[:middle], left, top_k),
        *_results(runtime, items[middle:], right, top_k),
    ]


def _joined(packs: Sequence[Pack]) -> tuple[list[Item], dict[int, ItemError]]:
    items: list[Item] = []
    faults: dict[int, ItemError] = {}
    for pack in packs:
        assert pack.request is not None
        faults |= {len(items) + position: error for position, error in pack.faults.items()}
        items += pack.request.items
    return items, faults


def _split(results: list[Result], packs: Sequence[Pack]) -> list[list[Result]]:
    parts = []
    start = 0
    for pack in packs:
        parts.append(results[start : start + len(pack)])
        start += len(pack)
    return parts
