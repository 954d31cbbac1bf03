"""What is loaded before worker processes are forked is theirs, and what fails then harms nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmaas.broker_config.settings import Settings
from lmaas.workers import preloading

#: A process that is forked as workers are tells what it has, and what it answers.
PROGRAM = """
import os, sys, threading
from lmaas.broker_config.messages import Item
from lmaas.broker_config.settings import Settings
from lmaas.service.starting import context, prepare
from lmaas.workers import preloading

def told(settings):
    from lmaas.workers.models import INHERITED, Models

    runtime = Models(settings).load("sentiment")
    version = runtime.manifest.version
    is_inherited = INHERITED.get(("sentiment", version)) is runtime
    (answer,) = runtime.labelled([Item(id="", text="What a great film!")])
    print(version, "inherited" if is_inherited else "own", answer[0], flush=True)
    print(any("PRELOADED" in name for name in os.environ), flush=True)

if __name__ == "__main__":
    forking = context("lmaas.workers.worker", "lmaas.workers.preloading", *sys.argv[2:])
    settings = Settings(models=sys.argv[1], processes=2)
    prepare(forking, {**preloading.variables(settings, ()), "_TRIED": "1"})
    assert "_TRIED" not in os.environ
    for _ in range(2):
        process = forking.Process(target=told, args=(settings,))
        process.start()
        process.join()
"""


def lines(folder: Path, repository: Path, *modules: str, warnings: int = 0) -> list[str]:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program), str(repository), *modules],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (0, warnings), done.stderr
    return done.stdout.splitlines()


def test_forked_processes_have_what_was_loaded_before(repository: Path, tmp_path: Path) -> None:
    assert lines(tmp_path, repository) == ["10 inherited positive", "False"] * 2


def test_a_version_that_has_changed_since_is_loaded_again(repository: Path, tmp_path: Path) -> None:
    """As a worker that is started again after a while finds it."""
    (tmp_path / "changing.py").write_text(
        "from pathlib import Path\n"
        f"path = Path({str(repository)!r}, 'sentiment', '10', 'manifest.json')\n"
        "path.write_text(path.read_text().replace('\"ngram\"', '\"other\"'))\n"
    )
    assert lines(tmp_path, repository, "changing") == ["10 own positive", "False"] * 2


def test_what_ends_the_process_that_loads_is_left_to_those_that_serve(
    repository: Path, tmp_path: Path
) -> None:
    """As a model may that makes ONNX Runtime crash."""
    (tmp_path / "crashing.py").write_text("import os\nif '_TRIED' in os.environ:\n    os.abort()\n")
    assert lines(tmp_path, repository, "crashing") == ["10 own positive", "False"] * 2


def test_what_is_damaged_is_left_to_those_that_serve(repository: Path, tmp_path: Path) -> None:
    """Who use the version before, and say so, each once."""
    (repository / "sentiment" / "10" / "vocabulary.txt").write_text("")
    told = lines(tmp_path, repository, warnings=2)
    assert told == ["2 inherited positive", "False"] * 2


@pytest.mark.parametrize(
    "setting", [{"providers": ("CUDAExecutionProvider", "CPUExecutionProvider")}, {"threads": 2}]
)
def test_only_sessions_of_one_thread_on_the_cpu_survive_a_fork(
    repository: Path, monkeypatch: pytest.MonkeyPatch, setting: dict[str, object]
) -> None:
    from lmaas.workers import models

    monkeypatch.setattr(models, "INHERITED", {})
    for settings, expected in (
        (Settings(models=str(repository)), [("sentiment", "10")]),
        (Settings(models=str(repository), **setting), []),  # type: ignore[arg-type]
    ):
        models.INHERITED.clear()
        preloading._load(preloading._Wanted(settings=settings, served=("sentiment",)))
        assert list(models.INHERITED) == expected


def test_the_broker_s_password_is_not_in_the_environment() -> None:
    settings = Settings(broker_url="amqp://user:secret@host/", tls_key="/key", processes=2)
    (value,) = preloading.variables(settings, ("sentiment",)).values()
    assert "secret" not in value
    assert "/key" not in value
    assert '"sentiment"' in value
