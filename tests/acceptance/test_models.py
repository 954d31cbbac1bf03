"""`lmaas models` as its users run it: folders, damage, and what is not imported."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lmaas.broker_config.folders import SHIPPED_MODELS
from lmaas.cli.exits import Exit
from tests.unit.workers import networks

Command = Callable[..., subprocess.CompletedProcess[str]]
NAN = float("nan")


@pytest.fixture
def lmaas(tmp_path: Path) -> Command:
    """Runs `lmaas` in a folder of its own; the user's folders are in there too."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lmaas", *arguments],
            cwd=tmp_path,
            env=os.environ | {"LMAAS_PROCESSES": "1"} | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Where the user's own models are, when none are named (see tests/conftest.py)."""
    return tmp_path / "data" / "lmaas" / "models"


def test_in_an_empty_folder_the_model_that_was_installed_answers(
    lmaas: Command, tmp_path: Path
) -> None:
    ended = lmaas("classify", "--text", "I love it")
    assert (ended.returncode, ended.stderr) == (Exit.OK, "")
    assert ended.stdout.startswith("positive\t")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("models",), Exit.OK, f"{SHIPPED_MODELS}"),
        (("classify", "--text", "I love it"), Exit.OK, "positive\t"),
        (("models", "import", f"{SHIPPED_MODELS}/sentiment/1"), Exit.USAGE, "one with --models"),
        (("up",), Exit.USAGE, "no home (HOME is not set); set HOME or XDG_STATE_HOME"),
        (("broker", "start"), Exit.USAGE, "no home (HOME is not set); set HOME or XDG_STATE_HOME"),
    ],
)
def test_nobody_needs_a_home_who_keeps_nothing_there(
    tmp_path: Path, arguments: tuple[str, ...], code: Exit, told: str
) -> None:
    """In a process of a user that the system does not know."""
    start = "import os; os.getuid = lambda: 54321; from lmaas import cli; cli.main()"
    ended = subprocess.run(
        [sys.executable, "-c", start, *arguments],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code
    assert told in ended.stdout + ended.stderr
    assert len(ended.stderr.splitlines()) == (code != Exit.OK)


def test_the_list_says_which_version_is_where(lmaas: Command, own: Path, tmp_path: Path) -> None:
    networks.save(own / "tiny" / "1")
    networks.save(own / "tiny" / "2")
    networks.save(own / "tiny" / "10")
    networks.save(tmp_path / "more" / "tiny" / "2")
    (own / "tiny" / "10" / "model.onnx").write_bytes(b"half")
    networks.save(own / "tiny" / "11", [(17.18, -3)] * 5)
    ended = lmaas("models", "--models", str(own), "--models", "more")
    lines = [line for line in ended.stdout.splitlines() if line[0] not in "┏┡└┃"]
    assert lines.pop(5).startswith(f"  tiny 10: {own}/tiny/10/model.onnx: sha256 is ")
    assert "tiny/11/model.onnx: the model gives 17.18 where a probability is" in lines.pop(5)
    assert [line.replace("│", " ").split()[:3] for line in lines] == [
        [str(own)],
        ["tiny", "1", "gap"],
        ["tiny", "2", "used"],
        ["tiny", "10", "refused"],
        ["tiny", "11", "refused"],
        ["more"],
        ["tiny", "2", "hidden"],
        [str(SHIPPED_MODELS)],
        ["sentiment", "1", "used"],
    ]
    shown = json.loads(lmaas("models", "show", "tiny", "--json").stdout)
    assert (shown["path"], shown["version"]) == (str(own / "tiny" / "2"), "2")


def test_the_list_says_used_of_what_a_worker_serves_and_loads_no_tensorflow(
    lmaas: Command, own: Path, tmp_path: Path
) -> None:
    networks.save(own / "sentiment" / "2", words=["", "[UNK]", *networks.WORDS])
    networks.save(own / "alone" / "1", external="model.onnx.data")
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('it was loaded')")
    ended = lmaas("models", PYTHONPATH=str(tmp_path))
    states = [line.replace("│", " ").split()[:3] for line in ended.stdout.splitlines()]
    assert (ended.returncode, ended.stderr) == (Exit.OK, "")
    assert ["sentiment", "2", "refused"] in states
    assert ["sentiment", "1", "used"] in states
    assert ["alone", "1", "refused"] in states
    assert "  sentiment 2: " in ended.stdout
    assert "begins with '', '[UNK]'" in ended.stdout
    assert "weights are in 'model.onnx.data', which the manifest does not list" in ended.stdout
    asked = lmaas("classify", "--text", "I love it")
    assert asked.stdout.startswith("positive\t"), "version 1 has answered"


@pytest.mark.parametrize("kind", ["a link", "a pipe", "a device"])
def test_nothing_but_plain_files_is_imported(
    lmaas: Command, own: Path, tmp_path: Path, kind: str
) -> None:
    source = networks.save(tmp_path / "theirs" / "1")
    vocabulary = source / "vocabulary.txt"
    secret = vocabulary.rename(tmp_path / "secret")
    if kind == "a pipe":
        os.mkfifo(vocabulary)
    else:
        vocabulary.symlink_to(secret if kind == "a link" else "/dev/zero")
    ended = lmaas("models", "import", str(source))
    assert (ended.returncode, ended.stdout) == (Exit.FAILED, "")
    assert str(vocabulary) in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not own.exists()


def test_what_is_imported_is_what_was_compared_with_external_weights(
    lmaas: Command, own: Path, tmp_path: Path
) -> None:
    source = networks.save(tmp_path / "theirs" / "1", external="model.onnx.data")
    networks.describe(source, ["a", "b"], "model.onnx.data")
    assert lmaas("models", "import", str(source), "--name", "tiny").returncode == Exit.OK
    for name in ("model.onnx", "model.onnx.data", "vocabulary.txt"):
        copied = own / "tiny" / "1" / name
        assert not copied.is_symlink()
        assert copied.read_bytes() == (source / name).read_bytes()
    assert lmaas("models", "verify", "tiny").returncode == Exit.OK


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("models", "import", "no.onnx"), Exit.FAILED, "no.onnx: there is no such file or folder"),
        (("models", "show", "no"), Exit.FAILED, "no model 'no'"),
        (("models", "verify", "no"), Exit.FAILED, "no model 'no'"),
        (("models", "import", "own", "--name", "a/b"), Exit.USAGE, "cannot be a model's name"),
        (("train", "a/b"), Exit.USAGE, "cannot be a model's name"),
        (("jobs", "collect", "x"), Exit.USAGE, "--output"),
        (("worker", "health"), Exit.USAGE, "no health_port is set"),
        (("dead", "replay"), Exit.USAGE, "or else --all"),
        (("submit", "in.unknown"), Exit.USAGE, "the suffix says no format"),
    ],
)
def test_what_is_wrong_by_itself_is_2_and_what_is_not_there_is_1(
    lmaas: Command, own: Path, tmp_path: Path, arguments: tuple[str, ...], code: Exit, told: str
) -> None:
    shutil.copytree(SHIPPED_MODELS / "sentiment" / "1", tmp_path / "own")
    ended = lmaas(*arguments)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert told in ended.stderr


def test_a_model_that_is_there_learns_to_be_unsure(lmaas: Command, own: Path) -> None:
    networks.save(own / "tiny" / "1")
    strange = "classify", "--text", "strange", "--model", "tiny"  # 0.75 for label 1
    assert lmaas(*strange).stdout.startswith("label 1\t0.75")
    ended = lmaas("models", "set", "tiny", "--min-score", "0.8")
    assert ended.stdout == (
        "tiny 1: below 0.8 the label is 'unsure', in workers that run within seconds\n"
    )
    assert lmaas(*strange).stdout.startswith("unsure\t0.75")
    tried = lmaas("models", "try", "tiny", "strange").stdout.splitlines()
    assert tried[-1] == "label: unsure, as no score reaches 0.8"
    assert json.loads(lmaas("models", "show", "tiny", "--json").stdout)["min_score"] == 0.8
    assert {path.name for path in (own / "tiny" / "1").iterdir()} == {
        *("manifest.json", "model.onnx", "vocabulary.txt"),
    }
    lmaas("models", "set", "tiny", "1", "--min-score", "0")
    assert "unsure" not in lmaas("models", "try", "tiny", "strange").stdout
    assert lmaas(*strange).stdout.startswith("label 1\t0.75")
    networks.describe(own / "tiny" / "1", ["unsure", "sure"])
    ended = lmaas("models", "set", "tiny", "--min-score", "0.8")
    assert ended.returncode == Exit.USAGE
    assert "has a label 'unsure' of its own" in ended.stderr


def test_what_is_shown_of_many_classes_is_for_people(lmaas: Command, own: Path) -> None:
    networks.save(own / "tiny" / "1")
    path = own / "tiny" / "1" / "manifest.json"
    manifest = json.loads(path.read_text())
    names = [f"class {number}" for number in range(77)]
    manifest["metrics"] = {
        "accuracy": 0.912345,
        "classes": {name: {"precision": 0.9, "recall": 0.8, "examples": 40} for name in names},
        "confused": [{"true": names[0], "predicted": names[1], "count": 7}],
        "confusion": [[1] * 77] * 77,
        "reliability": [{"count": 1, "confidence": 0.5, "accuracy": 0.5}] * 15,
    }
    path.write_text(json.dumps(manifest))
    facts = [line.split("  ") for line in lmaas("models", "show", "tiny").stdout.splitlines()]
    shown = {words[0]: words[-1].strip() for words in facts}
    assert len(facts) < 110
    assert shown["path"] == str(own / "tiny" / "1")
    assert shown["metrics.accuracy"] == "0.9123"
    assert shown["metrics.classes.class 76"] == "precision 0.9, recall 0.8, examples 40"
    assert shown["metrics.confused"] == "true class 0, predicted class 1, count 7"
    assert shown["metrics.confusion"] == "77 rows; --json has them"
    everything = json.loads(lmaas("models", "show", "tiny", "--json").stdout)
    assert everything["metrics"] == manifest["metrics"]


def test_verify_says_what_is_wrong_with_each_version(lmaas: Command, own: Path) -> None:
    networks.save(own / "logits" / "1", [(17.18, -3)] * 5)
    networks.save(own / "outside" / "1", external="model.onnx.data")
    networks.save(own / "half" / "1")
    (own / "half" / "1" / "manifest.json").unlink()
    networks.save(own / "keras" / "1", words=["", "[UNK]", *networks.WORDS])
    ended = lmaas("models", "verify")
    assert ended.returncode == Exit.FAILED
    assert ended.stdout.startswith("sentiment 1: ok (")
    told = dict(line.split(": ", 1) for line in ended.stderr.splitlines())
    assert {name: words.split(": ", 1)[-1] for name, words in told.items()}.keys() == {
        "half 1", "keras 1", "logits 1", "outside 1",
    }  # fmt: skip
    assert "manifest.json is missing" in told["half 1"]
    assert "begins with '', '[UNK]'" in told["keras 1"]
    assert "the model gives 17.18 where a probability is declared" in told["logits 1"]
    assert "'model.onnx.data', which the manifest does not list" in told["outside 1"]
    assert lmaas("models", "verify", "sentiment").returncode == Exit.OK


def test_import_takes_the_next_number_of_all_folders_and_what_is_listed(
    lmaas: Command, own: Path
) -> None:
    source = shutil.copytree(SHIPPED_MODELS / "sentiment" / "1", own.parent / "copy")
    (source / "notes.txt").write_text("not listed")
    ended = lmaas("models", "import", str(source))
    assert (ended.returncode, ended.stdout) == (Exit.OK, f"{own}/sentiment/2\n")
    assert "switch to it within seconds" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    copied = sorted(path.name for path in (own / "sentiment" / "2").iterdir())
    listed = json.loads((source / "manifest.json").read_text())["files"]
    assert copied == sorted(["manifest.json", *listed])
    assert json.loads(lmaas("models", "show", "sentiment", "--json").stdout)["version"] == "2"
    named = lmaas("models", "--models", f"more{os.pathsep}{own}", "import", str(source))
    assert named.stdout == "more/sentiment/3\n"


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"rows": [(17.18, -3.0)] * 5}, "the model gives 17.18 where a probability is declared"),
        ({"rows": [(NAN, NAN)] * 5}, "the model gives nan where a probability is declared"),
        ({"words": ["", "[UNK]", "good"]}, "begins with '', '[UNK]'"),
        ({"external": "model.onnx.data"}, "which the manifest does not list"),
    ],
)
def test_a_model_that_would_lie_is_not_imported(
    lmaas: Command, own: Path, tmp_path: Path, how: dict[str, object], told: str
) -> None:
    source = networks.save(tmp_path / "theirs" / "1", **how)
    ended = lmaas("models", "import", str(source))
    assert (ended.returncode, ended.stdout) == (Exit.FAILED, "")
    assert told in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not own.exists()


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_damaged_version_is_told_once_and_the_one_before_answers(
    lmaas: Command, own: Path, tmp_path: Path, processes: str
) -> None:
    (tmp_path / "texts.txt").write_text("I love it\nI hate it\n")
    networks.save(own / "sentiment" / "2", [(17.18, -3)] * 5)
    networks.save(own / "sentiment" / "3")
    (own / "sentiment" / "3" / "model.onnx").unlink()
    ended = lmaas("classify", "texts.txt", "-o", "out.jsonl", LMAAS_PROCESSES=processes)
    assert ended.returncode == Exit.OK
    rows = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert [row["label"] for row in rows] == ["positive", "negative"]
    told = [line for line in ended.stderr.splitlines() if "left out, 1 is used instead" in line]
    assert sorted(line.split("version ")[1][0] for line in told) == ["2", "3"]


def test_nan_is_an_error_of_its_row_and_the_output_stays_json(
    lmaas: Command, own: Path, tmp_path: Path
) -> None:
    networks.save(own / "tiny" / "1", [*networks.PROBABILITIES[:4], (NAN, 0.5)])
    (tmp_path / "texts.txt").write_text("good\nstrange\nbad\n")
    ended = lmaas("classify", "texts.txt", "--model", "tiny", "-o", "out.jsonl", "--top-k", "2")
    rows = [
        json.loads(line, parse_constant=pytest.fail)
        for line in (tmp_path / "out.jsonl").read_text().splitlines()
    ]
    assert [row["label"] for row in rows] == ["label 1", None, "label 0"]
    assert rows[1]["score"] is None
    assert "internal: the model gives nan" in rows[1]["error"]
    assert ended.returncode == Exit.SOME_FAILED
