"""Bytes through every way in: `lmaas classify` in process and by the queue, and `lmaas submit`.

The model is that of test_kinds, which an installed package brings along.
"""

from __future__ import annotations

import asyncio
import csv
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from lmaas.broker_config.settings import Settings
from tests.integration.lanes import serving
from tests.integration.test_kinds import installed, letters

__all__ = ["installed", "letters"]

FILES = {
    "mostly a.letters": b"aaab",
    "sub/b.letters": b"abbb",
    "sub/none.letters": b"xyz",
    "large.letters": b"a" * (2**20 + 1),
    "notes.txt": b"of another kind",
    "Thumbs.db": b"left",
}
TOLD = "passed over: 1 hidden or of the system (Thumbs.db), 1 of text/plain (notes.txt)"
LARGE = (
    "too_large: 1,048,577 bytes; the limit is 1,048,576 (setting max_data_bytes); "
    "LMAAS_MAX_DATA_BYTES=1048577 raises it, for the workers as well"
)
EXPECTED = {
    "large.letters": ("", LARGE),
    "mostly a.letters": ("a", ""),
    "sub/b.letters": ("b", ""),
    "sub/none.letters": ("", "internal: no letter at all"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


async def lmaas(settings: Settings, *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and error of a command, with the model's package."""
    site = next(path for path in sys.path if path.endswith("/site"))
    here = {
        "PYTHONPATH": site,
        "LMAAS_MODELS": str(settings.models),
        "LMAAS_BROKER_URL": settings.broker_url,
        "LMAAS_PREFIX": settings.prefix,
        "LMAAS_PROCESSES": "1",
        "LMAAS_MAX_DATA_BYTES": str(settings.max_data_bytes),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lmaas", *map(str, words)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **here},
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def rows(text: str, name: str = "file") -> dict[str, tuple[str, str]]:
    return {row[name]: (row["label"], row["error"]) for row in csv.DictReader(text.splitlines())}


async def test_in_process(letters: Settings, folder: Path, tmp_path: Path) -> None:
    asked = ("classify", "--model", "letters")
    code, out, err = await lmaas(letters, *asked, folder)
    assert (code, rows(out)) == (3, EXPECTED), err
    assert TOLD in err
    zipped = tmp_path / "a.zip"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    code, out, err = await lmaas(letters, *asked, zipped)
    assert (code, rows(out)) == (3, EXPECTED), err
    code, _, err = await lmaas(letters, *asked, f"{folder}/*.txt")
    assert code == 1
    assert (
        "the model takes bytes of text/letters, and there are only others: 1 of text/plain" in err
    )
    code, _, err = await lmaas(letters, "classify", f"{folder}/*.png")
    assert (code, err) == (1, f"error: {folder}/*.png: no file has such a name\n")


async def test_through_the_queue(letters: Settings, folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text(
        "".join(f"{name}\n" for name in ["photo", *(f"files/{each}" for each in FILES)])
    )
    tarred = tmp_path / "a.tar.gz"
    with tarfile.open(tarred, "w:gz") as archive:
        archive.add(folder, ".")
    async with serving(letters):
        asked = ("classify", "--queue", "--model", "letters")
        code, out, err = await lmaas(letters, *asked, folder)
        assert (code, rows(out)) == (3, EXPECTED), err
        assert TOLD in err
        code, out, err = await lmaas(letters, *asked, table, "--path-column", "photo")
        found = rows(out, "photo")
        wrong = "invalid_item: files/notes.txt: is text/plain, and the model takes text/letters"
        assert found.pop("files/notes.txt") == ("", wrong)
        assert found.pop("files/Thumbs.db") == ("", "internal: no letter at all")
        assert found == {f"files/{name}": answer for name, answer in EXPECTED.items()}, err
        submitted = ("submit", "--model", "letters", "--job")
        assert (await lmaas(letters, *submitted, "f", folder))[0] == 0
        code, _, err = await lmaas(letters, *submitted, "t", tarred)
        assert (code, TOLD in err) == (0, True), err
        for job, source in (("f", folder), ("t", tarred)):
            collected = tmp_path / f"{job}.csv"
            words = ("jobs", "collect", job, "-o", collected, "--input", source)
            code, _, err = await lmaas(letters, *words)
            assert (code, rows(collected.read_text())) == (3, EXPECTED), err
