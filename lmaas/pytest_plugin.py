"""The pytest fixtures. Every run of pytest imports this, so that it imports nothing of LMaaS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lmaas.testing import Service


@pytest.fixture
def lmaas_service(monkeypatch: pytest.MonkeyPatch) -> Service:
    """What answers every `lmaas.Client` and `lmaas.SyncClient` that connects during the test.

    It runs the models of this machine until the test says `lmaas_service.answers = ...`.
    """
    from lmaas.producer.client import Client
    from lmaas.testing import Service
    from lmaas.testing.ends import ends

    service = Service()
    monkeypatch.setattr(Client, "_ends", lambda self: ends(service, self.settings, self.id))
    return service
