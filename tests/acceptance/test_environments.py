"""The real `lmaas` where little is as usual: streams, descriptors, folders, process number 1."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

from lmaas.broker_config.settings import Settings
from lmaas.cli.exits import Exit
from lmaas.producer.sync import SyncClient

LMAAS = [sys.executable, "-m", "lmaas"]
#: Seconds after which something that should happen has failed to.
LIMIT = 30

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a command line of a shell in a folder with `in.csv`; `lmaas` is ours."""
    (tmp_path / "in.csv").write_text("text\na good film\na bad film\n")

    def run(
        command: str, files: int | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        def limit() -> None:
            if files:
                resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

        return subprocess.run(
            ["bash", "-c", f'lmaas() {{ "{sys.executable}" -m lmaas "$@"; }}; {command}'],
            cwd=tmp_path,
            env=os.environ | {"LMAAS_PROCESSES": "1"} | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=LIMIT,
            preexec_fn=limit,
        )

    return run


# ---------------------------------------------------------------------- standard streams


@pytest.mark.parametrize("how", ["2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_a_file_is_classified_whatever_becomes_of_the_words(
    run: Run, tmp_path: Path, how: str
) -> None:
    ended = run(f"lmaas classify in.csv -o out.csv {how}")
    assert ended.returncode == Exit.OK
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["text", "a good film", "a bad film"]


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "models",
        "models show sentiment",
        "broker definitions",
        "classify --text good",
        "classify in.csv -o -",
        "classify in.csv -o out.csv --json",
    ],
)
@pytest.mark.parametrize(
    ("how", "why"),
    [("> /dev/full", "no space left on device"), (">&-", "bad file descriptor")],
)
def test_output_that_cannot_be_written_is_one_line_and_exit_1(
    run: Run, command: str, how: str, why: str
) -> None:
    ended = run(f"lmaas {command} {how}", PYTHONUNBUFFERED="1" if "models" in command else "")
    assert ended.stderr.lower() == f"error: standard output: {why}\n"
    assert ended.returncode == Exit.FAILED


def test_a_closed_standard_input_is_an_error_where_it_is_read(run: Run) -> None:
    ended = run("lmaas classify - <&-")
    assert ended.stderr == "error: standard input: bad file descriptor\n"
    assert ended.returncode == Exit.FAILED


def test_a_reader_that_leaves_is_no_complaint(run: Run) -> None:
    ended = run("lmaas models show sentiment | exec true; echo ${PIPESTATUS[0]}")
    assert (ended.stdout, ended.stderr) == ("1\n", "")


# ---------------------------------------------------------------------- names and terminals


def test_a_file_name_that_is_no_unicode(run: Run, tmp_path: Path) -> None:
    ended = run("mv in.csv $'\\xff.csv'; lmaas classify $'\\xff.csv' -o $'o\\xff.csv' --json")
    assert ended.returncode == Exit.OK, ended.stderr
    told = json.loads(ended.stdout)
    assert (told["input"], told["output"], told["rows"]) == ("\ufffd.csv", "o\ufffd.csv", 2)
    assert (tmp_path / os.fsdecode(b"o\xff.csv")).is_file()
    assert "no such file" in run("lmaas classify $'x\\xff.csv' -o out.csv").stderr


_C_LOCALE = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "iso-8859-1"}, _C_LOCALE])
@pytest.mark.parametrize(
    "arguments", [["--text", "good " * 30 + "電影"], ["in.csv", "-o", "o.csv"]]
)
def test_a_terminal_that_is_not_utf_8(
    run: Run, tmp_path: Path, environment: dict[str, str], arguments: list[str]
) -> None:
    ours, theirs = pty.openpty()
    with contextlib.closing(os.fdopen(theirs, "wb")) as terminal:
        process = subprocess.Popen(
            [*LMAAS, "classify", *arguments],
            cwd=tmp_path,
            env=os.environ | {"LMAAS_PROCESSES": "1"} | environment,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
    shown = _all_of(ours).decode("iso-8859-1")
    # In the C locale the text's bytes are no characters, which is its error.
    assert process.wait(LIMIT) in {Exit.OK, Exit.ALL_FAILED}, shown
    assert "error:" not in shown
    assert ("good good" if "--text" in arguments else "2 rows") in shown


def _all_of(terminal: int) -> bytes:
    """What comes until the other side is closed."""
    shown = b""
    with contextlib.suppress(OSError):  # EIO is its end
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    return shown


# ---------------------------------------------------------------------- descriptors and folders


@pytest.mark.parametrize(
    ("command", "files"),
    [("worker --processes 2", 20), ("up", 20), ("classify in.csv -o out.csv", 8)],
)
def test_few_descriptors_are_one_line(run: Run, command: str, files: int) -> None:
    ended = run(f"lmaas {command}", files)
    assert ended.stderr == (
        f"error: a process may have {files} open files (ulimit -n); at least 64 are needed\n"
    )
    assert ended.returncode == Exit.FAILED


def test_no_folder_for_temporary_files_is_one_line(run: Run) -> None:
    none = (
        "from lmaas.service import starting; from lmaas import cli; starting._FOLDERS = (); "
        "cli.main()"
    )
    ended = run(f'{sys.executable} -c "{none}" worker --processes 2', TMPDIR="/nowhere")
    assert ended.stderr == (
        "error: no folder for temporary files: none of /nowhere can be written to, with a path "
        "of at most 75 bytes; name another in TMPDIR\n"
    )
    assert ended.returncode == Exit.FAILED


def test_up_without_a_folder_that_can_be_written_to(run: Run) -> None:
    ended = run("lmaas up", XDG_STATE_HOME="/proc/nowhere")
    assert ended.stderr.startswith("error: /proc/nowhere/lmaas/broker: ")
    assert ended.stderr.endswith("choose another folder, or set XDG_STATE_HOME\n")
    assert ended.returncode == Exit.FAILED


@contextlib.contextmanager
def started(settings: Settings, *command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Two worker processes that are ready; what still runs of them at the end is killed."""
    variables = {"LMAAS_BROKER_URL": settings.broker_url, "LMAAS_PREFIX": settings.prefix}
    process = subprocess.Popen(
        [*command, *LMAAS, "worker", "--processes", "2"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables | options.pop("environment", {}),
        **options,
    )
    try:
        assert process.stderr is not None
        _until(process.stderr, "ready: ", 2)
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for each in psutil.Process(process.pid).children(recursive=True):
                each.kill()
        process.kill()
        process.communicate()


def _until(lines: IO[str], words: str, times: int) -> None:
    """Reads until a line with these words has come so many times."""
    seen = []
    for line in lines:
        seen.append(line)
        if sum(words in one for one in seen) == times:
            return
    pytest.fail("".join(seen) or "it wrote nothing")


def answered(settings: Settings) -> bool:
    with SyncClient(settings) as client:
        return client.classify("sentiment", "a good film").label is not None


def test_workers_with_few_descriptors_and_a_long_folder_for_temporary_files(
    settings: Settings, tmp_path: Path
) -> None:
    long = tmp_path / ("d" * 90)
    long.mkdir()
    with started(
        settings,
        environment={"TMPDIR": str(long)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    ) as process:
        assert answered(settings)
        process.terminate()
        assert process.wait(LIMIT) == Exit.OK


# ---------------------------------------------------------------------- as in a container

_NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--mount-proc"]
_READ_ONLY = 'mount -o remount,bind,ro / && exec "$@"'


@pytest.fixture
def namespaces() -> list[str]:
    """The command that runs another one as process number 1."""
    tried = subprocess.run([*_NAMESPACES, "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("namespaces need root, here")
    return _NAMESPACES


def test_workers_as_process_1_on_a_read_only_root(
    settings: Settings, namespaces: list[str]
) -> None:
    inside = [*namespaces, "sh", "-c", _READ_ONLY, "sh"]
    with started(settings, *inside, environment={"TMPDIR": "/dev/shm"}) as process:
        assert answered(settings)
        (first,) = psutil.Process(process.pid).children()
        first.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == Exit.OK


_ORPHANS = """
import os, time
from lmaas.cli import first_process
first_process.stand_in()
r, w = os.pipe()
if not (middle := os.fork()):
    if os.fork():
        os._exit(0)
    os.write(w, str(os.getpid()).encode())
    os._exit(0)
os.waitpid(middle, 0)
orphan = os.read(r, 20).decode()
patience = time.monotonic() + 60
while os.path.exists(f"/proc/{orphan}") and time.monotonic() < patience:
    os.sched_yield()
print(os.getpid() != 1, os.path.exists(f"/proc/{orphan}"))
"""


def test_process_1_reaps_and_signals_that_end_do(namespaces: list[str]) -> None:
    python = [*namespaces, sys.executable, "-c"]
    ended = subprocess.run([*python, _ORPHANS], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("True False\n", "")
    alarm = (
        "import signal; from lmaas.cli import first_process; first_process.stand_in(); "
        "signal.setitimer(signal.ITIMER_REAL, 0.01); signal.pause()"
    )
    assert subprocess.run([*python, alarm], check=False).returncode == 128 + signal.SIGALRM


def test_half_a_core_is_one_process() -> None:
    group = Path(f"/sys/fs/cgroup/cpu/lmaas-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no cgroup (of version 1) can be made here")
    try:
        (group / "cpu.cfs_quota_us").write_text("50000")
        count = "from lmaas.service import cores; print(cores.quota(), cores.usable())"
        ended = subprocess.run(
            [sys.executable, "-c", count],
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())),
        )
        assert ended.stdout == "0.5 1\n"
    finally:
        group.rmdir()
