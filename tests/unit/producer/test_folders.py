"""Folders and patterns of text files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables import (
    FILES,
    Chunk,
    Dialect,
    Place,
    Table,
    Wanted,
    contents,
    folders,
    open_table,
)
from lmaas.producer.tables.chunks import CHUNK_ROWS
from tests.unit.producer.conftest import Convert

needs_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    root = tmp_path / "reviews"
    for name in ("b.txt", "a.txt", "sub/c.txt", "sub/.hidden.txt", ".git/x.txt", "notes.md"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"in {name}\n")
    return root


def opened(path: Path | str, wanted: Wanted | None = None, encoding: str | None = None) -> Table:
    return open_table(Place.of(str(path), dialect=Dialect(encoding=encoding)), wanted or Wanted())


def only(path: Path | str, encoding: str | None = None) -> Chunk:
    (chunk,) = opened(path, encoding=encoding).chunks
    return chunk


def test_each_file_is_a_text_in_the_order_of_names(reviews: Path) -> None:
    table = opened(reviews)
    (chunk,) = table.chunks
    assert table.columns == ("file",)
    assert list(chunk.columns["file"]) == ["a.txt", "b.txt", "notes.md", "sub/c.txt"]
    assert list(chunk.texts) == ["in a.txt\n", "in b.txt\n", "in notes.md\n", "in sub/c.txt\n"]
    assert (table.size, chunk.consumed, table.unit) == (4, 4, "file")


def test_patterns(reviews: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(only(f"{reviews}/*.txt").columns["file"]) == ["a.txt", "b.txt"]
    assert list(only(f"{reviews}/**/*.txt").columns["file"]) == ["a.txt", "b.txt", "sub/c.txt"]
    assert list(only(f"{reviews}/s*/*").columns["file"]) == ["sub/c.txt"]
    monkeypatch.chdir(reviews)
    assert list(only("?.txt").columns["file"]) == ["a.txt", "b.txt"]
    for name in ("*.html", f"{reviews}/no/*"):
        with pytest.raises(DataError, match="no file has such a name"):
            opened(name)
    # A file that is called so is that file.
    (reviews / "[x].txt").write_text("itself\n")
    table = opened("[x].txt")
    assert list(next(table.chunks).texts) == ["itself"]
    table.close()
    assert Place.to("out[1].csv").format == "csv"


def test_text_is_kept_on_demand(reviews: Path, convert: Convert) -> None:
    wanted = Wanted(keep=("file", "text"))
    lines = convert(reviews, "out.csv", wanted).read_text()
    assert lines.startswith('file,text,label,score,error\na.txt,"in a.txt\n",x,0.5,\n')
    with pytest.raises(DataError, match="no column 'review'"):
        opened(reviews, Wanted("review"))


def test_what_cannot_be_read_is_the_error_of_its_file(
    reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (reviews / "c.txt").write_bytes(b"caf\xe9")
    (reviews / "gone").symlink_to("nowhere")
    (reviews / "link.txt").symlink_to("a.txt")
    (reviews / "round").symlink_to(".")  # not followed
    os.mkfifo(reviews / "fifo")
    with (reviews / "huge").open("wb") as file:
        file.truncate(contents.FILE_BYTES + 1)
    chunk = only(reviews)
    names = ["a.txt", "b.txt", "c.txt", "gone", "huge", "link.txt", "notes.md", "sub/c.txt"]
    assert list(chunk.lines) == names
    assert chunk.texts[2] == "caf\udce9"
    assert chunk.texts[5] == "in a.txt\n"
    assert chunk.faults == {
        3: "file gone: no such file or directory",
        4: "file huge: 33,554,433 bytes; a text has at most 32 MiB",
    }
    # Between the list and its turn a file may go.
    table = opened(f"{reviews}/*.txt")
    (reviews / "b.txt").unlink()
    (chunk,) = table.chunks
    assert chunk.faults == {1: "file b.txt: no such file or directory"}


def test_encodings(reviews: Path) -> None:
    (reviews / "a.txt").write_bytes(b"caf\xe9")
    assert only(f"{reviews}/a*", "cp1252").texts == ["café"]
    (reviews / "a.txt").write_text("café", encoding="utf-16")
    assert only(f"{reviews}/a*").texts == ["café"]
    assert only(f"{reviews}/a*", "cp1252").faults[0].startswith("file a.txt: it: begins with the")


def test_a_name_that_is_no_utf8(reviews: Path, convert: Convert) -> None:
    (reviews / "a\udcff.txt").write_text("x")
    assert b"a\xff.txt,x,0.5," in convert(reviews, "out.csv").read_bytes()
    assert "a\ufffd.txt" in convert(reviews, "out.jsonl").read_text()


def test_many_files_are_read_a_chunk_at_a_time(tmp_path: Path) -> None:
    for number in range(CHUNK_ROWS + 3):
        (tmp_path / f"{number:04}").write_text(str(number))
    table = opened(tmp_path)
    first = next(table.chunks)
    assert (len(first), first.texts[-1]) == (CHUNK_ROWS, "1023")
    (tmp_path / "1024").write_text("later")
    assert next(table.chunks).texts[0] == "later"


def test_what_is_no_folder_of_texts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder, and there is no file in it"):
        opened(tmp_path)
    (tmp_path / "a.csv").write_text("text\n")
    (tmp_path / "b.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r": is a folder that has tables and no texts.*'a\.csv'"):
        opened(tmp_path)
    with pytest.raises(DataError, match=r"\*: has tables and no texts.*'a\.csv'"):
        opened(tmp_path / "*")
    with pytest.raises(DataError, match="each file is one item"):
        Place.of(str(tmp_path), "csv")
    assert Place.of(str(tmp_path), "text").format == FILES
    with pytest.raises(DataError, match="--delimiter"):
        Place.of(str(tmp_path), dialect=Dialect(";"))


@needs_permissions
def test_a_folder_that_may_not_be_read_is_told(reviews: Path) -> None:
    (reviews / "sub").chmod(0)
    try:
        with pytest.raises(DataError, match=r"sub: permission denied"):
            opened(reviews)
    finally:
        (reviews / "sub").chmod(0o700)


def test_the_list_is_known_again_until_a_file_changes(reviews: Path) -> None:
    before = opened(reviews).listing
    assert opened(reviews).listing == before
    os.utime(reviews / "sub" / "c.txt", (1, 1))
    assert opened(reviews).listing != before


def test_an_output_that_would_be_an_input(reviews: Path) -> None:
    folder, pattern = Place.of(str(reviews)), Place.of(f"{reviews}/*.txt")
    assert folders.covers(folder, f"{reviews}/sub/out.csv")
    assert not folders.covers(folder, f"{reviews}.csv")
    assert folders.covers(pattern, f"{reviews}/out.txt")
    assert not folders.covers(pattern, f"{reviews}/out.csv")
    assert not folders.covers(pattern, f"{reviews}/sub/out.txt")
