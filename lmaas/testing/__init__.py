"""Clients for your tests: the real ones, on a service that is in this process instead of a broker.

    client = testing.SyncClient({"What a film!": "positive"})
    assert client.classify("sentiment", "What a film!").label == "positive"
    assert client.calls == [testing.Call("sentiment", "What a film!")]

Everything above the queue is the code that runs in production: checks of texts, packs, ids, order,
time limits, errors. What the broker and the workers would do is `Service`. Code that makes its own
clients is tested with the pytest fixture `lmaas_service` (see docs/testing.md).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lmaas.broker_config.settings import Settings
from lmaas.producer import client as real
from lmaas.producer import sync as real_sync
from lmaas.producer.publishing import PackPublisher
from lmaas.producer.replies import Replies
from lmaas.testing.answers import Answer, Answers, Content
from lmaas.testing.ends import ends
from lmaas.testing.service import Call, Service

__all__ = ["Answer", "Answers", "Call", "Client", "Content", "Service", "SyncClient"]


class _OfService:
    """What both clients have beside the real ones."""

    service: Service

    @property
    def calls(self) -> list[Call]:
        """The items that have reached the service."""
        return self.service.calls


class Client(_OfService, real.Client):
    """`lmaas.Client` on a service in this process."""

    def __init__(
        self,
        answers: Answers | Service | None = None,
        *,
        serves: Collection[str] | None = None,
        delay: float = 0.0,
        settings: Settings | None = None,
        **arguments: Any,
    ) -> None:
        """As `Service`, or with one that several clients share; other arguments are settings."""
        super().__init__(settings, **arguments)
        if not isinstance(answers, Service):
            answers = Service(answers, serves=serves, delay=delay)
        self.service = answers

    def _ends(self) -> tuple[PackPublisher, Replies]:
        return ends(self.service, self.settings, self.id)


class SyncClient(_OfService, real_sync.SyncClient):
    """`lmaas.SyncClient` on a service in this process."""

    def __init__(
        self,
        answers: Answers | Service | None = None,
        *,
        serves: Collection[str] | None = None,
        delay: float = 0.0,
        settings: Settings | None = None,
        **arguments: Any,
    ) -> None:
        """As `Client`."""
        super().__init__(settings, **arguments)
        client = Client(answers, serves=serves, delay=delay, settings=self._client.settings)
        self._client = client
        self.service = client.service
