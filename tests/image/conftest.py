"""A worker's container, at a broker that has the users of docker-compose.yml."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.ports import free_ports
from tests.image.containers import await_lines, running


@pytest.fixture(scope="session")
def logins(rabbitmq: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """By the user, the URL of a broker that has imported what scripts/compose-users writes."""
    folder = tmp_path_factory.mktemp("users")
    passwords, definitions = folder / "passwords.json", folder / "definitions.json"
    command = [sys.executable, "-m", "lmaas", "broker", "definitions", "--model", "sentiment"]
    made = subprocess.run(
        [*command, "--passwords-file", passwords], stdout=subprocess.PIPE, check=True
    )
    definitions.write_bytes(made.stdout)
    node = LocalNode()
    asyncio.run(node.start())
    try:
        asyncio.run(node.ctl("import_definitions", str(definitions)))
        place = node.url.rpartition("@")[2]
        yield {
            user: f"amqp://{user}:{password}@{place}"
            for user, password in json.loads(passwords.read_text()).items()
        }
    finally:
        asyncio.run(node.stop())


@pytest.fixture
def worker(logins: Mapping[str, str]) -> Iterator[str]:
    """Its name, once both of its worker processes are ready."""
    # The first of two in a row.
    port = next(port for port in free_ports(50) if port % 2 == 0)
    own = {
        "LMAAS_BROKER_URL": logins["worker"],
        "LMAAS_PROCESSES": "2",
        "LMAAS_HEALTH_PORT": str(port),
        "LMAAS_LOG_FORMAT": "text",
    }
    with running("worker", own) as container:
        await_lines(container, "ready: ", 2)
        yield container
