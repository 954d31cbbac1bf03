"""Variables of the environment that nobody reads."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmaas.broker_config import environment
from lmaas.broker_config.settings import Settings
from lmaas.cli import COMMANDS

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _nothing_was_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_looked_at", set())


def files() -> Iterator[Path]:
    """Ours that are texts; `lmaas` has links to the others."""
    for top in ROOT.iterdir():
        if top.name.startswith("."):
            continue
        for path in [top] if top.is_file() else top.rglob("*"):
            if path.is_file() and path.suffix in {".py", ".md", ".yml", ".toml", ""}:
                yield path


def test_every_variable_in_our_files_is_known() -> None:
    found = {
        name
        for path in files()
        if path != Path(__file__)
        for name in re.findall(rb"\bLMAAS_([A-Z][A-Z_]+)", path.read_bytes())
    }
    known = environment.OTHERS | {name.upper() for name in Settings.__struct_fields__}
    strange = {name.decode() for name in found} - known
    assert not {name for name in strange if not environment.may_be_an_option(f"LMAAS_{name}")}
    assert len(found) > 20


def test_the_commands_are_those_of_the_command_line() -> None:
    assert set(environment.COMMANDS) == set(COMMANDS)


def test_a_library_user_gets_one_warning_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LMAAS_BROKER_ULR", "amqp://secret@there/")
    monkeypatch.setenv("LMAAS_QUANTUM", "1")
    monkeypatch.setenv("LMAAS_SUBMIT_MODEL", "sentiment")
    monkeypatch.setenv("LMAAS_DATASETS", "/data")
    Settings.load()
    Settings.load()
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    start = "the environment variable LMAAS_{} is not used: there is no such setting"
    meant = start.format("BROKER_ULR") + "; did you mean LMAAS_BROKER_URL?"
    assert told == [meant, start.format("QUANTUM")]


def test_the_command_line_warns_once_and_knows_its_options() -> None:
    variables = {
        "LMAAS_TIMOUT": "3", "LMAAS_BENCH_CALERS": "3", "LMAAS_BENCH_CALLERS": "3",
        "LMAAS_DEAD_LIST_LIMIT": "7", "LMAAS_UP_MODELS": "m", "LMAAS_RABBITMQ": "r",
    }  # fmt: skip
    ended = subprocess.run(
        [sys.executable, "-m", "lmaas", "broker", "definitions"],
        env=variables, capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    first, second = ended.stderr.splitlines()
    assert "LMAAS_BENCH_CALERS is not used" in first
    assert "LMAAS_TIMOUT is not used: there is no such setting; did you mean LMAAS_TIMEOUT?" \
        in second  # fmt: skip
    assert ended.stdout.startswith("{")
