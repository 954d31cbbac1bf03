"""Media types by names, by first bytes, and which a model takes."""

from __future__ import annotations

import pytest

from lmaas.broker_config import media_types


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.PNG", "image/png"),
        ("x.jpeg", "image/jpeg"),
        ("x.webp", "image/webp"),
        ("x.wav", "audio/wav"),
        ("x.ogg", "audio/ogg"),
        ("notes.txt", "text/plain"),
        ("rows.jsonl", "application/jsonl"),
        ("Thumbs.db", None),
        (".png", None),
        ("png", None),
    ],
)
def test_by_name(name: str, expected: str | None) -> None:
    assert media_types.by_name(name) == expected


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "audio/wav"),
        (b"fLaC\0", "audio/flac"),
        (b"\0\0\0\x1cftypavif", "image/avif"),
        (b"RIFF", None),
        (b"", None),
    ],
)
def test_by_start(start: bytes, expected: str | None) -> None:
    assert media_types.by_start(start) == expected


def test_of_content() -> None:
    png = b"\x89PNG\r\n\x1a\n"
    assert media_types.of_content("a.jpg", png, ["image/*"]) == "image/jpeg"
    assert media_types.of_content("a", png, ["image/*"]) == "image/png"
    assert media_types.of_content("a", b"?", ["image/*"]) == "application/octet-stream"
    assert media_types.of_content("a", b"?", ["text/letters"]) == "text/letters"
    assert media_types.of_content("a", b"?", ["a/b", "c/d"]) == "application/octet-stream"


def test_what_a_model_takes() -> None:
    assert media_types.fits("image/png", ["image/*"])
    assert media_types.fits("image/png", ["audio/wav", "image/png"])
    assert media_types.fits("image/png", ["*/*"])
    assert not media_types.fits("imagery/png", ["image/*"])
    assert not media_types.fits("image/png", [])
    assert media_types.is_media("audio/wav")
    assert not media_types.is_media("text/plain")
    assert not media_types.is_media(None)
