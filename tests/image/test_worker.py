"""The worker's image as a container: read-only, a user without rights, process number 1."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from lmaas.producer.sync import SyncClient
from tests.image.containers import podman, service

pytestmark = pytest.mark.image


def test_a_container_serves_tells_its_health_and_drains(
    logins: Mapping[str, str], worker: str
) -> None:
    with SyncClient(broker_url=logins["producer"]) as client:
        assert client.classify("sentiment", "a wonderful, moving film").label == "positive"
    health = podman("exec", worker, *service("worker")["healthcheck"]["test"][1:])
    assert health.stdout.count(" ready\n") == 2
    assert podman("exec", worker, "id", "-u").stdout == "10001\n"
    assert podman("exec", worker, "touch", "/srv/file", check=False).returncode == 1
    states = podman("exec", worker, "sh", "-c", "cat /proc/[0-9]*/stat").stdout
    assert ") Z " not in states
    podman("stop", "--time", "30", worker)
    assert podman("logs", worker).stderr.count(" drained\n") == 2
    assert podman("inspect", "--format", "{{.State.ExitCode}}", worker).stdout == "0\n"
