"""A classifier of labels alone."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from lmaas.broker_config.extras import NEWEST_PYTHON

if sys.version_info[:2] > NEWEST_PYTHON:
    pytest.skip("there is no TensorFlow for this Python", allow_module_level=True)

from click.testing import CliRunner

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import Item
from lmaas.cli.models import command
from lmaas.training.create import SHARPNESS, Label, read_labels
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime
from tests.unit.training import bert


def test_labels_are_read_with_their_words(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("\ufeffcard_arrival\n\n  topUpFailed \nx\ta film that is dull\nVISA/ATM?\n")
    assert read_labels(path) == [
        Label("card_arrival", "card arrival"),
        Label("topUpFailed", "top Up Failed"),
        Label("x", "a film that is dull"),
        Label("VISA/ATM?", "VISA ATM?"),
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "there is no label; at least two"),
        (b"one\n", "there is one label; at least two"),
        (b"a\nb\n\na\n", "lines 1 and 4 have the same label 'a'"),
        (b"card_lost\npin\nCard-Lost\n", "lines 1 and 3 have the same words, 'Card Lost'"),
        (b"a\tgood film\nb\tgood film\n", "lines 1 and 2 have the same words, 'good film'"),
        (b"a\n\twords\n", "line 2 has words and no label"),
        (b"\xff\xfe", "cannot be read as UTF-8"),
    ],
)
def test_what_is_wrong_with_labels_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=told):
        read_labels(path)


def test_a_file_of_labels_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: cannot be read: No such file or directory"):
        read_labels(tmp_path / "none.txt")


def test_a_text_gets_the_label_whose_words_are_nearest(tmp_path: Path) -> None:
    folder = bert.save(tmp_path / "encoder")
    labels = tmp_path / "labels.txt"
    labels.write_text("good\ta fine film\nbad\ta dull film\ngreen\n")
    models = tmp_path / "models"
    ended = CliRunner().invoke(
        command,
        ["--models", str(models), "create", "m", "--labels", str(labels), "--encoder", str(folder)],
    )
    assert ended.exit_code == 0, ended.output
    version = Repository(models).find("m")
    assert version.manifest.labels == ["good", "bad", "green"]
    assert version.manifest.metrics == {}
    (scores,) = Runtime(version).scores([Item(id="1", text="a fine film")])
    rows = [bert.expected(text, "bert") for text in ("a fine film", "a dull film", "green")]
    powers = np.exp(SHARPNESS * np.array([rows[0] @ row for row in rows]))
    assert scores == pytest.approx(powers / powers.sum(), abs=1e-4)
    assert scores.argmax() == 0
