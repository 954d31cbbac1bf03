"""How many processes serve models, and how many threads each session has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from lmaas.broker_config.settings import Settings
from lmaas.cli.worker import command, process_count
from lmaas.service import cores
from lmaas.workers import parallelism
from lmaas.workers.manifest import Manifest, Parallelism
from lmaas.workers.model_version import MANIFEST, read_manifest
from lmaas.workers.models import Models
from lmaas.workers.pool import Pool


def measured(repository: Path, threads: int | None, measured_cores: int = 8) -> Manifest:
    """The manifest of the newest version, on a machine of other cores than this one."""
    path = repository / "sentiment" / "10" / MANIFEST
    written = json.loads(path.read_bytes())
    written["parallelism"] = threads and {"cores": measured_cores, "threads": threads}
    path.write_text(json.dumps(written))
    return read_manifest(path.parent)


@pytest.mark.parametrize(
    ("threads", "here", "processes", "of_each"),
    [
        pytest.param(None, 8, 8, 1, id="nobody has measured it"),
        pytest.param(1, 8, 8, 1, id="small"),
        pytest.param(8, 8, 1, 8, id="heavy"),
        pytest.param(4, 8, 2, 4, id="between"),
        pytest.param(8, 2, 1, 2, id="heavy, on fewer cores"),
        pytest.param(8, 64, 8, 8, id="heavy, on more cores"),
        pytest.param(8, 12, 1, 8, id="heavy, on some more cores"),
        pytest.param(8, 1, 1, 1, id="one core"),
    ],
)
def test_cores_are_shared_out_as_was_measured(
    repository: Path, threads: int | None, here: int, processes: int, of_each: int
) -> None:
    manifest = measured(repository, threads)
    assert parallelism.processes(Settings(), [manifest], here) == processes
    assert parallelism.threads(Settings(processes=processes), manifest, here) == of_each


def test_what_is_set_stands(repository: Path) -> None:
    heavy = measured(repository, 8)
    assert parallelism.processes(Settings(processes=3), [heavy], 8) == 3
    assert parallelism.threads(Settings(processes=8, threads=5), heavy, 8) == 5
    # One of them decides on the other.
    assert parallelism.processes(Settings(threads=4), [heavy], 8) == 2
    assert parallelism.threads(Settings(processes=4), heavy, 8) == 2


def test_models_that_are_served_together_have_no_more_threads_than_cores(repository: Path) -> None:
    heavy, small = measured(repository, 8), measured(repository, 1)
    assert parallelism.processes(Settings(), [heavy, small], 8) == 8
    assert parallelism.threads(Settings(processes=8), heavy, 8) == 1
    assert parallelism.threads(Settings(processes=2), heavy, 8) == 4
    assert parallelism.threads(Settings(processes=2), small, 8) == 1


def test_sessions_have_the_threads_of_their_versions(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "usable", lambda: 4)
    measured(repository, 4)
    models = Models(Settings(models=str(repository), processes=1))
    threads = {
        version: models.load("sentiment", version)
        ._session.get_session_options()
        .intra_op_num_threads
        for version in ("2", "10")
    }
    assert threads == {"2": 1, "10": 4}


@pytest.mark.parametrize(("threads", "processes"), [(4, 1), (2, 2), (None, 4)])
def test_workers_and_files_have_the_processes_of_what_they_serve(
    repository: Path, monkeypatch: pytest.MonkeyPatch, threads: int | None, processes: int
) -> None:
    monkeypatch.setattr(cores, "usable", lambda: 4)
    measured(repository, threads)
    settings = Settings(models=str(repository))
    # What ships with LMaaS is served as well, if nobody names models; here it is the same one.
    for served in ((), ("sentiment",)):
        assert process_count(settings, served) == processes
    pool = Pool(settings, "sentiment")
    assert (pool.processes, pool.settings.processes) == (processes, processes)
    assert Pool(settings, "sentiment", "2").processes == 4  # which nobody has measured


def test_probes_look_at_as_many_processes(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "usable", lambda: 4)
    measured(repository, 2)
    arguments = ("--models", str(repository), "--model", "sentiment", "health", "--port", "1")
    lines = CliRunner().invoke(command, arguments).output.splitlines()
    assert [line.split()[0] for line in lines] == ["127.0.0.1:1", "127.0.0.1:2"]


def test_the_manifest_keeps_what_was_measured(repository: Path) -> None:
    assert measured(repository, 2).parallelism == Parallelism(cores=8, threads=2)
    assert measured(repository, None).parallelism is None


@pytest.mark.parametrize("damage", ["no manifest", "no JSON", "nothing"])
def test_what_cannot_be_read_is_left_to_who_loads_it(repository: Path, damage: str) -> None:
    version = repository / "sentiment" / "10"
    measured(repository, 4)
    if damage == "no manifest":
        (version / MANIFEST).unlink()
    elif damage == "no JSON":
        (version / MANIFEST).write_text("{")
    expected = 1 if damage == "nothing" else 4
    found = Models(Settings(models=str(repository))).repository.manifests(["sentiment", "nope"])
    assert parallelism.processes(Settings(), found, 4) == expected
