"""The wheel in somebody else's environment and folder: `make wheel-test`."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import psutil
import pytest

import lmaas
from tests.wheel.conftest import ROOT, Distributions, Environment, Program

pytestmark = pytest.mark.wheel

MODEL = {f"lmaas/models/sentiment/1/{name}" for name in ("manifest.json", "model.onnx")}
PAGES = {f"lmaas/producer/gateway/pages/{name}" for name in ("page.html", "page.js", "page.css")}
SWAGGER = {
    f"lmaas/producer/gateway/pages/swagger-ui/{name}"
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "LICENSE", "NOTICE")
}
NEEDED = {"lmaas/py.typed", "lmaas/broker_config/definitions.json", *MODEL, *PAGES, *SWAGGER}

TYPED = """
import lmaas


async def alone() -> str | None:
    async with lmaas.Client(lmaas.Settings(timeout=5.0)) as client:
        result: lmaas.Result = await client.classify("sentiment", "x", errors="return")
        async for each in client.classify_many("sentiment", ["a", ("1", "b")], ordered=False):
            print(each.id, each.label, each.error.code if each.error else None)
    return result.label


async def job() -> int:
    async with lmaas.Jobs() as jobs:
        entry: lmaas.JobEntry = await jobs.submit("sentiment", ["a"])
        progress: lmaas.Progress = await jobs.progress(entry.job)
        async for chunk in jobs.results(entry.job):
            reply: lmaas.Reply = chunk.reply
            print(len(reply.results))
    return progress.done or 0


def script() -> float | None:
    try:
        with lmaas.SyncClient(broker_url="amqp://localhost/") as client:
            return client.classify("sentiment", "x").score
    except lmaas.Busy as busy:
        return busy.retry_after


print(lmaas.__version__.upper())
"""
MISTYPED = """
import lmaas

with lmaas.SyncClient() as client:
    client.classify("sentiment", 3).label.upper()
"""
SCRIPT = """
import lmaas

with lmaas.SyncClient() as client:
    print(client.classify("sentiment", "I love it, a wonderful film").label)
    many = list(client.classify_many("sentiment", ["an awful, boring waste of time"] * 1000))
    print(len(many), {result.label for result in many})
"""


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_a_wheel_has_one_top_level_name_and_all_that_it_needs(built: Distributions) -> None:
    names = contents(built.wheel)
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"lmaas", f"lmaas-{lmaas.__version__}.dist-info"}
    assert names >= NEEDED
    assert [name for name in names if name.endswith((".pyc", ".so"))] == []


def test_a_wheel_is_the_same_from_the_sdist_and_from_the_checkout(built: Distributions) -> None:
    assert contents(built.wheel) == contents(built.direct)
    with tarfile.open(built.sdist) as archive:
        assert [entry.name for entry in archive if not (entry.isfile() or entry.isdir())] == []


def test_the_import_finds_the_wheel_and_nothing_of_the_user(serving: Environment) -> None:
    code = (
        "import lmaas, sys, lmaas.cli.worker, lmaas.cli.classify, lmaas.workers.worker\n"
        "print(lmaas.__version__, *{m.__file__ for n, m in sys.modules.items()\n"
        "      if n.partition('.')[0] == 'lmaas'}, sep='\\n')"
    )
    version, *files = serving.python(code).splitlines()
    assert version == lmaas.__version__
    assert len(files) > 30
    assert all("/site-packages/lmaas/" in file for file in files)


def test_the_command_says_its_version(serving: Environment) -> None:
    for command in (("python", "-m", "lmaas"), ("lmaas",)):
        done = serving.run(*command, "--version")
        assert (done.returncode, done.stdout, done.stderr) == (
            0, f"lmaas, version {lmaas.__version__}\n", "",
        )  # fmt: skip


def test_a_text_is_classified_with_the_shipped_model(serving: Environment) -> None:
    done = serving.run("lmaas", "classify", "--text", "I love it")
    assert done.returncode == 0, done.stderr
    assert "positive" in done.stdout
    assert_no_telemetry(serving)


def assert_no_telemetry(environment: Environment) -> None:
    """ONNX Runtime keeps a device's id and what it has to report in the user's cache."""
    assert not list((environment.home / ".cache").rglob("*onnxruntime*"))


def test_a_file_is_classified_by_several_processes(serving: Environment) -> None:
    rows = "".join(f"{number},a wonderful film\n" for number in range(5_000))
    (serving.work / "reviews.csv").write_text("id,text\n" + rows)
    options = ("--processes", "2", "-o", "out.parquet")
    done = serving.run("lmaas", "classify", "reviews.csv", *options)
    assert done.returncode == 0, done.stderr
    code = (
        "import pyarrow.parquet as p; print(set(p.read_table('out.parquet')['label'].to_pylist()))"
    )
    assert serving.python(code) == "{'positive'}\n"


@pytest.mark.usefixtures("rabbitmq")
def test_a_broker_workers_and_a_client(serving: Environment, start: type[Program]) -> None:
    up = start(serving, "lmaas", "up", "--processes", "1")
    up.says("ready")
    worker = start(serving, "python", "-m", "lmaas", "worker", "--processes", "2")
    worker.says("ready")
    worker.says("ready")
    assert serving.python(SCRIPT).splitlines() == ["positive", "1000 {'negative'}"]
    for program in (up, worker):
        assert_preloaded(program)
    assert_no_telemetry(serving)
    assert worker.stop() == 0
    assert up.stop() in {0, 130}
    assert "Traceback" not in "".join(up.lines + worker.lines)


def assert_preloaded(program: Program) -> None:
    """The process that workers are forked from has imported all that they need."""
    servers = [
        child
        for child in psutil.Process(program.process.pid).children()
        if "multiprocessing.forkserver" in " ".join(child.cmdline())
    ]
    assert len(servers) == 1
    assert any("onnxruntime" in mapped.path for mapped in servers[0].memory_maps())


def test_a_machine_without_rabbitmq_is_told_what_to_install(serving: Environment) -> None:
    (serving.work / "bare.py").write_text(
        "import lmaas.broker_config.local_node as node\n"
        "node._PACKAGED, node._HOMEBREW = '/nonexistent', ()\n"
        "from lmaas.cli import main\n"
        "main()\n"
    )
    done = serving.run("python", "bare.py", "up", PATH=str(serving.bin))
    assert done.returncode == 1
    assert "apt install rabbitmq-server" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_types_are_seen_by_a_strict_type_checker(serving: Environment) -> None:
    assert checked(serving, TYPED) == (0, "Success: no issues found in 1 source file\n")
    code, told = checked(serving, MISTYPED)
    assert code == 1
    assert "[arg-type]" in told
    assert "[union-attr]" in told


def checked(environment: Environment, source: str) -> tuple[int, str]:
    """mypy's exit code and its words over a user's program."""
    path = environment.work / "typed.py"
    path.write_text(source)
    installed = ("--python-executable", str(environment.bin / "python"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(environment.home / "mypy"),
         *installed, path.name],
        cwd=environment.work, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


# --- the client alone ----------------------------------------------------------------------------


def test_the_client_alone_has_the_whole_interface(client_only: Environment) -> None:
    code = "import lmaas; print(all(hasattr(lmaas, name) for name in lmaas.__all__))"
    assert client_only.python(code) == "True\n"


@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ("worker", ["classify", "--text", "x"]),
        ("worker", ["worker", "--broker", "amqp://127.0.0.1:1/"]),
        ("worker", ["up"]),
        ("files", ["classify", "x.parquet", "--queue"]),
        ("training", ["train", "sentiment"]),
    ],
)
def test_the_client_alone_names_the_extra_that_a_command_needs(
    client_only: Environment, extra: str, command: list[str]
) -> None:
    (client_only.work / "x.parquet").touch()
    done = client_only.run("lmaas", *command)
    assert done.returncode == 1
    assert f"lmaas[{extra}]" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_checkout_is_not_what_is_tested(serving: Environment) -> None:
    assert str(ROOT) not in serving.python("import sys; print(sys.path)")
