"""A file in, the same rows out: order, errors, atomic output, and going on after a stop."""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import openpyxl
import pytest

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import DataError, LmaasError, ModelNotFound
from lmaas.broker_config.messages import ItemError, Reply, Request, Result
from lmaas.broker_config.settings import Settings
from lmaas.producer.bulk import Run, Summary, Task, classify_texts
from lmaas.producer.checkpoint import partial_path
from lmaas.producer.finished import finished_rows
from lmaas.producer.tables import Chunk, Place, Wanted

SETTINGS = Settings(pack_items=256, window=8)


def quick(model: str, items: int, size: int) -> float:
    """Seconds that a pack is expected to take."""
    return 0.0


class Fake:
    """Answers by the text alone; `stop` says at which pack it breaks, and how."""

    def __init__(self, version: str = "1", stop: Callable[[int], None] | None = None) -> None:
        self.version = version
        self.stop = stop
        self.requests: list[Request] = []
        self.running = self.most = 0

    seconds = staticmethod(quick)

    async def run(self, request: Request) -> Reply:
        if self.stop:
            self.stop(len(self.requests))
        self.requests.append(request)
        self.running += 1
        self.most = max(self.most, self.running)
        await self.takes(request)
        self.running -= 1
        results = [
            Result(id=item.id, label="long" if len(item.text or "") > 5 else "short", score=0.75)
            for item in request.items
        ]
        return Reply(model=request.model, version=self.version, results=results)

    async def takes(self, request: Request) -> None:
        """Packs of odd rows wait for a few turns of the loop: replies come out of order."""
        for _ in range(int(request.items[0].id) // 256 % 2 * 5):
            await asyncio.sleep(0)


def test_a_file_is_known_again_as_long_as_it_and_the_task_are_the_same(tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text("a film\n")

    def identity(path: str, **changes: Any) -> uuid.UUID | None:
        target = Place.of(str(tmp_path / f"{uuid.uuid4()}.csv"))
        task = Task(source=Place.of(path), target=target, model="sentiment", **changes)
        with Run(task, SETTINGS) as run:
            return run.identity

    before = identity(str(source))
    assert before == identity(str(source)) == identity(os.path.relpath(source))
    assert before != identity(str(source), top_k=2)
    copy = tmp_path / "copy.txt"
    shutil.copy2(source, copy)
    assert before != identity(str(copy))
    source.write_text("another film\n")
    assert before != identity(str(source))


class Gone(LmaasError):
    """The broker is gone."""


def breaks_at(pack: int) -> Callable[[int], None]:
    def stop(packs: int) -> None:
        if packs == pack:
            raise Gone

    return stop


def task(source: Path, target: Path, **more: Any) -> Task:
    return Task(
        source=Place.of(str(source)), target=Place.of(str(target)), model="sentiment", **more
    )


async def classify(
    given: Task, fake: Fake | None = None, settings: Settings = SETTINGS, *, resume: bool = False
) -> Summary:
    with Run(given, settings, resume=resume) as run:
        return await run.classify(fake or Fake())


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """20,000 rows, every hundredth of them empty."""
    path = tmp_path / "in.csv"
    texts = ("" if n % 100 == 0 else f"text {n}" for n in range(20_000))
    path.write_text("id,text\n" + "".join(f"{n},{text}\n" for n, text in enumerate(texts)))
    return path


@pytest.fixture
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints after every fourth chunk."""
    monkeypatch.setattr("lmaas.producer.bulk.CHECKPOINT_ROWS", 4096)


async def test_rows_keep_their_order(lines: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    summary = await classify(task(lines, out))
    rows = out.read_text().splitlines()
    assert rows[0] == "id,text,label,score,error"
    assert rows[1] == "0,,,,empty_text: the text is empty"
    assert rows[2] == "1,text 1,long,0.75,"
    assert [row.split(",")[0] for row in rows[1:]] == [str(n) for n in range(20_000)]
    assert (summary.rows, summary.failed, summary.version) == (20_000, 200, "1")
    assert summary.failures[1] == "line 102: empty_text: the text is empty"
    assert len(summary.failures) == 3


async def test_only_usable_rows_are_sent(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "a"}\n{"text": null}\n{"text": 5}\n{"text"\n{"text": "bb"}\n')
    fake = Fake()
    settings = msgspec.structs.replace(SETTINGS, max_item_bytes=1)
    summary = await classify(task(source, tmp_path / "out.txt"), fake, settings)
    assert [item.text for request in fake.requests for item in request.items] == ["a"]
    errors = [line.split("\t")[2] for line in (tmp_path / "out.txt").read_text().splitlines()]
    codes = [error.partition(":")[0] for error in errors]
    assert codes == ["", Code.NOT_TEXT, Code.NOT_TEXT, Code.UNREADABLE_ROW, Code.TOO_LARGE]
    assert summary.failed == 4
    assert summary.failures[2].startswith("line 4: unreadable_row: ")
    assert summary.failures[2].count("line 4") == 1


async def test_packs_are_bounded_in_items_and_bytes(tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text("x\n" * 25 + ("y" * 60 + "\n") * 3)
    fake = Fake()
    settings = Settings(pack_items=10, pack_bytes=100)
    await classify(task(source, tmp_path / "out.txt"), fake, settings)
    assert [len(request.items) for request in fake.requests] == [10, 10, 5 + 2, 1]


async def test_the_window_bounds_what_is_on_its_way(lines: Path, tmp_path: Path) -> None:
    fake = Fake()
    settings = Settings(pack_items=16, window=3)
    await classify(task(lines, tmp_path / "out.csv"), fake, settings)
    assert fake.most == 3


async def test_rows_that_are_not_sent_take_room_too(tmp_path: Path) -> None:
    """Or some hundreds of 30 MB would wait behind a pack that takes long."""
    source = tmp_path / "in.csv"
    source.write_text("text\na\n" + "too large " * 1_000 + "\n" + "many," * 2_000 + "\n")
    settings = Settings(window=1, pack_bytes=1_000, max_item_bytes=500)
    with Run(task(source, tmp_path / "out.csv"), settings) as run:
        [chunk] = run.table.chunks
        sent = run._send(chunk, Fake())
        await sent.packs[0]
        # 10,000 bytes that are too large, 2,000 columns of which one is kept, and their error.
        assert sent.held == 1 + (10_000 + 4 + 10_000) // 1_000
        assert not run._has_room([sent])
        sent.held = 1
        assert run._has_room([sent])


async def test_large_data_takes_more_of_the_window(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jpg").write_bytes(b"\xff\xd8\xff" + bytes(5_000_000))
    with Run(task(tmp_path, tmp_path.parent / "out.csv"), Settings(window=4)) as run:
        first, second = run.table.chunks
        fake = Fake()
        sent = [run._send(first, fake)]
        assert (sent[0].places, sent[0].held) == ([3], 3)
        assert run._has_room(sent)
        sent.append(run._send(second, fake))
        assert not run._has_room(sent)
        await sent[0].packs[0]
        assert run._has_room(sent)
        await sent[1].packs[0]


class Stuck(Fake):
    """Does not answer the first pack before it is let go, and none before `together` are there."""

    def __init__(self, together: int = 1) -> None:
        super().__init__()
        self.free = asyncio.Event()
        self._together = together
        self._full = asyncio.Event()
        #: Packs that were answered while the first one was not.
        self.passed = asyncio.Queue[int]()

    async def takes(self, request: Request) -> None:
        if self.running >= self._together:
            self._full.set()
        await self._full.wait()
        if request.items[0].id == "0":
            await self.free.wait()
        await super().takes(request)
        self.passed.put_nowait(len(self.requests) - 1)


async def test_a_pack_that_takes_long_does_not_keep_others_from_being_sent(
    lines: Path, tmp_path: Path
) -> None:
    fake, out = Stuck(together=4), tmp_path / "out.csv"
    running = asyncio.create_task(classify(task(lines, out), fake, Settings(window=4)))
    async with asyncio.timeout(60):
        while await fake.passed.get() < 16:
            assert not running.done()
    fake.free.set()
    await running
    assert fake.most == 4
    assert [row.split(",")[0] for row in out.read_text().splitlines()[1:]] == [
        str(n) for n in range(20_000)
    ]


@pytest.mark.parametrize(("line", "chunks"), [("", 16), ("x", 4)])
async def test_what_is_held_for_one_that_takes_long_is_bounded(
    tmp_path: Path, line: str, chunks: int
) -> None:
    source = tmp_path / "in.txt"
    source.write_text("first\n" + f"{line}\n" * 40 * 1024)
    loop = asyncio.get_running_loop()
    reads: asyncio.Queue[None] = asyncio.Queue()

    def told(source: Iterator[Chunk]) -> Iterator[Chunk]:
        for chunk in source:
            loop.call_soon_threadsafe(reads.put_nowait, None)
            yield chunk

    fake = Stuck()
    settings = Settings(pack_items=256, window=2)
    with Run(task(source, tmp_path / "out.txt"), settings) as run:
        run.table.chunks = told(run.table.chunks)
        running = asyncio.create_task(run.classify(fake))
        for _ in range(chunks):
            await reads.get()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reads.get(), 0.3)
        fake.free.set()
        assert (await running).rows == 40 * 1024 + 1


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl", "parquet"])
async def test_bytes_do_not_depend_on_packs(lines: Path, tmp_path: Path, suffix: str) -> None:
    one, other = tmp_path / f"one.{suffix}", tmp_path / f"other.{suffix}"
    await classify(task(lines, one))
    await classify(task(lines, other), settings=Settings(pack_items=37, window=2))
    assert one.read_bytes() == other.read_bytes()


async def test_a_refused_pack_stops_the_run(lines: Path, tmp_path: Path) -> None:
    class Refusing(Fake):
        seconds = staticmethod(quick)

        async def run(self, request: Request) -> Reply:
            error = ItemError(code=Code.UNKNOWN_MODEL, message="no model 'sentiment'")
            return Reply(model=request.model, results=[], error=error)

    with pytest.raises(ModelNotFound, match="no model 'sentiment'"):
        await classify(task(lines, tmp_path / "out.csv"), Refusing())
    assert names_in(tmp_path) == ["in.csv"]


async def test_answers_for_other_rows_stop_the_run(lines: Path, tmp_path: Path) -> None:
    class Confused(Fake):
        seconds = staticmethod(quick)

        async def run(self, request: Request) -> Reply:
            reply = await super().run(request)
            return msgspec.structs.replace(reply, results=reply.results[1:])

    with pytest.raises(LmaasError, match="were answered with other rows"):
        await classify(task(lines, tmp_path / "out.csv"), Confused())


async def test_a_run_stays_with_one_version(lines: Path, tmp_path: Path) -> None:
    class Updated(Fake):
        seconds = staticmethod(quick)

        async def run(self, request: Request) -> Reply:
            reply = await super().run(request)
            return msgspec.structs.replace(reply, version="2" if len(self.requests) > 2 else "1")

    with pytest.raises(LmaasError, match="--model-version 2"):
        await classify(task(lines, tmp_path / "out.csv"), Updated())
    fake = Fake()
    await classify(task(lines, tmp_path / "out.csv"), fake)
    assert fake.requests[-1].version == "1"


@pytest.mark.usefixtures("_often")
@pytest.mark.parametrize(
    "suffix", ["csv", "tsv", "jsonl", "txt", "parquet", "csv.gz", "csv.bz2", "csv.xz", "csv.zst"]
)
async def test_a_resumed_run_ends_with_the_same_bytes(
    lines: Path, tmp_path: Path, suffix: str
) -> None:
    whole, out = tmp_path / f"whole.{suffix}", tmp_path / f"out.{suffix}"
    await classify(task(lines, whole))
    with pytest.raises(Gone):
        await classify(task(lines, out), Fake(stop=breaks_at(40)))
    assert not out.exists()
    # What was written after the checkpoint belongs to nobody.
    append(partial_path(out), b"half a row")
    with pytest.raises(Gone):
        await classify(task(lines, out), Fake(stop=breaks_at(30)), resume=True)
    fake = Fake()
    summary = await classify(task(lines, out), fake, resume=True)
    assert out.read_bytes() == whole.read_bytes()
    assert int(fake.requests[0].items[0].id) == summary.resumed_at > 4096
    assert (summary.rows, summary.failed) == (20_000, 200)
    assert names_in(tmp_path) == ["in.csv", out.name, whole.name]


@pytest.mark.parametrize(("suffix", "saved"), [("csv", 4096), ("csv.gz", 0)])
async def test_a_slow_run_has_checkpoints_by_time_if_it_is_not_compressed(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, saved: int
) -> None:
    monkeypatch.setattr("lmaas.producer.bulk.CHECKPOINT_SECONDS", 0.0)
    with Run(task(lines, tmp_path / f"out.{suffix}"), SETTINGS) as run:
        with pytest.raises(Gone):
            await run.classify(Fake(stop=breaks_at(40)))
        assert run.saved_rows >= saved
        assert run.saved_rows < 16_384
        assert bool(run.saved_rows) == bool(saved)


@pytest.mark.usefixtures("_often")
async def test_a_cancelled_run_can_be_resumed(lines: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"

    def cancel(packs: int) -> None:
        if packs == 40:
            running.cancel()

    running = asyncio.ensure_future(classify(task(lines, out), Fake(stop=cancel)))
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await classify(task(lines, out), resume=True)).resumed_at >= 4096
    whole = tmp_path / "whole.csv"
    await classify(task(lines, whole))
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.usefixtures("_often")
async def test_resume_refuses_what_has_changed(lines: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with pytest.raises(Gone):
        await classify(task(lines, out), Fake(stop=breaks_at(40)))
    for changed, what in (
        (task(lines, out, top_k=2), "--top-k was 0 and is 2"),
        (task(lines, out, version="2"), "the model's version was '1' and is '2'"),
        (task(lines, out, wanted=Wanted(keep=("id",))), "the kept columns"),
    ):
        with pytest.raises(DataError, match=what):
            Run(changed, SETTINGS, resume=True)
    append(lines, b"x,y\n")
    with pytest.raises(DataError, match=r"the size of the input.*without --resume"):
        Run(task(lines, out), SETTINGS, resume=True)


@pytest.mark.usefixtures("_often")
async def test_without_resume_it_starts_over(lines: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with pytest.raises(Gone):
        await classify(task(lines, out), Fake(stop=breaks_at(40)))
    with Run(task(lines, out), SETTINGS) as run:
        assert run.found is not None
        summary = await run.classify(Fake())
    assert (summary.rows, summary.resumed_at) == (20_000, 0)
    assert len(out.read_text().splitlines()) == 20_001


async def test_resume_with_nothing_to_resume_starts(lines: Path, tmp_path: Path) -> None:
    summary = await classify(task(lines, tmp_path / "out.csv"), resume=True)
    assert (summary.rows, summary.resumed_at) == (20_000, 0)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "txt", "parquet", "csv.gz"])
async def test_what_is_finished_is_known(lines: Path, tmp_path: Path, suffix: str) -> None:
    work = task(lines, tmp_path / f"out.{suffix}")
    assert finished_rows(work) is None
    with pytest.raises(Gone):
        await classify(work, Fake(stop=breaks_at(40)))
    assert finished_rows(work) is None
    await classify(work)
    assert finished_rows(work) == 20_000
    # A newer run that was killed at its beginning.
    partial_path(work.target.path).touch()
    assert finished_rows(work) is None


async def test_an_output_that_is_not_of_this_input_is_not_finished(
    lines: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    work = task(lines, out)
    out.write_text("id,text\n1,of something else\n")
    assert finished_rows(work) is None
    await classify(work)
    later = out.stat().st_mtime + 1
    os.utime(lines, (later, later))
    assert finished_rows(work) is None


@pytest.mark.usefixtures("_often")
@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt", "csv.gz"])
async def test_another_encoding_of_the_output(
    tmp_path: Path, suffix: str, codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f"Grüße {number}, {'€' * 3} 中" for number in range(20_000)]
    lines = tmp_path / "in.txt"
    lines.write_text("\n".join(texts))
    usual, out = tmp_path / f"usual.{suffix}", tmp_path / f"out.{suffix}"
    await classify(task(lines, usual))
    work = replace(task(lines, out), target=Place.to(str(out), encoding=codec))
    with pytest.raises(Gone):
        await classify(work, Fake(stop=breaks_at(70)))
    assert (await classify(work, resume=True)).resumed_at > 0
    opened = gzip.open if suffix.endswith("gz") else open
    with opened(usual, "rt", encoding="utf-8") as file:
        expected = file.read()
    with opened(out, "rb") as file:
        content = file.read()
    if codec == "cp1252":
        expected = expected.replace("中", "\\u4e2d")
        assert "cp1252 has no '\\u4e2d'" in caplog.text
    assert content == expected.encode(codec)
    assert finished_rows(work) == 20_000


def test_json_has_one_encoding(tmp_path: Path) -> None:
    for suffix in ("json", "jsonl", "parquet"):
        with pytest.raises(DataError, match="--output-encoding is for CSV, TSV and plain text"):
            Place.to(str(tmp_path / f"out.{suffix}"), encoding="utf-16")
        Place.to(str(tmp_path / f"out.{suffix}"), encoding="UTF8")


async def test_failures_are_told_short_and_escaped(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    row = "a,\x1b[31mred\x07," + "x" * 5000
    source.write_text(f"id,text\n1,fine\n{row}\n")
    summary = await classify(task(source, tmp_path / "out.csv"))
    [told] = summary.failures
    assert told.startswith("line 3: unreadable_row: ")
    assert told.isprintable()
    assert len(told) < 200
    assert "x" * 5000 in (tmp_path / "out.csv").read_text()


@pytest.mark.usefixtures("_often")
async def test_a_partial_file_that_lost_bytes_is_refused(lines: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with pytest.raises(Gone):
        await classify(task(lines, out), Fake(stop=breaks_at(40)))
    partial_path(out).write_bytes(b"")
    with pytest.raises(DataError, match="has 0 bytes and should have"):
        Run(task(lines, out), SETTINGS, resume=True)


async def test_an_earlier_output_stays_until_the_new_one_is_complete(
    lines: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    out.write_text("earlier")
    with pytest.raises(Gone):
        await classify(task(lines, out), Fake(stop=breaks_at(10)))
    assert out.read_text() == "earlier"
    await classify(task(lines, out))
    assert len(out.read_text().splitlines()) == 20_001


@pytest.mark.usefixtures("_often")
async def test_a_full_disk_can_be_resumed(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.csv"

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill(packs: int) -> None:
        if packs == 60:
            monkeypatch.setattr("lmaas.producer.checkpoint.os.fsync", full)

    with pytest.raises(DataError, match=r"no space left on device; free some .* --resume"):
        await classify(task(lines, out), Fake(stop=fill))
    monkeypatch.undo()
    summary = await classify(task(lines, out), resume=True)
    assert summary.resumed_at >= 4096
    assert len(out.read_text().splitlines()) == 20_001


async def test_a_disk_that_is_full_at_the_conversion(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.parquet"

    def full(_parquet: object, _stream: object, whole: BinaryIO) -> None:
        whole.write(b"some of it")
        raise OSError(errno.ENOSPC, "error writing bytes to file")

    with monkeypatch.context() as patched:
        patched.setattr("lmaas.producer.tables.parquet.Parquet.convert", full)
        with pytest.raises(DataError, match="no space left"):
            await classify(task(lines, out))
    assert names_in(tmp_path) == ["in.csv", "out.parquet.partial", "out.parquet.partial.json"]
    assert (await classify(task(lines, out), resume=True)).resumed_at == 20_000
    assert names_in(tmp_path) == ["in.csv", "out.parquet"]


def test_outputs_that_cannot_be_are_told_before_work(lines: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for target, what in (
        (tmp_path / "missing" / "out.csv", "there is no folder"),
        (tmp_path / "folder.csv", "is a directory"),
        (lines / "out.csv", "there is no folder"),
        (lines, "is the input"),
    ):
        with pytest.raises(DataError, match=what):
            Run(task(lines, target), SETTINGS)


def test_two_runs_do_not_write_one_file(lines: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    imports = "import sys; from producer import checkpoint, tables"
    other = f"{imports}; checkpoint.PartialFile(tables.Place.of(sys.argv[1]))"
    with Run(task(lines, out), SETTINGS):
        ended = subprocess.run(
            [sys.executable, "-c", other, str(out)], capture_output=True, text=True, check=False
        )
    assert "another run is writing it" in ended.stderr


@pytest.mark.parametrize("column", ["label", "score", "error"])
async def test_columns_that_are_there_already(tmp_path: Path, column: str) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text(f"text,{column}\na,b\n")
    with pytest.raises(DataError, match=rf"'{column}' already.*--result-prefix.*--keep"):
        Run(task(source, out), SETTINGS)
    await classify(task(source, out, wanted=Wanted(keep=("text",))))
    assert out.read_text() == "text,label,score,error\na,short,0.75,\n"
    await classify(task(source, out, result_prefix="our_"))
    header = out.read_text().splitlines()[0]
    assert header == f"text,{column},our_label,our_score,our_error"


def test_pipes_cannot_be_resumed(lines: Path) -> None:
    with pytest.raises(DataError, match="pipe cannot be resumed"):
        Run(task(lines, Path("-")), SETTINGS, resume=True)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl.zst", "parquet", "txt.bz2"])
async def test_a_header_alone_gives_a_valid_file(tmp_path: Path, suffix: str) -> None:
    source, out = tmp_path / "in.csv", tmp_path / f"out.{suffix}"
    source.write_text("text\n")
    assert (await classify(task(source, out))).rows == 0
    if suffix == "csv":
        assert out.read_text() == "text,label,score,error\n"
        return
    # A file of nothing but compressed nothing is still no empty file.
    assert out.stat().st_size > 0


async def test_a_few_texts() -> None:
    chunk, answers = await classify_texts(
        ["brief", " ", "longer text"], Fake(), SETTINGS, model="sentiment"
    )
    assert len(chunk) == 3
    assert answers.labels == ["short", None, "long"]
    assert answers.errors == [None, "empty_text: the text is empty", None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As many texts as `lines`, a file each."""
    root = tmp_path / "texts"
    root.mkdir()
    for number in range(5_000):
        (root / f"{number:04}.txt").write_text("" if number % 100 == 0 else f"text {number}")
    return root


@pytest.fixture
def workbook(tmp_path: Path) -> Path:
    path = tmp_path / "in.xlsx"
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    sheet.append(["id", "text"])
    for number in range(5_000):
        sheet.append([number, None if number % 100 == 0 else f"text {number}"])
    book.save(path)
    return path


@pytest.mark.usefixtures("_often")
@pytest.mark.parametrize("source", ["folder", "workbook"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
async def test_folders_and_workbooks_are_resumed(
    request: pytest.FixtureRequest, tmp_path: Path, source: str, suffix: str
) -> None:
    path: Path = request.getfixturevalue(source)
    whole, out = tmp_path / f"whole.{suffix}", tmp_path / f"out.{suffix}"
    assert (await classify(task(path, whole))).failed == 50
    with pytest.raises(Gone):
        await classify(task(path, out), Fake(stop=breaks_at(18)))
    summary = await classify(task(path, out), resume=True)
    assert 0 < summary.resumed_at < summary.rows == 5_000
    assert summary.failures[0] == (
        "file 0000.txt: empty_text: the text is empty"
        if source == "folder"
        else "row 2: empty_text: the text is empty"
    )
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.usefixtures("_often")
async def test_a_folder_that_has_changed_is_not_resumed(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with pytest.raises(Gone):
        await classify(task(folder, out), Fake(stop=breaks_at(18)))
    (folder / "4999.txt").write_text("another text")
    with pytest.raises(DataError, match="the list of the input's files was"):
        await classify(task(folder, out), resume=True)


def test_outputs_that_cannot_be(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="would be a file of the input"):
        Run(task(folder, folder / "out.csv"), SETTINGS)
    with pytest.raises(DataError, match="is a device or a pipe"):
        Run(
            Task(source=Place.of(str(folder)), target=Place.to("/dev/null", "csv"), model="m"),
            SETTINGS,
        )
