"""`lmaas broker` as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lmaas.broker_config.settings import Settings
from lmaas.cli.exits import Exit


def lmaas(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lmaas", "broker", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.fixture
def at(settings: Settings) -> list[str]:
    """Options that name the test's broker and its part of it."""
    return ["--broker", settings.broker_url, "--prefix", settings.prefix]


def test_doctor_sees_what_declare_makes(at: list[str]) -> None:
    ill = lmaas("doctor", "--model", "m", "--json", *at)
    assert ill.returncode == Exit.FAILED
    report = json.loads(ill.stdout)
    assert report["reachable"]
    assert {one["problem"] for one in report["differences"]} == {"missing"}
    told = lmaas("doctor", "--model", "m", *at).stdout
    exchanges, queues = [line for line in told.splitlines() if line.endswith(": missing")]
    assert re.fullmatch(r"9 exchanges: (\S+, ){3}…: missing", exchanges)
    assert re.fullmatch(r"10 queues: (\S+, ){3}…: missing", queues)
    made = lmaas("declare", "--model", "m", *at)
    assert made.returncode == Exit.OK
    well = lmaas("doctor", "--model", "m", *at)
    assert (well.returncode, "nothing differs" in well.stdout) == (Exit.OK, True)


def test_doctor_names_what_differs(at: list[str]) -> None:
    assert lmaas("declare", *at).returncode == Exit.OK
    other = lmaas("doctor", "--queue-type", "quorum", *at)
    assert other.returncode == Exit.FAILED
    assert "x-queue-type" in other.stdout
    refused = lmaas("declare", "--queue-type", "quorum", *at)
    assert refused.returncode == Exit.FAILED
    (line,) = refused.stderr.splitlines()
    assert "lmaas broker doctor" in line


def test_doctor_says_what_is_wrong_with_the_address(settings: Settings) -> None:
    password = settings.broker_url.split(":")[2].split("@")[0]
    wrong = settings.broker_url.replace(password, "guess")
    for url, complaint in (
        (wrong, "refused user or password"),
        ("amqp://127.0.0.1:1/", "no broker"),
    ):
        answer = lmaas("doctor", "--json", LMAAS_BROKER_URL=url, LMAAS_CONNECT_TIMEOUT="2")
        report = json.loads(answer.stdout)
        assert (answer.returncode, report["reachable"]) == (Exit.FAILED, False)
        assert complaint in report["error"]
        assert "guess" not in answer.stdout + answer.stderr


def test_definitions_are_json(tmp_path: Path) -> None:
    printed = lmaas("definitions", "--model", "m", "--queue-type", "quorum", "--prefix", "p")
    queues = {queue["name"] for queue in json.loads(printed.stdout)["queues"]}
    assert "p.v1.work.m.short" in queues


@pytest.mark.parametrize("command", ["declare", "definitions", "doctor", "users"])
@pytest.mark.parametrize("name", ["a/b", "..", "", "x" * 201])
def test_no_lanes_are_made_for_what_cannot_be_a_model(command: str, name: str) -> None:
    ended = lmaas(command, "--model", "good", "--model", name)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"{name!r} cannot be a model's name" in ended.stderr


def test_start_is_found_by_other_commands_until_it_is_stopped(
    rabbitmq: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "lmaas", "broker", "start", "--folder", str(tmp_path / "b")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as broker:
        try:
            assert broker.stdout is not None
            told = broker.stdout.readline() + broker.stdout.readline()
            assert lmaas("declare").returncode == Exit.OK
            broker.send_signal(signal.SIGINT)
            assert broker.wait(180) == Exit.INTERRUPTED
        finally:
            broker.kill()
    assert "***" in told
    password = json.loads((tmp_path / "b" / "node.json").read_text())["password"]
    assert password not in told
    assert lmaas("doctor", LMAAS_CONNECT_TIMEOUT="1").returncode == Exit.FAILED
