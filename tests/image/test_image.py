"""The worker's image as a container: read-only, a user without rights, process number 1."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator

import pytest

from lmaas.broker_config.local_node import free_ports
from lmaas.broker_config.settings import Settings
from lmaas.producer.sync import SyncClient

pytestmark = pytest.mark.image

_PODMAN = ["podman", "--storage-driver", os.environ.get("STORAGE_DRIVER", "vfs")]
_PODMAN += ["--runtime", "runc", "--cgroup-manager", "cgroupfs"]
_RUN = [
    "run", "--detach", "--network", "host", "--read-only", "--read-only-tmpfs=false",
    "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
    "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000",
]  # fmt: skip


def podman(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run([*_PODMAN, *arguments], capture_output=True, text=True, check=False)
    if check and ended.returncode:
        pytest.fail(f"podman {arguments[0]}: {ended.stderr}")
    return ended


@pytest.fixture
def container(settings: Settings) -> Iterator[str]:
    """Its name, once both of its worker processes are ready."""
    name = f"lmaas-{uuid.uuid4().hex[:12]}"
    variables = {
        "LMAAS_BROKER_URL": settings.broker_url,
        "LMAAS_PREFIX": settings.prefix,
        "LMAAS_PROCESSES": "2",
        "LMAAS_HEALTH_PORT": str(_two_free_ports()),
    }
    given = [word for pair in variables.items() for word in ("--env", "=".join(pair))]
    podman(*_RUN, "--name", name, *given, os.environ["LMAAS_IMAGE"])
    try:
        _await_ready(name, 2)
        yield name
    finally:
        podman("rm", "--force", "--time", "0", name)


def _two_free_ports() -> int:
    """The first of two in a row."""
    return next(port for port in free_ports(50) if port % 2 == 0)


def _await_ready(name: str, count: int) -> None:
    following = subprocess.Popen(
        [*_PODMAN, "logs", "--follow", name],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert following.stdout is not None
    seen = []
    for line in following.stdout:
        seen.append(line)
        count -= "ready: " in line
        if not count:
            break
    following.kill()
    following.communicate()
    if count:
        pytest.fail("".join(seen))


def test_a_container_serves_tells_its_health_and_drains(settings: Settings, container: str) -> None:
    with SyncClient(settings) as client:
        assert client.classify("sentiment", "a wonderful, moving film").label == "positive"
    health = podman("exec", container, "lmaas", "worker", "health")
    assert health.stdout.count(" ready\n") == 2
    assert podman("exec", container, "id", "-u").stdout == "10001\n"
    assert podman("exec", container, "touch", "/srv/file", check=False).returncode == 1
    states = podman("exec", container, "sh", "-c", "cat /proc/[0-9]*/stat").stdout
    assert ") Z " not in states
    podman("stop", "--time", "30", container)
    assert podman("logs", container).stderr.count(" drained\n") == 2
    assert podman("inspect", "--format", "{{.State.ExitCode}}", container).stdout == "0\n"
