"""Items that a user has to try an imported model with."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from lmaas.broker_config.errors import DataError
from lmaas.training.importing import examples
from lmaas.training.importing.examples import read_examples
from lmaas.workers.manifest import Input

SIZE = 1024
X = Input(name="x", dtype="float32", shape=[None, 2])


def ids(path: Path, kind: str) -> list[str]:
    return [item.id for item in read_examples(path, {"kind": kind}, [], SIZE)]


@pytest.mark.parametrize("kind", ["tokens", "words", "strings", "text_vectorization"])
def test_every_kind_of_text_comes_from_a_table(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"text,n\ngood,1\n,2\n{'x' * 2 * SIZE},3\nbad,4\n")
    found = read_examples(path, {"kind": kind}, [], SIZE)
    assert [(item.id, item.text) for item in found] == [("line 2", "good"), ("line 5", "bad")]


def test_a_folder_a_class_and_whatever_else_is_there(tmp_path: Path) -> None:
    """As it is trained on."""
    for name in ("cat/1.png", "dog/a/2.JPG", "dog/.hidden.png", "notes.txt", "dog/3.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "cat" / "empty.png").touch()
    found = read_examples(tmp_path, {"kind": "image"}, [], SIZE)
    assert [(item.id, item.data, item.media_type) for item in found] == [
        ("cat/1.png", b"cat/1.png", "image/png"),
        ("dog/a/2.JPG", b"dog/a/2.JPG", "image/jpeg"),
    ]
    assert ids(tmp_path, "audio") == ["dog/3.wav"]
    assert ids(tmp_path / "cat" / "1.png", "image") == ["1.png"]


def test_tensors_are_json_lines(tmp_path: Path) -> None:
    """As `lmaas models try` takes them, or as requests have them."""
    path = tmp_path / "a.jsonl"
    data = base64.b64encode(np.array([0.5, 2], "<f4").tobytes()).decode()
    tensor = {"datatype": "FP32", "shape": [2], "data": data}
    path.write_text(f'{{"x": [0.5, 2]}}\n{json.dumps({"id": "b", "tensors": {"x": tensor}})}\n')
    first, second = read_examples(path, {"kind": "tensors"}, [X], SIZE)
    assert (first.id, second.id) == ("line 1", "b")
    assert first.tensors == second.tensors
    for wrong, told in (
        ('{"tensors": 1}', "line 1: no item: Expected `object"),
        ('{"x": ["a"]}', "line 1: no item: 'x': could not convert"),
        ('{"y": 1}', "line 1: no item: it has no input 'y'"),
        ("[]", "line 1: no item: Expected `object`"),
    ):
        path.write_text(wrong)
        with pytest.raises(DataError, match=told):
            read_examples(path, {"kind": "tensors"}, [X], SIZE)
    for other in (tmp_path, tmp_path / "a.csv"):
        with pytest.raises(DataError, match=r'give JSON Lines \(\.jsonl\), each as {"x": \.\.\.}'):
            read_examples(other, {"kind": "tensors"}, [X], SIZE)


def test_enough_is_read_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of 0.005 of the labels can be told by some thousand items."""
    path = tmp_path / "a.txt"
    path.write_text("text\n" * 3000)
    assert len(ids(path, "tokens")) == 256
    assert len(read_examples(path, {"kind": "tokens"}, [], SIZE, examples.COMPARED)) == 2048
    monkeypatch.setattr(examples, "MOST_BYTES", 10)
    assert len(ids(path, "tokens")) == 3
