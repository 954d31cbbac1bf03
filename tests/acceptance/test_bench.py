"""`lmaas bench` as a user runs it, against a real broker and a worker with the model that ships."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.exceptions import ChannelNotFoundEntity

from lmaas.broker_config import extras
from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.settings import Settings
from lmaas.cli.exits import Exit

MODELS = Path(__file__).parents[2] / "models"
#: As long as a test needs to see every phase.
SHORT = ("--seconds", "1.5", "--callers", "8")

#: Runs the real command in a process that sends a signal in the middle of its work, at the call
#: `left` of those that are made while `together`, itself included, run; and says on standard error
#: which clients it had. With 0 `together` those are counted that have ended.
SIGNALLING = """
import os, sys
from lmaas import cli
from lmaas.producer.client import Client

name, together, left, number, pid = sys.argv.pop(1), *(int(sys.argv.pop(1)) for _ in range(4))
running = 0
original, enter = getattr(Client, name), Client.__aenter__

async def signalling(*arguments, **more):
    global running
    running += 1
    count(together and running >= together)
    try:
        return await original(*arguments, **more)
    finally:
        running -= 1
        count(not together)

def count(one):
    global left
    left -= bool(one)
    if left == 0:
        left -= 1
        os.kill(pid or os.getpid(), number)

async def telling(client):
    print("client", client.id, file=sys.stderr)
    return await enter(client)

setattr(Client, name, signalling)
Client.__aenter__ = telling
cli.main()
"""

WITHOUT_MATPLOTLIB = """
import sys
from lmaas import cli

class Missing:
    def find_spec(self, name, *_):
        if name == "matplotlib":
            raise ModuleNotFoundError(name=name)

sys.meta_path.insert(0, Missing())
cli.main()
"""

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def bench(tmp_path: Path) -> Command:
    """Runs `lmaas bench` in a folder of its own, or a program that does."""

    def run(
        *arguments: str, start: tuple[str, ...] = ("-m", "lmaas"), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *start, "bench", *arguments],
            cwd=tmp_path,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    return run


@pytest.fixture
def broker(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's broker and its part of it, for every process that the test starts."""
    monkeypatch.setenv("LMAAS_BROKER_URL", settings.broker_url)
    monkeypatch.setenv("LMAAS_PREFIX", settings.prefix)


@pytest.fixture
def worker(broker: None) -> Iterator[int]:
    """A worker that is ready: its process id."""
    command = [sys.executable, "-m", "lmaas", "worker", "--processes", "1", "--models", str(MODELS)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("ready" in line for line in process.stderr)
        yield process.pid
        process.terminate()
        process.communicate()


@pytest.mark.usefixtures("worker")
def test_figures_and_a_picture(bench: Command, settings: Settings, tmp_path: Path) -> None:
    ended = bench(*SHORT, "--json", "--plot", "a.png")
    assert (ended.returncode, ended.stderr) == (Exit.OK, "")
    report = json.loads(ended.stdout)
    assert (report["model"], report["version"], report["workers"]) == ("sentiment", "1", 1)
    assert (report["broker"], report["callers"]) == (settings.broker, 8)
    assert (report["texts"], report["texts_used"], report["texts_left_out"]) == ("made up", 1000, 0)
    for phase in _phases(report):
        assert phase["items"] > 0
        assert (phase["failed"], phase["failures"]) == (0, {})
        assert phase["items_per_second"] * phase["seconds"] == pytest.approx(phase["items"])
    for phase in (report["unloaded"], report["concurrent"], *report["mixed"]):
        _check_latency(phase["latency_seconds"])
    lanes = [each["lane"] for each in report["mixed"]]
    assert lanes == [lane for lane in LANES if lane in lanes]
    for each in report["mixed"]:
        sizes = each["pack_items"]
        assert min(sizes) * each["packs"] <= each["items"] <= max(sizes) * each["packs"]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert [path.name for path in tmp_path.glob("a*")] == ["a.png"]


def _phases(report: dict[str, Any]) -> list[dict[str, Any]]:
    named = [report[name] for name in ("unloaded", "concurrent", "rehearsal", "bulk")]
    return [each for each in (*named, *report["mixed"]) if each]


def _check_latency(latency: dict[str, float | None]) -> None:
    assert list(latency) == ["p50", "p95", "p99", "max"]
    told = [seconds for seconds in latency.values() if seconds is not None]
    assert told == sorted(told)
    assert told[0] > 0


@pytest.mark.usefixtures("worker")
def test_a_table_of_the_texts_of_a_file(bench: Command, tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("id,review\n1,A good film\n2,\n3,Bad\n")
    ended = bench(*SHORT, "--texts", "reviews.csv", "--text-column", "review")
    assert (ended.returncode, ended.stderr) == (Exit.OK, "")
    assert "2 texts (reviews.csv) of 7 bytes" in ended.stdout.splitlines()[0]
    for name in ("one at a time", "8 at a time", "bulk, packs of", "mixed, instant: packs of 1"):
        assert name in ended.stdout
    assert "left out, because no model can classify them: 1 texts" in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--plot", "no/a.png"), Exit.FAILED, "no/a.png: there is no folder 'no'; create it first"),
        (("--plot", "a.doc"), Exit.USAGE, "ends with one of .png"),
        (("--plot", "folder.png"), Exit.FAILED, "folder.png: is a directory"),
        (("--plot", "/proc/a.png"), Exit.FAILED, "/proc/a.png: "),
        (("--texts", "no.csv"), Exit.FAILED, "no.csv: no such file or directory"),
        (("--texts", "a.csv"), Exit.FAILED, "there are: 'id', 'review'"),
        (("--texts", "empty.txt"), Exit.FAILED, "none of its 1 texts can be classified"),
        (("--text-column", "a"), Exit.USAGE, "give it with --texts"),
        (("--seconds", "0"), Exit.USAGE, "--seconds"),
        (("--callers", "0"), Exit.USAGE, "--callers"),
        ((), Exit.FAILED, "no broker at amqp://127.0.0.1:1/"),
    ],
)
def test_bad_input_is_told_before_anything_is_measured(
    bench: Command, tmp_path: Path, arguments: tuple[str, ...], code: Exit, told: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "a.csv").write_text("id,review\n1,good\n")
    (tmp_path / "empty.txt").write_text("\n")
    before = sorted(tmp_path.iterdir())
    ended = bench(*arguments, LMAAS_BROKER_URL="amqp://127.0.0.1:1/", LMAAS_CONNECT_TIMEOUT="0.5")
    assert ended.returncode == code
    assert told in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


def test_a_picture_that_is_there_stays_until_there_is_another(
    bench: Command, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    nowhere = {"LMAAS_BROKER_URL": "amqp://127.0.0.1:1/", "LMAAS_CONNECT_TIMEOUT": "0.5"}
    assert bench("--plot", "a.png", **nowhere).returncode == Exit.FAILED
    assert (tmp_path / "a.png").read_bytes() == b"old"


def test_without_matplotlib(bench: Command) -> None:
    ended = bench("--plot", "a.png", start=("-c", WITHOUT_MATPLOTLIB))
    assert ended.returncode == Exit.FAILED
    assert ended.stderr == f"error: {extras.missing('matplotlib')}\n"


@pytest.mark.usefixtures("broker")
def test_a_model_that_nobody_serves(bench: Command) -> None:
    ended = bench("--model", "other")
    assert ended.returncode == Exit.FAILED
    (line,) = ended.stderr.splitlines()
    assert "no worker serves model 'other'" in line


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("method", "together", "calls"), [("classify", 1, 3), ("classify", 8, 1), ("run", 1, 5)]
)
async def test_interrupted_it_leaves_nothing_behind(
    bench: Command, settings: Settings, method: str, together: int, calls: int
) -> None:
    """Among single calls, among those of 8 callers, and among packs: however few are made."""
    start = ("-c", SIGNALLING, method, str(together), str(calls), str(int(signal.SIGINT)), "0")
    ended = bench(*SHORT, "--json", start=start)
    assert (ended.returncode, ended.stdout) == (Exit.INTERRUPTED, "")
    *clients, _, last = ended.stderr.splitlines()
    assert last == "interrupted"
    assert clients
    for line in clients:
        assert not await _exists(settings, line.removeprefix("client "))


async def _exists(settings: Settings, client: str) -> bool:
    queue = settings.names.client_results(client)
    async with await aio_pika.connect(settings.broker_url) as connection:
        try:
            await (await connection.channel()).get_queue(queue)
        except ChannelNotFoundEntity:
            return False
    return True


def test_a_worker_that_dies_early_ends_it(bench: Command, worker: int) -> None:
    start = ("-c", SIGNALLING, "classify", "1", "3", str(int(signal.SIGKILL)), str(worker))
    ended = bench(*SHORT, start=start, LMAAS_TIMEOUT="0.5")
    assert (ended.returncode, ended.stdout) == (Exit.FAILED, "")
    assert "the workers stopped answering (TimeLimitExceeded: 8)" in ended.stderr.splitlines()[-1]


def test_a_worker_that_dies_late_is_counted(bench: Command, worker: int) -> None:
    start = ("-c", SIGNALLING, "run", "0", "5", str(int(signal.SIGKILL)), str(worker))
    ended = bench(*SHORT, "--json", start=start, LMAAS_TIMEOUT="0.5")
    assert ended.returncode == Exit.SOME_FAILED
    report = json.loads(ended.stdout)
    assert report["bulk"]["failed"] == 0
    assert set().union(*(each["failures"] for each in report["mixed"])) == {"TimeLimitExceeded"}
    for each in report["mixed"]:
        assert each["failed"] <= each["items"]
