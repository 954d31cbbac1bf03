"""A worker's container, on the test's own queues."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lmaas.broker_config.ports import free_ports
from lmaas.broker_config.settings import Settings
from tests.image.containers import await_lines, running


@pytest.fixture
def of_the_test(settings: Settings) -> dict[str, str]:
    """The variables by which a container finds the test's queues."""
    return {"LMAAS_BROKER_URL": settings.broker_url, "LMAAS_PREFIX": settings.prefix}


@pytest.fixture
def worker(of_the_test: dict[str, str]) -> Iterator[str]:
    """Its name, once both of its worker processes are ready."""
    # The first of two in a row.
    port = next(port for port in free_ports(50) if port % 2 == 0)
    own = {"LMAAS_PROCESSES": "2", "LMAAS_HEALTH_PORT": str(port), "LMAAS_LOG_FORMAT": "text"}
    with running("worker", of_the_test | own) as container:
        await_lines(container, "ready: ", 2)
        yield container
