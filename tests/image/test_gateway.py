"""The gateway's image as a container, before a worker's: read-only, a user without rights."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any

import pytest

from lmaas.broker_config.ports import free_ports
from tests.image.containers import await_lines, podman, running, service

pytestmark = [pytest.mark.image, pytest.mark.usefixtures("worker")]

_CALL = json.dumps({"model": "sentiment", "items": ["a wonderful, moving film"]})


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def variables(logins: Mapping[str, str], port: int) -> dict[str, str]:
    """Those by which a gateway finds the broker, and we find it."""
    return {"LMAAS_BROKER_URL": logins["gateway"], "LMAAS_GATEWAY_PORT": str(port)}


def called(port: int, **headers: str) -> tuple[int, Any]:
    """Status and JSON of a call to classify one text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/v1/classify", _CALL, headers)
        answer = connection.getresponse()
        return answer.status, json.load(answer)
    finally:
        connection.close()


def test_the_service_of_compose_answers_callers_with_a_key(
    variables: dict[str, str], port: int
) -> None:
    with running("gateway", variables) as container:
        await_lines(container, "gateway: ")
        probe = service("gateway")["healthcheck"]["test"][1:]
        podman("exec", container, *(word.replace("8080", str(port)) for word in probe))
        assert podman("exec", container, "id", "-u").stdout == "10001\n"
        assert podman("exec", container, "touch", "/srv/file", check=False).returncode == 1

        assert called(port)[0] == 401
        made = ["lmaas", "gateway", "keys", "create", "--name", "me", "--scope", "classify"]
        key = podman("exec", container, *made).stdout.strip()
        status, answer = called(port, Authorization=f"Bearer {key}")
        assert (status, answer["results"][0]["label"]) == (200, "positive")

        podman("kill", "--signal", "TERM", container)
        assert podman("wait", container).stdout == "0\n"
        # The key is in the volume.
        podman("start", container)
        await_lines(container, "gateway: ", 2)
        assert called(port, Authorization=f"Bearer {key}")[0] == 200


def test_a_user_without_a_home_names_a_folder(variables: dict[str, str], port: int) -> None:
    variables |= {"LMAAS_GATEWAY_HOST": "127.0.0.1", "LMAAS_GATEWAY_ACCESS": "open"}
    with running("gateway", variables, "--user", "nobody") as container:
        assert podman("wait", container).stdout == "2\n"
        assert "(gateway.folder)" in podman("logs", container).stderr
    variables["LMAAS_GATEWAY_FOLDER"] = "/tmp/gateway"
    with running("gateway", variables, "--user", "nobody") as container:
        await_lines(container, "gateway: ")
        assert podman("exec", container, "id", "-un").stdout == "nobody\n"
        status, answer = called(port)
        assert (status, answer["results"][0]["label"]) == (200, "positive")
        podman("kill", "--signal", "TERM", container)
        assert podman("wait", container).stdout == "0\n"
