"""The models of this machine, in this process: what answers where a test says nothing else."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Final

from lmaas.broker_config.errors import LmaasError
from lmaas.broker_config.messages import MSGPACK, ModelCard, Reply
from lmaas.broker_config.settings import Settings

if TYPE_CHECKING:
    from lmaas.workers.answering import Answerer

#: In the replies, where a worker has its name.
WORKER: Final = "lmaas.testing"

_running: Final = threading.Lock()


def reply(body: bytes, settings: Settings) -> Reply:
    """The models' reply. Blocks; one at a time, as in a worker."""
    with _running:
        answerer = _loaded(settings)
        from lmaas.workers.pack import read

        return answerer.answer([read(body, MSGPACK, settings)])[0]


def cards(models: list[str], settings: Settings) -> list[ModelCard]:
    """What a worker would say of these models. Blocks."""
    with _running:
        loaded = _loaded(settings).models
        from lmaas.workers.cards import card

        return [
            card(settings, loaded, model, loaded.load(model).manifest.cost.calibration)
            for model in models
        ]


def _loaded(settings: Settings) -> Answerer:
    try:
        return _answerer(
            settings.models, settings.providers, settings.threads, settings.batch_units
        )
    except ModuleNotFoundError as error:
        raise LmaasError(
            f"{error.name} is missing, which runs models: install lmaas with its extra `worker`, "
            "or give lmaas.testing the answers"
        ) from error


@functools.lru_cache(maxsize=4)
def _answerer(
    models: str | tuple[str, ...], providers: tuple[str, ...], threads: int, batch_units: int
) -> Answerer:
    """Loaded once for all tests."""
    from lmaas.workers.answering import Answerer

    settings = Settings(
        models=models, providers=providers, threads=threads, batch_units=batch_units
    )
    return Answerer(settings, WORKER)
