"""Files as items: folders, patterns, archives, columns of paths and of bytes."""

from __future__ import annotations

import dataclasses
import io
import os
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmaas.broker_config.errors import DataError, OptionError
from lmaas.broker_config.messages import Item
from lmaas.producer.table_items import _chunk_items
from lmaas.producer.tables import Chunk, Place, Table, Taking, Wanted, archives, open_table
from lmaas.producer.tables.cells import cell
from lmaas.producer.tables.chunks import CHUNK_BYTES

PNG = b"\x89PNG\r\n\x1a\n"
PICTURES = Taking(("image/*",), 100)
TEXTS = Taking((), 100)
CONTENTS = {
    "b.png": PNG + b"b",
    "a.jpg": b"a picture",
    "sub/c": PNG + b"c",
    "sub/empty.png": b"",
    "sub/large.png": b"x" * 101,
    "notes.txt": b"of another kind",
    "Thumbs.db": b"left",
    ".DS_Store": b"left",
    "sub/.hidden.png": b"left",
}
#: Of CONTENTS, by name.
EXPECTED = {
    "a.jpg": ("image/jpeg", b"a picture"),
    "b.png": ("image/png", PNG + b"b"),
    "sub/c": ("image/png", PNG + b"c"),
    "sub/empty.png": "invalid_item: it is empty: there are no bytes in it",
    "sub/large.png": "too_large: 101 bytes; the limit is 100 (setting max_data_bytes); "
    "LMAAS_MAX_DATA_BYTES=101 raises it, for the workers as well",
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name, content in CONTENTS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def opened(
    source: Path | str, /, taking: Taking = PICTURES, form: str | None = None, **wanted: Any
) -> Table:
    return open_table(Place.of(str(source), form), Wanted(taking=taking, **wanted))


def found(table: Table, ids: str | None = "file") -> dict[str, Any]:
    """Id -> what its item is."""
    items = [item for chunk in table.chunks for item in _chunk_items(chunk, ids, 10**9)]
    table.close()
    assert len({item.id for item in items}) == len(items)
    return {item.id: told(item) for item in items}


def told(item: Item) -> Any:
    if item.error is not None:
        return str(item.error)
    return item.text if item.text is not None else (item.media_type, item.data)


def zipped(path: Path, contents: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, contents: Mapping[str, bytes]) -> Path:
    """Compressed as its name says."""
    mode = {".tar": "w", ".tgz": "w:gz"}.get(path.suffix, f"w:{path.suffix[1:]}")
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def packed(path: Path, contents: Mapping[str, bytes]) -> Path:
    return (zipped if path.suffix == ".zip" else tarred)(path, contents)


# ------------------------------------------------------------------- folders


def test_a_folder_for_a_model_that_takes_bytes(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = opened(photos)
    assert (table.columns, table.size, table.unit) == (("file",), 5, "file")
    items = found(table)
    assert items == EXPECTED
    assert list(items) == sorted(EXPECTED)
    assert caplog.messages == [
        f"{photos}: passed over: 3 hidden or of the system (.DS_Store), 1 of text/plain (notes.txt)"
    ]
    assert list(found(opened(f"{photos}/*.*g"))) == ["a.jpg", "b.png"]
    assert list(found(opened(f"{photos}/**/*"))) == sorted(EXPECTED)
    assert list(found(opened(f"{photos}/sub/.h*"))) == [".hidden.png"]


def test_a_folder_for_a_model_that_takes_something_else(photos: Path) -> None:
    with pytest.raises(DataError, match=r"takes bytes of audio/\*, .* 1 of image/jpeg \(a\.jpg\)"):
        opened(f"{photos}/*.*", Taking(("audio/*",)))
    (photos / "notes.txt").unlink()
    (photos / "sub/c").unlink()
    with pytest.raises(DataError, match=r"the model takes texts, and there are only others: "):
        opened(photos, TEXTS)
    with pytest.raises(DataError, match="no column 'text'"):
        opened(photos, keep=("text",))
    with pytest.raises(DataError, match="no column 'text'"):
        opened(photos, text="text")


def test_of_a_model_of_which_nobody_knows_what_it_takes(photos: Path) -> None:
    unknown = Taking(None, 100)
    assert found(opened(f"{photos}/*.png", unknown)) == {"b.png": EXPECTED["b.png"]}
    assert found(opened(f"{photos}/n*", unknown)) == {"notes.txt": "of another kind"}
    assert found(opened(photos, unknown))["notes.txt"] == "of another kind"


def test_links(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    (photos / "x.png").symlink_to("../secret.png")
    (photos / "y.png").symlink_to("b.png")
    (photos / "z.png").symlink_to("nowhere")
    refused = (
        "file x.png: it is a link that leads out of the folder; --outside reads such files, too"
    )
    items = found(opened(f"{photos}/?.png"))
    assert items["x.png"] == f"unreadable_row: {refused}"
    assert items["y.png"] == EXPECTED["b.png"]
    assert items["z.png"] == "unreadable_row: file z.png: no such file or directory"
    assert found(opened(photos))["x.png"] == items["x.png"]
    assert found(opened(photos, TEXTS, keep=()), None)  # and so it is with texts
    (chunk,) = opened(tmp_path / "photos", Taking(("image/*",), 100, outside=True)).chunks
    assert b"secret" in chunk.texts


def test_a_folder_is_read_on_from_a_row(photos: Path) -> None:
    table = opened(photos)
    assert table.start_at is not None
    table.start_at(3)
    (photos / "a.jpg").unlink()  # nothing before that row is read
    (chunk,) = table.chunks
    assert (chunk.start, list(chunk.lines)) == (3, ["sub/empty.png", "sub/large.png"])


def test_a_chunk_ends_by_the_bytes_of_its_files(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(b"x" * (CHUNK_BYTES // 2))
    table = opened(tmp_path, Taking(("image/*",), CHUNK_BYTES))
    assert [len(chunk) for chunk in table.chunks] == [2, 1]


# ------------------------------------------------------------------- archives


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz"])
def test_archives(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    path = packed(tmp_path / name, CONTENTS)
    items = found(opened(path))
    assert items == EXPECTED
    assert list(items) == [name for name in CONTENTS if name in EXPECTED]
    assert "3 hidden or of the system (Thumbs.db), 1 of text/plain (notes.txt)" in caplog.text
    texts = packed(path, {"t.txt": b"a text"})
    assert found(opened(texts, TEXTS)) == {"t.txt": "a text"}
    with pytest.raises(
        DataError, match=r"takes bytes of image/\*, and there are only others: 1 of t"
    ):
        opened(path)


def test_an_archive_is_read_on_from_a_row(tmp_path: Path) -> None:
    for path in (zipped(tmp_path / "a.zip", CONTENTS), tarred(tmp_path / "a.tar", CONTENTS)):
        table = opened(path)
        assert table.start_at is not None
        table.start_at(3)
        (chunk,) = table.chunks
        assert (chunk.start, list(chunk.lines)) == (3, ["sub/empty.png", "sub/large.png"])
        table.close()


def test_a_tar_from_a_pipe(tmp_path: Path) -> None:
    content = tarred(tmp_path / "a.tgz", CONTENTS).read_bytes()
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as file:
        file.write(content)
    with os.fdopen(reading, "rb"):
        assert found(opened(f"/dev/fd/{reading}", form="tar")) == EXPECTED
        with pytest.raises(DataError, match="of a pipe no zip is read"):
            opened(f"/dev/fd/{reading}", form="zip")


def test_members_that_cannot_be_had(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = zipped(
        tmp_path / "a.zip", {"../up.png": PNG, "/abs.png": PNG, "e.png": PNG, "d.png": PNG * 3}
    )
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        damaged = archive.getinfo("d.png").header_offset
        encrypted = archive.getinfo("e.png").header_offset
    raw[damaged + 30 + 5 + 2] ^= 0xFF
    raw[encrypted + 6] |= 1
    entry = raw.rindex(b"e.png") - 46
    assert raw[entry : entry + 4] == b"PK\x01\x02"
    raw[entry + 8] |= 1
    path.write_bytes(raw)
    items = found(opened(path))
    leads = "its name leads out of the archive"
    assert items["../up.png"] == f"unreadable_row: file ../up.png: {leads}"
    assert items["/abs.png"] == f"unreadable_row: file /abs.png: {leads}"
    assert items["e.png"].endswith("it is encrypted; unpack the archive, and name the folder")
    assert items["d.png"].startswith("unreadable_row: file d.png: it is damaged")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("link.png", tarfile.SYMTYPE), ("fifo.png", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        for name in ("./x.png", "../up.png"):
            info = tarfile.TarInfo(name)
            info.size = len(PNG)
            archive.addfile(info, io.BytesIO(PNG))
    items = found(opened(tmp_path / "a.tar"))
    assert list(items) == ["x.png", "../up.png"]
    assert items["../up.png"].endswith(leads)
    assert "2 no files (link.png)" in caplog.text


def test_names_of_members(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"caf\u00e9.png": PNG, "xaf\u00e9.png": PNG})
    raw = path.read_bytes()
    # Without the flag of UTF-8; what then is none is the encoding of DOS.
    for name in (b"caf", b"xaf"):
        at = raw.index(name)
        raw = raw[: at - 24] + bytes([raw[at - 24], raw[at - 23] & ~8]) + raw[at - 22 :]
        at = raw.rindex(name)
        raw = raw[: at - 38] + bytes([raw[at - 38], raw[at - 37] & ~8]) + raw[at - 36 :]
    raw = raw.replace(b"xaf\xc3\xa9", b"xaf\x82x")
    path.write_bytes(raw)
    assert list(found(opened(path))) == ["caf\u00e9.png", "xaf\u00e9x.png"]
    tar = tarred(tmp_path / "a.tar", {"\udcff.png": PNG})
    assert list(found(opened(tar))) == ["\\xff.png"]


def test_two_members_of_one_name_are_two_items(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.png": PNG + b"1", "b.png": PNG + b"2"})
    path.write_bytes(path.read_bytes().replace(b"b.png", b"a.png"))
    table = opened(path)
    (chunk,) = table.chunks
    table.close()
    assert chunk.texts == [PNG + b"1", PNG + b"2"]


def test_archives_that_are_none(tmp_path: Path) -> None:
    empty = zipped(tmp_path / "empty.zip", {})
    with pytest.raises(DataError, match="is an archive, and there is no file in it"):
        opened(empty)
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(DataError, match=r"is no zip, or is damaged \(File is not a zip file\)"):
        opened(tmp_path / "a.zip")
    (tmp_path / "a.tar").write_bytes(b"no tar" * 100)
    with pytest.raises(DataError, match="is no tar, or is damaged"):
        opened(tmp_path / "a.tar")
    (tmp_path / "a.tar.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match="is no tar, or is damaged"):
        opened(tmp_path / "a.tar.gz")
    (tmp_path / "none.tar").write_bytes(b"")
    with pytest.raises(DataError, match="the file is empty"):
        opened(tmp_path / "none.tar")
    with pytest.raises(OptionError, match=r"leave out \.gz"):
        opened(zipped(tmp_path / "a.zip.gz", CONTENTS))
    with pytest.raises(DataError, match="no such file"):
        opened(tmp_path / "gone.zip")


def test_a_tar_that_is_cut_or_damaged_is_told_after_what_came_before(tmp_path: Path) -> None:
    pictures = {f"{number}.png": PNG + bytes([number]) * 80 for number in range(5)}
    raw = tarred(tmp_path / "a.tar", pictures).read_bytes()
    for broken in (raw[: 1024 * 4 + 520], raw[: 4 * 1024] + b"\1" * 512 + raw[4 * 1024 + 512 :]):
        (tmp_path / "b.tar").write_bytes(broken)
        table = opened(tmp_path / "b.tar")
        with pytest.raises(DataError, match="damaged or cut off after"):
            found(table)
        table.close()


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "SMALL", 10_000)
    bomb = {"a.png": b"\0" * 1_000_000}
    for path in (zipped(tmp_path / "a.zip", bomb), tarred(tmp_path / "a.tar.gz", bomb)):
        with pytest.raises(DataError, match="over 200 times its size; if you trust it, unpack"):
            found(opened(path))
    # Two entries of the directory for the same bytes.
    raw = bytearray(zipped(tmp_path / "b.zip", {"a.png": os.urandom(1_000)}).read_bytes())
    start = raw.index(b"PK\x01\x02")
    end = raw.index(b"PK\x05\x06")
    entry = raw[start:end]
    raw[end:end] = entry
    end += len(entry)
    raw[end + 8 : end + 16] = struct.pack("<HHI", 2, 2, 2 * len(entry))
    (tmp_path / "b.zip").write_bytes(raw)
    with pytest.raises(DataError, match="its files share their bytes"):
        opened(tmp_path / "b.zip")
    monkeypatch.setattr(archives, "DIRECTORY_BYTES", 100)
    with pytest.raises(DataError, match=r"the list of its files alone has \d+ bytes"):
        opened(tmp_path / "b.zip")
    monkeypatch.undo()
    # What says that it has less than it has gives no more than it says.
    raw = bytearray(zipped(tmp_path / "c.zip", {"a.png": b"\0" * 5_000}).read_bytes())
    for at in (raw.index(b"PK\x03\x04") + 22, raw.index(b"PK\x01\x02") + 24):
        raw[at : at + 4] = struct.pack("<I", 50)
    (tmp_path / "c.zip").write_bytes(raw)
    assert found(opened(tmp_path / "c.zip"))["a.png"].startswith(
        "unreadable_row: file a.png: it is"
    )
    with tarfile.open(tmp_path / "d.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a.png")
        info.pax_headers = {"comment": "x" * (archives.HEADER_BYTES + 1)}
        archive.addfile(info)
    with pytest.raises(DataError, match=r"a header of 1,048,\d+ bytes"):
        opened(tmp_path / "d.tar")


def test_many_members_take_no_memory(tmp_path: Path) -> None:
    names = {f"{number:04}.png": PNG for number in range(1_100)}
    table = opened(tarred(tmp_path / "a.tar", names))
    chunks = [len(chunk) for chunk in table.chunks]
    assert chunks == [1_024, 76]
    table.close()


# ------------------------------------------------------------------- columns of paths


@pytest.fixture
def manifest(photos: Path, tmp_path: Path) -> Path:
    (tmp_path / "outside.png").write_bytes(b"outside")
    path = photos / "list.csv"
    rows = ["b.png", "sub/c", "sub/empty.png", "../outside.png", "gone.png", "", "notes.txt"]
    rows += ["https://example.org/a.png", str(tmp_path / "outside.png"), "sub", "broken,row,x"]
    path.write_text("photo,n\n" + "\n".join(f"{row},{n}" for n, row in enumerate(rows)) + "\n")
    return path


def test_a_column_of_paths(manifest: Path, tmp_path: Path) -> None:
    table = opened(manifest, path="photo")
    assert (table.columns, table.unit) == (("photo", "n"), "line")
    items = found(table, "n")
    refused = "it is not below the folder of the table; --outside reads such files, too"
    assert items == {
        "0": EXPECTED["b.png"],
        "1": EXPECTED["sub/c"],
        "2": EXPECTED["sub/empty.png"],
        "3": f"unreadable_row: file ../outside.png: {refused}",
        "4": "unreadable_row: file gone.png: no such file or directory",
        "5": "invalid_item: the row has no path of a file",
        "6": "invalid_item: notes.txt: is text/plain, and the model takes image/*",
        "7": "invalid_item: https://example.org/a.png: only files are read; fetch it first",
        "8": f"unreadable_row: file {tmp_path}/outside.png: {refused}",
        "9": "unreadable_row: file sub: is a directory",
        "row": items["row"],
    }
    assert items["row"].startswith("unreadable_row: line 12: expected 2 columns, found 4")
    anywhere = dataclasses.replace(PICTURES, outside=True)
    assert found(opened(manifest, anywhere, path="photo"), "n")["3"] == ("image/png", b"outside")
    assert found(opened(manifest, TEXTS, path="photo"), "n")["6"] == "of another kind"
    with pytest.raises(
        DataError, match="no column 'x'; name the one with the paths of files with --path"
    ):
        opened(manifest, path="x")


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_chunk_of_paths_is_cut_by_the_bytes_of_their_files(photos: Path, form: str) -> None:
    for number in range(5):
        (photos / f"{number}.png").write_bytes(PNG + b"x" * (CHUNK_BYTES // 2))
    names = [f"{number}.png" for number in range(5)]
    table = pa.table({"photo": names, "n": list(range(5))})
    path = photos / f"list.{form}"
    match form:
        case "csv":
            path.write_text("photo,n\n" + "".join(f"{name},{n}\n" for n, name in enumerate(names)))
        case "jsonl":
            path.write_text(
                "".join(f'{{"photo":"{name}","n":{n}}}\n' for n, name in enumerate(names))
            )
        case _:
            pq.write_table(table, path)
    large = Taking(("image/*",), CHUNK_BYTES)

    def chunks(start: int) -> list[Chunk]:
        opening = opened(path, large, path="photo")
        assert opening.start_at is not None
        opening.start_at(start)
        every = list(opening.chunks)
        opening.close()
        return every

    every = chunks(0)
    assert [len(chunk) for chunk in every] == [2, 2, 1]
    numbers = [cell(n) for chunk in every for n in chunk.columns["n"]]
    assert numbers == ["0", "1", "2", "3", "4"]
    later = chunks(2)
    assert [(chunk.start, len(chunk)) for chunk in later] == [(2, 2), (4, 1)]
    assert list(later[0].columns["photo"]) == ["2.png", "3.png"]
    assert [chunk.mark is None for chunk in every] == (
        [True, True, False] if form == "csv" else [True] * 3
    )


# ------------------------------------------------------------------- columns of bytes


def test_columns_of_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    contents = [PNG + b"1", None, b"", b"x" * 101, b"?"]
    image = [{"bytes": one, "path": f"{n}.jpg" if n else None} for n, one in enumerate(contents)]
    table = pa.table({
        "id": list("abcde"),
        "raw": pa.array(contents, pa.large_binary()),
        "image": image,
        "label": list(range(5)),
    })  # fmt: skip
    pq.write_table(table, path)
    opening = opened(path, data="raw")
    assert opening.columns == ("id", "image", "label")
    missing = "invalid_item: the row has no bytes"
    expected = {
        "a": ("image/png", PNG + b"1"),
        "b": missing,
        "c": EXPECTED["sub/empty.png"],
        "d": EXPECTED["sub/large.png"],
        "e": ("application/octet-stream", b"?"),
    }
    assert found(opening, "id") == expected
    opening = opened(path, data="image")
    assert opening.columns == ("id", "raw", "label", "image.path")
    assert found(opening, "id") == {**expected, "e": ("image/jpeg", b"?")}
    assert found(opened(path, data="image.bytes", keep=("id",)), "id") == expected
    assert opened(path, data="raw", keep=("raw",)).columns == ("raw",)
    for wanted, words in (
        (
            {"data": "nothing"},
            "no column 'nothing'; name the one with the bytes with --bytes-column",
        ),
        ({"data": "label"}, "column 'label' has the type int64, and no bytes"),
        ({"data": "raw", "text": "id"}, "leave out the texts"),
    ):
        with pytest.raises(DataError, match=words):
            opened(path, **wanted)
    with pytest.raises(DataError, match="the model takes texts, and no bytes"):
        opened(path, TEXTS, data="raw")
    with pytest.raises(DataError, match=r"--bytes-column is for Parquet; .* --path-column"):
        opened(zipped(tmp_path / "a.zip", CONTENTS), data="raw")
