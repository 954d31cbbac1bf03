"""Resident memory of workers with an encoder of 90 MB, by the number of their processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from lmaas.broker_config.settings import Settings
from lmaas.cli.models import command

pytestmark = pytest.mark.models

LABELS = ["where is my card", "change my address", "what is the fee"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = os.environ.get("LMAAS_DATASETS")
    if not data or not Path(data, "minilm").is_dir():
        pytest.skip("needs the folder of an encoder")
    folder = tmp_path_factory.mktemp("models")
    (folder / "labels.txt").write_text("\n".join(LABELS))
    arguments = ("--models", str(folder / "own"), "create", "intents")
    more = ("--labels", str(folder / "labels.txt"), "--encoder", str(Path(data, "minilm")))
    made = CliRunner().invoke(command, [*arguments, *more])
    assert made.exit_code == 0, made.output
    return folder / "own"


def resident(settings: Settings, models: Path, processes: int) -> float:
    """MB of all processes of `lmaas worker`, each page that several have counted once (PSS)."""
    own = {"LMAAS_BROKER_URL": settings.broker_url, "LMAAS_PREFIX": settings.prefix}
    worker = subprocess.Popen(
        [sys.executable, "-m", "lmaas", "worker", "--models", str(models), "--model", "intents",
         "--processes", str(processes)],
        env=os.environ | own, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert worker.stderr is not None
        ready = 0
        while ready < processes:
            line = worker.stderr.readline()
            assert line, "it has ended"
            ready += "ready: intents" in line
        tree = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
        return sum(process.memory_full_info().pss for process in tree) / 1e6
    finally:
        worker.terminate()
        worker.communicate(timeout=60)


def test_processes_share_the_weights(settings: Settings, models: Path) -> None:
    one, two, four = (resident(settings, models, processes) for processes in (1, 2, 4))
    sys.stdout.write(f"1 process: {one:.0f} MB, 2: {two:.0f} MB, 4: {four:.0f} MB\n")
    assert two < 1.5 * one
    assert four < 2 * one
