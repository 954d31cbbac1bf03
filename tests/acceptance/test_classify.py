"""The real `lmaas classify`, in processes of its own, with a tiny model whose answers are known."""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import os
import pty
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import openpyxl
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper

from lmaas.cli.exits import Exit
from lmaas.producer.bulk import CHECKPOINT_ROWS
from lmaas.workers.manifest import (
    WORD_BATCHING,
    WORD_INPUTS,
    Cost,
)
from tests import versions

#: A good word speaks for "positive", a bad one against it, any other for neither.
WORDS = ("good", "bad")
VOTES = [[0.0, 0.0], [0.0, 0.0], [-2.0, 2.0], [2.0, -2.0]]

Command = Callable[..., subprocess.CompletedProcess[str]]


def save_tiny_model(root: Path, version: str = "1") -> None:
    """A model "sentiment" that counts the words of WORDS."""
    folder = root / "sentiment" / version
    nodes = [
        helper.make_node("Gather", ["votes", "ids"], ["each"]),
        helper.make_node("ReduceSum", ["each", "words"], ["sum"], keepdims=0),
        helper.make_node("Softmax", ["sum"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("ids", TensorProto.INT32, ["rows", "words_"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", 2])],
        [
            numpy_helper.from_array(np.array(VOTES, np.float32), "votes"),
            numpy_helper.from_array(np.array([1], np.int64), "words"),
        ],
    )
    versions.save_graph(folder, graph)
    (folder / "vocabulary.txt").write_text("".join(f"{word}\n" for word in WORDS))
    made = versions.manifest(
        {"kind": "words", "file": "vocabulary.txt", "max_tokens": 512},
        WORD_INPUTS,
        WORD_BATCHING,
        "vocabulary.txt",
        labels=["negative", "positive"],
        architecture="gap",
        cost=Cost(fixed_seconds=0.001, seconds_per_unit=1e-8),
    )
    versions.describe(folder, made)


#: Runs the real command in a process that stops itself once it has sent so many packs.
STOPPING = """
import os, sys
from lmaas import cli
from lmaas.workers.pool import Pool

run, packs, number = Pool.run, int(sys.argv.pop(1)), int(sys.argv.pop(1))

async def run_and_stop(pool, request):
    global packs
    packs -= 1
    if packs == 0:
        os.kill(os.getpid(), number)
    return await run(pool, request)

Pool.run = run_and_stop
cli.main()
"""
ROWS = 2 * CHECKPOINT_ROWS + 5000


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save_tiny_model(root)
    return root


@pytest.fixture
def environment(models: Path) -> dict[str, str]:
    # One process is enough, and the quickest to start.
    return os.environ | {"LMAAS_MODELS": str(models), "LMAAS_PROCESSES": "1"}


@pytest.fixture
def lmaas(tmp_path: Path, environment: dict[str, str]) -> Command:
    """Runs `lmaas classify` in a folder of its own; `stop` is (packs, signal)."""

    def run(
        *arguments: str, stop: tuple[int, int] | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        start = ["-m", "lmaas"] if stop is None else ["-c", STOPPING, *map(str, stop)]
        return subprocess.run(
            [sys.executable, *start, "classify", *arguments],
            cwd=tmp_path,
            env=environment,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str]) -> Command:
    """Runs `lmaas` with any command."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lmaas", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    words = ("a good film", "a bad film", "", '"good", they said', "bad\nbad")
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "review"])
        writer.writerows([n, words[n % 5]] for n in range(ROWS))
    return path


def test_a_file_of_reviews(lmaas: Command, reviews: Path, tmp_path: Path) -> None:
    ended = lmaas(
        "reviews.csv", "--text-column", "review", "-o", "out.csv", "--json", "--top-k", "2"
    )
    assert ended.returncode == Exit.SOME_FAILED, ended.stderr
    summary = json.loads(ended.stdout)
    assert (summary["rows"], summary["failed"]) == (ROWS, len(range(2, ROWS, 5)))
    assert summary["failures"][0] == "line 4: empty_text: the text is empty"
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [str(n) for n in range(ROWS)]
    assert [row["label"] for row in rows[:5]] == [
        "positive",
        "negative",
        "",
        "positive",
        "negative",
    ]
    assert rows[0]["score"] == "0.982014"
    assert json.loads(rows[0]["scores"]) == {"positive": 0.982014, "negative": 0.017986}
    assert rows[2]["error"] == "empty_text: the text is empty"


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl", "parquet", "txt"])
def test_killed_and_resumed(lmaas: Command, reviews: Path, tmp_path: Path, suffix: str) -> None:
    arguments = ("reviews.csv", "--text-column", "review", "-o")
    assert lmaas(*arguments, f"whole.{suffix}").returncode == Exit.SOME_FAILED
    killed = lmaas(*arguments, f"out.{suffix}", stop=(120, signal.SIGKILL))
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / f"out.{suffix}").exists()
    resumed = lmaas(*arguments, f"out.{suffix}", "--resume", "--json")
    # Where half a second passes after that, as on a busy machine, there is a later checkpoint.
    assert CHECKPOINT_ROWS <= json.loads(resumed.stdout)["resumed_at"] < ROWS
    assert resumed.returncode == Exit.SOME_FAILED
    whole, out = (tmp_path / f"{name}.{suffix}" for name in ("whole", "out"))
    assert out.read_bytes() == whole.read_bytes()


def test_resumed_when_it_is_finished(lmaas: Command, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a good film\na bad film\n\n")
    arguments = ("in.txt", "-o", "out.csv", "--output-encoding", "utf-8-sig", "--resume")
    first = lmaas(*arguments)
    assert first.returncode == Exit.SOME_FAILED
    assert "nothing to resume; starting" in first.stderr
    out = tmp_path / "out.csv"
    before = out.stat().st_ino, out.stat().st_mtime_ns
    again = lmaas(*arguments, "--json")
    assert again.returncode == Exit.OK
    assert again.stderr == (
        "out.csv: is finished, with 3 rows; nothing was done. To classify in.txt again, leave out "
        "--resume\n"
    )
    assert json.loads(again.stdout)["rows"] == 3
    assert (out.stat().st_ino, out.stat().st_mtime_ns) == before
    assert out.read_bytes().startswith(b"\xef\xbb\xbftext,label,")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(lmaas: Command, reviews: Path, tmp_path: Path, number: int) -> None:
    arguments = ("reviews.csv", "--text-column", "review", "-o", "out.csv")
    stopped = lmaas(*arguments, stop=(120, number))
    assert stopped.returncode == Exit.INTERRUPTED
    told, _, last = stopped.stderr.splitlines()
    rows, advice = told.split(" ", maxsplit=1)
    assert CHECKPOINT_ROWS <= int(rows.replace(",", "")) < ROWS
    assert advice == (
        "rows are done; continue with: lmaas classify reviews.csv --text-column review -o out.csv "
        "--resume"
    )
    assert last == "interrupted"


@pytest.fixture
def by_processes(
    environment: dict[str, str], reviews: Path, tmp_path: Path
) -> Iterator[subprocess.Popen[str]]:
    """`lmaas classify` with two processes, in a group of its own, with the first rows saved."""
    command = "classify reviews.csv --text-column review -o out.csv --processes 2"
    with reviews.open("a") as file:  # more than is done before somebody kills
        file.writelines(f"{n},a good film\n" for n in range(6 * ROWS))
    with subprocess.Popen(
        [sys.executable, "-m", "lmaas", *command.split()],
        cwd=tmp_path,
        env=environment,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        saved = tmp_path / "out.csv.partial.json"
        while not saved.exists():
            assert process.poll() is None
            os.sched_yield()
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def classifying(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that it has started for packs."""
    children = psutil.Process(process.pid).children()
    return [one for one in children if "spawn_main" in " ".join(one.cmdline())]


def test_a_signal_to_the_whole_group(by_processes: subprocess.Popen[str]) -> None:
    children = classifying(by_processes)
    assert len(children) == 2
    os.killpg(by_processes.pid, signal.SIGTERM)
    _, told = by_processes.communicate(timeout=180)
    first, _, last = told.splitlines()
    assert "rows are done; continue with: lmaas classify reviews.csv" in first
    assert first.endswith(" --resume")
    assert last == "interrupted"
    assert by_processes.returncode == Exit.INTERRUPTED
    assert not any(child.is_running() for child in children)


def test_what_is_killed_leaves_no_process_and_no_words(
    by_processes: subprocess.Popen[str],
) -> None:
    """As of Python's resource tracker, on semaphores that nobody gave back."""
    left = psutil.Process(by_processes.pid).children(recursive=True)
    by_processes.kill()
    _, told = by_processes.communicate(timeout=180)  # the end of all who could write there
    assert told == ""
    assert psutil.wait_procs(left, 120)[1] == []


def test_a_process_that_is_killed(
    by_processes: subprocess.Popen[str], lmaas: Command, tmp_path: Path
) -> None:
    children = classifying(by_processes)
    children[0].kill()
    _, told = by_processes.communicate(timeout=180)
    first, last = told.splitlines()
    assert first.endswith(" --resume")
    assert last == (
        "error: a process that classifies ended (signal SIGKILL; out of memory? "
        "try fewer --processes)"
    )
    assert by_processes.returncode == Exit.FAILED
    assert not any(child.is_running() for child in children)
    arguments = ("reviews.csv", "--text-column", "review", "--processes", "2", "-o")
    assert lmaas(*arguments, "out.csv", "--resume").returncode == Exit.SOME_FAILED
    assert lmaas(*arguments, "whole.csv").returncode == Exit.SOME_FAILED
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_column_without_a_name(lmaas: Command) -> None:
    ended = lmaas("-", "--format", "csv", "--text-column", "", stdin="text,\nbad,good\n")
    assert ended.stdout.splitlines()[1].startswith("bad,good,positive")
    ended = lmaas("-", "--text-column", "", "--format", "csv", stdin="text,id\na,1\n")
    assert "there is no column ''" in ended.stderr


def test_pipes(lmaas: Command) -> None:
    ended = lmaas("-", stdin="good\n\nbad\n")
    assert ended.stdout == (
        "positive\t0.982014\t\tgood\n"
        "\t\tempty_text: the text is empty\t\n"
        "negative\t0.982014\t\tbad\n"
    )
    assert ended.returncode == Exit.SOME_FAILED
    assert ended.stderr.splitlines()[1] == "1 row failed: line 2: empty_text: the text is empty"
    ended = lmaas("-", "--format", "csv", "--output-format", "jsonl", stdin="id,text\n7,good\n")
    assert json.loads(ended.stdout) == {
        "id": "7",
        "text": "good",
        "label": "positive",
        "score": 0.982014,
        "error": None,
    }


#: What Excel writes in Europe, with a quote that somebody forgot, and a line without columns.
EXCEL = """Größe;review
1;"good; they said"
2;"bad
3;a good, good film
4
5;bad
"""
ANSWERS = ("positive", "unreadable_row", "positive", "unreadable_row", "negative")


def excel_rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(content.decode().splitlines(), delimiter=";"))


@pytest.mark.parametrize("name", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_file_of_excel(lmaas: Command, tmp_path: Path, name: str) -> None:
    (tmp_path / "in.csv").write_bytes(EXCEL.replace("\n", "\r\n").encode(name))
    said = ("--encoding", name) if name == "cp1252" else ()
    ended = lmaas("in.csv", "--text-column", "review", *said, "-o", "out.csv")
    assert ended.returncode == Exit.SOME_FAILED, ended.stderr
    assert len(ended.stderr.splitlines()) == 2
    rows = excel_rows((tmp_path / "out.csv").read_bytes())
    assert tuple(row["label"] or row["error"].partition(":")[0] for row in rows) == ANSWERS
    assert rows[0]["review"] == "good; they said"
    assert (rows[0]["Größe"], rows[4]["Größe"]) == ("1", "5")
    assert rows[1]["error"].endswith('2;"bad')


def test_a_large_file_of_excel_killed_and_resumed(
    lmaas: Command, reviews: Path, tmp_path: Path
) -> None:
    arguments = ("in.tsv", "--delimiter", ",", "--quotes", "--text-column", "review", "-o")
    (tmp_path / "in.tsv").write_bytes(reviews.read_text().encode("utf-16"))
    assert lmaas(*arguments, "whole.tsv").returncode == Exit.SOME_FAILED
    assert lmaas(*arguments, "out.tsv", stop=(120, signal.SIGKILL)).returncode == -signal.SIGKILL
    other = lmaas(*arguments, "out.tsv", "--resume", "--no-quotes")
    assert "quotes in the input was True and is False" in other.stderr
    assert lmaas(*arguments, "out.tsv", "--resume").returncode == Exit.SOME_FAILED
    assert (tmp_path / "out.tsv").read_bytes() == (tmp_path / "whole.tsv").read_bytes()
    lmaas("reviews.csv", "--text-column", "review", "-o", "same.tsv")
    assert (tmp_path / "same.tsv").read_bytes() == (tmp_path / "whole.tsv").read_bytes()


def test_a_full_disk_behind_a_pipe(environment: dict[str, str], reviews: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "lmaas", "classify", str(reviews), "--text-column", "review"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == Exit.FAILED
    assert ended.stderr == "error: standard output: no space left on device\n"


def test_texts(lmaas: Command) -> None:
    ended = lmaas("--text", "a good film", "--text", " ")
    assert ended.stdout == (
        "positive\t0.982014\t\ta good film\n\t\tempty_text: the text is empty\t \n"
    )
    assert ended.returncode == Exit.SOME_FAILED
    assert lmaas("--text", " ").returncode == Exit.ALL_FAILED
    ended = lmaas("--text", "bad", "--json")
    assert ended.returncode == Exit.OK
    assert json.loads(ended.stdout)["label"] == "negative"


def test_below_the_least_score_it_is_unsure(lmaas: Command, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a good film\na film\n")
    ended = lmaas("in.txt", "--output-format", "csv", "--min-score", "0.6", "--top-k", "2")
    assert ended.returncode == Exit.OK
    rows = list(csv.DictReader(ended.stdout.splitlines()))
    assert [row["label"] for row in rows] == ["positive", "unsure"]
    assert (rows[1]["score"], json.loads(rows[1]["scores"])) == (
        "0.5",
        {"negative": 0.5, "positive": 0.5},
    )
    assert lmaas("--text", "a", "--min-score", "2").returncode == Exit.USAGE
    assert lmaas("--text", "a film", "--min-score", "0.6").stdout.startswith("unsure\t0.5")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((), Exit.USAGE, "give INPUT (a file, or - for standard input) or --text"),
        (("a.txt", "--text", "a"), Exit.USAGE, "give INPUT or --text, not both"),
        (("--text", "a", "-o", "no/x.csv"), Exit.USAGE, "--output is for files"),
        (("--text", "a", "--resume"), Exit.USAGE, "--resume is for files"),
        (("--text", "a", "--keep", "a"), Exit.USAGE, "--keep is for files"),
        (("reviews.csv", "--processes", "1000000"), Exit.USAGE, "<= 1024"),
        (
            ("reviews.csv", "--text-column", "review", "--broker", "http://x"),
            *(Exit.USAGE, "broker_url 'http://x' should look like amqp://"),
        ),
        (("missing.csv",), Exit.FAILED, "missing.csv: no such file or directory; check the path"),
        ((".", "--format", "csv"), Exit.FAILED, "each file is one item"),
        (("a.txt", "b.txt"), Exit.USAGE, "one input, and not 2"),
        (("https://host/a.csv",), Exit.FAILED, "only files are read; fetch it first"),
        (("reviews.csv", "-o", "out.xlsx"), Exit.USAGE, "is read and not written"),
        (("reviews.csv",), Exit.FAILED, "(there are: 'id', 'review')"),
        (("reviews.csv", "-o", "no/out.csv", "--text-column", "review"), Exit.FAILED, "no folder"),
        (("-", "-o", "out.txt", "--resume"), Exit.USAGE, "a pipe cannot be resumed"),
        (("reviews.csv", "--model", "other"), Exit.FAILED, "no model 'other'"),
        (("--text", "a", "--model-version", "9"), Exit.FAILED, "no version '9'"),
        (("--text", "a", "--processes", "-1"), Exit.USAGE, "processes"),
        (("reviews.csv", "--delimiter", "ab"), Exit.USAGE, "a delimiter is one character"),
        (("reviews.csv", "--encoding", "no"), Exit.USAGE, "there is no encoding 'no'"),
        (("a.unknown",), Exit.USAGE, "the suffix says no format"),
        (("a.txt", "-o", "a.json", "--output-encoding", "utf-16"), Exit.USAGE, "JSON is UTF-8"),
        (("a.txt", "--output-encoding", "no"), Exit.USAGE, "there is no encoding 'no'"),
        (("a.txt", "--output-format", "parquet"), Exit.USAGE, "cannot be written to a pipe"),
        (("a.txt", "--no-quotes"), Exit.USAGE, "--delimiter and --quotes are for CSV and TSV"),
    ],
)
def test_bad_input_is_told_in_one_line(
    lmaas: Command, reviews: Path, arguments: tuple[str, ...], code: Exit, told: str
) -> None:
    ended = lmaas(*arguments)
    assert ended.returncode == code
    assert told in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_cut_off_archive(lmaas: Command, reviews: Path, tmp_path: Path) -> None:
    cut = gzip.compress(reviews.read_bytes())[:-100]
    (tmp_path / "cut.csv.gz").write_bytes(cut)
    ended = lmaas("cut.csv.gz", "--text-column", "review", "-o", "out.csv")
    assert ended.returncode == Exit.FAILED
    assert "damaged or cut off after line" in ended.stderr.splitlines()[-1]
    assert not (tmp_path / "out.csv").exists()


@pytest.fixture
def worker(broker_url: str, environment: dict[str, str]) -> Iterator[None]:
    """A worker that is ready, on names that no other test uses."""
    environment |= {"LMAAS_BROKER_URL": broker_url, "LMAAS_PREFIX": f"test-{uuid.uuid4().hex[:12]}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "lmaas", "worker"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "ready" in line:
            break
    else:
        pytest.fail("".join(said))
    yield
    process.terminate()
    process.communicate()


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_queue_gives_the_same_bytes(
    lmaas: Command, reviews: Path, tmp_path: Path, suffix: str
) -> None:
    arguments = ("reviews.csv", "--text-column", "review", "--json", "-o")
    ours, queued = lmaas(*arguments, f"a.{suffix}"), lmaas(*arguments, f"b.{suffix}", "--queue")
    assert queued.returncode == ours.returncode == Exit.SOME_FAILED, queued.stderr
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert json.loads(queued.stdout)["version"] == "1"


@pytest.fixture
def nested(tmp_path: Path) -> list[dict[str, object]]:
    """A JSON array over many lines, of which every fifth text is empty."""
    words = ("a good film", "a bad film", "", '"good", they said', "bad\nbad")
    rows: list[dict[str, object]] = [
        {"id": {"n": n}, "stars": n / 2, "review": {"body": words[n % 5]}} for n in range(ROWS)
    ]
    (tmp_path / "in.json").write_text(json.dumps(rows, indent=2))
    return rows


@pytest.mark.parametrize("suffix", ["json", "json.gz", "parquet"])
def test_a_json_array_killed_and_resumed(
    lmaas: Command, nested: list[dict[str, object]], tmp_path: Path, suffix: str
) -> None:
    arguments = ("in.json", "--text-column", "review.body", "-o")
    assert lmaas(*arguments, f"whole.{suffix}").returncode == Exit.SOME_FAILED
    killed = lmaas(*arguments, f"out.{suffix}", stop=(120, signal.SIGKILL))
    assert killed.returncode == -signal.SIGKILL
    resumed = lmaas(*arguments, f"out.{suffix}", "--resume", "--json")
    assert json.loads(resumed.stdout)["resumed_at"] >= CHECKPOINT_ROWS
    whole, out = (tmp_path / f"{name}.{suffix}" for name in ("whole", "out"))
    assert out.read_bytes() == whole.read_bytes()
    if suffix == "parquet":
        table = pq.read_table(out)
        assert table["stars"].to_pylist() == [row["stars"] for row in nested]
        assert json.loads(table["id"][7].as_py()) == {"n": 7}
        return
    with (gzip.open if suffix.endswith("gz") else open)(out) as file:
        rows = json.load(file)
    assert [{name: row[name] for name in nested[0]} for row in rows] == nested
    assert [row["label"] for row in rows[:3]] == ["positive", "negative", None]


@pytest.mark.usefixtures("worker")
def test_nested_json_through_the_queue(
    lmaas: Command,
    run: Command,
    nested: list[dict[str, object]],
    tmp_path: Path,
) -> None:
    arguments = ("in.json", "--text-column", "review.body")
    for suffix in ("json", "parquet"):
        assert lmaas(*arguments, "-o", f"a.{suffix}").returncode == Exit.SOME_FAILED
        assert lmaas(*arguments, "-o", f"b.{suffix}", "--queue").returncode == Exit.SOME_FAILED
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    (tmp_path / "in.json").write_text(json.dumps(nested[:5]))
    submitted = run("submit", *arguments, "--id-column", "id.n")
    collected = run("jobs", "collect", submitted.stdout.strip(), "-o", "job.json")
    assert collected.returncode == Exit.SOME_FAILED, submitted.stderr + collected.stderr
    rows = json.loads((tmp_path / "job.json").read_text())
    assert [row["id"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert [row["label"] for row in rows[:3]] == ["positive", "negative", None]


@pytest.mark.usefixtures("worker")
def test_a_file_of_excel_through_the_queue(lmaas: Command, run: Command, tmp_path: Path) -> None:
    """As one run, and as a job, whose results have what is unreadable too."""
    (tmp_path / "in.csv").write_bytes(EXCEL.encode("cp1252"))
    arguments = ("in.csv", "--text-column", "review", "--encoding", "cp1252")
    assert lmaas(*arguments, "-o", "a.csv").returncode == Exit.SOME_FAILED
    assert lmaas(*arguments, "-o", "b.csv", "--queue").returncode == Exit.SOME_FAILED
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    submitted = run("submit", *arguments, "--id-column", "Größe")
    assert submitted.returncode == Exit.OK, submitted.stderr
    collected = run("jobs", "collect", submitted.stdout.strip(), "-o", "job.csv")
    assert collected.returncode == Exit.SOME_FAILED, collected.stderr
    with (tmp_path / "job.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(row["label"] or row["error"].partition(":")[0] for row in rows) == ANSWERS
    assert [row["id"] for row in rows] == ["1", "1", "3", "4", "5"]
    assert rows[1]["error"].endswith('2;"bad')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Texts of which some are bad; the names and the reasons are those of FOLDER."""
    root = tmp_path / "texts"
    for name, content in FOLDER.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content[0])
    return root


FOLDER = {
    "a.txt": (b"good\n", "positive"),
    "b.txt": (b"", "empty_text"),
    "c.txt": (b"caf\xe9", "invalid_utf8"),
    "d.txt": (b"bad " * 400_000, "too_large"),
    "e/f.txt": (b'bad, "bad"\n', "negative"),
}


def outcomes(path: Path) -> dict[str, str]:
    """File -> its label, or the code of its error."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["file"]: row["label"] or row["error"].partition(":")[0] for row in rows}


@pytest.mark.usefixtures("worker")
def test_a_folder_in_process_through_the_queue_and_as_a_job(
    lmaas: Command, run: Command, folder: Path, tmp_path: Path
) -> None:
    expected = {name: outcome for name, (_, outcome) in FOLDER.items()}
    ended = lmaas("texts", "-o", "a.csv")
    assert ended.returncode == Exit.SOME_FAILED
    assert "file b.txt: empty_text: the text is empty; file c.txt" in ended.stderr
    header = "file,label,score,error\n"
    assert (tmp_path / "a.csv").read_text().startswith(header)
    assert outcomes(tmp_path / "a.csv") == expected
    assert lmaas("texts", "-o", "b.csv", "--queue").returncode == Exit.SOME_FAILED
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert lmaas("texts", "-o", "texts/out.csv").returncode == Exit.FAILED
    submitted = run("submit", "texts/**/*.txt")
    job = submitted.stdout.strip()
    collected = run("jobs", "collect", job, "--input", "texts/**/*.txt", "-o", "c.csv")
    assert collected.returncode == Exit.SOME_FAILED, submitted.stderr + collected.stderr
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "c.csv").read_bytes()


@pytest.mark.usefixtures("worker")
def test_a_job_is_collected_beside_its_input(
    lmaas: Command, run: Command, reviews: Path, tmp_path: Path
) -> None:
    column = ("--text-column", "review")
    for suffix, ids in (("csv", ()), ("jsonl", ("--id-column", "id")), ("parquet", ())):
        assert lmaas("reviews.csv", *column, "-o", f"a.{suffix}").returncode == Exit.SOME_FAILED
        job = run("submit", "reviews.csv", *column, *ids).stdout.strip()
        collect = ("jobs", "collect", job, "--input", "reviews.csv")
        collected = run(*collect, "-o", f"b.{suffix}")
        assert collected.returncode == Exit.SOME_FAILED, collected.stderr
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("keep", [(), ("--keep", "by.name,review.meta.id")])
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_job_with_nested_ids_is_collected_beside_its_input(
    lmaas: Command, run: Command, tmp_path: Path, suffix: str, keep: tuple[str, ...]
) -> None:
    rows = [
        {"by": {"name": "Ada"}, "review": {"body": body, "meta": {"id": f"r{number}"}}}
        for number, body in enumerate(["good", "bad", "", "bad good bad"])
    ]
    source = f"in.{suffix}"
    if suffix == "jsonl":
        (tmp_path / source).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / source)
    text = ("--text-column", "review.body")
    assert lmaas(source, *text, *keep, "-o", f"a.{suffix}").returncode == Exit.SOME_FAILED
    job = run("submit", source, *text, "--id-column", "review.meta.id").stdout.strip()
    collected = run("jobs", "collect", job, "--input", source, *keep, "-o", f"b.{suffix}")
    assert collected.returncode == Exit.SOME_FAILED, collected.stderr
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


@pytest.mark.usefixtures("worker")
def test_another_input_than_that_of_the_job(run: Command, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,text,label\n7,good,x\n8,bad,y\n")
    job = run("submit", "in.csv", "--id-column", "id").stdout.strip()
    out = ("-o", "out.csv")
    for content, told in (
        ("id,text\n7,good\n", f"1 row, and job {job} has 2"),
        ("id,text\n7,good\n9,bad\n", f"near line 2 the rows have other ids than job {job}"),
        ("id,text,label\n7,good,x\n8,bad,y\n", "has a column 'label' already"),
    ):
        (tmp_path / "other.csv").write_text(content)
        collected = run("jobs", "collect", job, "--input", "other.csv", *out)
        assert collected.returncode == Exit.FAILED
        assert told in collected.stderr
        assert not (tmp_path / "out.csv").exists()
    assert "with --input" in run("jobs", "collect", job, *out, "--keep", "id").stderr
    more = ("--result-prefix", "l_", "--keep", "label,id")
    collected = run("jobs", "collect", job, "--input", "in.csv", *out, *more)
    assert collected.returncode == Exit.OK, collected.stderr
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert rows[0] == "id,label,l_label,l_score,l_error"
    assert rows[2].startswith("8,y,negative,")


def on_a_terminal(
    words: list[str], answer: str, environment: dict[str, str], folder: Path
) -> tuple[int, str]:
    """The exit code of a command to whose question somebody types an answer, and what was shown."""
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        [sys.executable, "-m", "lmaas", *words],
        cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown, answered = b"", False
    with contextlib.suppress(OSError):  # the end of a terminal
        while part := os.read(ours, 4096):
            shown += part
            if not answered and b"?" in shown:
                answered = True
                os.write(ours, f"{answer}\n".encode())
    os.close(ours)
    return command.wait(180), shown.decode()


@pytest.mark.usefixtures("worker")
def test_results_that_are_there_are_not_cancelled_unasked(
    run: Command, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_text("good\nbad\n")
    none = run("jobs")
    assert none.stdout == "no jobs\n"
    assert "lmaas broker doctor" in none.stderr, "a policy may have deleted the list, too"
    job = run("submit", "in.txt").stdout.strip()

    def is_finished() -> bool:
        return bool(json.loads(run("jobs", "show", job, "--json").stdout)["state"] == "finished")

    for _ in range(100):
        if is_finished():
            break
    assert is_finished()
    refused = run("jobs", "cancel", job)
    assert refused.returncode == Exit.USAGE
    assert f"all 2 results of job {job} are there and not collected; to drop" in refused.stderr
    code, told = on_a_terminal(["jobs", "cancel", job], "n", environment, tmp_path)
    assert code == Exit.INTERRUPTED
    assert f"all 2 results of job {job} are there and not collected; drop them for good?" in told
    assert is_finished()
    code, told = on_a_terminal(["jobs", "cancel", job], "y", environment, tmp_path)
    assert (code, told.splitlines()[-1]) == (Exit.OK, f"job {job} is cancelled")
    assert json.loads(run("jobs", "show", job, "--json").stdout)["state"] == "cancelled"
    # Of one that has nothing yet, nothing is lost; and one that is gone says so.
    assert "was cancelled before" in run("jobs", "cancel", job).stderr


def test_a_workbook(lmaas: Command, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["id", "review"], [1, "good"], [2, "bad"], [3, None]):
        book.active.append(row)
    book.save(tmp_path / "in.xlsx")
    column = ("--text-column", "review")
    ended = lmaas("in.xlsx", *column)
    assert ended.stdout == (
        "id,review,label,score,error\n1,good,positive,0.982014,\n2,bad,negative,0.982014,\n"
        "3,,,,empty_text: the text is empty\n"
    )
    assert lmaas("in.xlsx", *column, "-o", "out.parquet").returncode == Exit.SOME_FAILED
    assert pq.read_table(tmp_path / "out.parquet").column("id").to_pylist() == [1, 2, 3]


@pytest.mark.parametrize("source", ["/dev/stdin", "<(cat a.csv)", "fifo"])
def test_pipes_by_other_names(environment: dict[str, str], tmp_path: Path, source: str) -> None:
    (tmp_path / "a.csv").write_text("text\ngood\n")
    os.mkfifo(tmp_path / "fifo")
    feed = "cat a.csv > fifo &" if source == "fifo" else ""
    command = f"{feed} cat a.csv | {sys.executable} -m lmaas classify {source} --format csv -o -"
    ended = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert ended.stdout == "text,label,score,error\ngood,positive,0.982014,\n", ended.stderr


@pytest.mark.usefixtures("worker")
def test_a_model_that_nobody_serves(lmaas: Command, reviews: Path, tmp_path: Path) -> None:
    ended = lmaas(
        "reviews.csv", "--text-column", "review", "-o", "a.csv", "--model", "other", "--queue"
    )
    assert ended.returncode == Exit.FAILED
    assert "no worker has ever served model 'other'" in ended.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.glob("a.csv*")] == []
