"""The media types of the bytes that a model takes, as its preprocessor says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lmaas.broker_config.messages import Item
from lmaas.workers.preprocess import media_types


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"examples": [Item(id="1", text="a text")]}, []),
        ({"examples": [Item(id="1", data=b"RIFF", media_type="audio/wav")] * 2}, ["audio/*"]),
        ({"examples": [Item(id="1", data=b"ab", media_type="text/letters")]}, ["text/letters"]),
        ({"examples": [Item(id="1", data=b"ab")]}, ["*/*"]),
        ({"examples": [Item(id="1", data=b"ab")], "media_types": ("a/b",)}, ["a/b"]),
    ],
)
def test_it_names_them_or_has_examples(given: dict[str, Any], expected: list[str]) -> None:
    preprocessor: Any = SimpleNamespace(**given)
    assert media_types(preprocessor) == expected
