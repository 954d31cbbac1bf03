"""What is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmaas.bench.texts import LENGTHS, MADE_UP, made_up, read
from lmaas.broker_config.errors import DataError
from lmaas.producer.tables import Place


def test_made_up_texts_have_words_and_lengths_and_are_always_the_same() -> None:
    texts = made_up()
    assert texts == made_up()
    assert len(set(texts.texts)) == MADE_UP
    assert {len(text.split()) for text in texts.texts} == set(LENGTHS)


def test_a_table_gives_the_texts_that_can_be_classified(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,review\n1,good\n2,\n3,bad film\n4," + "x" * 100 + "\n")
    texts = read(Place.of(str(path)), "review", max_item_bytes=99)
    assert (texts.texts, texts.left_out, texts.mean_bytes) == (["good", "bad film"], 2, 6.0)
    assert texts.source == str(path)


def test_a_file_without_any_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n \n")
    with pytest.raises(DataError, match="none of its 2 texts can be classified"):
        read(Place.of(str(path)), None, max_item_bytes=99)
