"""`scripts/compose-users`, in a folder of its own: what docker-compose.yml reads of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "compose-users"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One that has been set up: with the script, and the environment of these tests."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def made(checkout: Path, *models: str) -> int:
    script = checkout / "scripts" / SCRIPT.name
    return subprocess.run([script, *models], timeout=180, check=False).returncode


def test_passwords_are_private_and_stay_when_there_are_more_models(checkout: Path) -> None:
    secrets = checkout / "secrets"
    assert made(checkout, "sentiment") == 0
    passwords = json.loads((secrets / "passwords.json").read_text())
    login = f"worker:{passwords['worker']}"
    assert (secrets / "worker.env").read_text() == (
        f"LMAAS_BROKER_URL=amqp://{login}@rabbitmq:5672/\n"
    )
    assert made(checkout, "sentiment", "a name") == 0
    assert json.loads((secrets / "passwords.json").read_text()) == passwords

    # RabbitMQ's own user reads it, and it has no password.
    definitions = secrets / "definitions.json"
    imported = definitions.read_text()
    assert "lmaas.v1.work.sentiment.instant" in imported
    assert "lmaas.v1.work.a name.instant" in imported
    assert not [one for one in passwords.values() if one in imported]
    assert secrets.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in secrets.iterdir()}
    assert modes == {
        "definitions.json": 0o644,
        "passwords.json": 0o600,
        **{f"{user}.env": 0o600 for user in passwords},
    }


def test_what_cannot_be_a_model_changes_nothing(checkout: Path) -> None:
    assert made(checkout, "sentiment") == 0
    definitions = checkout / "secrets" / "definitions.json"
    before = definitions.read_bytes()
    assert made(checkout) == 2
    assert made(checkout, "sentiment", "a/b") == 2
    assert definitions.read_bytes() == before
