"""Answers packs with the models of a repository: what every way in runs.

No queue in here: a worker calls it with what came from RabbitMQ, the in-process pool with the
same bytes. It blocks, so it is called off the event loop.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import MessageError, ModelDamaged, ModelNotFound
from lmaas.broker_config.messages import UNSURE, ItemError, Options, Reply, failed
from lmaas.broker_config.settings import Settings
from lmaas.workers.models import Models
from lmaas.workers.pack import Pack, failed_reply
from lmaas.workers.plan import failure
from lmaas.workers.run import Group, Run
from lmaas.workers.runtime import Runtime


class Answerer:
    """Runs packs on models, which it loads when they are asked for."""

    def __init__(self, settings: Settings, worker: str) -> None:
        self.settings = settings
        self.models = Models(settings)
        self._worker = worker

    def _runtime(self, model: str, version: str | None, packs: Sequence[Pack]) -> Runtime:
        """Raises ModelNotFound or ModelDamaged for a version that was asked for.

        One that was only current when they came may have been deleted since, and unloaded.
        """
        try:
            return self.models.load(model, version)
        except (ModelNotFound, ModelDamaged):
            if version is None or any(pack.request and pack.request.version for pack in packs):
                raise
            return self.models.load(model)

    def begin(self, packs: Sequence[Pack]) -> Run:
        """Packs that run together, as far as they are for the same version; nothing is run yet."""
        began = time.monotonic()
        replies: dict[int, Reply] = {}
        alike: dict[tuple[str, str | None, Options], list[int]] = {}
        for place, pack in enumerate(packs):
            if pack.request is None:
                replies[place] = Reply(model="", results=[], worker=self._worker, error=pack.error)
            elif pack.error is not None:
                replies[place] = self._refusal(pack, pack.error)
            else:
                request = pack.request
                key = (request.model, request.version or pack.version, request.options)
                alike.setdefault(key, []).append(place)
        groups = []
        for (model, version, options), places in alike.items():
            try:
                runtime = self._runtime(model, version, [packs[place] for place in places])
                _check(options, runtime)
            except (ModelNotFound, ModelDamaged, MessageError) as error:
                fault = ItemError(code=self._code(error, model), message=str(error))
                replies |= {place: self._refusal(packs[place], fault) for place in places}
            except (OSError, MemoryError) as error:
                fault = failure(error)
                replies |= {place: failed_reply(packs[place], fault, self._worker)
                            for place in places}  # fmt: skip
            else:
                private = bool(self.settings.payload_keys or self.settings.redact)
                own = [packs[place] for place in places]
                groups.append(Group(places, own, runtime, options, private=private))
        return Run(self._worker, packs, groups, replies, began)

    def answer(self, packs: Sequence[Pack]) -> list[Reply]:
        """A reply for each pack; packs of one model run together."""
        run = self.begin(packs)
        run.advance()
        return run.replies()

    def _code(self, error: ModelNotFound | ModelDamaged | MessageError, model: str) -> Code:
        if isinstance(error, MessageError):
            return Code.MALFORMED
        if isinstance(error, ModelDamaged):
            return Code.MODEL_DAMAGED
        is_known = self.models.repository.versions(model)
        return Code.UNKNOWN_VERSION if is_known else Code.UNKNOWN_MODEL

    def _refusal(self, pack: Pack, error: ItemError) -> Reply:
        assert pack.request is not None
        return Reply(
            model=pack.request.model,
            version=pack.request.version,
            worker=self._worker,
            results=failed(pack.request.items, error),
            error=error,
        )


def _check(options: Options, runtime: Runtime) -> None:
    """Raises MessageError when an answer could not be told from one of the model's labels."""
    if options.min_score and UNSURE in runtime.labels and not runtime.manifest.multi_label:
        raise MessageError(
            f"min_score is {options.min_score}, and {runtime.manifest.name} has a label {UNSURE!r} "
            "of its own, which is what items below it get; ask without min_score"
        )
