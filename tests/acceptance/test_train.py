"""`lmaas train` as its users run it: data as people have them, and mistakes, which are one line."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lmaas.cli.exits import Exit

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def lmaas(tmp_path: Path) -> Command:
    """Runs `lmaas` in a folder of its own."""

    def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            [sys.executable, "-m", "lmaas", *arguments],
            cwd=tmp_path,
            env=os.environ | {"LMAAS_MODELS": "models", "COLUMNS": "120"},
            input=stdin,
            capture_output=True,
            check=False,
        )
        out, err = ended.stdout.decode(), ended.stderr.decode()
        return subprocess.CompletedProcess(ended.args, ended.returncode, out, err)

    return run


def from_excel(path: Path) -> None:
    """Semicolons and UTF-16, as Excel saves it where the comma is a decimal point; untidy."""
    kinds = {"card": "card lost", "Card": "card stolen", "rate ": "rate today", "pin": "pin wrong"}
    rows = [f"{i};{text} {i};{kind}" for kind, text in kinds.items() for i in range(20)]
    path.write_text("\r\n".join(["id;Frage;Art", *rows, "1;;card", "2"]), encoding="utf-16")


def test_a_table_from_excel_becomes_a_model(lmaas: Command, tmp_path: Path) -> None:
    from_excel(tmp_path / "fragen.csv")
    columns = "--text-column", "Frage", "--label-column", "Art", "--normalize-labels"
    ended = lmaas("train", "fragen", "--data", "fragen.csv", *columns, "--epochs", "2")
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (Exit.OK, "models/fragen/1")
    told = ended.stderr.splitlines()
    assert "2 of 82 rows are left out: 1 without a text (line 82), 1 that cannot be" in told[0]
    assert told[1] == "note: fragen.csv: blanks at the ends of 20 labels were taken off"
    assert told[2].startswith("fragen: 3 classes; ")
    assert told[-1].endswith("restart them to serve it")
    assert "Traceback" not in ended.stderr
    shown = json.loads(lmaas("models", "show", "fragen", "--json").stdout)
    assert shown["labels"] == ["Card", "pin", "rate"]
    confused = shown["metrics"]["confused"]
    assert sum(pair["count"] for pair in confused) == round(
        shown["metrics"]["examples"] * (1 - shown["metrics"]["accuracy"])
    )
    assert ("most confused" in ended.stdout) == bool(confused)


@pytest.mark.parametrize(
    ("arguments", "content", "told"),
    [
        (["x.csv"], "text,label\na,b\n", "x.csv: each of the 1 rows has the label 'b'"),
        (["x.csv", "--label-column", "kind"], "text,label\na,b\n", "no column 'kind'"),
        (["x.csv", "--delimiter", ";"], "text,label\na,b\n", "there are: 'text,label'"),
        (["x.parquet"], "text,label\na,b\n", "x.parquet: "),
        (["none.tsv"], "", "none.tsv: no such file"),
        (
            ["x.csv", "--path-column", "text"],
            "text,label\na,b\na,c\na,b\na,c\n",
            "no pictures and no sounds; the first of its rows, a: no such file",
        ),
    ],
)
def test_what_is_wrong_with_the_data_is_one_line(
    lmaas: Command, tmp_path: Path, arguments: list[str], content: str, told: str
) -> None:
    (tmp_path / arguments[0]).write_text(content) if content else None
    ended = lmaas("train", "x", "--data", *arguments)
    assert (ended.returncode, ended.stdout) == (Exit.FAILED, "")
    assert told in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_pipe_has_a_format(lmaas: Command) -> None:
    rows = "".join(f'{{"text": "t", "label": "l{i % 2}"}}\n' for i in range(4))
    ended = lmaas("train", "x", "--data", "-", "--format", "jsonl", stdin=rows.encode())
    assert "4 rows are too few" in ended.stderr


def test_a_column_of_bytes_becomes_a_model_of_pictures(lmaas: Command, tmp_path: Path) -> None:
    """As `datasets` writes them, and the same column is what is classified then."""
    names = ("dark", "light")
    images = [{"bytes": picture(100 * (n % 2) + n), "path": f"{n}.png"} for n in range(40)]
    labels = [names[n % 2] for n in range(40)]
    pq.write_table(pa.table({"image": images, "kind": labels}), tmp_path / "a.parquet")
    column = "--bytes-column", "image"
    ended = lmaas("train", "shades", "--data", "a.parquet", *column, "--epochs", "3")
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (Exit.OK, "models/shades/1")
    assert "a: 2 classes; 32 pictures to train on, 4 to validate, 4 to test" in ended.stderr
    answers = ("--model", "shades", "--keep", "image.path,kind", "-o", "out.csv")
    assert lmaas("classify", "a.parquet", *column, *answers).returncode == Exit.OK
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image.path"] for row in rows] == [f"{n}.png" for n in range(40)]
    assert {row["label"] for row in rows} <= {*names}
    assert not any(row["error"] for row in rows)


def picture(grey: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (12, 12), grey).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--test-data", "x.csv"], "--test-data goes with --data"),
        (["--path-column", "x"], "--path-column goes with --data"),
        (
            ["--data", "x.csv", "--path-column", "p", "--bytes-column", "b"],
            "--bytes-column and --path-column say what is learnt from; give one",
        ),
        (["--arch", "encoder", "--activation", "tanh"], "--activation goes with --arch gap, ngram"),
        (
            ["--arch", "lstm", "--encoder", "x"],
            "--encoder goes with --arch encoder, auto of texts, not lstm",
        ),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(
    lmaas: Command, options: list[str], told: str
) -> None:
    ended = lmaas("train", "x", *options)
    assert ended.returncode == Exit.USAGE
    assert told in " ".join(ended.stderr.split())
