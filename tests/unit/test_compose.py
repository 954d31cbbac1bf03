"""docker-compose.yml: who logs in to the broker as whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lmaas.broker_config.rights import ROLES

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())[
    "services"
]


def test_each_service_has_the_login_of_its_own_user_and_no_other() -> None:
    users = {name: one["env_file"] for name, one in SERVICES.items() if "env_file" in one}
    assert users == {name: f"secrets/{name}.env" for name in ("worker", "gateway", "operator")}
    assert set(users) < set(ROLES)
    assert not [
        one for one in SERVICES.values() if "LMAAS_BROKER_URL" in one.get("environment", {})
    ]


def test_the_broker_imports_what_the_script_writes() -> None:
    mounts = dict(one.split(":")[:2] for one in SERVICES["rabbitmq"]["volumes"])
    read = (ROOT / "broker_config" / "load_definitions.conf").read_text().splitlines()[-1]
    assert read == f"load_definitions = {mounts['./secrets/definitions.json']}"
    assert ">secrets/definitions.part" in (ROOT / "scripts" / "compose-users").read_text()
    for path in mounts:
        assert path in {"rabbitmq", "./secrets/definitions.json"} or (ROOT / path).is_file()
