"""Pairs of texts from the columns of files, to a model that takes them and to one that does not."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import sys
from pathlib import Path

from lmaas.broker_config.settings import Settings
from lmaas.cli.exits import Exit
from tests.integration.lanes import MODELS, serving
from tests.integration.test_kinds import installed, letters

__all__ = ["installed", "letters"]

COLUMNS = ("--text-column", "premise", "--pair-column", "hypothesis")
ROWS = "id,premise,hypothesis\nx,aa,ab\ny,bb,ab\nz,aa,\n,,b\nv,b\n"
EXPECTED = [
    ("x", "a", ""),
    ("y", "b", ""),
    ("z", "", "empty_text: text_pair: the text is empty"),
    ("", "", "empty_text: the text is empty"),
    ("v", "", "unreadable_row: line 6: expected 3 columns, found 2: v,b"),
]


async def lmaas(folder: Path, settings: Settings, *words: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the real command."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lmaas", *words),
        cwd=folder,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join((str(folder / "site"), os.getcwd())),  # noqa: PTH109
            "LMAAS_MODELS": settings.models,
            "LMAAS_PROCESSES": "1",
            "LMAAS_BROKER_URL": settings.broker_url,
            "LMAAS_PREFIX": settings.prefix,
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


def answers(content: str) -> list[tuple[str, str, str]]:
    rows = csv.DictReader(io.StringIO(content))
    return [(row["id"], row["label"], row["error"]) for row in rows]


async def test_a_file_of_pairs_in_process_and_through_the_queue(
    letters: Settings, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text(ROWS)
    classify = ("classify", "in.csv", *COLUMNS, "--model", "letters")
    code, alone, errors = await lmaas(tmp_path, letters, *classify)
    assert (code, answers(alone)) == (Exit.SOME_FAILED, EXPECTED), errors
    async with serving(letters):
        code, queued, errors = await lmaas(tmp_path, letters, *classify, "--queue")
        assert (code, queued) == (Exit.SOME_FAILED, alone), errors
        submit = ("submit", "in.csv", *COLUMNS, "--model", "letters")
        code, job, errors = await lmaas(tmp_path, letters, *submit)
        assert code == Exit.OK, errors
        collect = ("jobs", "collect", job.strip(), "--input", "in.csv", "-o", "job.csv")
        code, _, errors = await lmaas(tmp_path, letters, *collect)
        assert (code, (tmp_path / "job.csv").read_text()) == (Exit.SOME_FAILED, alone), errors


async def test_a_run_goes_on_with_the_same_pairs_only(letters: Settings, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("premise,hypothesis,other\naa,ab,b\n")
    classify = ("classify", "in.csv", *COLUMNS, "--model", "letters", "-o", "out.csv")
    code, _, errors = await lmaas(tmp_path, letters, *classify)
    assert code == Exit.OK, errors
    # As a run that was interrupted before its end leaves it.
    (tmp_path / "out.csv").rename(tmp_path / "out.csv.partial")
    state = {"fingerprint": {"the pair column": "other"}, "rows": 0}
    (tmp_path / "out.csv.partial.json").write_text(json.dumps(state))
    code, _, errors = await lmaas(tmp_path, letters, *classify, "--resume")
    assert code == Exit.FAILED
    assert "as the pair column was 'other' and is 'hypothesis'" in errors


async def test_what_is_wrong_with_pairs_is_told(letters: Settings, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("premise,hypothesis\naa,ab\n")
    shipped = Settings(models=str(MODELS))
    code, output, _ = await lmaas(tmp_path, shipped, "classify", "in.csv", *COLUMNS)
    assert code == Exit.ALL_FAILED
    told = "invalid_item: this model takes one text; the item has text_pair (a file's pair column)"
    assert told in output
    missing = ("classify", "in.csv", "--text-column", "premise", "--pair-column", "no")
    code, _, errors = await lmaas(tmp_path, letters, *missing, "--model", "letters")
    assert (code, errors) == (
        Exit.FAILED,
        (
            "error: in.csv: there is no column 'no'; name the one with the second texts with "
            "--pair-column (there are: 'premise', 'hypothesis')\n"
        ),
    )
    code, _, errors = await lmaas(tmp_path, letters, "classify", "--text", "a", *COLUMNS[2:])
    assert code == Exit.USAGE
    assert "--pair-column is for files" in errors
