"""Pipes by any name, and words for what is no table."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path

import pytest

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables import PIPE, Place, Wanted, open_table
from lmaas.producer.tables.places import check_output


def test_standard_input_by_other_names() -> None:
    for name in ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"):
        place = Place.of(name, "csv")
        assert (place.path, place.piped, place.format) == (PIPE, True, "csv")


@pytest.mark.parametrize(
    ("name", "form", "content"),
    [
        ("a.csv", None, b"text\ngood\n"),
        ("a.csv.gz", None, b"text\ngood\n"),
        ("a", "csv", b"text\ngood\n"),
        ("a", None, b"good\n"),
        ("a.jsonl", None, b'{"text":"good"}\n'),
        ("a.json", None, b'["good"]'),
    ],
)
def test_a_fifo_is_read_as_a_pipe(
    tmp_path: Path, name: str, form: str | None, content: bytes
) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    place = Place.of(str(path), form)
    assert place.piped
    data = gzip.compress(content) if name.endswith(".gz") else content
    writer = threading.Thread(target=path.write_bytes, args=(data,))
    writer.start()
    table = open_table(place, Wanted())
    assert [text for chunk in table.chunks for text in chunk.texts] == ["good"]
    assert table.size is None
    writer.join()


def test_a_descriptor_of_a_pipe_is_a_pipe() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"text\ngood\n")
    os.close(writing)
    try:
        table = open_table(Place.of(f"/dev/fd/{reading}", "csv"), Wanted())
        assert list(next(table.chunks).texts) == ["good"]
    finally:
        os.close(reading)


def test_a_link_to_a_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n")
    (tmp_path / "link").symlink_to("a.csv")
    assert Place.of(str(tmp_path / "link")).path == str(tmp_path / "a.csv")


def test_outputs_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a directory; name a file in it"):
        Place.to(str(tmp_path))
    with pytest.raises(DataError, match="new/: is a directory; name a file in it"):
        Place.to(str(tmp_path / "new") + "/")
    with pytest.raises(DataError, match="is a device or a pipe"):
        check_output(Place.to("/dev/null", "csv"))
    check_output(Place.to("-", "csv"))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (
            "https://me:secret@host/a.csv?signature=secret",
            "https://host/a.csv: only files are read; fetch it first, for example with: curl",
        ),
        ("S3://bucket/a.parquet", "S3://bucket/a.parquet: .*aws s3 cp"),
        ("hdfs://host/a.csv", "fetch it first$"),
        ("file:///tmp/a.csv", "name the file without file://"),
        ("a.xls", "workbook of another kind: save it as .xlsx or .csv"),
        ("a.ODS", "workbook of another kind"),
        ("a.7z", "archive: unpack it"),
        ("a.pdf", "document: save it as plain text"),
        ("a.png", "neither text nor a table"),
    ],
)
def test_names_of_what_is_no_table(path: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as raised:
        Place.of(path)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04\x14\0", "is a zip: say --format zip; .*--format xlsx"),
        (b"PAR1\x15\0", "is Parquet: say --format parquet"),
        (b"\x1f\x8b\x08\0", r"compressed with gzip: let its name end in \.gz"),
        (b"BZh91AY&SY", r"let its name end in \.bz2"),
        (b"\xfd7zXZ\0", r"let its name end in \.xz"),
        (b"\x28\xb5\x2f\xfd\x04", r"let its name end in \.zst"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Excel"),
        (b"%PDF-1.7\n", "is a document"),
        (b"\x89PNG\r\n\x1a\n", "neither text nor a table"),
        (b"\0" * 257 + b"ustar\0", "is a tar: say --format tar"),
        (b"\x93NUMPY\x01\0v\0", "is binary, and no text; if it is UTF-16"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_bytes_of_what_is_no_table(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        open_table(Place.of(str(path)), Wanted())


@pytest.mark.parametrize(
    "content", [b"BZhoo, a bee\n", b"GIF8 is a file\n", b"PAR1 is red\n", b"a\0b\n", b"caf\xe9\n"]
)
def test_texts_that_look_a_bit_like_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    table = open_table(Place.of(str(path)), Wanted())
    assert len(next(table.chunks)) == 1
    table.close()
