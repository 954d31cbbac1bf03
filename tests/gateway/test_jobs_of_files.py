"""`/v1/jobs` of archives, of forms with several files, and of Parquet with bytes."""

from __future__ import annotations

import io
import tarfile
import zipfile
from typing import Any

import aiohttp
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmaas.broker_config.settings import Settings
from tests.gateway.conftest import Gateway
from tests.gateway.test_jobs import PARQUET, ended, results, told
from tests.integration.lanes import serving
from tests.integration.test_kinds import installed, letters

__all__ = ["installed", "letters"]

FILES = {"a.letters": b"aaab", "sub/b": b"abbb", "none.letters": b"xyz", "../up": b"a"}
EXPECTED = {"a.letters": "a", "sub/b": "b", "none.letters": "internal", "../up": "unreadable_row"}
PNG = b"\x89PNG\r\n\x1a\n aaab"


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in {**FILES, "notes.txt": b"no letters"}.items():
            archive.writestr(name, content)
        archive.writestr(".hidden", b"a")
    return file.getvalue()


def tarred(mode: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        archive.addfile(tarfile.TarInfo("last.txt"))
    return file.getvalue()


def form(files: dict[str, bytes]) -> aiohttp.FormData:
    form = aiohttp.FormData(quote_fields=False, default_to_multipart=True)
    for name, content in files.items():
        form.add_field("file", content, filename=name, content_type="application/octet-stream")
    form.add_field("model", "letters")
    return form


def parquet() -> bytes:
    file = io.BytesIO()
    images = [{"bytes": content, "path": name} for name, content in FILES.items()]
    pq.write_table(pa.table({"n": list("abcd"), "image": images}), file)
    return file.getvalue()


@pytest.fixture
def settings(letters: Settings) -> Settings:
    return letters


async def test_files_are_items(gateway: Gateway, settings: Settings) -> None:
    of_rows = {"a": "a", "b": "b", "c": "internal", "d": "a"}
    cases: list[tuple[Any, str | None, dict[str, str], dict[str, str]]] = [
        (zipped(), "application/zip", {}, EXPECTED),
        (tarred("w"), "application/x-tar", {}, EXPECTED),
        (tarred("w:gz"), "application/gzip", {}, EXPECTED),
        (form(FILES), None, {}, EXPECTED),
        (form({"x.tgz": tarred("w:gz")}), None, {}, EXPECTED),
        (parquet(), PARQUET, {"bytes_column": "image", "id_column": "n"}, of_rows),
        (form({"x.png": PNG}), None, {}, {}),
        (zipped()[:-30], "application/zip", {}, {}),
        (zipped(), "application/zip", {"text_column": "text"}, {}),
    ]
    errors, over = [], []
    async with serving(settings):
        for body, kind, more, expected in cases:
            query = {} if kind is None else {"model": "letters", **more}
            headers = {} if kind is None else {"Content-Type": kind}
            status, job = await gateway.post("/v1/jobs", data=body, params=query, headers=headers)
            if not expected:
                errors.append((status, job["error"]["message"]))
                continue
            assert status == 202, (kind, job)
            await ended(gateway, job["id"])
            assert told(await results(gateway, job["id"])) == expected
            over.append(job["passed_over"] and tuple(job["passed_over"].values()))
    assert over == [
        (2, "1 hidden or of the system (.hidden), 1 of text/plain (notes.txt)"),
        *[(1, "1 of text/plain (last.txt)")] * 2,
        None,
        (1, "1 of text/plain (last.txt)"),
        None,
    ]
    assert [status for status, _ in errors] == [400, 400, 400]
    words = [message for _, message in errors]
    assert (
        "the model takes bytes of text/letters, and there are only others: 1 of image/png"
        in words[0]
    )
    assert words[1].startswith("the body: is no zip, or is damaged")
    assert "there is no column 'text'" in words[2]
