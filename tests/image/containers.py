"""Containers of the images, which podman runs with what docker-compose.yml says of them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

_ROOT = Path(__file__).parents[2]
_PODMAN = ["podman", "--storage-driver", os.environ.get("STORAGE_DRIVER", "vfs")]
_PODMAN += ["--runtime", "runc", "--cgroup-manager", "cgroupfs"]
# Without a network of its own: the broker listens at the loopback address.
_RUN = ["run", "--detach", "--network", "host", "--read-only-tmpfs=false"]
_RUN += ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"]
#: Seconds after which a container that should be ready has failed to.
_LIMIT = 120


def podman(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """What podman says. A failure of it is one of the test, unless `check` is false."""
    ended = subprocess.run([*_PODMAN, *arguments], capture_output=True, text=True, check=False)
    if check and ended.returncode:
        pytest.fail(f"podman {arguments[0]}: {ended.stderr}")
    return ended


def service(name: str) -> dict[str, Any]:
    """What docker-compose.yml says of a service."""
    services: dict[str, dict[str, Any]]
    services = yaml.safe_load((_ROOT / "docker-compose.yml").read_text())["services"]
    return services[name]


@contextlib.contextmanager
def running(name: str, variables: Mapping[str, str], *options: str) -> Iterator[str]:
    """The name of a container of the service `name`, with `variables` beside those of its own."""
    described = service(name)
    container = f"{described['image']}-{uuid.uuid4().hex[:12]}"
    given = [*_restrictions(described), *_mounts(described, container), *options]
    for variable, value in (described["environment"] | variables).items():
        given += ["--env", f"{variable}={value}"]
    try:
        podman(*_RUN, "--name", container, *given, f"localhost/{described['image']}")
        yield container
    finally:
        podman("rm", "--force", "--volumes", "--time", "0", container, check=False)
        podman("volume", "rm", "--force", container, check=False)


def _restrictions(described: dict[str, Any]) -> list[str]:
    given = ["--read-only"] if described["read_only"] else []
    for place in described["tmpfs"]:
        given += ["--tmpfs", place]
    for capability in described["cap_drop"]:
        given += ["--cap-drop", capability]
    for option in described["security_opt"]:
        # Podman before 4.4 has it as a switch.
        given += ["--security-opt", option.removesuffix(":true")]
    return given


def _mounts(described: dict[str, Any], container: str) -> list[str]:
    """A named volume is the container's own here; paths are relative to the compose file."""
    given = []
    for mount in described["volumes"]:
        source, _, rest = mount.partition(":")
        source = str(_ROOT / source) if source.startswith(".") else container
        given += ["--volume", f"{source}:{rest}"]
    return given


def await_lines(container: str, words: str, count: int = 1) -> None:
    """Until so many lines of its log have these words. It fails when the container ends before."""
    following = subprocess.Popen(
        [*_PODMAN, "logs", "--follow", container],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    limit = threading.Timer(_LIMIT, following.kill)
    limit.start()
    assert following.stdout is not None
    seen = []
    for line in following.stdout:
        seen.append(line)
        count -= words in line
        if not count:
            break
    limit.cancel()
    following.kill()
    following.communicate()
    if count:
        pytest.fail("".join(seen))
